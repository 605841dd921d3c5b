"""Start and finish of a notebook: checks parameters, finds folders, saves figures and tables, records checks."""

import datetime
import html
import re
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from filelock import BaseFileLock
from IPython.core.getipython import get_ipython
from IPython.display import SVG, Image, Markdown, display
from matplotlib.figure import Figure

from lib import datasets
from lib.data import duration, earlier, quick_pass
from lib.data.arrays import Arrays
from lib.data.dataset import Dataset
from lib.data.evaluation_set import EvaluationSet
from lib.report import figures, tables
from lib.study import environment, files, locks, param_faults, params, provenance, staleness, steps
from lib.study.progress import Live, has_user

BY_HAND, UNCHANGED = "by_hand", "unchanged"  # folders of manual runs, and of those with the study file's values
DISPLAY_WIDTH = 800  # pixels on the screen; the saved file has more
PLAIN_TYPES = (str, int, float, bool, list, dict, type(None))
YAML_WORDS = {"true": True, "false": False, "null": None}  # papermill -p passes them on as text


@dataclass
class Page:
    """A running notebook; outputs of a section that does not apply (`applies=False`) are saved but not displayed."""

    params: Any  # this notebook's keys, typed and checked
    study: params.Study  # with this notebook's values
    step: steps.Step
    inputs: list[steps.Step]  # steps whose files this one reads (`inputs_of`)
    folder: Path  # of its files: the step's own, or one below by_hand/ (`destination`)
    before: dict[str, Any]  # fingerprint of code, inputs and raw files at the start
    started: float  # seconds since the epoch
    lock: BaseFileLock | None  # on the folder; None once `finish` has run
    checks: list[dict[str, Any]] = field(default_factory=list)  # claims, and whether they hold

    @property
    def dataset(self) -> Dataset:
        """The registered data set of this study."""
        return datasets.of(self.study)

    def read(self, name: str) -> Any:
        """A file of an earlier step of this study, by its name (`earlier.FILES`)."""
        return earlier.read(name, self.step_folder)

    def arrays(self) -> Arrays:
        """The preprocessed cases; ValueError if their arrays have changed since they were written."""
        return earlier.read_arrays(self.step_folder)

    def evaluation_set(self) -> EvaluationSet:
        """The cases on which this study is evaluated, a few in a quick pass; 05_evaluation writes to its own folder."""
        writes_to = self.folder if self.step.name == "05_evaluation" else None
        whole = earlier.evaluation_set(self.step_folder, self.dataset, self.study.learns_landmarks, writes_to)
        if self.params.case_limit is None:
            return whole
        evaluated = self.params.model_dump() if writes_to else files.read_json(whole.folder / "record.json")["own"]
        return quick_pass.limit_set(whole, self.arrays(), evaluated["folds"], self.params.case_limit)

    def step_folder(self, name: str, run: tuple[int, int] | None = None) -> Path:
        """Folder of another step of this study, in a quick pass as of `inputs`; ValueError if it has not run."""
        step = steps.Step(name, run, next((each.root for each in self.inputs if each.name == name), ""))
        if not step.record_file(self.study.study).is_file():
            where = f" in {step.root}" if step.root else ""
            raise ValueError(f"{step.label} of study {self.study.study} has not run{where}; run that notebook first")
        return step.folder(self.study.study)

    def trainings(self) -> Path:
        """Folder of 04_training; ValueError if a run of this page's folds and seeds has not finished."""
        for run in product(self.params.folds, self.params.seeds):
            folder = self.step_folder("04_training", run)
        return folder.parent

    def compared_folders(self) -> dict[str, Path]:
        """Folders of this study and of the studies compared with it, by study name."""
        self.step_folder("06_biometry")
        steps.compared_digests(self.study)
        return {name: files.study_folder(name) for name in (self.study.study, *self.params.compare_with)}

    @property
    def run_folder(self) -> Path:
        """Folder of the training run: the study's own unless a value differs from the study file."""
        own = self.folder.parent == files.study_folder(self.study.study) / BY_HAND / UNCHANGED / self.step.name
        return self.step.folder(self.study.study) if own else self.folder

    @property
    def raw(self) -> Path:
        """Folder of the data set as published; a phantom is generated first."""
        return datasets.prepare(self.study.dataset)

    @property
    def searched_datasets(self) -> dict[str, Path]:
        """Folders of other published data sets in which this one's images are searched for; none for phantoms."""
        return datasets.available(self.study.dataset) if self.dataset.is_searchable else {}

    def path(self, name: str) -> Path:
        """Path of an output file; ValueError after `finish`, when another process may use the folder."""
        if self.lock is None:
            raise ValueError("this page is finished; run the cell with start() again before writing anything")
        return self.folder / name

    def write_csv(self, table: pd.DataFrame, name: str) -> None:
        """Writes a table into this notebook's folder."""
        files.write_csv(self.path(name), table)

    def write_json(self, value: Any, name: str) -> None:
        """Writes a JSON file into this notebook's folder."""
        files.write_json(self.path(name), value)

    def show(self, figure: Figure, name: str, applies: bool = True) -> None:
        """Saves a figure as figures/<name>.svg, or .png if it holds images, and displays the saved file."""
        path = figures.save(figure, self.path("figures") / name)
        if applies:
            is_svg, file = path.suffix == ".svg", str(path)
            display(SVG(filename=file) if is_svg else Image(filename=file, width=DISPLAY_WIDTH))

    def table(self, table: pd.DataFrame, name: str, applies: bool = True) -> None:
        """Saves a table as tables/<name>.csv, .typ and .tex, and displays it; "No rows." if it is empty."""
        tables.save(table, self.path("tables") / name, self.dataset.subject)
        if applies:
            display(tables.readable(table, self.dataset.subject)) if len(table) else print("No rows.")

    def caption(self, sentences: str, applies: bool = True) -> None:
        """Displays sentences in Markdown below a figure or table; names of cases in it are no HTML."""
        if applies:
            display(Markdown(html.escape(sentences, quote=False)))

    def check(self, claim: str, holds: bool, applies: bool = True) -> None:
        """Records whether a claim holds and prints its first line; `finish` stops at those that do not."""
        if applies:
            self.checks.append({"claim": claim, "holds": bool(holds)})
            print(f"{'holds' if holds else 'FAILS'}   {claim.partition(chr(10))[0]}")

    def live(self) -> Live | None:
        """Function that shows a line of progress below the running cell; None without a user, as under papermill."""
        if not has_user():
            return None
        shown = display(Markdown(""), display_id=True)
        return lambda line: shown.update(Markdown(line))

    def finish(self) -> None:
        """Writes the record, last of all files; ValueError, and no record, if a check failed or `finish` has run."""
        timing, failed = self.path("timing.json"), [check["claim"] for check in self.checks if not check["holds"]]
        try:
            if failed:
                raise ValueError(f"{len(failed)} of {len(self.checks)} checks failed: {'; '.join(failed)}")
            files.write_json(timing, measure(self.started, duration.trained(self.folder) if self.step.run else 0.0))
            device, own = describe_device(self.step, self.params.device), self.params.model_dump(exclude_unset=True)
            steps.write_record(self.folder, self.step, own, self.checks, device, self.before)
        finally:
            locks.release(self.lock)
            self.lock = None
        print(f"{self.step.label} of study {self.study.study} is done")


