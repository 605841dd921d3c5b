"""Small previews and endpoints of the synthetic studies of `builders_report`, as 05 and 06 would write them."""

import numpy as np
import pandas as pd

from lib import datasets
from lib.data.evaluation_set import EvaluationSet
from lib.evaluation import previews
from lib.evaluation.biometry import LANDMARK_COLUMNS
from lib.imaging.head_points import POINT_COLUMNS
from lib.study import files, params

SHAPE = (27, 40)  # of the pictures; the manifest says ten times as much
ENDPOINTS = [[13.0, 5.0], [13.0, 35.0], [3.0, 20.0], [23.0, 20.0]]  # OFD from left to right, BPD downwards
SLICES = 5  # of a volume; structures are in two of them


def write(study: params.Study, keys: list[dict], manifest: pd.DataFrame) -> None:
    """Previews of the tested cases, and the endpoints of their heads; of landmarks the published ones too."""
    root, dataset = files.study_folder(study.study), datasets.of(study)
    test_set = EvaluationSet(manifest, pd.DataFrame(), None, dataset, root / "05_evaluation")
    rows = dict(zip(manifest["case"], test_set.rows(manifest["case"].tolist())))
    for key in keys:
        image, compared = picture(study.learns_landmarks, dataset.volumes)
        previews.write(test_set, key["fold"], key["seed"], rows[key["case"]], image, compared)
    route = "landmark" if study.learns_landmarks else "ellipse"
    ends = dict(zip(POINT_COLUMNS, np.ravel(ENDPOINTS).tolist()))
    heads = [key | {"route": route} | ends for key in keys if study.head_classes]
    files.write_csv(root / "06_biometry/points.csv", pd.DataFrame(heads).reindex(columns=LANDMARK_COLUMNS))
    published = [{"case": case} | ends for case in rows if study.learns_landmarks]
    files.write_csv(root / "01_data_verification/points.csv", pd.DataFrame(published, columns=["case", *POINT_COLUMNS]))


def picture(of_points: bool, is_volume: bool) -> tuple[np.ndarray, tuple | None]:
    """An image with a reference square, the same square predicted one column to the right, and its probability."""
    image = np.tile(np.arange(SHAPE[1], dtype=np.uint8) * 6, (SHAPE[0], 1))
    if of_points:
        return image, None
    reference = np.zeros(SHAPE, np.uint8)
    reference[8:18, 10:20] = 1
    if is_volume:
        image = np.repeat(np.repeat(image[None, ..., None], 3, axis=3), SLICES, axis=0)
        reference = reference * np.isin(np.arange(SLICES), (1, 3)).astype(np.uint8)[:, None, None]
    predicted = np.roll(reference, 1, axis=-1)
    probability = np.stack([1 - 0.75 * predicted, 0.75 * predicted]).astype(np.float32)
    return image, (reference, predicted, probability)
