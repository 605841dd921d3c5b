import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lib.datasets.phantoms import cache
from lib.study import files

RECORD = {"subjects": 3, "seed": 1, "code": {"lib.x": "0a"}}


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def beside(folder):
    """What lies next to a folder, lock files left out."""
    return [path.name for path in folder.parent.iterdir() if path.suffix != ".lock" and path != folder]


def text(words):
    return lambda folder: (folder / "data.txt").write_text(words)


@pytest.fixture
def folder(tmp_path):
    """A folder as made before."""
    cache.write_whole(tmp_path / "raw" / "phantom", RECORD, text("old"))
    return tmp_path / "raw" / "phantom"


def test_a_folder_holds_what_was_written_and_the_record(folder):
    assert (folder / "data.txt").read_text() == "old"
    assert json.loads((folder / "phantom.json").read_text()) == RECORD
    assert sorted(contents(folder)) == ["data.txt", "phantom.json"]
    assert beside(folder) == []


def test_the_writer_gets_an_empty_folder_and_the_record_comes_last(tmp_path):
    seen = []
    cache.write_whole(tmp_path / "phantom", RECORD, lambda new: seen.append((new.is_dir(), list(new.iterdir()))))
    assert seen == [(True, [])]


def test_a_folder_is_current_only_for_its_own_record(folder):
    assert cache.read_record(folder) == RECORD
    assert not (cache.read_record(folder) == RECORD | {"seed": 2})
    assert not cache.read_record(folder.parent)


def test_a_record_is_read_as_written_and_empty_where_there_is_none(folder):
    assert cache.read_record(folder) == RECORD
    assert cache.read_record(folder / "absent") == {}


def test_a_record_that_is_no_json_is_named(folder):
    (folder / "phantom.json").write_text("{")
    with pytest.raises(ValueError, match=r"phantom.json: no JSON"):
        cache.read_record(folder)


def test_a_current_folder_is_left_alone(folder):
    cache.write_whole(folder, RECORD, lambda _: pytest.fail("written again"))


def test_a_folder_of_another_record_is_replaced_whole(folder):
    (folder / "stray.txt").write_text("of the old one")
    cache.write_whole(folder, RECORD | {"seed": 2}, text("new"))
    assert contents(folder)["data.txt"] == b"new"
    assert sorted(contents(folder)) == ["data.txt", "phantom.json"]
    assert beside(folder) == []


def test_of_two_that_want_one_folder_the_second_waits_and_leaves_it_alone(tmp_path):
    target, written = tmp_path / "phantom", []

    def write(new):
        written.append(new)
        second.start()  # it can only wait: the first holds the lock until it is done
        (new / "data.txt").write_text("of the first")

    second = threading.Thread(target=lambda: cache.write_whole(target, RECORD, written.append))
    cache.write_whole(target, RECORD, write)
    second.join()
    assert len(written) == 1
    assert contents(target)["data.txt"] == b"of the first"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no space left")])
def test_an_interrupted_write_leaves_no_folder_and_nothing_beside_it(tmp_path, error):
    def interrupted(new):
        (new / "half.txt").write_text("half")
        raise error

    with pytest.raises(type(error)):
        cache.write_whole(tmp_path / "phantom", RECORD, interrupted)
    assert not (tmp_path / "phantom").exists()
    assert beside(tmp_path / "phantom") == []


def test_an_interrupted_write_leaves_the_old_folder_as_it_was(folder):
    before = contents(folder)

    def interrupted(new):
        (new / "half.txt").write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        cache.write_whole(folder, RECORD | {"seed": 2}, interrupted)
    assert contents(folder) == before
    assert beside(folder) == []


ENDLESS = """
from itertools import count
from pathlib import Path
from lib.datasets.phantoms import cache
def write(folder):
    for number in count():
        (folder / f"{number % 50}.txt").write_text("half")
cache.write_whole(Path(FOLDER), {"seed": 2}, write)
"""


@pytest.mark.parametrize("before", [True, False])
def test_after_a_kill_the_folder_is_as_before_and_the_next_write_is_whole(tmp_path, before):
    target = tmp_path / "phantom"
    if before:
        cache.write_whole(target, RECORD, text("old"))
    process = subprocess.Popen([sys.executable, "-c", ENDLESS.replace("FOLDER", repr(str(target)))], cwd=files.ROOT)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".writing-phantom/*.txt")) and time.monotonic() < deadline:
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".writing-phantom/*.txt"))  # it was killed in the middle
    assert target.exists() == before
    assert not before or contents(target)["data.txt"] == b"old"
    cache.write_whole(target, {"seed": 2}, text("new"))
    assert sorted(contents(target)) == ["data.txt", "phantom.json"]
    assert beside(target) == []


def test_what_a_kill_left_of_a_replaced_folder_does_not_stop_the_next_write(folder):
    left = folder.with_name(".replaced-phantom")
    left.mkdir()
    (left / "data.txt").write_text("older")  # killed after the new folder took its place
    cache.write_whole(folder, RECORD | {"seed": 2}, text("new"))
    assert contents(folder)["data.txt"] == b"new"
    assert beside(folder) == []


def test_a_folder_that_was_not_made_here_is_never_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(ValueError, match=r"found without phantom.json, so no phantom is replaced there; move it away"):
        cache.write_whole(tmp_path, RECORD, text("new"))
    assert contents(tmp_path) == {"thesis.txt": b"three years of work"}


def test_a_file_of_the_folder_s_name_is_refused(tmp_path):
    (tmp_path / "phantom").write_text("a note")
    with pytest.raises(ValueError, match=r"found without phantom.json"):
        cache.write_whole(tmp_path / "phantom", RECORD, text("new"))
    assert (tmp_path / "phantom").read_text() == "a note"


def test_a_link_is_not_replaced(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(ValueError, match="link: is a link; a phantom replaces only its own folders"):
        cache.write_whole(link, RECORD | {"seed": 2}, text("new"))
    assert contents(folder)["data.txt"] == b"old"
    assert cache.read_record(link) == RECORD
