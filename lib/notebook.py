"""Start and finish of a notebook: parameters checked, folders known, figures and tables saved, claims checked."""

import datetime
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from filelock import BaseFileLock
from IPython.core.getipython import get_ipython
from IPython.display import SVG, Image, Markdown, display
from matplotlib.figure import Figure

from lib import datasets
from lib.data import earlier
from lib.data.arrays import Arrays
from lib.data.dataset import Dataset
from lib.data.evaluation_set import EvaluationSet
from lib.models import devices
from lib.report import figures, tables
from lib.study import environment, files, locks, param_faults, params, provenance, staleness, steps

BY_HAND, UNCHANGED = "by_hand", "unchanged"  # folders of runs by hand, and of those with the study file's values
SHOWN_WIDTH = 800  # pixels on the screen; the file has more
RUN = ("fold", "seed")  # in no study file: the graph gives them, else they are the study's first
PLAIN = (str, int, float, bool, list, dict, type(None))
COMMAND_LINE_WORDS = {"true": True, "false": False, "null": None}  # YAML's, which papermill -p leaves as text


@dataclass
class Page:
    """A running notebook; what it reads of other steps is refused by a ValueError where they have not run."""

    params: Any  # this notebook's keys, typed and checked
    study: params.Study
    step: steps.Step
    folder: Path  # where its files go: the step's own, or one below by_hand/ (`destination`)
    before: dict[str, Any]  # code, inputs and raw files that it started from
    started: float  # seconds since the epoch
    lock: BaseFileLock | None  # on the folder, until `finish` or the kernel's end
    checks: list[dict[str, Any]] = field(default_factory=list)  # claims so far, and whether they hold

    @property
    def dataset(self) -> Dataset:
        """The registered data set of this study."""
        return datasets.of(self.study)

    def read(self, name: str) -> Any:
        """A file of an earlier step of this study, by its name (`earlier.FILES`)."""
        return earlier.read(name, self.of)

    def arrays(self) -> Arrays:
        """The preprocessed cases; ValueError if their arrays are not as they were made."""
        return earlier.read_arrays(self.of)

    def evaluation_set(self) -> EvaluationSet:
        """The cases that this study is judged on; 05_evaluation itself writes to its own folder."""
        writes_to = self.folder if self.step.name == "05_evaluation" else None
        return earlier.evaluation_set(self.of, self.dataset, self.study.learns_landmarks, writes_to)

    def of(self, name: str, run: tuple[int, int] | None = None) -> Path:
        """Folder of another step of this study."""
        step = steps.Step(name, run)
        if not step.record_file(self.study.study).is_file():
            raise ValueError(f"{step.label} of study {self.study.study} has not run; run that notebook first")
        return step.folder(self.study.study)

    def trainings(self) -> Path:
        """Folder of 04_training, whose runs of this study's folds and seeds have all ended."""
        for step in steps.training_steps(self.study):
            self.of(step.name, step.run)
        return files.study_folder(self.study.study) / "04_training"

    def compared(self) -> dict[str, Path]:
        """Folder of this study, and of each that is compared with it, by its name."""
        self.of("06_biometry")
        steps.compared_digests(self.study)
        return {name: files.study_folder(name) for name in (self.study.study, *self.params.compare_with)}

    @property
    def run_folder(self) -> Path:
        """Folder of the training run: the study's own, unless values differ from the study file's."""
        own = self.folder.parent == files.study_folder(self.study.study) / BY_HAND / UNCHANGED / self.step.name
        return self.step.folder(self.study.study) if own else self.folder

    @property
    def raw(self) -> Path:
        """The data set as published; made first if the project makes it itself."""
        return datasets.prepare(self.study.dataset)

    def place(self, name: str) -> Path:
        """Where a file of this notebook goes; ValueError once it is finished, for others may then write there."""
        if self.lock is None:
            raise ValueError("this page is finished; run the cell with start() again before writing anything")
        return self.folder / name

    def write_csv(self, table: pd.DataFrame, name: str) -> None:
        """Writes a table into this notebook's folder."""
        files.write_csv(self.place(name), table)

    def write_json(self, value: Any, name: str) -> None:
        """Writes a JSON file into this notebook's folder."""
        files.write_json(self.place(name), value)

    def show(self, figure: Figure, name: str) -> None:
        """Saves a figure as figures/<name>.svg, or .png where it holds images, and shows what was saved."""
        path = figures.save(figure, self.place("figures") / name)
        display(SVG(filename=str(path)) if path.suffix == ".svg" else Image(filename=str(path), width=SHOWN_WIDTH))

    def table(self, table: pd.DataFrame, name: str) -> None:
        """Saves a table as tables/<name>.csv and .typ, and shows it."""
        tables.save(table, self.place("tables") / name)
        display(tables.readable(table)) if len(table) else print("nothing to list")

    def caption(self, sentences: str) -> None:
        """Shows what a rule found, below the figure or table that it is read from."""
        display(Markdown(sentences))

    def check(self, claim: str, holds: bool) -> None:
        """Says whether a claim holds; one that does not stops the notebook at `finish`."""
        self.checks.append({"claim": claim, "holds": bool(holds)})
        print(f"{'holds' if holds else 'FAILS'}   {claim}")

    def finish(self) -> None:
        """Writes the record, last of all; ValueError, and no record, if a check failed or it is finished already."""
        timing, failed = self.place("timing.json"), [check["claim"] for check in self.checks if not check["holds"]]
        try:
            if failed:
                raise ValueError(f"{len(failed)} of {len(self.checks)} checks failed: {'; '.join(failed)}")
            files.write_json(timing, measure(self.started))
            device, own = devices.describe(self.params.device), self.params.model_dump(exclude_unset=True)
            steps.write_record(self.folder, self.step, own, self.checks, device, self.before)
        finally:
            locks.release(self.lock)
            self.lock = None
        print(f"{self.step.label} of study {self.study.study} is done")


