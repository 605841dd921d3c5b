"""A cluster stood in for by its commands as small scripts; tests/slurm/run uses a real one."""

import os
import platform
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from lib import pipeline
from lib.study import cluster, environment, files, params, shares
from lib.study.environment import MESSAGE_MARK
from tests.conftest import TERMINAL, copy_code, write_phantom
from tests.conftest import environment as environment_of

REFUSAL = "sbatch: error: invalid partition specified: nowhere"
FAULT = "python: No such file or directory"
# Logs a job as Slurm does, with FAULT as its output.
FAIL_AT_ONCE = f"""
for word; do
  case $before in --output) log=$word;; esac
  before=$word
done
echo '{FAULT}' > "$(echo "$log" | sed s/%j/7/)"
echo 7
"""
# A job that Slurm calls complete some seconds before its file is visible.
WRITE_LATE = """
{ sleep 4; mkdir -p 01_data_verification; echo '{}' > 01_data_verification/record.json; } > /dev/null 2>&1 &
echo 7
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH with the commands of a Slurm without accounts or jobs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"sbatch": "exit 1", "squeue": "", "sinfo": "echo 'p*'", "scancel": ""}.items():
        script(folder, name, text)
    for name in ("sacct", "sacctmgr", "sshare"):
        script(folder, name, "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    script(folder, "scontrol", "echo 'MinJobAge = 300 sec'")  # else the executor asks sacct, whatever it was told
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def script(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def profile(tmp_path: Path, wait_seconds: int = 20) -> Path:
    """The project's own profile, without waiting and second attempts."""
    folder = tmp_path / "profile"
    folder.mkdir(exist_ok=True)
    lines = (files.ROOT / "profiles/slurm/config.yaml").read_text().splitlines()
    lines = [line for line in lines if not line.startswith(("restart-times", "latency-wait", "slurm-init"))]
    own = ["restart-times: 0", f"latency-wait: {wait_seconds}", "slurm-init-seconds-before-status-checks: 1"]
    (folder / "config.yaml").write_text("\n".join([*lines, *own, ""]))
    return folder


def study(**keys: object) -> params.Study:
    return params.read_study(files.ROOT / "params/demo.yaml").model_copy(update=keys)


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


def test_jobs_of_this_folder_alone_remain(tmp_path: Path, commands: Path):
    here = tmp_path / "demo"
    lines = [f"1|{here}", f"2|{here}_2", f"3|{tmp_path}", f"4_[1-3]|{here}"]
    script(commands, "squeue", f"printf '%s\\n' {' '.join(map(repr, lines))}")
    assert cluster.remaining(here) == ["1", "4_[1-3]"]
    script(commands, "squeue", "exit 1")
    assert cluster.remaining(here) is None


