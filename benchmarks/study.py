"""The demo study as a command: from scratch, and again with every step up to date."""

import os
import resource
import subprocess
import sys
import tempfile
import time

from lib.study import files


def rows() -> list[dict[str, object]]:
    """Seconds of the first and the second call, and the peak memory of the largest process."""
    with tempfile.TemporaryDirectory() as folder:
        first, again = _seconds(folder), _seconds(folder)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    return [
        _row("demo study from scratch", f"{first:.0f} s, {peak:.2f} GiB", 1.0, "<= 300 s, < 3 GiB"),
        _row("demo study again, up to date", f"{again:.1f} s", again / first, "< 10 s"),
    ]


def _seconds(folder: str) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", "lib", "study", "demo"]
    subprocess.run(command, cwd=files.ROOT, env=os.environ | {"REPORTS_ROOT": folder}, check=True, capture_output=True)
    return time.perf_counter() - started


def _row(what: str, ours: str, ratio: float, goal: str) -> dict[str, object]:
    return {"what": what, "bare": "", "ours": ours, "ratio": ratio, "spread": "", "goal": goal}
