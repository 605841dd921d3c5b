"""Start and finish of a notebook: parameters checked, folders known, figures and tables saved, claims checked."""

import datetime
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from IPython.core.getipython import get_ipython
from IPython.display import SVG, Image, display
from matplotlib.figure import Figure

from lib import datasets, devices, figures, files, params, provenance, records, tables

SHOWN_WIDTH = 800  # pixels on the screen; the file has more
PLAIN = (str, int, float, bool, list, dict, type(None))
COMMAND_LINE_WORDS = {"true": True, "false": False, "null": None}  # YAML's, which papermill -p leaves as text


@dataclass
class Page:
    """A running notebook.

    Attributes:
        params: this notebook's keys, typed and checked.
        study: the whole study file.
        step: which step of the study this is.
        folder: where this notebook's files go.
        differs: keys whose values are not the study file's.
        before: code, inputs and raw files that it started from.
        started: when, in seconds.
        checks: claims made so far, and whether they held.
    """

    params: Any
    study: params.Study
    step: records.Step
    folder: Path
    differs: list[str]
    before: dict[str, Any]
    started: float
    checks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def dataset(self) -> datasets.Dataset:
        """The registered data set of this study."""
        return datasets.of(self.study)

    def of(self, name: str, run: tuple[int, int] | None = None) -> Path:
        """Folder of another step of this study.

        Raises:
            ValueError: that step has not run to its end.
        """
        step = records.Step(name, run)
        if not step.record_file(self.study.study).is_file():
            raise ValueError(f"{step.label} of study {self.study.study} has not run; run that notebook first")
        return step.folder(self.study.study)

    def trainings(self) -> Path:
        """Folder of 04_training.

        Raises:
            ValueError: a run of this study's folds and seeds has not ended.
        """
        for step in records.training_steps(self.study):
            self.of(step.name, step.run)
        return files.study_folder(self.study.study) / "04_training"

    def compared(self) -> dict[str, Path]:
        """Folder of each study that is compared with this one, by its name.

        Raises:
            ValueError: such a study has not been run.
        """
        records.compared_digests(self.study)
        return {name: files.study_folder(name) for name in self.params.compare_with}

    @property
    def raw(self) -> Path:
        """The data set as published; made first if the project makes it itself."""
        return datasets.prepare(self.study.dataset)

    def write_csv(self, table: pd.DataFrame, name: str) -> None:
        """Writes a table into this notebook's folder."""
        files.write_csv(self.folder / name, table)

    def write_json(self, value: Any, name: str) -> None:
        """Writes a JSON file into this notebook's folder."""
        files.write_json(self.folder / name, value)

    def show(self, figure: Figure, name: str) -> None:
        """Saves a figure as figures/<name>.svg, or .png where it holds images, and shows what was saved."""
        path = figures.save(figure, self.folder / "figures" / name)
        display(SVG(filename=str(path)) if path.suffix == ".svg" else Image(filename=str(path), width=SHOWN_WIDTH))

    def table(self, table: pd.DataFrame, name: str) -> None:
        """Saves a table as tables/<name>.csv and .typ, and shows it."""
        tables.save(table, self.folder / "tables" / name)
        display(tables.readable(table)) if len(table) else print("nothing to list")

    def check(self, claim: str, holds: bool) -> None:
        """Says whether a claim holds; one that does not stops the notebook at `finish`."""
        self.checks.append({"claim": claim, "holds": bool(holds)})
        print(f"{'holds' if holds else 'FAILS'}   {claim}")

    def finish(self) -> None:
        """Writes the record, last of all.

        Raises:
            ValueError: a check failed; no record is written then.
        """
        failed = [check["claim"] for check in self.checks if not check["holds"]]
        if failed:
            raise ValueError(f"{len(failed)} of {len(self.checks)} checks failed: {'; '.join(failed)}")
        files.write_json(self.folder / "timing.json", measure(self.started))
        device = devices.describe(self.params.device)
        own = self.params.model_dump()
        records.write_record(self.step, self.study, own, self.differs, self.checks, device, self.before)
        print(f"{self.step.label} of study {self.study.study} is done")