def test_a_study_whose_jobs_are_still_in_the_queue_is_not_started_again(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    script(commands, "squeue", f"echo '12|{tmp_path}/demo'")
    with pytest.raises(ValueError, match=r"jobs 12 of this study are still in Slurm's queue.*scancel 12"):
        pipeline.run(study(), 1, None, profile=profile(tmp_path))


def test_a_study_that_another_node_runs_is_refused_where_its_lock_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    alive = tmp_path / "demo" / cluster.ALIVE
    files.write_text(alive, "login2 4711")
    for chosen in (None, profile(tmp_path)):
        with pytest.raises(ValueError, match=r"process 4711 on login2 runs this study .* try again in 180 s"):
            pipeline.run(study(), 1, None, profile=chosen)


def test_a_run_that_was_killed_on_another_node_does_not_stop_the_next_for_ever(tmp_path: Path):
    cluster.check_alone(tmp_path)  # nothing has run yet
    files.write_text(tmp_path / cluster.ALIVE, f"{platform.node()} 4711")
    cluster.check_alone(tmp_path)  # on this computer the lock decides
    files.write_text(tmp_path / cluster.ALIVE, "login2 4711")
    seconds = time.time() - cluster.ALIVE_SECONDS - 1
    os.utime(tmp_path / cluster.ALIVE, (seconds, seconds))
    cluster.check_alone(tmp_path)


@pytest.mark.parametrize(
    ("device", "processes", "given", "expected"),
    [
        ("cpu", 1, None, 0),
        ("cpu", 4, "0", 0),
        ("auto", 1, None, 0),  # the login node cannot know whether the nodes have GPUs
        ("auto", 1, "1", 1),
        ("auto", 4, "4", 4),
        ("cuda", 1, None, 1),
        ("cuda", 4, None, 4),
    ],
)
def test_the_job_of_a_training_asks_for_a_gpu_of_each_process(
    device: str, processes: int, given: str | None, expected: int
):
    share = cluster.share(study(device=device, processes=processes, folds=[0, 1]), 3, given)
    assert (share.threads, share.gpus) == (3, expected)


@pytest.mark.parametrize(
    ("device", "given", "allowed"),
    [("cpu", "1", "0"), ("auto", "2", "0 or 1"), ("cuda", "0", "1"), ("cuda", "x", "1")],
)
def test_a_number_of_gpus_that_a_training_cannot_use_is_refused(device: str, given: str, allowed: str):
    with pytest.raises(ValueError, match=rf"gpus = {given}   not allowed; {allowed} for each training on a cluster"):
        cluster.share(study(device=device), 2, given)


def test_an_index_of_a_gpu_is_refused_on_a_cluster():
    with pytest.raises(ValueError, match=r"device = 'cuda:1'   .* allowed on a cluster: cuda"):
        cluster.share(study(device="cuda:1"), 2, None)


# --- during a run


def submit(
    tmp_path: Path, cluster_profile: Path, target: str = "study", gpu_count: str | None = None
) -> tuple[int, str]:
    """Runs Snakemake on the demo in a folder of its own, with two cores a job, up to a target; status and messages."""
    folder = tmp_path / "reports" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    options = cluster.options(cluster_profile, "demo")
    command = pipeline._command(study(), folder, 2, cluster.share(study(), 2, gpu_count), options, cluster.JOB_MB)
    command[command.index("study")] = target
    with (tmp_path / "lock").open("w") as lock:
        wait = partial(cluster.wait, folder=folder)
        status, output = pipeline._snakemake(command, folder, environment.for_children(2), lock.fileno(), wait)
    assert not (folder / cluster.ALIVE).exists()
    return status, pipeline._failure_message(output + cluster.logs(output, folder, time.time() - 600))


def test_what_slurm_said_of_a_refused_job_reaches_the_user(tmp_path: Path, commands: Path):
    script(commands, "sbatch", f"echo '{REFUSAL}' >&2; exit 1")
    status, message = submit(tmp_path, profile(tmp_path))
    assert status != 0
    assert message.startswith("Slurm refused a job")
    assert REFUSAL in message
    assert "--wrap" not in message


def test_a_training_asks_for_its_cores_memory_and_gpu_as_one_task_of_one_node(tmp_path: Path, commands: Path):
    script(commands, "sbatch", f"printf '%s\\n' \"$@\" >> {tmp_path}/words; exit 1")
    for step in ("01_data_verification", "02_preprocessing", "03_model"):
        files.write_text(tmp_path / "reports/demo" / step / "record.json", "{}")
    submit(tmp_path, profile(tmp_path), "04_training/fold0-seed0/record.json", gpu_count="1")
    words = (tmp_path / "words").read_text().splitlines()
    assert {"--gpus=1", "--cpus-per-task=2", "--nodes=1"} <= set(words)
    assert words[words.index("--mem") + 1] == str(shares.memory_mb(study(), 1) + cluster.JOB_MB)
    assert words[words.index("-D") + 1] == str(tmp_path / "reports/demo")  # by which `remaining` knows the job
    assert not any(word.startswith("--ntasks") for word in words)


def test_a_node_without_the_project_s_folder_says_so(tmp_path: Path, commands: Path):
    script(commands, "sbatch", FAIL_AT_ONCE)
    script(commands, "squeue", "case \"$*\" in *--name*) echo '7|FAILED';; esac")
    status, message = submit(tmp_path, profile(tmp_path))
    assert status != 0
    assert FAULT in message


@pytest.mark.parametrize(("wait_seconds", "succeeds"), [(30, True), (1, False)])
def test_a_file_that_becomes_visible_late_is_waited_for_as_long_as_the_profile_says(
    tmp_path: Path, commands: Path, wait_seconds: int, succeeds: bool
):
    script(commands, "sbatch", WRITE_LATE)
    script(commands, "squeue", "case \"$*\" in *--name*) echo '7|COMPLETED';; esac")
    status, message = submit(tmp_path, profile(tmp_path, wait_seconds), "01_data_verification/record.json")
    assert (status == 0) == succeeds
    assert succeeds or "record.json" in message


def test_ctrl_c_cancels_the_jobs(tmp_path: Path, commands: Path):
    project = tmp_path / "project"
    copy_code(project)
    write_phantom(project, "phantom_brain", 9)
    script(commands, "sbatch", "echo 7")
    script(commands, "squeue", f"case \"$*\" in *--name*) touch {tmp_path}/asked; echo '7|RUNNING';; esac")
    script(commands, "scancel", f"echo $* > {tmp_path}/cancelled")
    command = [sys.executable, "-m", "lib", "study", "tiny", "--profile", str(profile(tmp_path))]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | TERMINAL
    with subprocess.Popen(command, cwd=project, env=environment_of(project), **options) as running:
        end = time.monotonic() + 300
        while not (tmp_path / "asked").exists():
            assert running.poll() is None, running.communicate()[0]
            assert time.monotonic() < end, "no job was submitted"
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)
        printed = running.communicate(timeout=300)[0]
    assert running.returncode == 130, printed
    assert (tmp_path / "cancelled").read_text() == "7\n"
    assert not (project / "reports/tiny" / cluster.ALIVE).exists()


