# One rule per notebook. The working directory is reports/<study>, so all paths below are relative to that folder.
# Rules depend on records, which each notebook writes last. Stale records (see lib/study/staleness.py) are deleted before
# Snakemake starts, so inputs are `ancient`: their times are ignored.
# A notebook uses all cores, except that trainings may run side by side, each with its share (lib/study/shares.py):
# --config says how many threads a training and any other notebook gets, how many GPUs a training, and how much memory
# (MB) a job of a cluster needs besides.
import shlex
import sys

from lib.study import files, params, shares, steps

study = params.read_study(files.ROOT / config["file"])
THREADS, TRAINING_THREADS, GPUS = (int(config[name]) for name in ("threads", "training_threads", "gpus"))
TRAINING_MB = shares.memory_mb(study, GPUS) + int(config["job_mb"])
TRAININGS = [step.label + "/record.json" for step in steps.training_steps(study)]
PYTHON = shlex.quote(sys.executable).replace("{", "{{").replace("}", "}}")  # Snakemake treats braces as placeholders


def execute(step):
    return f"{PYTHON} -m lib step {study.study} {step} --cores {{threads}} --gpus {{resources.gpu}}"


def memory(megabytes):
    """A job that was killed, on a cluster perhaps for want of memory, is tried again with more."""
    return lambda wildcards, attempt: attempt * megabytes


rule study:
    input:
        [step.label + "/record.json" for step in steps.study_steps(study)],


rule data_verification:
    output:
        "01_data_verification/record.json",
    log:
        "01_data_verification/notebook.ipynb",
    threads: THREADS
    resources:
        gpu=0,
        mem_mb=memory(shares.STEP_MB),
    shell:
        execute("01_data_verification")


rule preprocessing:
    input:
        ancient("01_data_verification/record.json"),
    output:
        "02_preprocessing/record.json",
    log:
        "02_preprocessing/notebook.ipynb",
    threads: THREADS
    resources:
        gpu=0,
        mem_mb=memory(shares.STEP_MB),
    shell:
        execute("02_preprocessing")


rule model:
    input:
        ancient("01_data_verification/record.json"),
        ancient("02_preprocessing/record.json"),
    output:
        "03_model/record.json",
    log:
        "03_model/notebook.ipynb",
    threads: THREADS
    resources:
        gpu=min(GPUS, 1),
        mem_mb=memory(max(TRAINING_MB, shares.STEP_MB)),
    shell:
        execute("03_model")


rule training:
    input:
        ancient("01_data_verification/record.json"),
        ancient("02_preprocessing/record.json"),
        ancient("03_model/record.json"),
    output:
        "04_training/fold{fold}-seed{seed}/record.json",
    log:
        "04_training/fold{fold}-seed{seed}/notebook.ipynb",
    threads: TRAINING_THREADS
    resources:
        gpu=GPUS,
        mem_mb=memory(TRAINING_MB),
    shell:
        execute("04_training/fold{wildcards.fold}-seed{wildcards.seed}")


rule evaluation:
    input:
        ancient("01_data_verification/record.json"),
        ancient("02_preprocessing/record.json"),
        ancient(TRAININGS),
    output:
        "05_evaluation/record.json",
    log:
        "05_evaluation/notebook.ipynb",
    threads: THREADS
    resources:
        gpu=min(GPUS, 1),
        mem_mb=memory(max(TRAINING_MB, shares.STEP_MB)),
    shell:
        execute("05_evaluation")


rule biometry:
    input:
        ancient("01_data_verification/record.json"),
        ancient("05_evaluation/record.json"),
    output:
        "06_biometry/record.json",
    log:
        "06_biometry/notebook.ipynb",
    threads: THREADS
    resources:
        gpu=0,
        mem_mb=memory(shares.STEP_MB),
    shell:
        execute("06_biometry")


rule comparison:
    input:
        ancient("01_data_verification/record.json"),
        ancient("05_evaluation/record.json"),
        ancient("06_biometry/record.json"),
    output:
        "07_comparison/record.json",
    log:
        "07_comparison/notebook.ipynb",
    threads: THREADS
    resources:
        gpu=0,
        mem_mb=memory(shares.STEP_MB),
    shell:
        execute("07_comparison")


rule report:
    input:
        ancient([step.label + "/record.json" for step in steps.study_steps(study) if step.name != "report"]),
    output:
        "report/record.json",
    threads: THREADS
    resources:
        gpu=0,
        mem_mb=memory(shares.STEP_MB),
    shell:
        f"{PYTHON} -m lib report {study.study}"