def start(name: str, namespace: dict[str, Any]) -> Page:
    """Checks a notebook's parameters and opens its page; the first call of every notebook.

    Keys that the parameters cell does not set come from the study file. A key set to another value overrides it, and
    the run then writes to a separate folder (`destination`); data set, classes, palette and landmarks define the study
    and cannot be overridden. Keys of a manual run (`params.MANUAL`) count as changed values if they are set. A
    ValueError names all problems at once. Keys of other notebooks are removed from `namespace`, the notebook's
    `globals()`.
    """
    environment.confirm_start()
    environment.use_threads()
    environment.keep_freed_memory()
    step_name = name.removesuffix(steps.OF_LANDMARKS)
    model = params.STEPS[step_name]
    given, where = given_values(namespace), f"parameters of {name}"
    if not isinstance(given.get("study"), str):
        named = param_faults.shown(given.get("study"))
        raise ValueError(f"{where}: study = {named}   expected the name of a file in params/")
    study = params.read_study(files.study_file(given["study"]))
    given = without_defaults(given, study, parameters_cell(name))
    param_faults.refuse(where, param_faults.find_faults(given, params.AnyKey, partial=True))
    expected = steps.notebook_file(step_name, study).stem
    if name != expected:
        raise ValueError(
            f"{name} cannot evaluate study {study.study}, whose landmarks = {study.landmarks!r}; run {expected}"
        )
    first = dict(zip(params.RUN, (study.folds[0], study.seeds[0])))
    run = {key: given.get(key, first[key]) for key in params.RUN if key in model.model_fields}
    manual = {key: given.pop(key) for key in params.MANUAL if key in given}
    manual = {key: value for key, value in manual.items() if value}  # false is the default
    if manual and environment.in_workflow():  # the cell was saved after a manual run
        values = ", ".join(f"{key} = {value!r}" for key, value in manual.items())
        raise ValueError(f"{where}: {values}   only for manual runs; set None or False in notebooks/{name}.ipynb")
    mine = {key: value for key, value in given.items() if key in model.model_fields and key not in run}
    # Validated with the keys of all other notebooks: the image size, for one, must fit the depth that 03 will use.
    whole, unused = merge(mine, study)
    faults = param_faults.find_faults(whole, params.Study) + shared_faults(whole, study)
    param_faults.refuse(where, faults + [elsewhere(key, manual[key]) for key in manual.keys() - model.model_fields])
    changed = params.Study.model_validate(whole)
    datasets.of(changed)
    typed = params.step_params(changed, step_name, **run, **manual)
    for key in params.AnyKey.model_fields.keys() - typed.model_fields_set:
        namespace.pop(key, None)
    differs = {k: v for k, v in mine.items() if k in whole and v != getattr(study, k)} | manual
    step = steps.Step(step_name, (run["fold"], run["seed"]) if run else None)
    if step_name == "01_data_verification":
        datasets.prepare(study.dataset)
    inputs = inputs_of(step, changed, manual.get("case_limit"))
    before = steps.snapshot(step, study, inputs)
    folder, lock = lock_folder(step, study, differs)
    clear(folder, is_training=step.run is not None)
    note = steps.number_of_run(step, study) + _manual_run_note(folder, step, study, differs)
    print(f"{step.label} of study {study.study}{note}", *staleness.stale_inputs(inputs, study), sep="\n")
    for key in unused:
        print(f"{key} is left out: it is used only with {param_faults.option_of(params.Study, key)}")
    if "case_limit" in manual:
        typed = of_trained_runs(typed, inputs)
        print(quick_pass_note(manual["case_limit"], inputs))
    return Page(typed, changed, step, inputs, folder, before, time.time(), lock)


