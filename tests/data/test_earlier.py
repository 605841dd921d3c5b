import numpy as np
import pandas as pd
import pytest

from lib.data import earlier
from lib.imaging import head_points
from lib.study import files


@pytest.fixture
def folder_of(tmp_path):
    return lambda step: tmp_path / step


def test_a_table_is_read_from_the_step_that_wrote_it_to_the_last_digit(tmp_path, folder_of):
    places = np.random.default_rng(0).uniform(0, 500, (2, 8))
    written = pd.DataFrame(places, columns=head_points.POINT_COLUMNS)
    written.insert(0, "case", ["007_HC", "8"])
    files.write_csv(tmp_path / "01_data_verification" / "points.csv", written)
    pd.testing.assert_frame_equal(earlier.read("points.csv", folder_of), written, check_exact=True)


def test_a_table_without_one_of_its_columns_is_refused(tmp_path, folder_of):
    table = pd.DataFrame(columns=["case", *head_points.POINT_COLUMNS[:-1]])
    files.write_csv(tmp_path / "01_data_verification" / "points.csv", table)
    with pytest.raises(ValueError, match=r"points\.csv: columns \['bpd_2_col'\] are missing"):
        earlier.read("points.csv", folder_of)


def test_a_description_is_read_as_it_was_written(tmp_path, folder_of):
    files.write_json(tmp_path / "03_model" / "model.json", {"model": "unet"})
    assert earlier.read("model.json", folder_of) == {"model": "unet"}


def test_the_set_of_a_finished_evaluation_holds_no_arrays(tmp_path, folder_of):
    manifest = pd.DataFrame([["a"] * len(earlier.CASE_COLUMNS)], columns=earlier.CASE_COLUMNS)
    numbers = ("slices", "height", "width", "spacing_slice_mm", "spacing_row_mm", "spacing_col_mm")
    manifest = manifest.assign(**dict.fromkeys([*numbers, "hc_mm", "bpd_mm", "ofd_mm"], 1))
    verified = tmp_path / "01_data_verification"
    files.write_csv(verified / "cases.csv", manifest)
    folds = pd.DataFrame({"case": ["a"], "subject": "a", "fold_group": "a", "fold": 0, "validates": True})
    files.write_csv(verified / "folds.csv", folds)
    found = earlier.evaluation_set(folder_of, dataset=None, learns_points=False, writes_to=None)
    assert (found.arrays, found.points, found.folder) == (None, None, tmp_path / "05_evaluation")
    assert found.cases["case"].tolist() == found.folds["case"].tolist() == ["a"]
