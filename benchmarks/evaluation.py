"""CPU time of notebooks 05 and 06 on HC18 without the network: python -m benchmarks.evaluation [--keep FOLDER]

Every code cell of both notebooks runs as it is, in one process, on all 640 images, each tested once. Instead of the
network, `segmentation.predict_case` returns the reference moved, scaled and blurred (with a seed). Seconds are CPU time
of all threads by section; "main thread" is what two cores cannot share. `--keep` keeps the files, to be compared.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from lib import datasets, models
from lib.data import earlier
from lib.data.cases import CASE_COLUMNS
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.evaluation import segmentation
from lib.evaluation.segmentation import Predicted
from lib.models.trained_model import Model
from lib.study import environment, files, parallel, params, steps

STUDY, THREADS = "hc18_quick", 2
SHIFT_PX, GROWTH, BLUR_PX, SEED = 6.0, 0.03, 4.0, 7  # standard deviations: HC off by 3 %, Dice about 0.96
EARLIER, MEASURED = ("01_data_verification", "02_preprocessing"), ("05_evaluation", "06_biometry")
NETWORK = {"in_channels": 1, "out_channels": 1, "base_channels": 4, "depth": 2, "normalisation": "batch"}


def main() -> None:
    """Prints CPU seconds by section, of both notebooks together, and of the imports of a notebook."""
    environment_of_workflow()
    kept = Path(sys.argv[sys.argv.index("--keep") + 1]) if "--keep" in sys.argv else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = kept or Path(temporary)
        rows = run(folder)
    table = pd.DataFrame(rows, columns=["notebook", "section", "cpu_s", "main_thread_s", "wall_s"])
    sections = table.groupby(["notebook", "section"], sort=False).sum()
    print(sections.round(2).to_string())
    total = table[["cpu_s", "main_thread_s", "wall_s"]].sum()
    rest = total["cpu_s"] - total["main_thread_s"]
    print(f"total: {total['cpu_s']:.1f} s of CPU time, {total['main_thread_s']:.1f} s in the main thread, ", end="")
    print(f"{total['wall_s']:.1f} s by the clock; main thread + half of the rest: {total.iloc[1] + rest / 2:.1f} s")
    seconds = ", ".join(f"{name} {_imports(name):.1f} s" for name in MEASURED)
    print(f"CPU time of the imports of a notebook in its own process: {seconds}")


def environment_of_workflow() -> None:
    """As `make study` starts a notebook, with THREADS threads."""
    os.environ |= {environment.ROOT_VARIABLE: str(files.ROOT), environment.THREADS_VARIABLE: str(THREADS)}
    os.environ |= {"GOMP_SPINCOUNT": "20000", "OMP_WAIT_POLICY": "PASSIVE"}
    environment.use_threads()


def run(folder: Path) -> list[tuple[str, str, float, float, float]]:
    """Seconds of each code cell of 05 and 06 after a study of every fold is prepared below `folder`."""
    text = files.study_file(STUDY).read_text(encoding="utf-8")
    whole = params.read_study(files.study_file(STUDY))
    every_fold = re.sub(r"(?m)^folds: .*$", f"folds: {list(range(whole.fold_count))}", text)
    file = folder / "params" / f"{STUDY}.yaml"
    files.write_text(file, every_fold)
    os.environ["REPORTS_ROOT"] = str(folder / "reports")
    with patch.object(files, "study_file", lambda name: file.with_name(f"{name}.yaml")):
        study = params.read_study(file)
        for name in EARLIER:
            list(run_cells(name, study))
        _write_networks(study)
        with patch.object(segmentation, "predict_case", _predicted_of(study)):
            return [(name, *row) for name in MEASURED for row in run_cells(name, study)]


def run_cells(name: str, study: params.Study) -> Iterator[tuple[str, float, float, float]]:
    """Runs the code cells of a notebook: heading, CPU seconds, those of the main thread, seconds by the clock."""
    shell = InteractiveShell.instance()
    shell.reset(new_session=True)
    shell.user_ns |= {"study": study.study}
    section = "start"
    for cell in files.read_json(steps.notebook_file(name, study))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            section = next((line[3:] for line in source.splitlines() if line.startswith("## ")), section)
        elif "parameters" not in cell["metadata"].get("tags", []):
            before = _clocks()
            with capture_output():
                done = shell.run_cell(source, store_history=True)
            done.raise_error()
            yield section, *(_clocks() - before)


def _clocks() -> np.ndarray:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    used = sum(each.ru_utime + each.ru_stime for each in (own, children))
    return np.array([used, time.thread_time(), time.perf_counter()])


def _write_networks(study: params.Study) -> None:
    """A small untrained network for each run, which is loaded and completed but not used, and the records of 04."""
    prepared = earlier.read_arrays(lambda name: files.study_folder(study.study) / name).preparation
    about = {"study": study.study, "training_precision": "float32", "dataset": study.dataset, "classes": study.classes}
    about |= {"landmarks": "none", "preparation": prepared}
    for step in steps.training_steps(study):
        folder = step.folder(study.study)
        torch.manual_seed(SEED)
        network = models.build("unet", NETWORK)
        models.save(folder / "model.safetensors", "unet", NETWORK, network.state_dict(), about)
        steps.write_record(folder, step, {}, [], "", {})


def _predicted_of(study: params.Study) -> Callable[..., Predicted]:
    """In place of `segmentation.predict_case`: moved references, made beforehand so that they take no time later."""
    dataset = datasets.of(study)
    rows = files.read_csv(files.study_folder(study.study) / EARLIER[0] / "cases.csv", CASE_COLUMNS).to_dict("records")

    def make(numbered: tuple[int, dict[str, Any]]) -> np.ndarray:
        return _moved(samples.read_mask(dataset, numbered[1]), np.random.default_rng([SEED, numbered[0]]))

    made = dict(zip((row["case"] for row in rows), parallel.in_parallel(make, enumerate(rows))))

    def predict_case(test_set: EvaluationSet, _: Model, row: dict[str, Any], as_trained: bool = False) -> Predicted:  # noqa: ARG001
        image, reference = test_set.read_case(row)
        foreground = made[row["case"]] * np.float32(1 / 255)
        probability = np.stack([1 - foreground, foreground])
        return Predicted(row, image, reference, probability, probability)

    return predict_case


def _moved(reference: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Foreground probability (H, W) uint8, 255 for 1: a reference shifted, scaled about the image's centre, blurred."""
    growth, shift = 1 + GROWTH * random.normal(), SHIFT_PX * random.normal(size=2)
    centre = np.array(reference.shape[::-1]) / 2
    matrix = np.column_stack([growth * np.eye(2), (1 - growth) * centre + shift])
    moved = cv2.warpAffine(reference * np.uint8(255), matrix, reference.shape[::-1])
    return cv2.GaussianBlur(moved, (0, 0), BLUR_PX)


def _imports(name: str) -> float:
    """CPU seconds of a process that runs the imports of a notebook and nothing else."""
    cells = files.read_json(files.ROOT / "notebooks" / f"{name}.ipynb")["cells"]
    lines = "".join(next("".join(each["source"]) for each in cells if "import start" in "".join(each["source"])))
    wanted = "\n".join(line for line in lines.splitlines() if line.startswith(("from ", "import ")))
    before = _clocks()[0]
    subprocess.run([sys.executable, "-c", wanted], cwd=files.ROOT, check=True)
    return float(_clocks()[0] - before)


if __name__ == "__main__":
    main()