def elsewhere(key: str, value: Any) -> str:
    """Error for a key of manual runs in a notebook that does not use it."""
    used = ", ".join(name for name, model in params.STEPS.items() if key in model.model_fields)
    return f"{key} = {value!r}   not used here; only in {used}"


def inputs_of(step: steps.Step, study: params.Study, case_limit: int | None) -> list[steps.Step]:
    """Steps whose files a step reads; in a quick pass those made with the same limit, if there are any.

    Trainings with and without a limit are never mixed: if one run was trained with it, only such runs are evaluated.
    """
    own = steps.step_inputs(step, study)
    if case_limit is None:
        return own
    root = f"{BY_HAND}/{folder_name({'case_limit': case_limit})}"
    limited = [each for each in (replace(each, root=root) for each in own) if each.record_file(study.study).is_file()]
    names = {each.name for each in limited}
    return [*(each for each in own if each.name not in names), *limited]


def of_trained_runs(typed: params.SharedParams, inputs: list[steps.Step]) -> params.SharedParams:
    """The keys of 05_evaluation with the folds and seeds of the runs that it reads; those of other steps unchanged."""
    runs = [each.run for each in inputs if each.run]
    trained = dict(zip(("folds", "seeds"), (list(dict.fromkeys(numbers)) for numbers in zip(*runs))))
    return typed.model_copy(update=trained)


def quick_pass_note(case_limit: int, inputs: list[steps.Step]) -> str:
    """States that results are not those of the study, and which training or evaluation they are of."""
    read = [each for each in inputs if each.name in ("04_training", "05_evaluation")]
    labels = ", ".join(f"{each.label} of {each.root or 'the study itself'}" for each in read)
    return (
        f"quick pass: at most {case_limit} cases each for training, validation and test; for debugging only, no results"
        + (f"\nit reads {labels}" if read else "")
    )


def parameters_cell(name: str) -> dict[str, Any]:
    """Values of the parameters cell in a notebook's file, which are those of a phantom study."""
    cells = files.read_json(files.ROOT / "notebooks" / f"{name}.ipynb")["cells"]
    sources = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    return provenance.assigned_values(sources[0]) if sources else {}  # the tag may have been removed


def without_defaults(given: dict[str, Any], study: params.Study, cell: dict[str, Any]) -> dict[str, Any]:
    """Drops keys that the study file lacks and whose value is None or that of the cell in the notebook's file."""
    of_study = params.values_of(study)
    return {
        key: value
        for key, value in given.items()
        if key in of_study or (value is not None and (key in params.RUN + params.MANUAL or cell.get(key) != value))
    }


def merge(mine: dict[str, Any], study: params.Study) -> tuple[dict[str, Any], list[str]]:
    """A study's values overridden by a notebook's, and the study's keys that this makes unused, which are removed.

    An unused key that the notebook sets to another value stays, so that validation reports it.
    """
    of_study = params.values_of(study)
    whole = of_study | mine
    used = param_faults.uses(whole, params.Study)
    unused = [key for key, value in of_study.items() if used.get(key) is False and whole[key] == value]
    return {key: value for key, value in whole.items() if key not in unused}, unused


