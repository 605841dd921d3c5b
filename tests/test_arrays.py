from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from lib import arrays, files, geometry
from tests import builders


@pytest.fixture
def processed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "processed_folder", lambda name: tmp_path / name)
    return tmp_path


def write_arrays(folder, made):
    folder.mkdir()
    np.save(folder / "images.npy", made.images)
    np.save(folder / "masks.npy", made.masks)
    rows = pd.DataFrame([asdict(each) for each in made.geometries])
    rows.insert(0, "case", made.names)
    files.write_csv(folder / "geometry.csv", rows)
    files.write_json(folder / "dataset.json", {"fingerprint": folder.name})


def test_rows_follow_the_order_of_the_names_asked_for():
    assert builders.discs(5).rows(["disc3", "disc0", "disc3"]).tolist() == [3, 0, 3]


def test_no_names_are_no_rows():
    assert builders.discs(5).rows([]).dtype == np.int64


def test_a_case_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"1 cases are not in the arrays \(\['disc9'\] …\); run 02_preprocessing"):
        builders.discs(5).rows(["disc1", "disc9"])


def test_arrays_come_back_from_disk_to_the_last_digit(processed):
    made = builders.discs(3)
    mappings = [geometry.fit(shape, (32, 32)) for shape in ((540, 800), (541, 738), (97, 61))]
    write_arrays(processed / "abc", arrays.Arrays(["007_HC", "008", "9"], made.images, made.masks, mappings, "abc"))
    opened = arrays.open_arrays("abc")
    assert opened.names == ["007_HC", "008", "9"]
    assert opened.geometries == mappings
    assert np.array_equal(opened.images, made.images)
    assert np.array_equal(opened.masks, made.masks)
    assert opened.fingerprint == "abc"


def test_arrays_on_disk_are_mapped_and_cannot_be_written(processed):
    write_arrays(processed / "abc", builders.discs(2))
    opened = arrays.open_arrays("abc")
    assert isinstance(opened.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        opened.images[0] = 0


def test_a_study_s_arrays_are_found_by_the_fingerprint_it_names(processed):
    write_arrays(processed / "abc", builders.discs(2))
    files.write_json(processed / "02" / "dataset.json", {"fingerprint": "abc"})
    assert arrays.read_arrays(processed / "02").names == ["disc0", "disc1"]


def test_deleted_arrays_say_what_to_run(processed):
    with pytest.raises(ValueError, match="gone: no arrays; run 02_preprocessing"):
        arrays.open_arrays("gone")


def test_a_folder_without_its_last_file_holds_no_arrays(processed):
    write_arrays(processed / "half", builders.discs(2))
    (processed / "half" / "dataset.json").unlink()
    with pytest.raises(ValueError, match="half: no arrays"):
        arrays.open_arrays("half")
