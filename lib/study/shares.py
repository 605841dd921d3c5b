"""How the trainings of a study share a machine: how many at once, with how many threads, GPUs and how much memory."""

from dataclasses import dataclass

from lib.study.params import Study

SERIAL = 0.1  # share of a training's time that more threads do not shorten: docs/performance.md
PROCESS_MB = 600  # a process with torch, before it trains
BYTES_PER_VALUE = 120  # per pixel and channel of the first level, of activations and their gradients
CUDA_MB = 4000  # of main memory for the libraries and the context of CUDA
WORKER_MB = 400  # of a loader's process
STEP_MB = 4000  # of any other notebook


@dataclass(frozen=True)
class Share:
    """What each of the trainings that run at once gets."""

    at_once: int
    threads: int
    gpus: int


def share(study: Study, cores: int, gpus: int, on_processor: bool) -> Share:
    """The share of a training, from `cores` and `gpus` of the machine.

    It depends on the numbers of trainings, cores and GPUs alone, never on what happens to run, since the number of
    threads affects the last digits of what a processor computes. `on_processor`: no other device computes.
    """
    runs, each = len(study.folds) * len(study.seeds), study.processes
    if on_processor:
        at_once = on_cores(runs, cores, each)
        return Share(at_once, cores // at_once, 0)
    if not gpus:  # a device that nvidia-smi does not list: one training at a time, as one does not know how many
        return Share(1, cores, 0)
    at_once = max(1, min(runs, gpus // each, cores // each))
    return Share(at_once, cores // at_once, min(each, gpus))


def refuse_fewer_gpus(study: Study, gpus: int) -> None:
    """ValueError for fewer GPUs, but some, than the processes that share a training, each of which needs one."""
    if 0 < gpus < study.processes:
        raise ValueError(
            f"{study.study}: processes = {study.processes}, of which each needs a GPU, but {gpus} can be used; "
            f"set processes to at most {gpus}"
        )


def describe(study: Study, share: Share) -> str:
    """A line that says how several trainings share the machine; empty for one."""
    runs = len(study.folds) * len(study.seeds)
    if runs == 1:
        return ""
    own = f", each on {share.gpus} GPU{'s' * (share.gpus > 1)} of its own" if share.gpus else ""
    order = "one after another" if share.at_once == 1 else f"at most {share.at_once} at once, if memory allows"
    return f"{runs} trainings, {order}{own}, each with {share.threads} thread{'s' * (share.threads > 1)}\n"


def on_cores(runs: int, cores: int, processes: int) -> int:
    """Number of trainings at once that ends `runs` equal ones soonest on a processor, never later than in turn.

    Each of the processes that share a training has a core of its own, if there are as many.

    By Amdahl's law one training with n threads takes SERIAL + (1 - SERIAL) / n of its time with one. The smallest
    number among equals, which needs the least memory.
    """

    def time(at_once: int) -> float:
        rounds = -(-runs // at_once)
        return round(rounds * (SERIAL + (1 - SERIAL) / (cores // at_once)), 9)

    return min(range(1, max(1, min(runs, cores // processes)) + 1), key=time)


def memory_mb(study: Study, gpus: int) -> int:
    """Estimated main memory of a training, MB; arrays are not counted, since the system may drop their pages."""
    height, width = study.image_size
    values = study.batch_size * height * width * (study.base_channels or 64)  # of a ResNet's first level
    network = CUDA_MB * study.processes if gpus else values * BYTES_PER_VALUE // 10**6
    started = study.processes + (study.processes > 1)  # the notebook itself waits for several
    return started * PROCESS_MB + network + study.processes * study.workers * WORKER_MB
