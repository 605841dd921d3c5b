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
    builders_tasks.write_arrays(processed / "abc", made)
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
