import os
import re
from dataclasses import replace

import pytest

from lib.data import arrays
from lib.study import array_files, files
from tests import builders_tasks


def spoil_pixels(path):
    """Other pixels of the same number of bytes, at the same time."""
    time = path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-50:] = bytes(byte ^ 1 for byte in content[-50:])
    path.write_bytes(content)
    os.utime(path, ns=(time, time))


def swap_names(path):
    text = path.read_text(encoding="utf-8").replace("disc0", "other").replace("disc1", "disc0")
    path.write_text(text.replace("other", "disc1"), encoding="utf-8")


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


FAULTS = [
    ("masks.npy", spoil_pixels, "masks.npy has changed since preprocessing wrote it"),
    ("geometry.csv", swap_names, "geometry.csv has changed since preprocessing wrote it"),
    ("geometry.csv", cut_in_half, r"geometry.csv has \d+ bytes; expected \d+"),
    ("images.npy", cut_in_half, r"images.npy has \d+ bytes; expected 3200"),
    ("images.npy", lambda path: path.write_bytes(b""), "images.npy has 0 bytes; expected 3200"),
    ("images.npy", os.unlink, "images.npy is missing"),
    ("points.npy", spoil_pixels, "points.npy has changed since preprocessing wrote it"),
    ("dataset.json", cut_in_half, "dataset.json is not valid JSON"),
    ("dataset.json", os.unlink, "dataset.json is missing"),
    ("dataset.json", lambda path: path.write_text("[]"), "dataset.json does not list the array files"),
    ("dataset.json", lambda path: path.write_text('{"fingerprint": "abc", "arrays": {}}'), "does not list the array"),
]


@pytest.fixture
def whole(processed):
    """Three landmarked cases called disc0 to disc2, opened once and intact."""
    made = replace(builders_tasks.landmarked(3), names=["disc0", "disc1", "disc2"])
    builders_tasks.write_arrays(processed / "abc", made)
    assert array_files.fault("abc") is None
    assert arrays.open_arrays("abc").names == made.names
    return processed / "abc"


@pytest.mark.parametrize(("name", "spoil", "fault"), FAULTS)
def test_arrays_that_are_not_as_they_were_made_are_named_and_refused(whole, name, spoil, fault):
    spoil(whole / name)
    array_files._hash_once.cache_clear()  # as in another process
    with pytest.raises(ValueError, match=f"abc: .*{fault}.*; rerun 'make study' or notebook 02"):
        arrays.open_arrays("abc")
    assert re.search(fault, array_files.fault("abc"))


def test_deleted_arrays_and_those_of_another_name_are_refused(whole):
    whole.rename(whole.with_name("def"))
    with pytest.raises(ValueError, match=r"dataset\.json belongs to other arrays: 'abc'"):
        arrays.open_arrays("def")
    with pytest.raises(ValueError, match="abc: no such arrays; rerun 'make study'"):
        arrays.open_arrays("abc")


def test_asking_again_reads_no_file_whose_size_and_time_are_the_same(whole, monkeypatch):
    monkeypatch.setattr(files, "sha256", lambda path: pytest.fail(f"{path} was read"))
    assert arrays.open_arrays("abc").fingerprint == "abc"  # bytes are compared once in a process
    array_files._hash_once.cache_clear()
    assert array_files.fault("abc") is None


@pytest.mark.parametrize("kept", [None, "", "[]", '{"masks.npy": 3}'])
def test_a_copy_with_other_times_and_a_spoilt_memory_are_as_they_were_made(whole, kept):
    for path in whole.iterdir():
        os.utime(path)
    if kept is not None:
        (whole / array_files.HASH_CACHE).write_text(kept)
    assert array_files.fault("abc") is None
