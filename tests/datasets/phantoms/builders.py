"""Writers of phantoms, a transducer array, and measurements of folders and masks."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.datasets.phantoms import write_images, write_landmarks, write_volumes
from lib.datasets.phantoms.ultrasound import Scan
from lib.study import files

SEED = 12
WRITERS = {  # writer, number of subjects, largest number of subjects
    "brain": (write_images.write_brain, 8, 99999),
    "brain_structures": (write_images.write_brain_structures, 28, 9999),
    "hc18": (write_images.write_hc18, 6, 1000),
    "tumour": (write_images.write_tumour, 40, 99999),
    "landmarks": (write_landmarks.write_landmarks, 8, 1000),
    "lgg": (write_volumes.write_lgg, 9, 999),
}

SCAN = Scan(  # a curved array without noise
    *((270, 400), 0.25, (-50.0, 50.0), (50.0, 115.0), 35.0),  # shape, pixel size, apex, range, half angle
    *(1.0, 2.0, 30.0),  # pulse, beam, focus: mm
    *(60.0, 0.0, 0.0, -200.0, 0.0),  # dynamic range, gain and its slope, noise and its slope: dB
    *(1.0, 0.7),  # grey exponent, smoothing
)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_truth(folder: Path) -> pd.DataFrame:
    return files.read_csv(folder / "truth.csv", []).set_index("case")


def moment_axes(region: np.ndarray, spacing_mm: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Full axes (long, short) of a filled ellipse: four standard deviations of its points."""
    return 4 * np.sqrt(np.linalg.eigvalsh(np.cov((np.argwhere(region) * spacing_mm).T)))[::-1]
