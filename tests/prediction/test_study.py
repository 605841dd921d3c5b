"""A finished study answers by its name, in a process of its own, with the numbers of its own tables."""

import numpy as np
import pandas as pd
import pytest

from lib.evaluation import intervals
from lib.imaging import mask_files
from lib.study import files
from tests.conftest import python

SIZES = "name,spacing_row_mm,spacing_col_mm\n"


def predicted(project, study, tmp_path):
    """Predicts the test cases of a study by its name; returns its folder, that of the answers, and the test cases."""
    folder = project / "reports" / study
    table = files.read_csv(folder / "01_data_verification" / "cases.csv", ["case"]).set_index("case")
    evaluated = "points.csv" if (folder / "05_evaluation" / "points.csv").is_file() else "cases.csv"
    tested = sorted(set(files.read_csv(folder / "05_evaluation" / evaluated, ["case"])["case"]))
    (tmp_path / "in").mkdir()
    for name in tested:
        image = project / table.loc[name, "image"]
        (tmp_path / "in" / f"{name}{image.suffix}").symlink_to(image, target_is_directory=image.is_dir())
    known = table.loc[tested, ["spacing_row_mm", "spacing_col_mm"]].astype(float).to_numpy().tolist()
    rows = [f"{name},{row},{col}" for name, (row, col) in zip(tested, known) if np.isfinite(row)]
    (tmp_path / "sizes.csv").write_text(SIZES + "\n".join(rows) + "\n")
    command = ["-m", "lib", "predict", study, str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    done = python(project, *command, *(["--pixel-sizes", str(tmp_path / "sizes.csv")] if rows else []))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, tmp_path / "out", tested


def assert_numbers_of_06(folder, out, route):
    """The measurements are those of the study's table, all digits."""
    keys, columns = ["case", "quantity"], ["predicted_mm", *intervals.LIMITS, "flags"]
    written = files.read_csv(out / "measurements.csv", keys).set_index(keys)[columns]
    table = files.read_csv(folder / "06_biometry" / "measurements.csv", keys)
    table = table[(table["route"] == route) & (table["stage"] == "post")].set_index(keys)[columns]
    pd.testing.assert_frame_equal(written.loc[table.index], table, check_exact=True)
    assert len(table) > 0


def test_regions_by_the_study_s_name(tiny_project, tmp_path):
    folder, out, tested = predicted(tiny_project, "tiny", tmp_path)
    assert_numbers_of_06(folder, out, "ellipse")
    for name in tested:
        evaluated = folder / "05_evaluation" / "predictions" / "post" / "fold0-seed0" / f"{name}.png"
        assert (out / "masks" / f"{name}.png").read_bytes() == evaluated.read_bytes()


@pytest.mark.slow
def test_landmarks_and_volumes_by_the_study_s_name(kinds_project, tmp_path):
    (tmp_path / "points").mkdir()
    folder, out, _ = predicted(kinds_project, "tiny_points", tmp_path / "points")
    assert_numbers_of_06(folder, out, "landmark")
    (tmp_path / "volumes").mkdir()
    folder, out, tested = predicted(kinds_project, "tiny_volumes", tmp_path / "volumes")
    for name in tested:
        evaluated = mask_files.read(folder / "05_evaluation" / "predictions" / "post" / "fold0-seed0" / f"{name}.tif")
        pages = [mask_files.read(out / "masks" / name / f"{name}_{n}_mask.png") for n in range(1, len(evaluated) + 1)]
        assert np.array_equal(np.stack(pages), evaluated)
