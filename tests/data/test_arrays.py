import os
import re
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from lib.data import arrays
from lib.imaging import geometry
from lib.study import array_files, files
from tests import builders, builders_tasks


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
    rows.insert(1, "slice", made.slices)
    rows["sigma"] = np.nan if made.sigmas is None else made.sigmas
    files.write_csv(folder / "geometry.csv", rows)
    if made.points is not None:
        np.save(folder / "points.npy", made.points)
    about = {"fingerprint": folder.name, "files": array_files.describe(folder), "preparation": made.preparation}
    files.write_json(folder / "dataset.json", about)


def test_rows_follow_the_order_of_the_names_asked_for():
    assert builders.discs(5).rows(["disc3", "disc0", "disc3"]).tolist() == [3, 0, 3]


def test_no_names_are_no_rows():
    assert builders.discs(5).rows([]).dtype == np.int64


def test_a_case_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"1 cases are not in the arrays \(\['disc9'\] …\); run 02_preprocessing"):
        builders.discs(5).rows(["disc1", "disc9"])


def test_rows_of_a_volume_are_its_slices_in_order():
    made = builders_tasks.volumes(count=3, slices=4)
    assert made.rows(["patient2", "patient0"]).tolist() == [8, 9, 10, 11, 0, 1, 2, 3]


def test_volumes_of_different_depth_have_as_many_rows_as_slices():
    made = replace(builders_tasks.volumes(count=2, slices=3), names=["a", "b", "b", "b", "b", "c"])
    assert made.rows(["c", "b"]).tolist() == [5, 1, 2, 3, 4]


def test_a_case_has_the_geometry_of_its_first_row():
    mappings = [geometry.fit((shape, 40), (32, 32)) for shape in (40, 50, 60)]
    made = replace(builders.discs(3), geometries=mappings)
    assert [made.geometry_of(f"disc{n}") for n in (2, 0)] == [mappings[2], mappings[0]]


def test_the_geometry_of_a_case_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="disc9"):
        builders.discs(2).geometry_of("disc9")


def test_arrays_come_back_from_disk_to_the_last_digit(processed):
    made = builders.discs(3)
    mappings = [geometry.fit((540, 800), (32, 32)), geometry.fit((541, 738), (32, 32), (3, 5, 500, 611))]
    mappings.append(geometry.fit((97, 61), (32, 32)))
    write_arrays(processed / "abc", replace(made, names=["007_HC", "008", "9"], geometries=mappings))
    opened = arrays.open_arrays("abc")
    assert opened.names == ["007_HC", "008", "9"]
    assert opened.geometries == mappings
    assert np.array_equal(opened.images, made.images)
    assert np.array_equal(opened.masks, made.masks)
    assert opened.slices.tolist() == [0, 0, 0]
    assert (opened.points, opened.sigmas) == (None, None)
    assert opened.fingerprint == "abc"


def test_landmarks_come_back_with_the_width_of_each_case_s_heatmap(processed):
    made = replace(builders_tasks.landmarked(3), sigmas=np.array([1.5, 2.0, np.float32(1 / 3)], np.float32))
    write_arrays(processed / "abc", made)
    opened = arrays.open_arrays("abc")
    assert np.array_equal(opened.points, made.points)
    assert np.array_equal(opened.sigmas, made.sigmas)
    assert opened.sigmas.dtype == np.float32


def test_volumes_come_back_as_float32_with_their_slice_numbers(processed):
    made = builders_tasks.volumes(count=2, slices=4)
    write_arrays(processed / "abc", made)
    opened = arrays.open_arrays("abc")
    assert opened.images.dtype == np.float32
    assert np.array_equal(opened.images, made.images)
    assert opened.slices.tolist() == [1, 2, 3, 4, 1, 2, 3, 4]


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


# What does not match


def spoil_pixels(path):
    """Other pixels of the same number of bytes, at the same time."""
    time = path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-50:] = bytes(byte ^ 1 for byte in content[-50:])
    path.write_bytes(content)
    os.utime(path, ns=(time, time))


def swap_names(path):
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("disc0", "other").replace("disc1", "disc0").replace("other", "disc1"), encoding="utf-8"
    )


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


FAULTS = [
    ("masks.npy", spoil_pixels, "masks.npy has other bytes than when it was made"),
    ("geometry.csv", swap_names, "geometry.csv has other bytes than when it was made"),
    ("geometry.csv", cut_in_half, r"geometry.csv has \d+ bytes; expected \d+"),
    ("images.npy", cut_in_half, r"images.npy has \d+ bytes; expected 3200"),
    ("images.npy", empty, "images.npy has 0 bytes; expected 3200"),
    ("images.npy", os.unlink, "images.npy is missing"),
    ("points.npy", spoil_pixels, "points.npy has other bytes than when it was made"),
    ("dataset.json", cut_in_half, "dataset.json is no JSON"),
    ("dataset.json", os.unlink, "dataset.json is missing"),
    ("dataset.json", lambda path: path.write_text("[]"), "dataset.json does not say which files there are"),
    ("dataset.json", lambda path: path.write_text('{"fingerprint": "abc", "arrays": {}}'), "does not say which files"),
]


@pytest.fixture
def whole(processed):
    """Three landmarked cases called disc0 to disc2, opened once and found as they were made."""
    made = replace(builders_tasks.landmarked(3), names=["disc0", "disc1", "disc2"])
    write_arrays(processed / "abc", made)
    assert array_files.fault("abc") is None
    assert arrays.open_arrays("abc").names == made.names
    return processed / "abc"


@pytest.mark.parametrize(
    ("name", "spoil", "said"), FAULTS, ids=[f"{name} {spoil.__name__}" for name, spoil, _ in FAULTS]
)
def test_arrays_that_are_not_as_they_were_made_are_named_and_refused(whole, name, spoil, said):
    spoil(whole / name)
    array_files._hash_once.cache_clear()  # as in another process
    with pytest.raises(
        ValueError, match=f"abc: .*{said}.*; make study, or notebook 02_preprocessing, makes the arrays"
    ):
        arrays.open_arrays("abc")
    assert re.search(said, array_files.fault("abc"))


def test_arrays_of_another_name_are_refused(whole):
    whole.rename(whole.with_name("def"))
    with pytest.raises(ValueError, match=r"dataset\.json belongs to the arrays 'abc'"):
        arrays.open_arrays("def")


def test_deleted_arrays_say_what_to_run(processed):
    with pytest.raises(ValueError, match="gone: no arrays; make study, or notebook 02_preprocessing, makes"):
        arrays.open_arrays("gone")
    assert array_files.fault("gone") == "no arrays"


def test_asking_again_reads_no_file_whose_size_and_time_are_the_same(whole, monkeypatch):
    monkeypatch.setattr(files, "sha256", lambda path: pytest.fail(f"{path} was read"))
    array_files._hash_once.cache_clear()
    assert array_files.fault("abc") is None


def test_a_copy_with_other_times_is_as_it_was_made(whole):
    for path in whole.iterdir():
        os.utime(path)
    assert array_files.fault("abc") is None


@pytest.mark.parametrize("content", ["", "[]", '{"masks.npy": 3}'])
def test_what_was_kept_of_an_earlier_look_may_be_spoilt(whole, content):
    (whole / array_files.COMPARED).write_text(content)
    assert array_files.fault("abc") is None


def test_bytes_are_compared_once_in_a_process(whole, monkeypatch):
    monkeypatch.setattr(files, "sha256", lambda path: pytest.fail(f"{path} was read"))
    assert arrays.open_arrays("abc").fingerprint == "abc"