def test_make_why_finds_the_log_of_the_last_failed_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    folder = tmp_path / "demo" / cluster.LOGS / "rule_training" / "0_0"
    folder.mkdir(parents=True)
    for number, seconds in ((7, 200), (12, 300), (9, 100)):
        (folder / f"{number}.log").write_text("")
        os.utime(folder / f"{number}.log", (seconds, seconds))
    named = [line.strip() for line in pipeline.explain(study()).splitlines() if "failed job" in line]
    assert named == [f"log of its last failed job: {folder}/12.log"]


def test_the_message_of_a_failed_step_is_taken_from_its_job_s_log(tmp_path: Path):
    folder = tmp_path / cluster.LOGS / "rule_model"
    folder.mkdir(parents=True)
    (folder / "7.log").write_text(
        f"srun: error\n{MESSAGE_MARK}03_model of study demo failed\n{MESSAGE_MARK}Shutting down"
    )
    since = time.time() - 60
    text = cluster.logs("Snakemake's log", tmp_path, since)
    assert pipeline._failure_message(text) == "03_model of study demo failed\n"
    assert cluster.logs("Snakemake's log", tmp_path, since + 3600) == ""


def test_a_job_that_slurm_has_lost_ends_the_run_instead_of_waiting_for_ever(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "LOST_SECONDS", 0.5)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as waiting:
        with pytest.raises(ValueError, match=r"Slurm has had no job of this study .* it is lost"):
            cluster.wait(waiting, tmp_path)
        assert waiting.poll() is not None


@pytest.mark.parametrize("queue", ["exit 1", 'echo "12|$FOLDER"'])
def test_a_queue_that_does_not_answer_or_has_a_job_ends_nothing(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch, queue: str
):
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "LOST_SECONDS", 0.3)
    monkeypatch.setenv("FOLDER", str(tmp_path))
    script(commands, "squeue", queue)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"]) as ending:
        assert cluster.wait(ending, tmp_path) == 0
