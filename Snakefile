# One rule a notebook. The working directory is reports/<study>, so every path below is a path in that folder.
# Records (written last by each notebook) are the files that rules see; lib/records.py decides which still hold.
import sys

from lib import files, params, records

study = params.read_study(files.study_file(config["study"]))
TRAININGS = [step.label + "/record.json" for step in records.training_steps(study)]
PAPERMILL = (
    f"{sys.executable} -m papermill {files.ROOT}/notebooks/{{notebook}}.ipynb {{{{log}}}}"
    f" -f {files.study_file(study.study)} -k python3 --no-progress-bar --log-level ERROR --stdout-file -"
)


def execute(notebook):
    return PAPERMILL.format(notebook=notebook)


rule study:
    input:
        "01_data_verification/record.json",
        "02_preprocessing/record.json",
        "03_model/record.json",
        TRAININGS,
        "05_evaluation/record.json",
        "06_biometry/record.json",
        "report/record.json",


rule data_verification:
    output:
        "01_data_verification/record.json",
    log:
        "01_data_verification/notebook.ipynb",
    shell:
        execute("01_data_verification")


rule preprocessing:
    input:
        "01_data_verification/record.json",
    output:
        "02_preprocessing/record.json",
    log:
        "02_preprocessing/notebook.ipynb",
    shell:
        execute("02_preprocessing")


rule model:
    input:
        "01_data_verification/record.json",
        "02_preprocessing/record.json",
    output:
        "03_model/record.json",
    log:
        "03_model/notebook.ipynb",
    shell:
        execute("03_model")


rule training:
    input:
        "01_data_verification/record.json",
        "02_preprocessing/record.json",
        "03_model/record.json",
    output:
        "04_training/fold{fold}-seed{seed}/record.json",
    log:
        "04_training/fold{fold}-seed{seed}/notebook.ipynb",
    threads: workflow.cores  # one training uses all cores of a CPU, or the device
    shell:
        execute("04_training") + " -p fold {wildcards.fold} -p seed {wildcards.seed}"


rule evaluation:
    input:
        "01_data_verification/record.json",
        "02_preprocessing/record.json",
        TRAININGS,
    output:
        "05_evaluation/record.json",
    log:
        "05_evaluation/notebook.ipynb",
    threads: workflow.cores
    shell:
        execute("05_evaluation")


rule biometry:
    input:
        "01_data_verification/record.json",
        "05_evaluation/record.json",
    output:
        "06_biometry/record.json",
    log:
        "06_biometry/notebook.ipynb",
    shell:
        execute("06_biometry")


rule report:
    input:
        "01_data_verification/record.json",
        "02_preprocessing/record.json",
        "03_model/record.json",
        TRAININGS,
        "05_evaluation/record.json",
        "06_biometry/record.json",
    output:
        "report/record.json",
    shell:
        f"{sys.executable} -m lib report {study.study}"
