"""A study whose steps are jobs of Slurm, by Snakemake's executor: what jobs ask for, which remain, where logs are.

What is not locked across computers is guarded here: a run on another node, and jobs that a killed run has left.
"""

import getpass
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from lib.study import environment, files, steps
from lib.study.params import Study
from lib.study.shares import Share

PLUGIN = "snakemake_executor_plugin_slurm"
LOGS = ".snakemake/slurm_logs"  # in a study's folder; the executor keeps the logs of failed jobs only
ALIVE = ".on-cluster"  # in a study's folder; names the computer and process of a run, which touches it
ALIVE_SECONDS = 180.0  # after this long without a touch the run is over; a shared folder may show a touch 60 s late
REFUSED = re.compile(r"SLURM sbatch failed\. The error message was '(.*?)'\.$", re.DOTALL | re.MULTILINE)
JOB_MB = 1000  # besides a training: three processes of Snakemake, of which each takes 140 MB, and pages of files
MOST_PREFIX = 50  # characters that the executor allows before a job's name
QUERY_SECONDS = 60
POLL_SECONDS = 30.0
LOST_SECONDS = 900.0  # the executor asks for finished jobs at least every 180 s


def options(profile: Path, study: str) -> list[str]:
    """Options of Snakemake for a profile; ValueError if there is none, or its executor or Slurm is missing."""
    if not (profile / "config.yaml").is_file():
        raise ValueError(f"PROFILE={profile}: no config.yaml there; expected a folder such as profiles/slurm")
    if importlib.util.find_spec(PLUGIN) is None:
        raise ValueError(f"PROFILE={profile}: .venv lacks {PLUGIN}; 'make study' installs it")
    if shutil.which("sbatch") is None:
        raise ValueError(f"PROFILE={profile}: no command sbatch; run this on a login node of the cluster")
    return [
        *("--profile", str(profile), "--slurm-jobname-prefix", study[:MOST_PREFIX]),
        *("--slurm-status-command", _status_command()),
        *("--quiet", "progress", "host", "reason"),  # "rules" would hide a refusal by Slurm
    ]


def _status_command() -> str:
    """sacct where the cluster keeps accounts of finished jobs; else squeue, which knows them for some minutes."""
    return "sacct" if _answer("sacct", "-X", "--noheader") is not None else "squeue"


def share(study: Study, cores: int, given: str | None) -> Share:
    """What the job of a training asks for: all cores, and one GPU for each process of a training that uses GPUs.

    A study with `device: cuda` uses them, one with `auto` if GPUS= (`given`) says so: the login node, which may have
    none, cannot know. ValueError for another number, or a device that a job cannot count on.
    """
    if ":" in study.device:
        raise ValueError(
            f"device = {study.device!r}   a job of Slurm sees only its own GPUs; allowed on a cluster: cuda"
        )
    each = str(study.processes)
    allowed = [each] if study.device == "cuda" else ["0", each] if study.device == "auto" else ["0"]
    if given is not None and given not in allowed:
        raise ValueError(
            f"gpus = {given}   not allowed; {' or '.join(allowed)} for each training on a cluster (keys of the study: "
            f"device: {study.device}, processes: {study.processes})"
        )
    return Share(len(study.folds) * len(study.seeds), cores, int(allowed[0] if given is None else given))


def describe(study: Study, share: Share) -> str:
    """A line that says what the job of each training asks for."""
    runs = f"{share.at_once} trainings, each a job" if share.at_once > 1 else "1 training, a job"
    own = f" and {share.gpus or 'no'} GPU{'s' * (share.gpus != 1)}"
    return f"study {study.study}: {runs} of Slurm with {share.threads} thread{'s' * (share.threads > 1)}{own}\n"


def check_alone(folder: Path) -> None:
    """ValueError if a run on another computer has touched ALIVE lately: some file systems lock on one computer only."""
    path = folder / ALIVE
    if not path.exists() or time.time() - path.stat().st_mtime > ALIVE_SECONDS:
        return
    host, _, number = path.read_text(encoding="utf-8").partition(" ")
    if host not in ("", platform.node()):  # the lock holds among processes of one computer
        raise ValueError(
            f"{folder}: process {number} on {host} runs this study on the cluster, and its lock is not seen here; wait "
            f"for it or stop it there; if it was killed, try again in {ALIVE_SECONDS:.0f} s"
        )


def check_queue(folder: Path) -> None:
    """ValueError if jobs of an earlier, killed run of the study in this folder are in Slurm's queue."""
    numbers = remaining(folder)
    if numbers:
        raise ValueError(
            f"{folder}: jobs {' '.join(numbers)} of this study are still in Slurm's queue, from a run that was killed; "
            f"wait for them, or end them: scancel {' '.join(numbers)}"
        )


def remaining(folder: Path) -> list[str] | None:
    """Numbers of the waiting and running jobs of the study in this folder; None if Slurm does not answer."""
    answer = _answer("squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i|%Z")
    if answer is None:
        return None
    rows = [line.split("|", 1) for line in answer.splitlines() if "|" in line]
    return [number for number, where in rows if Path(where) == folder.resolve()]


def wait(running: subprocess.Popen, folder: Path) -> int:
    """Waits for Snakemake, which would wait for ever for a job that Slurm has lost; returns its exit status.

    ValueError once Slurm has had no job of the study for LOST_SECONDS; Snakemake is ended then.
    """
    last_seen = time.monotonic()
    files.write_text(folder / ALIVE, f"{platform.node()} {os.getpid()}")
    try:
        while True:
            try:
                return running.wait(timeout=POLL_SECONDS)
            except subprocess.TimeoutExpired:
                with suppress(OSError):  # of a network file system: the next one is due soon
                    (folder / ALIVE).touch()
                if remaining(folder) != []:
                    last_seen = time.monotonic()
            if time.monotonic() - last_seen > LOST_SECONDS:
                running.kill()  # on SIGTERM it would wait for the job; no other job is left to cancel
                running.wait()
                raise ValueError(
                    f"{folder}: Slurm has had no job of this study for {LOST_SECONDS:.0f} s, but has not said that the "
                    "last one ended: it is lost. Finished steps and the state of a training are kept; run it again"
                )
    finally:
        (folder / ALIVE).unlink(missing_ok=True)


def _answer(*command: str) -> str | None:
    """Standard output of a command of Slurm; None if it is missing, fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


# --- logs


def last_log(step: steps.Step, study: str) -> list[str]:
    """A line that names the log of the last failed job of a step, if there is one."""
    run = ["_".join(map(str, step.run))] if step.run else []
    folder = files.study_folder(study).joinpath(LOGS, f"rule_{step.name.split('_', 1)[-1]}", *run)
    newest = max(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, default=None)
    return [f"log of its last failed job: {newest}"] if newest else []


def logs(output: str, folder: Path, since: float) -> str:
    """What Slurm said, from Snakemake's log, if it refused a job; else the logs of failed jobs since a time.

    Args:
        output: Snakemake's log.
        folder: that of the study.
        since: seconds since 1970.
    """
    refused = REFUSED.findall(output)
    if refused:
        text = f"Slurm refused a job; its resources are in the profile's config.yaml\n{refused[-1]}\n"
        return f"{environment.MESSAGE_MARK}{text}{environment.MESSAGE_MARK}"
    found = [(path.stat().st_mtime, path) for path in folder.joinpath(LOGS).rglob("*.log")]
    return "".join(
        f"log of the job: {path}\n{path.read_text(encoding='utf-8', errors='replace')}\n"
        for modified, path in sorted(found)
        if modified >= since
    )
