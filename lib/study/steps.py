"""Steps of a study and their records: what was run, by what code, from what, into what.

A record is written last, so its presence says that the step ended well; whether it still holds is decided by
comparing it with today's keys, code, inputs and files.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.study import environment, files, params, provenance

NOT_OUTPUTS = {"notebook.ipynb", "record.json", "timing.json", "timing.csv", "state.pt"}
EXECUTED = "notebook.ipynb"  # with its outputs, as papermill writes it
OF_LANDMARKS = "_landmarks"  # end of the name of the notebook that evaluates them
RECORD_PARTS = {"own", "code", "inputs", "outputs", "needs"}  # of a record, without which it cannot be compared
MADE_HERE = "phantom_"  # beginning of the names of data sets that the project makes itself


@dataclass(frozen=True)
class Step:
    """One executed notebook, or the report."""

    name: str  # of the notebook, without .ipynb; or "report"
    run: tuple[int, int] | None = None  # (fold, seed) of a training run

    @property
    def label(self) -> str:
        """Its folder below the study's."""
        return f"{self.name}/{files.run_name(*self.run)}" if self.run else self.name

    def folder(self, study: str) -> Path:
        """Where its files lie."""
        return files.study_folder(study) / self.label

    def record_file(self, study: str) -> Path:
        """Its record, written last."""
        return self.folder(study) / "record.json"


def training_steps(study: params.Study) -> list[Step]:
    """One run a pair of fold and seed."""
    return [Step("04_training", (fold, seed)) for fold in study.folds for seed in study.seeds]


def study_steps(study: params.Study) -> list[Step]:
    """All steps of a study in an order in which they can run; nothing is compared where no other study is named."""
    before = ("01_data_verification", "02_preprocessing", "03_model")
    after = ("05_evaluation", "06_biometry", *(["07_comparison"] if study.compare_with else []), "report")
    return [*map(Step, before), *training_steps(study), *map(Step, after)]


def notebook_file(step_name: str, study: params.Study) -> Path:
    """The notebook that a step executes; points are evaluated by another than regions."""
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
    """A step's own keys and their values in the study file; fold and seed as the graph sets them."""
    run = dict(zip(("fold", "seed"), step.run)) if step.run else {}
    values = params.step_params(study, step.name, **run).model_dump(exclude_unset=True)
    if step.name == "report":  # it prints every key, and the reasons that stand beside them
        values |= {"study_file": files.sha256(files.study_file(study.study))}
    return values


def code_hashes(step_name: str, study: params.Study) -> dict[str, str]:
    """Hash of a notebook's own code and of each module that it reaches; of the template for the report."""
    if step_name == "report":
        template = files.ROOT / "reports" / "template"
        own = {path.name: files.sha256(path) for path in sorted(template.iterdir())}
        return own | provenance.module_hashes({"lib.report.build"})
    return provenance.notebook_hashes(notebook_file(step_name, study))


def data_digest(dataset: str) -> str:
    """Digest of a raw folder's files by name and content; hidden ones, which systems leave behind, do not count."""
    folder = files.raw_folder(dataset)
    return files.digest(files.cached_hashes(folder, folder.with_name(f".{dataset}.hashes.json")))


def data_digests(dataset: str) -> dict[str, str]:
    """Digests of what a verification reads: its data set's folder, and the published ones it is searched against."""
    root, names = files.raw_folder(dataset).parent, {dataset}
    if root.is_dir() and not dataset.startswith(MADE_HERE):  # phantoms are not searched against anything
        published = (path.name for path in root.iterdir() if path.is_dir())
        names |= {name for name in published if not name.startswith((MADE_HERE, "own_", "."))}
    return {name: data_digest(name) for name in sorted(names)}


def output_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a step made, by its path in the step's folder."""
    paths = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.as_posix(): files.sha256(folder / path) for path in paths if _is_output(path)}


def _is_output(path: Path) -> bool:
    """Files for TensorBoard hold times and the machine's name."""
    return path.name not in NOT_OUTPUTS and not any(p.startswith(".") or p == "tensorboard" for p in path.parts)


def step_outputs(step: Step, folder: Path) -> dict[str, str]:
    """SHA-256 of the files that a step made in a folder, and of the report's PDF, which lies above its folder."""
    hashes, pdf = output_hashes(folder), folder.parent / "report.pdf"
    return hashes | ({"../report.pdf": files.sha256(pdf)} if step.name == "report" and pdf.is_file() else {})


def input_digests(step: Step, study: params.Study) -> dict[str, str]:
    """Digest of what each input step put out; ValueError if one has not been run."""
    digests = {}
    for source in step_inputs(step, study):
        record = source.record_file(study.study)
        if not record.is_file():
            raise ValueError(f"{record}: missing; run {source.label} first")
        digests[source.label] = files.digest(files.read_json(record)["outputs"])
    return digests | (compared_digests(study) if step.name == "07_comparison" else {})


def compared_digests(study: params.Study) -> dict[str, str]:
    """Digest of the measurements of each study that is compared with this one; ValueError if one has not been run."""
    digests = {}
    for name in study.compare_with:
        for step in (Step("05_evaluation"), Step("06_biometry")):
            record = step.record_file(name)
            if not record.is_file():
                raise ValueError(f"compare_with = {name!r}   has not been run; 'make study STUDY={name}' first")
            digests[f"{name}/{step.name}"] = files.digest(files.read_json(record)["outputs"])
    return digests


def snapshot(step: Step, study: params.Study) -> dict[str, Any]:
    """What a step starts from, taken before it works, since all may change meanwhile; ValueError if it cannot."""
    code, inputs = code_hashes(step.name, study), input_digests(step, study)
    data = {"data": data_digests(study.dataset)} if step.name == "01_data_verification" else {}
    return {"code": code, "inputs": inputs, "commit": provenance.commit()} | data


def write_record(
    folder: Path, step: Step, own: dict[str, Any], checks: list[dict[str, Any]], device: str, before: dict[str, Any]
) -> None:
    """Writes a step's record, last of all; `before` is the `snapshot` of its begin, `device` "" if it needs none."""
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
    """Files whose content varies, without which a step has not run to its end; by hand there may be no notebook."""
    executed = [EXECUTED] if environment.in_workflow() and step.name != "report" else []
    return [name for name in ("timing.json", "timing.csv") if (folder / name).is_file()] + executed


def read_record(step: Step, study: params.Study) -> dict[str, Any] | None:
    """A step's record; None where there is none, or none of today's form (an older project's, or edited by hand)."""
    path = step.record_file(study.study)
    try:
        record = files.read_json(path) if path.is_file() else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.keys() >= RECORD_PARTS else None
