"""Runs the parts one after the other within the time: benchmarks/gpu.sh [--out FOLDER] [--cpu]."""

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks import packed
from benchmarks.gpu import tables
from benchmarks.gpu.part import PARTS
from lib.models import devices
from lib.study import environment, files

LIMIT_S = 500  # of all parts; benchmarks/gpu.sh ends everything at 540 s
LEAST_S = 15  # a part with less time left is not begun
SHARE_S = 30  # on a CPU, where the point is that every part runs: what a part leaves to each of those after it


def main() -> None:
    """Runs every part in a process of its own, and writes the results after each."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh")
    parser.add_argument("--out", type=Path, default=files.ROOT / "benchmarks" / "out")
    parser.add_argument("--cpu", action="store_true", help="run every line on two cores, at the smallest sizes")
    options = parser.parse_args()
    started, device = time.monotonic(), "cpu" if options.cpu else "cuda"
    devices.choose(device)  # ValueError where there is no CUDA
    options.out.mkdir(parents=True, exist_ok=True)
    results = describe(device) | {"parts": {}}
    with tempfile.TemporaryDirectory() as folder, (options.out / "log.txt").open("w") as log:
        for after, (name, (_, limit_s)) in enumerate(PARTS.items(), start=1 - len(PARTS)):
            left = LIMIT_S - (time.monotonic() - started)
            limit_s = min(limit_s, left) if device == "cuda" else left + SHARE_S * after
            results["parts"][name] = run_part(name, device, Path(folder) / "rows.json", limit_s, log)
            tables.write(options.out, results)
            print(tables.section(name, results["parts"][name]), end="\n\n", flush=True)


def describe(device: str) -> dict[str, Any]:
    """Date, machine and versions."""
    files_used = [path for path in (packed.HC18, packed.LGG) if device == "cuda" and path.is_file()]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": devices.describe(device),
        "device type": device,
        "processors": psutil.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "data": ", ".join(path.name for path in files_used) or "phantoms",
    }


def run_part(name: str, device: str, path: Path, limit_s: float, log: Any) -> dict[str, Any]:
    """State, seconds, rows and error of a part that gets `limit_s` seconds."""
    if limit_s < LEAST_S:
        return {"state": "not begun", "seconds": 0.0, "rows": [], "error": "no time left"}
    path.unlink(missing_ok=True)
    started = time.monotonic()
    print(f"== {name}", file=log, flush=True)
    position = log.tell()
    command = [sys.executable, "-m", "benchmarks.gpu.part", name, device, str(path)]
    # On a CPU times are CPU times, and those of two threads grow with the load of the machine.
    settings = os.environ | ({environment.THREADS_VARIABLE: "1"} if device == "cpu" else {})
    child = subprocess.Popen(command, cwd=files.ROOT, env=settings, stdout=log, stderr=subprocess.STDOUT)
    try:
        state = "ended" if child.wait(limit_s) == 0 else "failed"
    except subprocess.TimeoutExpired:
        state = "stopped at its time limit"
        kill(child)
    with open(log.name, encoding="utf-8", errors="replace") as written:
        written.seek(position)
        last = (written.read().strip().splitlines() or [""])[-1]
    error = "" if state == "ended" else last
    rows = files.read_json(path) if path.is_file() else []
    return {"state": state, "seconds": time.monotonic() - started, "rows": rows, "error": error}


def kill(child: subprocess.Popen) -> None:
    """Kills a process and those that it started."""
    for process in [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]:
        process.kill()
    child.wait()


if __name__ == "__main__":
    main()
