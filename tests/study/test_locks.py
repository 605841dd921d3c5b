"""Locks: a waiting process names the holder; a killed process holds no lock."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from lib.study import files, locks

HOLD = "import sys, time; from pathlib import Path; from lib.study import locks; "
HOLD += "lock = locks.acquire(Path(sys.argv[1]) / locks.STEP, 'the first'); print('held', flush=True); time.sleep(600)"
TAKE = """
import sys
from pathlib import Path
from lib.study import locks
locks.acquire(Path(sys.argv[1]) / locks.STEP, "05_evaluation of study demo", lambda text: print(text, flush=True))
print("taken")
"""


def begin(code, folder):
    environment = os.environ | {"PYTHONPATH": str(files.ROOT)}
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock."""
    first = begin(HOLD, tmp_path)
    assert first.stdout.readline() == "held\n"
    yield first
    first.kill()
    first.communicate()


def test_the_second_says_at_once_for_whom_it_waits_and_goes_on_when_the_first_is_killed(tmp_path, holder):
    second = begin(TAKE, tmp_path)
    message = second.stdout.readline()
    assert message.startswith(f"05_evaluation of study demo: waiting for process {holder.pid} on ")
    assert "(manual run, since " in message
    holder.send_signal(signal.SIGKILL)
    assert second.communicate(timeout=60)[0] == "taken\n"


def test_where_a_second_is_refused_it_is_told_who_is_at_work(tmp_path, holder):
    with pytest.raises(
        ValueError, match=rf"study demo is already being run by process {holder.pid} on .*; wait for it or stop"
    ):
        locks.acquire(tmp_path / locks.STEP, "study demo", wait=False)


def test_a_process_that_holds_a_folder_takes_it_again_and_one_release_frees_it(tmp_path):
    messages = []
    locks.acquire(tmp_path / locks.STEP, "a page", messages.append)
    locks.release(locks.acquire(tmp_path / locks.STEP, "the same page run again", messages.append))
    assert [path.name for path in tmp_path.iterdir()] in ([], [locks.STEP])
    assert begin(TAKE, tmp_path).communicate(timeout=60)[0] == "taken\n"
    assert messages == []


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"process": 1}'])
def test_a_holder_without_a_whole_note_is_another_process(tmp_path, note):
    files.write_text(locks.holder_file(tmp_path / locks.STEP), note)
    assert locks.holder(tmp_path / locks.STEP) == "another process"


def test_a_file_system_without_locks_is_refused_by_name_whatever_was_left_there(tmp_path, monkeypatch):
    files.write_text(tmp_path / locks.STEP, "left by an earlier run")

    def no_flock(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", no_flock)
    with pytest.raises(ValueError, match=r"the file system does not support locks \(Function not implemented\)"):
        locks.acquire(tmp_path / locks.STEP, "study demo")
