"""Parts about equal bytes: two runs of one training, and a run that was killed and resumed."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import packed
from benchmarks.gpu.scale import SCALES, Scale
from benchmarks.gpu.speed import Row
from lib import models
from lib.study import environment, files, params
from lib.training import loop, saving

CHILD = "import sys; from benchmarks.gpu import sameness; sameness.train(*sys.argv[1:])"
WEIGHTS, STATE = "model.safetensors", "state.pt"
RESUME_GOAL_S = 2


def train(device: str, path: str) -> None:
    """Trains a small run in the folder, or resumes it, and prints each line with the seconds since its start."""
    environment.use_threads()
    saving.SECONDS = 0.0  # so short a run would end before its first state is written
    scale, folder = SCALES[device], Path(path)
    study = scale.study("hc18_quick", epochs=scale.epochs)
    folder.mkdir(exist_ok=True)
    data = packed.phantoms(study, scale.images, folder)
    cut = scale.images * 3 // 4
    parts = {"train": data.names[:cut], "validation": data.names[cut:]}
    config = params.step_params(study, "04_training", fold=0, seed=0)
    network = models.describe(params.step_params(study, "03_model"), data.images.shape[1])
    clock = time.process_time if device == "cpu" else time.perf_counter  # a CPU may be shared
    started = clock()

    def log(line: str) -> None:
        print(f"{clock() - started:.3f} {line}", flush=True)

    loop.fit(config, network, data, parts, folder, log)


def same_bytes(scale: Scale, folder: Path) -> Iterator[Row]:
    """Whether a repeated run, and one that was killed (SIGKILL) and resumed, have the bytes of the first."""
    first, again, killed = (folder / name for name in ("first", "again", "killed"))
    _run(scale, first)
    expected = (first / WEIGHTS).read_bytes()
    _run(scale, again)
    yield {"run": "repeated", "equal bytes": (again / WEIGHTS).read_bytes() == expected, "resume s": "", "goal": "True"}
    kill_when_saved(scale, killed)
    if (killed / WEIGHTS).is_file():
        raise ValueError("the run ended before it was killed; expected an unfinished one")
    lines = _run(scale, killed).splitlines()
    resumed = next((float(line.split()[0]) for line in lines if "resuming" in line), None)
    if resumed is None:
        raise ValueError(f"the killed run did not resume; it printed {lines}")
    equal = (killed / WEIGHTS).read_bytes() == expected
    yield {"run": "killed and resumed", "equal bytes": equal, "resume s": resumed, "goal": f"True, < {RESUME_GOAL_S} s"}


def _command(scale: Scale, folder: Path) -> list[str]:
    return [sys.executable, "-c", CHILD, scale.device, str(folder)]


def _run(scale: Scale, folder: Path) -> str:
    """Output of a run to its end."""
    return subprocess.run(_command(scale, folder), cwd=files.ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def kill_when_saved(scale: Scale, folder: Path) -> None:
    """Starts a run and kills it after an epoch that has saved its state."""
    with subprocess.Popen(_command(scale, folder), cwd=files.ROOT, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout or ():
            if " epoch " in line and (folder / STATE).is_file():
                run.kill()
                return
