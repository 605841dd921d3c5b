"""The models of a finished study as a folder to be passed on: half precision, card, licence, checksums, parity.

Parameters are stored in float16, which halves the files, and used in float32. What this changes is measured on every
test image of the study and stands in the card and, image by image, in parity.csv.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import datasets, metrics, models
from lib.data import cases
from lib.data.dataset import Dataset
from lib.datasets import samples
from lib.prediction import answers, ensemble
from lib.prediction.ensemble import SUFFIX, SUMS, Ensemble
from lib.report import bundle, model_card
from lib.report.content import read_table, required
from lib.study import environment, files, locks, params, steps, system_files

LICENCE, PARITY = "LICENCE.txt", "parity.csv"
RUN = ["case", "fold", "seed"]
COLUMNS = [*RUN, "measure", "reference_mm", "study", "shipped"]  # measure: hc_mm, …, or "dice of <class>"
MB = 10**6


def ship(study: params.Study, folder: Path, say: Callable[[str], None]) -> None:
    """Writes a folder with the models of a study and all that their use by others needs.

    ValueError for data whose licence forbids it, a study that is unfinished or stale (its steps are named), and a
    folder that exists with other content than `ship` wrote.
    """
    closed = model_card.not_open(study)
    if closed:
        own = files.study_folder(study.study) / "05_evaluation" / "models"
        allowed = " or ".join(model_card.OPEN_LICENCES)
        raise ValueError(
            f"study {study.study}: its weights may not be passed on ({closed}; expected {allowed}); they stay in "
            f"{own}; who has the data makes them by 'make study STUDY={study.study}'"
        )
    bundle.require_finished(study)
    require_own(folder)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        with locks.locked(lock, f"ship into {folder}", wait=False), files.replacing_folder(folder) as new:
            require_own(folder)
            said = _write(study, new, say)
    finally:
        lock.unlink(missing_ok=True)
    say(f"{folder}: {said}")


def _write(study: params.Study, folder: Path, say: Callable[[str], None]) -> str:
    """Writes all files into an empty folder; returns their size and the largest differences in words."""
    environment.use_threads()
    dataset = datasets.of(study)
    own = files.study_folder(study.study) / "05_evaluation" / "models"
    names = [f"{step.label.partition('/')[2]}{SUFFIX}" for step in steps.training_steps(study)]
    for name in names:
        write_half(own / name, folder / name)
    tested = tested_cases(study)
    say(f"{len(names)} models in half precision; predicting {len(tested)} test cases, each by the model of its fold")
    compared = compare(study, dataset, folder, tested)
    changes = differences(compared)
    card = model_card.text(study) + parity_section(study, changes)
    for name in names:
        models.complete(folder / name, folder / name, {"card": card})
    files.write_csv(folder / PARITY, compared)
    files.write_text(folder / LICENCE, licence_text(study, dataset))
    listed = sorted(path for path in folder.iterdir())
    files.write_text(folder / model_card.NAME, card + model_card.files_section(listed))
    sums = [f"{files.sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    files.write_text(folder / SUMS, "".join(sums))
    size = sum(path.stat().st_size for path in folder.iterdir()) / MB
    largest = ", ".join(f"{row['measure']} {row['largest_difference']}" for row in changes.to_dict("records"))
    return f"{size:.1f} MB; largest difference from the study's own models: {largest}"


def write_half(source: Path, target: Path) -> None:
    """Copies a model with its parameters in float16; ValueError if one has a value that float16 cannot hold.

    Running means and variances of batch normalisation stay in float32: few numbers of a wide range.
    """
    network, about = models.load_described(source)
    parameters = dict(network.named_parameters())
    weights = {name: tensor.half() if name in parameters else tensor for name, tensor in network.state_dict().items()}
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            most = torch.finfo(torch.float16).max
            raise ValueError(f"{source}: {name} has values beyond {most:.0f}, which half precision cannot hold")
    kept = {key: value for key, value in about.items() if key not in (*models.NETWORK_KEYS, "checksum")}
    models.save(target, about["model"], about["arguments"], weights, kept | {"stored_precision": "float16"})
    models.complete(target, target, {})


def tested_cases(study: params.Study) -> pd.DataFrame:
    """Case, fold and seed of every test prediction of a study."""
    return read_table(study, "05_evaluation/cases")[RUN].drop_duplicates(ignore_index=True)


def compare(study: params.Study, dataset: Dataset, folder: Path, tested: pd.DataFrame) -> pd.DataFrame:
    """What the models of a folder predict for the test cases of their folds, beside the study's own tables: COLUMNS.

    HC, BPD and OFD in mm (NaN if not measured), and the Dice of each class (NaN if absent from both masks).
    """
    manifest = files.read_csv(required(study, "01_data_verification/cases.csv"), cases.CASE_COLUMNS)
    rows = manifest.set_index("case", drop=False)
    shipped = []
    for (fold, seed), part in tested.groupby(["fold", "seed"], sort=False):
        model = ensemble.load(folder / f"{files.run_name(fold, seed)}{SUFFIX}", study.device)
        for name in part["case"]:
            found = _predicted(model, dataset, rows.loc[name].to_dict())
            shipped += [(name, fold, seed, measure, value) for measure, value in found]
    new = pd.DataFrame(shipped, columns=[*RUN, "measure", "shipped"])
    return own_values(study).merge(new, how="inner", on=[*RUN, "measure"], validate="one_to_one")[COLUMNS]


def _predicted(model: Ensemble, dataset: Dataset, row: dict) -> Iterator[tuple[str, float]]:
    """Measures of one test case by the path that `predict` takes."""
    image, reference = samples.read_case(dataset, row)
    answer = answers.predict(model, image, cases.spacing_mm(row))
    for measured in answers.measurements(model, answer):
        yield f"{measured['quantity']}_mm", measured["predicted_mm"]
    if answer.mask is not None:
        for index, name in enumerate(dataset.classes[1:], start=1):
            yield f"dice of {name}", metrics.overlap(reference, answer.mask, index).dice


def own_values(study: params.Study) -> pd.DataFrame:
    """The same measures from the tables of 05 and 06, after post-processing, with the reference where there is one."""
    parts = []
    measured = read_table(study, "06_biometry/measurements")
    if len(measured):
        route = "landmark" if study.learns_landmarks else "ellipse"
        rows = measured[(measured["stage"] == "post") & (measured["route"] == route)]
        parts.append(rows.assign(measure=rows["quantity"] + "_mm").rename(columns={"predicted_mm": "study"}))
    if not study.learns_landmarks:
        overlap = read_table(study, "05_evaluation/cases").query("stage == 'post'")
        named = "dice of " + overlap["class"]
        parts.append(overlap.assign(measure=named, reference_mm=np.nan).rename(columns={"dice": "study"}))
    return pd.concat([part[[*RUN, "measure", "reference_mm", "study"]] for part in parts], ignore_index=True)


def differences(compared: pd.DataFrame) -> pd.DataFrame:
    """One row per measure, as text: n, mean of the study's and of the shipped models, largest difference of a case.

    The mean is that of the absolute error of a length, or of the Dice. `measured_by_one` counts cases that only one of
    both models measured.
    """
    rows = []
    for measure, part in compared.groupby("measure", sort=False):
        is_length = str(measure).endswith("_mm")
        both = part.dropna(subset=["study", "shipped"])
        values = {name: (both[name] - both["reference_mm"]).abs() if is_length else both[name] for name in COLUMNS[-2:]}
        row = {"measure": str(measure)[:-3].upper() if is_length else str(measure).replace("dice", "Dice")}
        row |= {"n": len(both), "measured_by_one": int((part["study"].isna() != part["shipped"].isna()).sum())}
        unit, digits = (" mm", 3) if is_length else ("", 4)
        row |= {name: f"{each.mean():.{digits}f}{unit}" for name, each in values.items()}
        most = (both["shipped"] - both["study"]).abs().max()
        rows.append(row | {"largest_difference": "–" if math.isnan(most) else f"{most:.2g}{unit}"})
    return pd.DataFrame(rows)


def parity_section(study: params.Study, changes: pd.DataFrame) -> str:
    """The section of the card about half precision."""
    return f"""