def start(name: str, namespace: dict[str, Any]) -> Page:
    """Checks a notebook's parameters and opens its page; the first call of every notebook.

    The study file is read whole. Keys that the notebook's cell does not give are the study file's; those that it
    gives otherwise are taken and recorded as such, but never data set, classes, palette and landmarks: they say what
    the study is.

    Args:
        name: of the notebook, without .ipynb; of two that serve one step the study decides which.
        namespace: the notebook's `globals()`; names that are keys of other notebooks are removed from it.

    Raises:
        ValueError: an unknown key, a wrong value, or a fault in the study file; all are named at once.
    """
    step_name = name.removesuffix(records.OF_LANDMARKS)
    model = params.STEPS[step_name]
    given = given_values(namespace)
    where = f"parameters of {name}"
    if not isinstance(given.get("study"), str):
        raise ValueError(f"{where}: study = {given.get('study')!r}   expected the name of a file in params/")
    faults = params.find_faults(given, params.Study, partial=True)
    if faults:
        raise ValueError(params.format_faults(where, faults))
    study = params.read_study(files.study_file(given["study"]))
    expected = records.notebook_file(step_name, study).stem
    if name != expected:
        raise ValueError(
            f"{name} cannot evaluate study {study.study}, whose landmarks = {study.landmarks!r}; run {expected}"
        )
    mine = {key: value for key, value in given.items() if key in model.model_fields}
    # Checked together with the keys of all other notebooks: a size must fit the depth that 03 will use.
    faults = params.find_faults(study.model_dump() | mine, params.Study) + shared_faults(mine, study)
    if faults:
        raise ValueError(params.format_faults(where, faults))
    for key in set(params.Study.model_fields) - set(model.model_fields):
        namespace.pop(key, None)
    typed = model.model_validate(params.step_params(study, step_name).model_dump() | mine)
    differs = [k for k, v in mine.items() if v != getattr(study, k) and k not in records.SET_BY_GRAPH]
    step = records.Step(step_name, (typed.fold, typed.seed) if step_name == "04_training" else None)
    datasets.of(study)
    if step_name == "01_data_verification":
        datasets.prepare(study.dataset)
    before = records.snapshot(step, study)
    clear(step, study.study)
    said = f"; by hand: {', '.join(differs)}" if differs else ""
    print(f"{step.label} of study {study.study}{said}")
    return Page(typed, study, step, step.folder(study.study), differs, before, time.time())


def given_values(namespace: dict[str, Any]) -> dict[str, Any]:
    """Names that the parameters cell (or papermill) has set.

    In a fresh kernel that is everything plain in the namespace. When the check cell runs again, the namespace also
    holds what later cells made, so the nearest cell of plain assignments before it is read instead.
    """
    shell = get_ipython()
    hidden = shell.user_ns_hidden if shell else {}
    names = {n for n, v in namespace.items() if not n.startswith("_") and n not in hidden and type(v) in PLAIN}
    if namespace.get("__page_started__"):
        assigned = assigned_before(namespace.get("In", []))
        names = assigned or names & set(params.Study.model_fields)
    namespace["__page_started__"] = True
    return {n: typed_word(n, namespace[n]) for n in names if n in namespace}


def typed_word(key: str, value: Any) -> Any:
    """`true`, `false` or `null` as papermill's command line gives it, for a key that takes no text; else the value."""
    known = params.Study.model_fields.get(key)
    if known is None or known.annotation not in (bool, int | None, float | None) or not isinstance(value, str):
        return value
    return COMMAND_LINE_WORDS.get(value, value)


def assigned_before(history: list[str]) -> set[str]:
    """Names assigned by the last cell in the history before the running one, if it holds plain assignments only."""
    running = history[-1] if history else ""
    earlier = next((cell for cell in reversed(history[:-1]) if cell != running), "")
    return provenance.assigned_names(earlier)


def shared_faults(given: dict[str, Any], study: params.Study) -> list[str]:
    """Shared keys say what the study is, so a notebook cannot change them by hand."""
    return [
        f"{key} = {value!r}   params/{study.study}.yaml says {getattr(study, key)!r}; to run another study, give "
        "all its keys, or only its name: study = ..."
        for key, value in given.items()
        if key in ("dataset", "classes", "palette", "landmarks") and value != getattr(study, key)
    ]


def clear(step: records.Step, study: str) -> None:
    """Removes what an earlier run of a step left, its record first; a training run's own files stay.

    Its executed notebook goes too: papermill writes the new one, and after a run by hand there is none.
    """
    folder = step.folder(study)
    step.record_file(study).unlink(missing_ok=True)
    for path in folder.iterdir() if folder.is_dir() else ():
        if step.name == "04_training" and path.name not in ("figures", "tables", "notebook.ipynb"):
            continue
        if path.name.startswith("."):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def measure(started: float) -> dict[str, Any]:
    """What varies from run to run: date, seconds, peak memory of this process."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(time.time() - started, 2),
        "peak_bytes": peak_bytes(),
    }


def peak_bytes() -> int:
    """The most memory that this process has held."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
