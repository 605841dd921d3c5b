import errno
import os
import signal
import subprocess
import sys

import pytest

from lib.study import files, locks

HOLD = "import sys, time; from pathlib import Path; from lib.study import locks; "
HOLD += "lock = locks.acquire(Path(sys.argv[1]) / locks.STEP, 'first'); print('locked', flush=True); time.sleep(600)"
ACQUIRE = """
import sys
from pathlib import Path
from lib.study import locks
locks.acquire(Path(sys.argv[1]) / locks.STEP, "05_evaluation of study demo", lambda text: print(text, flush=True))
print("acquired")
"""


def start(code, folder):
    environment = os.environ | {"PYTHONPATH": str(files.ROOT)}
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def holder(tmp_path):
    first = start(HOLD, tmp_path)
    assert first.stdout.readline() == "locked\n"
    yield first
    first.kill()
    first.communicate()


def test_a_waiting_process_names_the_holder_at_once_and_continues_when_that_is_killed(tmp_path, holder):
    second = start(ACQUIRE, tmp_path)
    message = second.stdout.readline()
    assert message.startswith(f"05_evaluation of study demo: waiting for process {holder.pid} on ")
    assert "(manual run, since " in message
    holder.send_signal(signal.SIGKILL)
    assert second.communicate(timeout=60)[0] == "acquired\n"


def test_a_process_that_must_not_wait_is_refused_with_the_holder_s_name(tmp_path, holder):
    with pytest.raises(ValueError, match=rf"study demo is already being run by process {holder.pid} on .*; wait for"):
        locks.acquire(tmp_path / locks.STEP, "study demo", wait=False)


def test_a_process_can_acquire_its_lock_again_and_one_release_frees_it(tmp_path):
    messages = []
    locks.acquire(tmp_path / locks.STEP, "a page", messages.append)
    locks.release(locks.acquire(tmp_path / locks.STEP, "the same page run again", messages.append))
    assert [path.name for path in tmp_path.iterdir()] in ([], [locks.STEP])
    assert start(ACQUIRE, tmp_path).communicate(timeout=60)[0] == "acquired\n"
    assert messages == []


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"process": 1}'])
def test_a_holder_without_a_complete_description_is_another_process(tmp_path, note):
    files.write_text(locks.holder_file(tmp_path / locks.STEP), note)
    assert locks.holder(tmp_path / locks.STEP) == "another process"


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    files.write_text(tmp_path / locks.STEP, "")

    def no_flock(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", no_flock)
    with pytest.raises(ValueError, match=r"does not support locks \(Function not implemented\)"):
        locks.acquire(tmp_path / locks.STEP, "study demo")