## Half precision

The parameters are stored in float16, used in float32. Every test case was predicted by the shipped model of its fold,
on the path of `predict`, and compared with the tables of the study: below are means of the absolute error and of the
Dice, and the largest difference of a case; `{PARITY}` has every case. `make ship STUDY={study.study} OUT=<folder>`
writes all these files.

{model_card.markdown(changes, "")}
"""


def licence_text(study: params.Study, dataset: Dataset) -> str:
    """Licence of the weights, origin and citation of the data, as plain text."""
    origin = "\n".join(f"{title}: {licence}" for title, licence in model_card.licences(study).items())
    return f"""Weights of study {study.study}: {study.title}

Licence of the weights: {model_card.licence_of_weights(study)}.

Trained on
{origin}

Please cite the data:

{model_card.bibtex(dataset.citation)}

and this project (CITATION.cff). {model_card.NOT_FOR_PATIENTS}
"""


def require_own(folder: Path) -> None:
    """ValueError if a folder exists and holds anything that `ship` did not write, or that has changed since."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: a file; expected a folder, new or written by ship")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    listed = ensemble.read_sums(folder / SUMS) if (folder / SUMS).is_file() else {}
    now = {path.relative_to(folder).as_posix(): path for path in system_files.walk(folder)[0] if path != folder / SUMS}
    foreign = [name for name, path in now.items() if listed.get(name) != files.sha256(path)]
    if foreign:
        found = f"{len(foreign)} files are not as ship wrote them, such as {foreign[0]}"
        raise ValueError(f"{folder}: {found}; expected a new folder, or one that ship wrote")
