"""Steps of a study and their records: the keys, code, inputs and outputs of each run.

A record is written last, so it exists only if the step was completed; `lib.study.staleness` compares it with the
current keys, code, inputs and files.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.study import environment, files, params, provenance, system_files

NOT_OUTPUTS = {"notebook.ipynb", "record.json", "timing.json", "timing.csv", "state.pt", "processes.log"}
ABOVE = ("report.pdf", "gallery.html", "index.html")  # in the study's folder
EXECUTED = "notebook.ipynb"  # with its outputs, as papermill writes it
ON_DEVICE = ("03_model", "04_training", "05_evaluation")  # all others compute on the processor
OF_LANDMARKS = "_landmarks"  # suffix of the notebook that evaluates landmarks
RECORD_PARTS = {"own", "code", "inputs", "outputs", "needs"}  # parts required to compare a record
MADE_HERE = "phantom_"  # prefix of the names of synthetic data sets


@dataclass(frozen=True)
class Step:
    """One executed notebook, or the report."""

    name: str  # of the notebook, without .ipynb; or "report"
    run: tuple[int, int] | None = None  # (fold, seed) of a training run
    root: str = ""  # of a manual run: folder below the study's, such as "by_hand/case_limit-32"

    @property
    def label(self) -> str:
        """Its folder below the study's, or below `root`."""
        return f"{self.name}/{files.run_name(*self.run)}" if self.run else self.name

    def folder(self, study: str) -> Path:
        """Folder of its files."""
        return files.study_folder(study) / self.root / self.label

    def record_file(self, study: str) -> Path:
        """Its record, written last."""
        return self.folder(study) / "record.json"


def number_of_run(step: Step, study: params.Study) -> str:
    """Which of several trainings a step is, such as ", run 3 of 5"; "" for other steps."""
    runs = training_steps(study)
    return f", run {runs.index(step) + 1} of {len(runs)}" if step in runs and len(runs) > 1 else ""


def training_steps(study: params.Study) -> list[Step]:
    """One run per pair of fold and seed."""
    return [Step("04_training", (fold, seed)) for fold in study.folds for seed in study.seeds]


def study_steps(study: params.Study) -> list[Step]:
    """All steps of a study in order of execution; the comparison only if `compare_with` names a study."""
    before = ("01_data_verification", "02_preprocessing", "03_model")
    after = ("05_evaluation", "06_biometry", *(["07_comparison"] if study.compare_with else []), "report")
    return [*map(Step, before), *training_steps(study), *map(Step, after)]


def notebook_file(step_name: str, study: params.Study) -> Path:
    """The notebook of a step; landmarks and regions have different evaluation notebooks."""
    is_points = step_name == "05_evaluation" and study.learns_landmarks
    return files.ROOT / "notebooks" / f"{step_name}{OF_LANDMARKS if is_points else ''}.ipynb"


def step_inputs(step: Step, study: params.Study) -> list[Step]:
    """The steps whose files a step reads."""
    verification, preprocessing, model = (Step(n) for n in ("01_data_verification", "02_preprocessing", "03_model"))
    return {
        "01_data_verification": [],
        "02_preprocessing": [verification],
        "03_model": [verification, preprocessing],
        "04_training": [verification, preprocessing, model],
        "05_evaluation": [verification, preprocessing, *training_steps(study)],
        "06_biometry": [verification, Step("05_evaluation")],
        "07_comparison": [verification, Step("05_evaluation"), Step("06_biometry")],
        "report": [s for s in study_steps(study) if s.name != "report"],
    }[step.name]


def own_values(step: Step, study: params.Study) -> dict[str, Any]:
    """A step's keys and their values in the study file, with the fold and seed of a training run."""
    run = dict(zip(("fold", "seed"), step.run)) if step.run else {}
    values = params.step_params(study, step.name, **run).model_dump(exclude_unset=True)
    if step.name == "report":  # the report prints every key and its comment
        values |= {"study_file": files.sha256(files.study_file(study.study))}
    return values


def code_hashes(step_name: str, study: params.Study) -> dict[str, str]:
    """Hashes of a notebook's code, or of the report template, and of every module that it imports."""
    if step_name == "report":
        template = files.ROOT / "reports" / "template"
        facts = files.ROOT / "data" / "sources.yaml"  # of data sets, which the report prints
        printed = [*system_files.visible(template), *([facts] if facts.is_file() else [])]
        own = {path.name: files.sha256(path) for path in printed}
        return own | provenance.module_hashes({"lib.report.build"})
    return provenance.notebook_hashes(notebook_file(step_name, study))


