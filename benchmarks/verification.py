"""Growth of data verification with the number of images: python -m benchmarks.verification [NUMBER ...]

Every code cell of notebook 01 runs as it is on phantom heads of 32 x 48 pixels in the layout of own data, one image in
100 a changed copy of another subject's. Each number of images has a process of its own. Printed for each section of the
notebook, and for the parts of its first: CPU time of all threads, and the process's largest memory until then. 100,000
images take 0.8 GB on disk, in a temporary folder.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np

from benchmarks import evaluation
from lib import datasets, notebook
from lib.datasets.phantoms import heads
from lib.study import files, parallel, params
from lib.verification import case_checks, image_hash, plausibility, verify

COUNTS = (1_000, 3_000, 10_000, 30_000, 100_000)
SIDES, FRAMES, COPIES = (32, 48), 100, 100  # rows and columns; frames that the images are views of; one copy in as many
STUDY, DATASET = "growth", "own_growth"
PARTS: tuple[tuple[Any, str], ...] = (  # of `verify.check_dataset`, and of reading and hashing one case
    (datasets, "find_cases"),
    (parallel, "in_parallel"),
    (verify, "duplicate_pairs"),
    (image_hash, "similar_pairs"),
    (verify, "duplicate_findings"),
    (plausibility, "check_all"),
    (verify, "complete_table"),
    (case_checks, "hash_case"),
)


def main(counts: Iterable[int]) -> None:
    """Measures each number of images in a process of its own."""
    for count in counts:
        subprocess.run([sys.executable, "-m", "benchmarks.verification", "--one", str(count)], check=True)


def measure(count: int) -> None:
    """Prints the measurements of one number of images."""
    evaluation.environment_of_workflow()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        draw(root / "raw" / DATASET, count)
        os.environ["REPORTS_ROOT"] = str(root / "reports")
        study = write_study(root / "params" / f"{STUDY}.yaml")
        parts: Counter[str] = Counter()
        with ExitStack() as patches:
            enter = patches.enter_context
            enter(patch.object(files, "study_file", lambda name: root / "params" / f"{name}.yaml"))
            enter(patch.object(files, "raw_folder", lambda name: root / "raw" / name))
            for module, name in PARTS:
                enter(patch.object(module, name, timed(getattr(module, name), parts)))
            print(f"\n{count} images: CPU s, CPU ms an image, largest memory until then in MB")
            total, started = 0.0, time.perf_counter()
            for section, seconds, *_ in evaluation.run_cells("01_data_verification", study):
                total += seconds
                print(f"  {section:45} {seconds:8.2f} {1000 * seconds / count:8.3f} {peak_mb():8.0f}", flush=True)
        print(f"  {'all':45} {total:8.2f} {1000 * total / count:8.3f} {peak_mb():8.0f}")
        clock, load = time.perf_counter() - started, os.getloadavg()[0]
        print(f"  by the clock {clock:.1f} s at a load of {load:.1f}; of the first section:")
        for name, seconds in parts.items():
            print(f"    {name:43} {seconds:8.2f} {1000 * seconds / count:8.3f}")
        folder = root / "reports" / STUDY / "01_data_verification"
        pairs = (folder / "findings.csv").read_text(encoding="utf-8").count(verify.DUPLICATE_ACROSS_SUBJECTS.name)
        megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        print(f"  {pairs} pairs of near-duplicates; files of the step: {megabytes:.1f} MB", flush=True)


def timed(function: Callable[..., Any], parts: Counter[str]) -> Callable[..., Any]:
    """The function, which adds its CPU seconds to `parts`: of its own thread if called in one, else of all."""

    @wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        clock = time.thread_time if function.__name__ == "hash_case" else time.process_time
        before = clock()
        result = function(*arguments, **named)
        result = list(result) if function.__name__ == "similar_pairs" else result  # which yields them
        parts[function.__name__] += clock() - before
        return result

    return run


def peak_mb() -> float:
    """Largest memory of this process so far."""
    return notebook.peak_bytes() / 1e6


def draw(folder: Path, count: int) -> None:
    """Writes images, masks and table of views of phantom heads: turned, scaled, shifted, with own noise; some twice."""
    frames = [heads.draw_frame(0, subject, 1, (1.0, 1.0)) for subject in range(1, FRAMES + 1)]
    images = [cv2.resize(each.image, SIDES[::-1], interpolation=cv2.INTER_AREA) for each in frames]
    regions = [np.uint8(255) * (each.mask > 0) for each in frames]
    masks = [cv2.resize(each, SIDES[::-1], interpolation=cv2.INTER_NEAREST) for each in regions]
    originals = count - count // COPIES

    def write(index: int) -> None:
        draw = np.random.default_rng(index if index < originals else index - originals)
        which, middle = draw.integers(FRAMES), (SIDES[1] / 2, SIDES[0] / 2)
        turn = cv2.getRotationMatrix2D(middle, draw.uniform(-180, 180), draw.uniform(0.8, 1.2))
        turn[:, 2] += draw.uniform(-3, 3, 2)
        view = cv2.warpAffine(images[which], turn, SIDES[::-1]).astype(np.float32)
        mask = cv2.warpAffine(masks[which], turn, SIDES[::-1], flags=cv2.INTER_NEAREST)
        view = (8 + view) * (1 + 0.5 * draw.standard_normal(SIDES, np.float32))
        image = np.clip(view * (1.0 if index < originals else 0.9), 0, 255).astype(np.uint8)
        for kind, pixels in (("images", image), ("masks", mask)):
            (folder / kind / f"{index:07d}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())

    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    parallel.in_parallel(write, range(count))
    rows = [f"{index:07d},subject{index // 2},{0.5 + index % 100 / 1000}" for index in range(count)]
    (folder / "cases.csv").write_text("\n".join(["name,subject,spacing_mm", *rows]) + "\n", encoding="utf-8")


def write_study(path: Path) -> params.Study:
    """The study hc18_quick of these images."""
    text = (files.ROOT / "params" / "hc18_quick.yaml").read_text(encoding="utf-8")
    text = text.replace("study: hc18_quick", f"study: {STUDY}")
    files.write_text(path, text.replace("dataset: hc18 ", f"dataset: {DATASET}\npalette: []\nnsd_tolerance_px: 3.0 "))
    return params.read_study(path)


if __name__ == "__main__":
    if "--one" in sys.argv:
        measure(int(sys.argv[-1]))
    else:
        main([int(each) for each in sys.argv[1:]] or COUNTS)
