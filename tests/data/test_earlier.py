import numpy as np
import pandas as pd
import pytest

from lib.data import cases, earlier
from lib.imaging import head_points
from lib.study import files


@pytest.fixture
def folder_of(tmp_path):
    return lambda step: tmp_path / step


def test_a_file_is_read_exactly_from_the_step_that_wrote_it(folder_of):
    points = np.random.default_rng(0).uniform(0, 500, (2, 8))
    written = pd.DataFrame(points, columns=head_points.POINT_COLUMNS)
    written.insert(0, "case", ["007_HC", "8"])
    path = folder_of("01_data_verification") / "points.csv"
    files.write_csv(path, written)
    files.write_json(folder_of("03_model") / "model.json", {"model": "unet"})
    pd.testing.assert_frame_equal(earlier.read("points.csv", folder_of), written, check_exact=True)
    assert earlier.read("model.json", folder_of) == {"model": "unet"}
    files.write_csv(path, written.iloc[:, :-1])
    with pytest.raises(ValueError, match=r"points\.csv: columns \['bpd_2_col'\] are missing"):
        earlier.read("points.csv", folder_of)


def test_the_evaluation_set_after_05_contains_no_arrays(tmp_path, folder_of):
    manifest = pd.DataFrame(1, index=[0], columns=cases.CASE_COLUMNS)
    text = ("case", "subject", "fold_group", "stratum", "split", "image", "mask", "sha256")
    files.write_csv(folder_of("01_data_verification") / "cases.csv", manifest.assign(**dict.fromkeys(text, "a")))
    folds = pd.DataFrame({"case": ["a"], "subject": "a", "fold_group": "a", "fold": 0, "validates": True})
    files.write_csv(folder_of("01_data_verification") / "folds.csv", folds)
    found = earlier.evaluation_set(folder_of, dataset=None, learns_points=False, writes_to=None)
    assert (found.arrays, found.points, found.folder) == (None, None, tmp_path / "05_evaluation")
    assert found.cases["case"].tolist() == found.folds["case"].tolist() == ["a"]
