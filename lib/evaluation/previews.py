"""Small pictures of every test case, written by 05 for the gallery of the report (`imaging.preview`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lib.data import cases
from lib.data.evaluation_set import EvaluationSet
from lib.imaging import preview
from lib.study import files

FOLDER = "previews"  # below that of 05_evaluation


def preview_files(evaluation: Path, case: str, fold: int, seed: int, is_volume: bool) -> list[Path]:
    """The previews of a case in the folder of 05_evaluation: one, or in a volume one for each shown slice."""
    path = _path(evaluation, case, fold, seed)
    return sorted(path.with_suffix("").glob("[!.]*.svg")) if is_volume else [path] if path.is_file() else []


def write(
    test_set: EvaluationSet,
    fold: int,
    seed: int,
    row: Mapping[str, Any],
    image: np.ndarray,
    compared: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
) -> None:
    """Writes the preview of a case of the manifest, or of the slices of a volume with any structure.

    Args:
        image: as `Dataset.read_image` returns it.
        compared: reference and predicted mask, (H, W) or (D, H, W), and probability of all classes, with an axis of
            classes first; None if landmarks are learnt, which the gallery draws.
    """
    path, aspect = _path(test_set.folder, row["case"], fold, seed), _aspect(row)
    if compared is None:
        files.write_text(path, preview.svg(image, aspect))
        return
    reference, predicted, probability = compared
    if not test_set.dataset.volumes:
        files.write_text(path, preview.svg(image, aspect, reference, predicted, 1 - probability[0]))
        return
    for at in preview.shown_slices(reference, predicted):
        shown = np.ascontiguousarray(image[at, ..., test_set.dataset.display_channel])
        content = preview.svg(shown, aspect, reference[at], predicted[at], 1 - probability[0, at])
        files.write_text(path.with_suffix("") / f"{at:04d}.svg", content)


def _path(evaluation: Path, case: str, fold: int, seed: int) -> Path:
    return evaluation / FOLDER / files.run_name(fold, seed) / f"{case}.svg"


def _aspect(row: Mapping[str, Any]) -> float:
    """Height of a pixel divided by its width; 1 if the pixel size is unknown."""
    spacing_mm = cases.spacing_mm(row)
    return spacing_mm[0] / spacing_mm[1] if spacing_mm else 1.0