def start(name: str, namespace: dict[str, Any]) -> Page:
    """Checks a notebook's parameters and opens its page; the first call of every notebook.

    The study file is read whole. Keys that the notebook's cell does not give are the study file's. Those that it
    gives otherwise are taken, but never data set, classes, palette and landmarks: they say what the study is; and
    what such a run writes goes to a folder of its own (`destination`). A ValueError names all faults at once. From
    the `namespace`, the notebook's `globals()`, names are removed that are keys of other notebooks.
    """
    environment.begin()
    environment.use_threads()
    step_name = name.removesuffix(steps.OF_LANDMARKS)
    model = params.STEPS[step_name]
    given, where = given_values(namespace), f"parameters of {name}"
    if not isinstance(given.get("study"), str):
        raise ValueError(f"{where}: study = {given.get('study')!r}   expected the name of a file in params/")
    study = params.read_study(files.study_file(given["study"]))
    given = without_own(given, study, own_cell(name))
    param_faults.refuse(where, param_faults.find_faults(given, params.AnyKey, partial=True))
    expected = steps.notebook_file(step_name, study).stem
    if name != expected:
        raise ValueError(
            f"{name} cannot evaluate study {study.study}, whose landmarks = {study.landmarks!r}; run {expected}"
        )
    first = dict(zip(RUN, (study.folds[0], study.seeds[0])))
    run = {key: given.get(key, first[key]) for key in RUN if key in model.model_fields}
    mine = {key: value for key, value in given.items() if key in model.model_fields and key not in run}
    # Checked together with the keys of all other notebooks: a size must fit the depth that 03 will use.
    whole, useless = merge(mine, study)
    param_faults.refuse(where, param_faults.find_faults(whole, params.Study) + shared_faults(whole, study))
    changed = params.Study.model_validate(whole)
    datasets.of(changed)
    typed = params.step_params(changed, step_name, **run)
    for key in params.AnyKey.model_fields.keys() - typed.model_fields_set:
        namespace.pop(key, None)
    differs = {k: v for k, v in mine.items() if k in whole and v != getattr(study, k)}
    step = steps.Step(step_name, (run["fold"], run["seed"]) if run else None)
    if step_name == "01_data_verification":
        datasets.prepare(study.dataset)
    before = steps.snapshot(step, study)
    folder, lock = take_folder(step, study, differs)
    clear(folder, is_training=step.run is not None)
    print(f"{step.label} of study {study.study}" + _note_by_hand(folder, step, study, differs))
    for key in useless:
        print(f"{key} is left out: it is used only with {param_faults.option_of(params.Study, key)}")
    return Page(typed, study, step, folder, before, time.time(), lock)


def own_cell(name: str) -> dict[str, Any]:
    """What the parameters cell of a notebook says in its file: the values of a phantom's study, not a person's."""
    cells = files.read_json(files.ROOT / "notebooks" / f"{name}.ipynb")["cells"]
    sources = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    return provenance.assigned_values(sources[0]) if sources else {}  # a person may have removed the tag


def without_own(given: dict[str, Any], study: params.Study, cell: dict[str, Any]) -> dict[str, Any]:
    """Keys that are the study's, or were given on purpose: not what the notebook's cell says in its file, nor None."""
    of_study = params.values_of(study)
    return {
        key: value
        for key, value in given.items()
        if key in of_study or (value is not None and (key in RUN or cell.get(key) != value))
    }