def data_digest(dataset: str) -> str:
    """Digest of the names and contents of a raw folder's files; system files (.DS_Store) are ignored."""
    folder = files.raw_folder(dataset)
    return files.digest(files.cached_hashes(folder, folder.with_name(f".{dataset}.hashes.json")))


def data_digests(dataset: str) -> dict[str, str]:
    """Digests of the raw folders that verification reads: the study's data set, and the published ones to search."""
    root, names = files.raw_folder(dataset).parent, {dataset}
    if root.is_dir() and not dataset.startswith(MADE_HERE):  # phantoms are not compared with other data sets
        published = (path.name for path in system_files.visible(root) if path.is_dir())
        names |= {name for name in published if not name.startswith((MADE_HERE, "own_"))}
    return {name: data_digest(name) for name in sorted(names)}


def output_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every output file of a step, by its path in the step's folder."""
    paths = [path.relative_to(folder) for path in system_files.walk(folder)[0]]
    return {path.as_posix(): files.sha256(folder / path) for path in paths if _is_output(path)}


def _is_output(path: Path) -> bool:
    """Excludes TensorBoard files, which contain times and the host name."""
    return path.name not in NOT_OUTPUTS and "tensorboard" not in path.parts


def step_outputs(step: Step, folder: Path) -> dict[str, str]:
    """SHA-256 of a step's output files; those of the report are also one folder up."""
    above = [folder.parent / name for name in ABOVE] if step.name == "report" else []
    return output_hashes(folder) | {f"../{path.name}": files.sha256(path) for path in above if path.is_file()}


def input_digests(step: Step, study: params.Study, inputs: list[Step] | None = None) -> dict[str, str]:
    """Digest of the outputs of each input step (None: the study's own); ValueError if one has not been run."""
    digests = {}
    for source in step_inputs(step, study) if inputs is None else inputs:
        record = source.record_file(study.study)
        if not record.is_file():
            raise ValueError(f"{record}: missing; run {source.label} first")
        digests["/".join(filter(None, (source.root, source.label)))] = files.digest(files.read_json(record)["outputs"])
    return digests | (compared_digests(study) if step.name == "07_comparison" else {})


def compared_digests(study: params.Study) -> dict[str, str]:
    """Digest of the measurements of each study in `compare_with`; ValueError if one has not been run."""
    digests = {}
    for name in study.compare_with:
        for step in (Step("05_evaluation"), Step("06_biometry")):
            record = step.record_file(name)
            if not record.is_file():
                raise ValueError(f"compare_with = {name!r}   has not been run; run 'make study STUDY={name}' first")
            digests[f"{name}/{step.name}"] = files.digest(files.read_json(record)["outputs"])
    return digests


def snapshot(step: Step, study: params.Study, inputs: list[Step] | None = None) -> dict[str, Any]:
    """Code, inputs and commit before a step starts, as all may change meanwhile; ValueError if an input is missing."""
    code, digests = code_hashes(step.name, study), input_digests(step, study, inputs)
    data = {"data": data_digests(study.dataset)} if step.name == "01_data_verification" else {}
    return {"code": code, "inputs": digests, "commit": provenance.commit()} | data


def write_record(
    folder: Path, step: Step, own: dict[str, Any], checks: list[dict[str, Any]], device: str, before: dict[str, Any]
) -> None:
    """Writes the record after all other files; `before` is the `snapshot` at the start, `device` is "" if unused."""
    record = before | {
        "step": step.label,
        "own": own,
        "outputs": step_outputs(step, folder),
        "needs": needed(folder, step),
        "checks": checks,
        "versions": provenance.versions(),
        "device": device,
        "threads": environment.threads(),
    }
    files.write_json(folder / "record.json", record)


def needed(folder: Path, step: Step) -> list[str]:
    """Required files whose content varies between runs; interactive runs may have no executed notebook."""
    executed = [EXECUTED] if environment.in_workflow() and step.name != "report" else []
    return [name for name in ("timing.json", "timing.csv") if (folder / name).is_file()] + executed


def read_record(step: Step, study: params.Study) -> dict[str, Any] | None:
    """A step's record; None if it is missing or not in the current format (outdated or edited)."""
    path = step.record_file(study.study)
    try:
        record = files.read_json(path) if path.is_file() else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.keys() >= RECORD_PARTS else None
