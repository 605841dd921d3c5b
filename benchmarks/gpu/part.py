"""One part in a process of its own: python -m benchmarks.gpu.part PART DEVICE FILE.

A part that fails or hangs cannot harm the next: an error on CUDA makes a process useless. FILE holds the rows so far.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.gpu import accuracy, sameness, speed
from benchmarks.gpu.scale import SCALES, Scale
from benchmarks.gpu.speed import Row
from lib.study import environment, files


def marked() -> list[str]:
    """The files with tests marked cuda; others need packages that are not packed."""
    return [str(path) for path in (files.ROOT / "tests").rglob("test_*.py") if "mark.cuda" in path.read_text("utf-8")]


def cuda_tests(scale: Scale, folder: Path) -> Iterator[Row]:  # noqa: ARG001
    """The tests marked cuda."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "-p", "no:cacheprovider", *marked()]
    done = subprocess.run(command, cwd=files.ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    yield {"exit status": done.returncode, "pytest": done.stdout.strip().splitlines()[-1]}


PARTS: dict[str, tuple[Callable[[Scale, Path], Iterator[Row]], int]] = {  # by worth; seconds at most
    "loop against bare step": (speed.loop_against_step, 95),
    "tests marked cuda": (cuda_tests, 40),
    "equal bytes": (sameness.same_bytes, 65),
    "student's loop": (speed.against_student, 40),
    "precision": (accuracy.precisions, 50),
    "loader processes": (speed.worker_counts, 45),
    "number of images": (speed.growth, 40),
    "determinism and torch.compile": (speed.compiled, 100),
    "folds of hc18_unet": (accuracy.folds, 500),  # all the time that is left
}


def run(name: str, device: str, path: Path) -> None:
    """Runs a part and writes its rows after each."""
    environment.use_threads()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for row in PARTS[name][0](SCALES[device], Path(folder)):
            rows.append({key: readable(value) for key, value in row.items()})
            print(rows[-1], flush=True)
            files.write_text(path, json.dumps(rows))  # in the order of the columns


def readable(value: object) -> object:
    """A number of numpy or a float as JSON allows it; None for NaN."""
    if isinstance(value, bool | int | str):
        return value
    number = float(value)  # type: ignore[arg-type]
    return number if number == number else None


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
