import os
import re
from dataclasses import replace

import pytest

from lib.data import arrays
from lib.study import array_files, files
from tests import builders_tasks


def change_bytes(path):
    """Keeps size and modification time."""
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


CHANGED, UNLISTED = "has changed since preprocessing wrote it", "dataset.json does not list the array files"
FAULTS = [
    ("masks.npy", change_bytes, f"masks.npy {CHANGED}"),
    ("geometry.csv", swap_names, f"geometry.csv {CHANGED}"),
    ("geometry.csv", cut_in_half, r"geometry.csv has \d+ bytes; expected \d+"),
    ("images.npy", cut_in_half, r"images.npy has \d+ bytes; expected 3200"),
    ("images.npy", lambda path: path.write_bytes(b""), "images.npy has 0 bytes; expected 3200"),
    ("images.npy", os.unlink, "images.npy is missing"),
    ("points.npy", change_bytes, f"points.npy {CHANGED}"),
    ("dataset.json", cut_in_half, "dataset.json is not valid JSON"),
    ("dataset.json", os.unlink, "dataset.json is missing"),
    ("dataset.json", lambda path: path.write_text("[]"), UNLISTED),
    ("dataset.json", lambda path: path.write_text('{"fingerprint": "abc", "arrays": {}}'), UNLISTED),
    ("dataset.json", lambda path: path.write_text('{"fingerprint": "abc", "files": {"images.npy": {}}}'), UNLISTED),
]


@pytest.fixture
def complete(processed):
    """Arrays of three landmarked cases called disc0 to disc2, opened once without a problem."""
    written = replace(builders_tasks.landmarked(3), names=["disc0", "disc1", "disc2"])
    builders_tasks.write_arrays(processed / "abc", written)
    assert array_files.fault("abc") is None
    assert arrays.open_arrays("abc").names == written.names
    return processed / "abc"


@pytest.mark.parametrize(("name", "change", "fault"), FAULTS)
def test_changed_arrays_are_named_and_refused(complete, name, change, fault):
    change(complete / name)
    array_files._hash_once.cache_clear()  # as in another process
    with pytest.raises(ValueError, match=f"abc: .*{fault}.*; rerun 'make study' or notebook 02"):
        arrays.open_arrays("abc")
    assert re.search(fault, array_files.fault("abc"))


def test_deleted_arrays_and_those_of_another_name_are_refused(complete):
    complete.rename(complete.with_name("def"))
    with pytest.raises(ValueError, match=r"dataset\.json belongs to other arrays: 'abc'"):
        arrays.open_arrays("def")
    with pytest.raises(ValueError, match="abc: no such arrays; rerun 'make study'"):
        arrays.open_arrays("abc")


def test_a_second_check_reads_no_file_of_the_same_size_and_time(complete, monkeypatch):
    monkeypatch.setattr(files, "sha256", lambda path: pytest.fail(f"{path} was read"))
    assert arrays.open_arrays("abc").fingerprint == "abc"
    array_files._hash_once.cache_clear()
    assert array_files.fault("abc") is None


@pytest.mark.parametrize("cache", [None, "", "[]", '{"masks.npy": 3}', '{"masks.npy": [3, 1]}'])
def test_a_copy_with_other_times_or_a_damaged_cache_is_unchanged(complete, cache):
    for path in complete.iterdir():
        os.utime(path)
    if cache is not None:
        (complete / array_files.HASH_CACHE).write_text(cache)
    assert array_files.fault("abc") is None
