"""The files and folders that are given: which are cases, what they are called, and how each is read."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lib.imaging import image_files
from lib.prediction import volume_files
from lib.prediction.picture import Picture, Source
from lib.prediction.pixel_sizes import TOLERANCE, PixelSizes, Range
from lib.study import system_files

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
DICOM_MAGIC, MAGIC_AT = b"DICM", 128
KNOWN = (*image_files.IMAGE_SUFFIXES, *DICOM_SUFFIXES, *volume_files.NIFTI)
NAMED = 5  # files that are left out, in a message


@dataclass(frozen=True)
class Refusal:
    """An input that could not be read or predicted."""

    file: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """Everything below the given paths."""

    sources: list[Source]
    refused: list[Refusal]
    left_out: list[str]  # names of files in folders that are no images, or masks of images beside them

    @property
    def note(self) -> str:
        """What is left out, in words; "" for nothing."""
        if not self.left_out:
            return ""
        first = ", ".join(self.left_out[:NAMED]) + (" …" if len(self.left_out) > NAMED else "")
        return f"{len(self.left_out)} files are no images, or masks of images beside them, and are left out: {first}"


def find(given: Sequence[Path], is_volume: bool, besides: Path) -> Listing:
    """Cases below files and folders, links followed, without the folder `besides`, in which answers are written.

    A case is called as its file without suffix; where two would be called the same, as the path below the given
    folder, then with the suffix, then with the name of the given folder.
    """
    found: list[tuple[Path, Path]] = []  # the given folder, and a file or a volume's folder in it
    refused, left_out = [], []
    for path in (Path(os.path.abspath(each)) for each in given):  # "." has a name then
        if path.is_file():
            found.append((path.parent, path))
        elif not path.is_dir():
            refused.append(Refusal(path.name or str(path), "no such file or folder"))
        else:
            cases, others = _volumes(path, besides) if is_volume else _images(path, besides)
            found += [(path, each) for each in cases]
            left_out += [each.relative_to(path).as_posix() for each in others]
            if not cases:
                kind = "slices of a volume or NIfTI files" if is_volume else "images or DICOM files"
                refused.append(Refusal(path.name or str(path), f"the folder contains no {kind}"))
    once = {path: (folder, path) for folder, path in reversed(found)}  # a file given twice counts once
    kept = list(reversed(once.values()))
    return Listing(_named(kept), refused, left_out)


def _images(folder: Path, besides: Path) -> tuple[list[Path], list[Path]]:
    """Images and DICOM files below a folder, and the other files."""
    images, others = [], []
    for path in _below(folder, besides):
        (images if _is_image(path) and not _is_mask(path) else others).append(path)
    return images, others


def _is_image(path: Path) -> bool:
    """Whether a file is an image by its name or first bytes; one that may not be read is, so that this is reported."""
    try:
        return path.suffix.lower() in image_files.IMAGE_SUFFIXES or is_dicom(path)
    except OSError:
        return True


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its suffix or its first bytes."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(MAGIC_AT + len(DICOM_MAGIC)).endswith(DICOM_MAGIC)


def _is_mask(path: Path) -> bool:
    """Whether a file is named as the mask of an image beside it."""
    stem, count = volume_files.MASK.subn("", path.stem)
    return bool(count) and any(path.with_name(stem + suffix).is_file() for suffix in (path.suffix, ".png", ".dcm"))


def _volumes(folder: Path, besides: Path) -> tuple[list[Path], list[Path]]:
    """Folders of slices and NIfTI files below a folder, and the other files."""
    files = _below(folder, besides)
    nifti = [path for path in files if volume_files.is_nifti(path) and not volume_files.MASK.search(_stem(path))]
    holding = {path.parent for path in files if path.suffix.lower() in image_files.IMAGE_SUFFIXES}
    stacks = {parent for parent in holding if _is_stack(parent)}
    others = [path for path in files if path not in nifti and path.parent not in stacks]
    return sorted([*nifti, *stacks]), others


def _is_stack(folder: Path) -> bool:
    try:
        return bool(volume_files.slices_in(folder))
    except ValueError:  # two files of one number: reported when the folder is read
        return True


def _below(folder: Path, besides: Path) -> list[Path]:
    """Files at every depth of a folder, but those in the folder `besides`."""
    return [path for path in system_files.walk(folder)[0] if not path.resolve().is_relative_to(besides.resolve())]


def _stem(path: Path) -> str:
    """Name without a known suffix; the numbers of a DICOM file are none."""
    name = path.name
    for suffix in sorted(KNOWN, key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def _forms(folder: Path, path: Path) -> list[str]:
    """What a case in a given folder may be called, from short to long."""
    below = _below_name(folder, path)
    return [_stem(path), Path(below).with_name(_stem(path)).as_posix(), below, f"{folder.name}/{below}"]


def _below_name(folder: Path, path: Path) -> str:
    """The path of a case below the given folder, or the name of that folder if it is the case itself."""
    return path.name if path == folder else path.relative_to(folder).as_posix()


def _named(found: Sequence[tuple[Path, Path]]) -> list[Source]:
    """Each file or folder with the shortest name that no other has; ValueError if two cannot be told apart."""
    forms, lengths = [_forms(*pair) for pair in found], [0] * len(found)
    for _ in range(3):
        counts = Counter(names[length].casefold() for names, length in zip(forms, lengths))
        lengths = [
            length + (counts[names[length].casefold()] > 1 and length < 3) for names, length in zip(forms, lengths)
        ]
    chosen = [names[length] for names, length in zip(forms, lengths)]
    counts = Counter(name.casefold() for name in chosen)
    twice = [name for name in chosen if counts[name.casefold()] > 1]
    if twice:
        raise ValueError(f"two inputs are called {twice[0]}; give them in two calls, or rename one")
    return [Source(name, path, _below_name(folder, path)) for name, (folder, path) in zip(chosen, found)]


@dataclass(frozen=True)
class Reading:
    """How files become arrays for a model."""

    is_volume: bool
    channels: int
    sizes: PixelSizes
    limits: Range  # of a pixel size in mm

    def read(self, source: Source) -> list[Picture] | Refusal:
        """The pictures in a file (several if it has frames), or why there are none."""
        try:
            pictures = self._volume(source) if self.is_volume else self._images(source)
        except ValueError as error:
            return Refusal(source.file, _without_path(str(error), source.path))
        except OSError as error:
            return Refusal(source.file, error.strerror or str(error))
        return [self._sized(picture, source.path) for picture in pictures]

    def _images(self, source: Source) -> list[Picture]:
        if source.path.is_dir() or volume_files.is_nifti(source.path):
            raise ValueError(f"{source.path}: a volume; expected an image, since the model is of images")
        if source.path.suffix.lower() not in image_files.IMAGE_SUFFIXES and is_dicom(source.path):
            from lib.prediction import dicom  # pydicom takes half a second to import

            frames, size, origin = dicom.read(source.path)
            names = (
                [source.case]
                if len(frames) == 1
                else [f"{source.case}_frame{n:04d}" for n in range(1, len(frames) + 1)]
            )
            return [Picture(name, source.file, frame, size, None, origin) for name, frame in zip(names, frames)]
        opened = image_files.open_image(source.path)
        notes = [f"turned upright (EXIF orientation {opened.orientation})"] if opened.orientation != 1 else []
        notes += ["transparency ignored"] if opened.has_transparency else []
        grey = image_files.to_grey(opened.pixels)
        return [Picture(source.case, source.file, grey, None, None, "a picture file holds no pixel size", notes)]

    def _volume(self, source: Source) -> list[Picture]:
        if source.path.is_dir():
            stack, names = volume_files.read_slices(source.path, self.channels)
            origin = "a folder of slices holds no voxel size"
            return [Picture(source.case, source.file, stack, None, None, origin, like=names)]
        if not volume_files.is_nifti(source.path):
            raise ValueError(f"{source.path}: a single file; the model is of volumes: folders of slices, or NIfTI")
        from lib.prediction import nifti

        stack, size, geometry, notes = nifti.read_nifti(source.path, self.channels)
        return [Picture(source.case, source.file, stack, size[1:], size[0], "NIfTI affine", notes, geometry)]

    def _sized(self, picture: Picture, path: Path) -> Picture:
        """The picture with the pixel size that the user stated, else with its own if that can be believed."""
        stated, own = self.sizes.of(path), picture.spacing_mm
        if stated is not None:
            notes = list(picture.notes)
            if own and any(abs(a - b) > TOLERANCE * b for a, b in zip(stated, own)):
                notes.append(f"{picture.calibration} says {own[0]:.4g} x {own[1]:.4g} mm; {self.sizes.source} was used")
            slice_mm = stated[2] if len(stated) > 2 else picture.slice_mm
            size = (stated[0], stated[1])
            return replace(picture, spacing_mm=size, slice_mm=slice_mm, calibration=self.sizes.source, notes=notes)
        if own and not self.is_volume and not all(self.limits[0] <= side <= self.limits[1] for side in own):
            low, high = self.limits
            reason = f"{picture.calibration} is {own[0]:.4g} x {own[1]:.4g} mm; expected {low:g} to {high:g} mm"
            return replace(picture, spacing_mm=None, calibration=reason)
        if own is None and self.sizes.table:
            return replace(picture, calibration=f"{picture.calibration}; no row with a size in {self.sizes.source}")
        return picture


def _without_path(message: str, path: Path) -> str:
    """A reader's message without the folder of the file, which names people on some machines."""
    text = re.sub(rf"^{re.escape(str(path))}:? ?", "", message)
    return text.replace(f"{path.parent}/", "")
