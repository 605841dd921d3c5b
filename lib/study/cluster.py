"""Slurm's side of a study that runs by a profile: whether jobs can be followed, which remain, where their logs are."""

import getpass
import importlib.util
import re
import shutil
import subprocess
import time
from pathlib import Path

from lib.study import environment

PLUGIN = "snakemake_executor_plugin_slurm"
LOGS = ".snakemake/slurm_logs"  # in a study's folder; Slurm's executor keeps the logs of failed jobs only
REFUSED = re.compile(r"SLURM sbatch failed\. The error message was '(.*?)'\.$", re.DOTALL | re.MULTILINE)
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
    return ["--profile", str(profile), "--slurm-status-command", _status_command(), "--slurm-jobname-prefix", study]


def _status_command() -> str:
    """sacct where the cluster keeps accounts of finished jobs; else squeue, which knows them for some minutes."""
    return "sacct" if _answer("sacct", "-X", "--noheader") is not None else "squeue"


def remaining(study: str, folder: Path) -> list[str] | None:
    """Numbers of the waiting and running jobs of a study in this project; None if Slurm does not answer.

    Unlike a file's lock, the queue is the same on all login nodes.
    """
    answer = _answer("squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i|%j|%Z")
    if answer is None:
        return None
    rows = [line.split("|", 2) for line in answer.splitlines() if line.count("|") >= 2]
    return [number for number, name, where in rows if name.startswith(f"{study}_") and Path(where) == folder]


def wait(running: subprocess.Popen, study: str, folder: Path) -> int:
    """Waits for Snakemake, which would wait for ever for a job that Slurm has lost; returns its exit status.

    ValueError once Slurm has had no job of the study for LOST_SECONDS; Snakemake is ended then.
    """
    last_seen = time.monotonic()
    while True:
        try:
            return running.wait(timeout=POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if remaining(study, folder) != []:
                last_seen = time.monotonic()
        if time.monotonic() - last_seen > LOST_SECONDS:
            running.kill()  # on SIGTERM it would wait for the job; no other job is left to cancel
            running.wait()
            raise ValueError(
                f"Slurm has had no job of study {study} for {LOST_SECONDS:.0f} s, but has not said that the last one "
                "ended: it is lost. Finished steps and the state of a training are kept; run the same command again"
            )


def _answer(*command: str) -> str | None:
    """Standard output of a command of Slurm; None if it is missing, fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


# --- logs


def last_log(folder: Path, rule: str, wildcards: list[str]) -> Path | None:
    """Log of the last failed job of a step in the folder of a study, if there is one."""
    logs = folder.joinpath(LOGS, f"rule_{rule}", *(["_".join(wildcards)] if wildcards else [])).glob("*.log")
    return max(logs, key=lambda path: path.stat().st_mtime, default=None)


def why_failed(output: str, folder: Path, seconds: float) -> str:
    """What Slurm said, from Snakemake's log, if it refused a job; else the logs of failed jobs since a time.

    Args:
        output: Snakemake's log.
        folder: that of the study.
        seconds: since 1970.
    """
    refused = REFUSED.findall(output)
    if refused:
        text = f"Slurm refused a job; its resources are in the profile's config.yaml\n{refused[-1]}\n"
        return f"{environment.MESSAGE_MARK}{text}{environment.MESSAGE_MARK}"
    logs = [(path.stat().st_mtime, path) for path in folder.joinpath(LOGS).rglob("*.log")]
    return "".join(
        f"log of the job: {path}\n{path.read_text(encoding='utf-8', errors='replace')}\n"
        for modified, path in sorted(logs)
        if modified >= seconds
    )