def destination(step: steps.Step, study: params.Study, differs: dict[str, Any]) -> Path:
    """The step's own folder for the workflow, and for a manual run without changed values of a stale step.

    Otherwise by_hand/<changed values, or "unchanged">/<step>: a manual run never overwrites a study's results.
    """
    own = step.folder(study.study)
    if environment.in_workflow() or not (differs or staleness.stale_reasons(step, study) == []):
        return own
    return files.study_folder(study.study) / BY_HAND / folder_name(differs) / step.label


def lock_folder(step: steps.Step, study: params.Study, differs: dict[str, Any]) -> tuple[Path, BaseFileLock]:
    """The folder `destination`, and this process's lock on it."""
    folder, what = destination(step, study, differs), f"{step.label} of study {study.study}"
    lock = locks.acquire(folder / locks.STEP, what)
    now = destination(step, study, differs)  # the process that held the lock may have finished the step
    if now == folder:
        return folder, lock
    locks.release(lock)
    return now, locks.acquire(now / locks.STEP, what)


def folder_name(differs: dict[str, Any]) -> str:
    """Folder name for changed values, such as "batch_size-8_epochs-3"; an altered or shortened one ends in a digest."""
    name = "_".join(f"{key}-{value}" for key, value in sorted(differs.items())) or UNCHANGED
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60]
    return plain if plain == name else f"{plain}-{files.digest(differs)[:6]}"


def _manual_run_note(folder: Path, step: steps.Step, study: params.Study, differs: dict[str, Any]) -> str:
    """States why and where a manual run writes; empty for the step's own folder."""
    if folder == step.folder(study.study):
        return ""
    values = ", ".join(f"{key} = {value!r}" for key, value in differs.items())
    why = f"manual run with {values}" if differs else "manual rerun"
    return f": {why}\nthe study's own files stay unchanged; this run writes to {folder}"


def given_values(namespace: dict[str, Any], model: type[params.Params] = params.AnyKey) -> dict[str, Any]:
    """Values set by the parameters cell (or papermill), by name; `model` has the keys of the notebook.

    In a fresh kernel these are all values of plain types in the namespace. When `start` runs again, the namespace also
    holds results of later cells; then only names assigned in the cell before it count or, if that computes, known keys.
    """
    hidden = getattr(get_ipython(), "user_ns_hidden", {})
    names = {n for n, v in namespace.items() if not n.startswith("_") and n not in hidden and type(v) in PLAIN_TYPES}
    if namespace.get("__page_started__"):
        history = namespace.get("In", [])
        before = next((cell for cell in reversed(history) if cell != history[-1]), "")
        names = set(provenance.assigned_values(before)) or names & set(model.model_fields)
    namespace["__page_started__"] = True
    return {n: parse_word(n, namespace[n], model) for n in names if n in namespace}


def parse_word(key: str, value: Any, model: type[params.Params]) -> Any:
    """A value of papermill's command line, with `true`, `false` and `null` converted if the key does not take text."""
    known = model.model_fields.get(key)
    takes_no_text = known is not None and known.annotation in (bool, int | None, float | None)
    return YAML_WORDS.get(value, value) if takes_no_text and isinstance(value, str) else value


def shared_faults(given: dict[str, Any], study: params.Study) -> list[str]:
    """Errors for changed keys that define the study, which a notebook cannot override."""
    return [
        f"{key} = {param_faults.shown(value)}   params/{study.study}.yaml says {getattr(study, key)!r}; "
        "to run another study, set all its keys, or only its name: study = ..."
        for key, value in given.items()
        if key in ("dataset", "classes", "palette", "landmarks") and value != getattr(study, key)
    ]


def clear(folder: Path, is_training: bool) -> None:
    """Removes the files of an earlier or killed run of a step, its record first; model and state of a training stay."""
    (folder / "record.json").unlink(missing_ok=True)
    for path in sorted(folder.rglob(".writing-*")):
        path.unlink()
    for path in folder.iterdir():
        stays = is_training and path.name not in ("figures", "tables", steps.EXECUTED)
        if not stays and not path.name.startswith("."):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def describe_device(step: steps.Step, device: str) -> str:
    """Name of the device that a step computes on, for its record; `device` is the study's."""
    if step.name not in steps.ON_DEVICE:
        return environment.describe_processor()
    from lib.models import devices  # imports torch, which these notebooks alone have imported already

    return devices.describe(device)


def measure(started: float, trained: float) -> dict[str, Any]:
    """Date, seconds since `started` (at least those of `trained` epochs) and peak memory, of this process."""
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"date": date, "seconds": round(max(time.time() - started, trained), 2), "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    """Peak memory of this process, bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
