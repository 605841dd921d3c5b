"""Training in one process, or in several processes of this machine that share it: GPUs, or CPU processes on gloo.

The processes are started by `python -m torch.distributed.run`, each runs `loop.fit` on its share of every batch, and
the first writes the same files as a training in one process. They end with the process that started them.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

from lib.data.arrays import Arrays, open_arrays
from lib.data.splits import Parts
from lib.models import devices
from lib.study import environment, files, locks
from lib.study.params import TrainingParams
from lib.study.progress import Live
from lib.training import checkpoint, loop, ranks, saving
from lib.training.checkpoint import Dependencies, Log, Run

LOG = "processes.log"  # standard error of all processes; kept if one fails
LIVE = "\x1f"  # begins a line of the first process that replaces the one before
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"  # the processes talk to each other within this machine alone
SECONDS_TO_SAVE = 120  # for the processes to save and end when asked to, then they are killed
ENDED = re.compile(r"rank\s+: (\d+) .*\n\s+exitcode\s+: (-?\d+)")  # in the last message of torch.distributed.run


def fit(
    config: TrainingParams,
    network: loop.Network,
    arrays: Arrays,
    parts: Parts,
    folder: Path,
    log: Log = print,
    live: Live | None = None,
) -> Run:
    """`loop.fit` in `config.processes` processes; the arrays are those of `open_arrays`.

    ValueError: as `loop.fit`; fewer GPUs than processes; a process that was killed. RuntimeError: one that failed.
    """
    if config.processes == 1:
        return loop.fit(config, network, arrays, parts, folder, log, live)
    loop.check_trainable(config, network, arrays, parts)
    depends_on = loop.dependencies(config, network, arrays, parts)
    finished = _finished(folder, depends_on, log)
    if finished is not None:
        log(f"already trained: best epoch {finished.best_epoch}, validation value {finished.best_value:.4f}")
        return finished
    gpus = devices.for_processes(config.device, config.processes)
    with tempfile.TemporaryDirectory() as temporary:
        job = Path(temporary) / "job.json"
        whole = {"config": config.model_dump(exclude_unset=True), "network": network, "arrays": arrays.fingerprint}
        files.write_json(
            job, whole | {"parts": parts, "folder": str(folder.resolve()), "gpus": gpus, "live": live is not None}
        )
        _run(job, config.processes, folder / LOG, log, live)
        run = _finished(folder, depends_on, log)
        if run is None:
            raise _failure(job, config.processes, folder / LOG)
    (folder / LOG).unlink()
    return run


def _finished(folder: Path, depends_on: Dependencies, log: Log) -> Run | None:
    with locks.locked(folder / ".lock", "this training", log):
        return checkpoint.load_finished(folder, depends_on, log)


def _run(job: Path, processes: int, log_file: Path, log: Log, live: Live | None) -> None:
    """Runs the processes to their end and passes on the lines of the first, and signals to all."""
    share = max(1, environment.threads() // processes)  # of the cores
    own = {
        "GLOO_SOCKET_IFNAME": LOOPBACK,
        "NCCL_SOCKET_IFNAME": LOOPBACK,
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SECONDS_TO_SAVE),  # not known to torch 2.10, which waits for 30 s
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command += ["--nproc-per-node", str(processes)]
    with log_file.open("w", encoding="utf-8") as errors:
        started = subprocess.Popen(
            [*command, "-m", __name__, str(job)],
            env=environment.for_children(share) | own,
            cwd=files.ROOT,
            stdin=subprocess.PIPE,  # closed when this process ends, which the others notice
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            start_new_session=True,  # a Ctrl-C of the terminal reaches them once, through this process
        )
    with saving.deferred(started.terminate) as received, started:
        for line in started.stdout or ():
            text = line.removesuffix("\n")
            if not text.startswith(LIVE):
                log(text)
            elif live is not None:
                live(text.removeprefix(LIVE))
    if received:
        signal.raise_signal(received[0])


def _failure(job: Path, processes: int, log_file: Path) -> Exception:
    """What ended the processes: an error that the user can mend, a killed process, else the first error of any kind.

    The others follow: they lose their connection, or are ended by torch.distributed.run.
    """
    ended = {int(rank): int(code) for rank, code in ENDED.findall(log_file.read_text("utf-8", errors="replace"))}
    killed = {rank: -code for rank, code in ended.items() if code < 0 and -code != signal.SIGTERM}
    faults = sorted((files.read_json(path) for path in job.parent.glob("fault-*.json")), key=lambda each: each["time"])
    advice = f"the log of all is {log_file}; run it again to resume from the last saved state"
    of_user = [each["message"] for each in faults if each["of_user"]]
    if of_user:
        return ValueError(of_user[0])
    if killed:
        rank, number = next(iter(killed.items()))
        return ValueError(
            f"rank {rank} of the {processes} processes that share this training was killed by "
            f"{signal.Signals(number).name}; the usual cause is too little memory; {advice}"
        )
    if faults:
        return RuntimeError(f"rank {faults[0]['rank']} of {processes} failed: {faults[0]['message']}; {advice}")
    which = f"rank {next(iter(ended))} of {processes}" if ended else f"the {processes} processes"
    return RuntimeError(f"{which} ended without an error message; {advice}")


# In each process


def main(job: Path, rank: int) -> None:
    """Takes part in the training that a `job.json` describes."""
    given = json.loads(job.read_text(encoding="utf-8"))
    os.environ["CUDA_VISIBLE_DEVICES"] = given["gpus"][rank]  # before CUDA starts

    def write_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        about = {"rank": rank, "time": time.time(), "of_user": issubclass(kind, ValueError)}
        message = str(error) if about["of_user"] else f"{kind.__name__}: {error}"
        files.write_json(job.with_name(f"fault-{rank}.json"), about | {"message": message})
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = write_fault
    threading.Thread(target=_end_with_parent, daemon=True).start()
    environment.use_threads()
    environment.keep_freed_memory()
    log = _print if rank == 0 else _discard
    live = (lambda line: log(LIVE + line)) if given["live"] else None
    training = TrainingParams.model_validate(given["config"]), given["network"], open_arrays(given["arrays"])
    with ranks.joined(is_cuda=bool(given["gpus"][rank])):
        loop.fit(*training, given["parts"], Path(given["folder"]), log, live)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _discard(_: str) -> None:
    """A log of a process other than the first."""


def _end_with_parent() -> None:
    """Ends this process as by SIGTERM, which saves the state, when the process that has started all ends."""
    while os.read(0, 1):  # sys.stdin is locked while it is read, which aborts Python at its end
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(os.environ["LOCAL_RANK"]))
