import json
import threading

import pytest

from lib.datasets.phantoms import cache
from tests.datasets.phantoms.builders import contents

RECORD = {"subjects": 3, "seed": 1, "code": {"lib.x": "0a"}}
STALE = RECORD | {"seed": 2}


def siblings(folder):
    """Names next to a folder, without lock files."""
    return [path.name for path in folder.parent.iterdir() if path.suffix != ".lock" and path != folder]


def text(content):
    return lambda folder: (folder / "data.txt").write_text(content)


def names(folder):
    return [str(path) for path in contents(folder)]


@pytest.fixture
def folder(tmp_path):
    cache.write_atomically(tmp_path / "raw" / "phantom", RECORD, text("old"))
    return tmp_path / "raw" / "phantom"


def test_a_folder_has_the_written_files_and_the_record_which_comes_last(folder):
    assert names(folder) == ["data.txt", "phantom.json"]
    assert (folder / "data.txt").read_text() == "old"
    assert json.loads((folder / "phantom.json").read_text()) == RECORD == cache.read_record(folder)
    assert cache.read_record(folder / "absent") == {}
    assert siblings(folder) == []
    seen = []
    cache.write_atomically(folder, STALE, lambda new: seen.append((new.is_dir(), list(new.iterdir()))))
    assert seen == [(True, [])]


def test_a_current_folder_is_left_alone_and_a_stale_one_is_replaced_whole(folder):
    cache.write_atomically(folder, RECORD, lambda _: pytest.fail("written again"))
    (folder / "stray.txt").write_text("of the old one")
    cache.write_atomically(folder, STALE, text("new"))
    assert (folder / "data.txt").read_text() == "new"
    assert names(folder) == ["data.txt", "phantom.json"]
    assert siblings(folder) == []


def test_of_two_processes_that_write_one_folder_the_second_waits_and_leaves_it_alone(tmp_path):
    target, written = tmp_path / "phantom", []

    def write(new):
        written.append(new)
        second.start()  # it can only wait: the first holds the lock until it is done
        (new / "data.txt").write_text("of the first")

    second = threading.Thread(target=lambda: cache.write_atomically(target, RECORD, written.append))
    cache.write_atomically(target, RECORD, write)
    second.join()
    assert len(written) == 1
    assert (target / "data.txt").read_text() == "of the first"


def test_an_interrupted_write_leaves_the_old_folder_and_nothing_beside_it(folder):
    def interrupted(new):
        (new / "half.txt").write_text("half")
        raise OSError("no space left")

    before = contents(folder)
    with pytest.raises(OSError, match="no space left"):
        cache.write_atomically(folder, STALE, interrupted)
    assert contents(folder) == before
    assert siblings(folder) == []


@pytest.mark.parametrize(
    ("name", "message"), [("thesis", "has no phantom.json"), ("note", "has no phantom.json"), ("link", "is a link")]
)
def test_other_files_are_never_touched(folder, name, message):
    (folder.with_name("thesis")).mkdir()
    (folder.with_name("thesis") / "thesis.txt").write_text("three years of work")
    folder.with_name("note").write_text("a note")
    folder.with_name("link").symlink_to(folder)
    before = contents(folder.parent)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        cache.write_atomically(folder.with_name(name), STALE, text("new"))
    assert contents(folder.parent) == before
    assert folder.with_name("link").is_symlink()