def merge(mine: dict[str, Any], study: params.Study) -> tuple[dict[str, Any], list[str]]:
    """A study's values with a notebook's own in their place, and the study's keys that these make useless, left out.

    A key that nothing uses and that was given another value stays, to be found as a fault.
    """
    of_study = params.values_of(study)
    whole = of_study | mine
    used = param_faults.uses(whole, params.Study)
    useless = [key for key, value in of_study.items() if used.get(key) is False and whole[key] == value]
    return {key: value for key, value in whole.items() if key not in useless}, useless


def destination(step: steps.Step, study: params.Study, differs: dict[str, Any]) -> Path:
    """The step's own folder for the graph, and for a run by hand of the study file's values while no record holds.

    Otherwise by_hand/<what differs, or "unchanged">/<step>: a run by hand never writes over what the study has.
    """
    own = step.folder(study.study)
    if environment.by_graph() or not (differs or staleness.stale_reasons(step, study) == []):
        return own
    return files.study_folder(study.study) / BY_HAND / name_of(differs) / step.label


def take_folder(step: steps.Step, study: params.Study, differs: dict[str, Any]) -> tuple[Path, BaseFileLock]:
    """`destination`, held by this process."""
    folder, what = destination(step, study, differs), f"{step.label} of study {study.study}"
    lock = locks.acquire(folder / locks.STEP, what)
    now = destination(step, study, differs)  # who had the folder may have finished the step meanwhile
    if now == folder:
        return folder, lock
    locks.release(lock)
    return now, locks.acquire(now / locks.STEP, what)


def name_of(differs: dict[str, Any]) -> str:
    """A folder's name for some values: "epochs-3_batch_size-8"; one that had to be changed or cut ends in a digest."""
    name = "_".join(f"{key}-{value}" for key, value in sorted(differs.items())) or UNCHANGED
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60]
    return plain if plain == name else f"{plain}-{files.digest(differs)[:6]}"


def _note_by_hand(folder: Path, step: steps.Step, study: params.Study, differs: dict[str, Any]) -> str:
    """What a person must know of where this run writes; nothing where it is the step's own folder."""
    if folder == step.folder(study.study):
        return ""
    why = f"by hand, with {', '.join(f'{k} = {v!r}' for k, v in differs.items())}" if differs else "by hand, once more"
    return f": {why}\nthe study's own files are left as they are; this run writes to {folder}"


def given_values(namespace: dict[str, Any]) -> dict[str, Any]:
    """Names that the parameters cell (or papermill) has set.

    In a fresh kernel that is everything plain in the namespace. When `start` runs again, the namespace also holds what
    later cells made, so the nearest cell of plain assignments before it is read instead.
    """
    hidden = getattr(get_ipython(), "user_ns_hidden", {})
    names = {n for n, v in namespace.items() if not n.startswith("_") and n not in hidden and type(v) in PLAIN}
    if namespace.get("__page_started__"):
        history = namespace.get("In", [])
        before = next((cell for cell in reversed(history) if cell != history[-1]), "")
        names = set(provenance.assigned_values(before)) or names & set(params.AnyKey.model_fields)
    namespace["__page_started__"] = True
    return {n: typed_word(n, namespace[n]) for n in names if n in namespace}


def typed_word(key: str, value: Any) -> Any:
    """`true`, `false` or `null` as papermill's command line gives it, for a key that takes no text; else the value."""
    known = params.AnyKey.model_fields.get(key)
    takes_no_text = known is not None and known.annotation in (bool, int | None, float | None)
    return COMMAND_LINE_WORDS.get(value, value) if takes_no_text and isinstance(value, str) else value


def shared_faults(given: dict[str, Any], study: params.Study) -> list[str]:
    """Shared keys say what the study is, so a notebook cannot change them by hand."""
    return [
        f"{key} = {value!r}   params/{study.study}.yaml says {getattr(study, key)!r}; to run another study, give "
        "all its keys, or only its name: study = ..."
        for key, value in given.items()
        if key in ("dataset", "classes", "palette", "landmarks") and value != getattr(study, key)
    ]


def clear(folder: Path, is_training: bool) -> None:
    """Removes what an earlier or killed run of a step left, its record first; a training run's own files stay."""
    (folder / "record.json").unlink(missing_ok=True)
    for path in sorted(folder.rglob(".writing-*")):
        path.unlink()
    for path in folder.iterdir():
        stays = is_training and path.name not in ("figures", "tables", steps.EXECUTED)
        if not stays and not path.name.startswith("."):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def measure(started: float) -> dict[str, Any]:
    """What varies from run to run: date, seconds, peak memory of this process."""
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"date": date, "seconds": round(time.time() - started, 2), "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    """The most memory that this process has held."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
