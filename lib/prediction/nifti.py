"""NIfTI files as volumes, whose voxels are turned to the order of folders of slices.

A module of its own, imported when such a file is read: nibabel takes half a second to import.
"""

import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
from nibabel import orientations
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from lib.prediction.volume_files import NiftiGeometry
from lib.study import files

ORDER = "LPS"  # columns towards the patient's left, rows towards the back, slices upwards: as slices are shown
UNREADABLE = (OSError, EOFError, ValueError, KeyError, OverflowError, struct.error, zlib.error)
UNREADABLE += (ImageFileError, HeaderDataError, orientations.OrientationError)


def read_nifti(path: Path, channels: int) -> tuple[np.ndarray, tuple[float, float, float], NiftiGeometry, list[str]]:
    """A NIfTI file as (D, H, W, channels) uint8, its (slice, row, col) size in mm, its geometry, and notes.

    Voxels are turned by whole axes to ORDER, in which slices are numbered upwards. Values other than uint8 are scaled,
    per channel, from their own range to 0 to 255; preprocessing normalises them anyway. ValueError, with the file, if
    it cannot be read, has no such channels, or holds NaN or infinite values.
    """
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):  # also NIfTI-2, a subclass
            raise ValueError(f"{type(image).__name__}; expected NIfTI")
        values, notes = _values(image, channels)
        geometry = _geometry(image)
        codes = "".join(str(code) for code in nibabel.aff2axcodes(image.affine))
        unknown = not (int(image.header["qform_code"]) or int(image.header["sform_code"]))
        sizes = nibabel.affines.voxel_sizes(image.affine)
    except UNREADABLE as error:
        reason = files.reason(error) if isinstance(error, OSError) and error.errno else error
        raise ValueError(f"{path}: cannot be read as NIfTI: {reason}") from error
    notes = [f"orientation {codes}" + (", not stated in the file" * unknown), *notes]
    stack = np.stack([turn(values[..., channel], geometry.turned) for channel in range(channels)], axis=-1)
    along = {int(axis): float(sizes[at]) for at, (axis, _) in enumerate(geometry.turned)}  # 0: columns, 1: rows
    return np.ascontiguousarray(stack), (along[2], along[1], along[0]), geometry, notes


def _values(image: nibabel.Nifti1Image, channels: int) -> tuple[np.ndarray, list[str]]:
    """Voxels of a file in its own order, (X, Y, Z, channels) uint8, and a note if they were scaled."""
    shape, kind = image.shape, image.get_data_dtype()
    if int(np.prod(shape, dtype=float)) * max(8, kind.itemsize) > 8 * files.MAX_BYTES:
        raise ValueError(f"{shape} voxels; expected at most {files.MAX_BYTES} values")
    if kind.names:  # RGB24
        stored = np.asanyarray(image.dataobj)
        values = np.stack([stored[name] for name in kind.names], axis=-1)
    else:
        values = np.asanyarray(image.dataobj)
        values = values[..., None] if values.ndim == 3 else values
    if values.ndim == 5 and values.shape[3] == 1:
        values = values[:, :, :, 0]
    if values.ndim != 4 or values.shape[3] != channels or values.shape[2] < 1:
        raise ValueError(f"shape {shape}; expected (columns, rows, slices, {channels}) with the channels of training")
    if np.iscomplexobj(values):
        raise ValueError("complex values; expected real numbers")
    if values.dtype == np.uint8:
        return values, []
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        raise ValueError(f"{wrong} voxels are NaN or infinite; expected finite numbers")
    low, high = (bound(axis=(0, 1, 2)).astype(float) for bound in (values.min, values.max))
    scaled = np.rint(255 * (values - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)
    ranges = ", ".join(f"{a:g} to {b:g}" for a, b in zip(low, high))
    return scaled, [f"values {ranges} ({values.dtype}) scaled to 0 to 255"]


def _geometry(image: nibabel.Nifti1Image) -> NiftiGeometry:
    own = orientations.io_orientation(image.affine)
    if np.isnan(own).any():
        raise ValueError("the affine matrix is singular; expected one that turns voxels into mm")
    return NiftiGeometry(image.affine, orientations.ornt_transform(own, orientations.axcodes2ornt(ORDER)))


def turn(values: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Voxels in the file's order (X, Y, Z) as slices, rows, columns in ORDER: (D, H, W)."""
    return np.moveaxis(orientations.apply_orientation(values, turned), (0, 1, 2), (2, 1, 0))


def turn_back(volume: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Inverse of `turn`: (D, H, W) to the file's own (X, Y, Z)."""
    back = np.empty_like(turned)
    for axis, (place, direction) in enumerate(turned):
        back[int(place)] = axis, direction
    return orientations.apply_orientation(np.moveaxis(volume, (2, 1, 0), (0, 1, 2)), back)


def write_nifti(path: Path, mask: np.ndarray, geometry: NiftiGeometry) -> None:
    """A mask (D, H, W) uint8 as NIfTI that lies on its input; its header holds the affine and nothing else of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.ascontiguousarray(turn_back(mask, geometry.turned))
    nibabel.save(nibabel.Nifti1Image(voxels, geometry.affine), path)
