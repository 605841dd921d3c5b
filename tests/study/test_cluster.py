"""A cluster stood in for by its commands as small scripts; tests/slurm/run uses a real one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib import pipeline
from lib.study import cluster, files, params
from lib.study.environment import MESSAGE_MARK

REFUSAL = "sbatch: error: invalid partition specified: nowhere"
RUN_AT_ONCE = """
for word; do case $word in --wrap=*) command=${word#--wrap=};; --output) next=yes;; *) test -z "$next" || log=$word; next=;;
esac; done
{ sh -c "$command"; echo $? > status; } > "$(echo "$log" | sed s/%j/7/)" 2>&1
echo 7
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH with the commands of a Slurm without accounts or jobs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"sbatch": "exit 1", "squeue": "", "sinfo": "echo 'p*'", "scancel": ""}.items():
        script(folder, name, text)
    for name in ("sacct", "sacctmgr", "sshare", "scontrol"):
        script(folder, name, "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def script(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def profile(tmp_path: Path, more: str = "") -> Path:
    """The project's own profile, without waiting and second attempts."""
    folder = tmp_path / "profile"
    folder.mkdir(exist_ok=True)
    lines = (files.ROOT / "profiles/slurm/config.yaml").read_text().splitlines()
    lines = [line for line in lines if not line.startswith(("restart-times", "latency-wait", "slurm-init"))]
    own = ["restart-times: 0", "latency-wait: 20", "slurm-init-seconds-before-status-checks: 1", more]
    (folder / "config.yaml").write_text("\n".join([*lines, *own, ""]))
    return folder


def demo() -> params.Study:
    return params.read_study(files.ROOT / "params/demo.yaml")


# --- before a run


def test_a_folder_without_a_profile_is_refused(tmp_path: Path, commands: Path):
    with pytest.raises(ValueError, match=r"no config.yaml there; expected a folder such as profiles/slurm"):
        cluster.options(tmp_path, "demo")


def test_without_sbatch_one_is_sent_to_a_login_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="no command sbatch; run this on a login node"):
        cluster.options(files.ROOT / "profiles/slurm", "demo")


@pytest.mark.parametrize(("answer", "expected"), [("exit 0", "sacct"), ("exit 1", "squeue"), (None, "squeue")])
def test_the_queue_is_asked_where_there_are_no_accounts(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None, expected: str
):
    if answer is None:
        (commands / "sacct").unlink()
        monkeypatch.setenv("PATH", f"{commands}")
    else:
        script(commands, "sacct", answer)
    given = cluster.options(profile(tmp_path), "demo")
    assert given[given.index("--slurm-status-command") + 1] == expected


def test_jobs_of_this_study_and_project_alone_remain(commands: Path):
    lines = ["1|demo_8a|/here", "2|demo_8a|/elsewhere", "3|demo2_77|/here", "4|other|/here", "5|demo_9b|/here"]
    script(commands, "squeue", f"printf '%s\\n' {' '.join(map(repr, lines))}")
    assert cluster.remaining("demo", Path("/here")) == ["1", "5"]
    script(commands, "squeue", "exit 1")
    assert cluster.remaining("demo", Path("/here")) is None


def test_a_study_whose_jobs_are_still_in_the_queue_is_not_started_again(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    script(commands, "squeue", f"echo '12|demo_8a|{files.ROOT}'")
    with pytest.raises(ValueError, match=r"jobs 12 are still in Slurm's queue.*scancel 12"):
        pipeline.run(demo(), 1, None, profile=profile(tmp_path))


# --- during a run


def submit(tmp_path: Path, cluster_profile: Path) -> tuple[int, str]:
    """Runs Snakemake on the demo in a folder of its own."""
    folder = tmp_path / "reports" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    with (tmp_path / "lock").open("w") as lock:
        return pipeline._snakemake(demo(), folder, 1, lock.fileno(), cluster_profile)


def test_what_slurm_said_of_a_refused_job_reaches_the_user(tmp_path: Path, commands: Path):
    script(commands, "sbatch", f"echo '{REFUSAL}' >&2; exit 1")
    status, output = submit(tmp_path, profile(tmp_path))
    assert status != 0
    message = pipeline._failure_message(output)
    assert message.startswith("Slurm refused a job") and REFUSAL in message and "--wrap" not in message


def test_a_node_without_the_project_s_folder_says_so(tmp_path: Path, commands: Path):
    fault = "python: No such file or directory"
    script(commands, "sbatch", RUN_AT_ONCE.replace('sh -c "$command"', f"echo '{fault}'; false"))
    script(commands, "squeue", "case \"$*\" in *--name*) echo '7|FAILED';; esac")
    status, output = submit(tmp_path, profile(tmp_path))
    assert status != 0
    assert fault in pipeline._failure_message(output)


def test_make_why_finds_the_log_of_the_last_failed_job(tmp_path: Path):
    folder = tmp_path / cluster.LOGS / "rule_training" / "0_3"
    folder.mkdir(parents=True)
    for number, seconds in ((7, 200), (12, 300), (9, 100)):
        (folder / f"{number}.log").write_text("")
        os.utime(folder / f"{number}.log", (seconds, seconds))
    assert cluster.last_log(tmp_path, "training", ["0", "3"]) == folder / "12.log"
    assert cluster.last_log(tmp_path, "training", ["1", "3"]) is None
    assert cluster.last_log(tmp_path, "report", []) is None


def test_the_message_of_a_failed_step_is_taken_from_its_job_s_log(tmp_path: Path):
    folder = tmp_path / cluster.LOGS / "rule_model"
    folder.mkdir(parents=True)
    (folder / "7.log").write_text(
        f"srun: error\n{MESSAGE_MARK}03_model of study demo failed\n{MESSAGE_MARK}Shutting down"
    )
    since = time.time() - 60
    text = cluster.why_failed("Snakemake's log", tmp_path, since)
    assert pipeline._failure_message(text) == "03_model of study demo failed\n"
    assert cluster.why_failed("Snakemake's log", tmp_path, since + 3600) == ""


def test_a_job_that_slurm_has_lost_ends_the_run_instead_of_waiting_for_ever(
    commands: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "LOST_SECONDS", 0.5)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as waiting:
        with pytest.raises(ValueError, match=r"Slurm has had no job of study demo .* it is lost"):
            cluster.wait(waiting, "demo", files.ROOT)
        assert waiting.poll() is not None


@pytest.mark.parametrize("queue", ["exit 1", f"echo '12|demo_8a|{files.ROOT}'"])
def test_a_queue_that_does_not_answer_or_has_a_job_ends_nothing(
    commands: Path, monkeypatch: pytest.MonkeyPatch, queue: str
):
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "LOST_SECONDS", 0.3)
    script(commands, "squeue", queue)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"]) as ending:
        assert cluster.wait(ending, "demo", files.ROOT) == 0
