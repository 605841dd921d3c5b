"""Files to be predicted, and models whose foreground probability is the image itself, so that every answer is known."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from lib import __main__, models
from lib.imaging import head_quality
from lib.models import inference
from lib.study import files
from tests import builders

SHAPE, SPACING_MM = (120, 160), 0.5
HEAD = {"centre": (60.0, 80.0), "major": 100.0, "minor": 80.0, "angle_deg": 20.0}  # pixels
HC_MM = builders.perimeter(100.0, 80.0) * SPACING_MM
USE = {"threshold": 0.5, "flip_average": False, "postprocessing": [{"step": "largest_component"}]}
USE |= {"head_classes": ["head"], "max_axis_ratio": 1.7, "hc_range_mm": [40.0, 400.0]}
BOUNDS = {"bpd": 0.4, "ofd": 0.3, "hc": 0.2}  # of |error| / root of the prediction, in mm
USE |= {"intervals": {"level": 0.9, "subjects": 30, "images": 40, "error_per_root": BOUNDS}}
USE |= {"flags": {"limits": {}, "usual_greys": [0.0] * head_quality.LEVELS}}
USE |= {"licence": "made here", "display_channel": 0, "fold": 0, "seed": 0}


@pytest.fixture
def transparent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks' probability of the foreground is the image, scaled to 0 to 1."""
    monkeypatch.setattr(inference, "predict", builders.predict_image)


def write_model(path: Path, shape: tuple[int, int] = SHAPE, **changes: object) -> Path:
    """A model of images at their own size, as 05_evaluation writes it, with changed metadata."""
    trained = builders.write_weights(path.with_suffix(".trained"), builders.of_images(*shape))
    models.complete(trained, path, USE | changes)
    trained.unlink()
    return path


def head_image(**changes: object) -> np.ndarray:
    """A bright head on black, (120, 160) uint8."""
    return builders.ellipse_region(SHAPE, **(HEAD | changes)).astype(np.uint8) * np.uint8(255)


def region(**attributes: object) -> Dataset:
    """A calibrated ultrasound region of the whole image, of pixels of SPACING_MM, with changed attributes."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX = item.PhysicalDeltaY = SPACING_MM / 10
    item.RegionLocationMinX0 = item.RegionLocationMinY0 = 0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = SHAPE[1] - 1, SHAPE[0] - 1
    for name, value in attributes.items():
        setattr(item, name, value)
    return item


def dicom(pixels: np.ndarray, form: str = "MONOCHROME2", **attributes: object) -> FileDataset:
    """A DICOM file in memory with a patient's name; pixels are (H, W), (N, H, W) or (H, W, 3)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Secret^Anna", "ID-4711", "US"
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    is_colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3 if is_colour else 1, form
    if is_colour:
        dataset.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.Rows, dataset.Columns = pixels.shape[:2] if is_colour else pixels.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def save_dicom(path: Path, dataset: FileDataset) -> Path:
    """Writes a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def predict(model: Path, given: Path, out: Path, *options: str) -> int:
    """The exit status of the command."""
    return __main__.main(["predict", str(model), str(given), "--out", str(out), "--device", "cpu", *options])


def hc_mm(out: Path) -> dict[str, float]:
    """HC by case in a folder of answers."""
    table = files.read_csv(out / "measurements.csv", ["predicted_mm"]).query("quantity == 'hc'")
    return dict(zip(table["case"], table["predicted_mm"]))


def flags(out: Path) -> dict[str, str]:
    """Flags of the HC by case in a folder of answers."""
    table = files.read_csv(out / "measurements.csv", ["flags"]).query("quantity == 'hc'")
    return dict(zip(table["case"], table["flags"]))


def refusals(out: Path) -> dict[str, str]:
    """Reasons by file in a folder of answers."""
    table = files.read_csv(out / "refused.csv", ["image", "found"])
    return dict(zip(table["image"], table["found"]))


def text_of(folder: Path) -> Iterator[bytes]:
    """Contents of all files of a folder."""
    yield from (path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
