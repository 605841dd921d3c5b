"""The model card of a finished study, as Markdown: use, data, training, results, failures, limits, how to repeat.

Every figure is read from a table of the study, which `check-report` recomputes. Sections as in Mitchell et al. 2019,
Model Cards for Model Reporting (doi:10.1145/3287560.3287596).
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from lib import datasets
from lib.data import cases
from lib.data.dataset import Dataset
from lib.download import sources
from lib.report import build, bundle, captions, content, tables
from lib.report.content import read_table, required
from lib.report.summaries import biometry_errors
from lib.study import files, params, steps

NAME = "card.md"
NOT_FOR_PATIENTS = "For research only: this is not a medical device, and no number of it is to be used for a patient."
OPEN_LICENCES = {  # of data: that of weights trained on them, which may be passed on
    "CC BY 4.0": "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), as the data",
    "made by this project": "MIT, as this project",
}
RESULTS = {  # summary tables in this order, each as far as the study has it
    "05_evaluation/tables/per_class": "Overlap with the reference by class",
    "05_evaluation/tables/folds": "Overlap by fold and class",
    "05_evaluation/tables/patient-dice": "Dice by patient",
    "05_evaluation/tables/distances": "Distance of the contours",
    "05_evaluation/tables/points": "Distance of the endpoints",
    "06_biometry/tables/agreement": "Error of the measurements",
}
ON_NEW_IMAGES = {
    "06_biometry/tables/coverage": "Coverage of the prediction intervals",
    "06_biometry/tables/flag-worth": "Worth of the quality flags",
}
FOLD_COLUMNS = ["fold", "quantity", "route", "n", "not_measured"]  # then the mean absolute error and the bias


def card_file(study: params.Study) -> Path:
    """Path of a study's card."""
    return files.study_folder(study.study) / NAME


def write(study: params.Study) -> Path:
    """Writes reports/<study>/card.md; ValueError if a step or the report is stale."""
    bundle.require_finished(study)
    models = files.study_folder(study.study) / "05_evaluation" / "models"
    files.write_text(card_file(study), text(study) + files_section(sorted(models.glob("*.safetensors"))))
    return card_file(study)


def not_open(study: params.Study) -> str:
    """Data of a study whose licence forbids passing on weights trained on them, with it; "" if there are none."""
    closed = [f"{title}: {licence}" for title, licence in licences(study).items() if licence not in OPEN_LICENCES]
    return "; ".join(closed)


def licences(study: params.Study) -> dict[str, str]:
    """Licence of the images, and of landmarks that others published, by title."""
    dataset = datasets.of(study)
    known = {dataset.title: dataset.licence}
    if study.learns_landmarks and dataset.phantom is None:
        title, _, licence = content.LANDMARKS[study.landmarks]
        known[title] = licence
    return known


def licence_of_weights(study: params.Study) -> str:
    """Licence under which the weights of a study are passed on, in words; why they are not, if its data forbid it."""
    return f"not passed on ({not_open(study)})" if not_open(study) else OPEN_LICENCES[datasets.of(study).licence]


def text(study: params.Study) -> str:
    """The card without the list of files, from a study that has run to its end."""
    dataset = datasets.of(study)
    sections = (_use(study, dataset), _data(study, dataset), _training(study, dataset), _results(study, dataset))
    sections += (_failures(study, dataset), _limits(study, dataset), _repetition(study))
    return "\n\n".join([f"# Model card: {study.title}", *sections]) + "\n"


def markdown(table: pd.DataFrame, subject: str) -> str:
    """A table as the report prints it, in Markdown."""
    cells = tables.printed_cells(table)
    rows = [tables.printed_titles(table, subject), ["---"] * len(cells), *zip(*cells.values())]
    return "\n".join(f"| {' | '.join(_in_one_line(cell) for cell in row)} |" for row in rows)


def _in_one_line(cell: str) -> str:
    return re.sub(r"\s*\n\s*", " ", cell).replace("|", "\\|")


def table_of(study: params.Study, name: str) -> pd.DataFrame:
    """A table after post-processing; without rows if the study has none of this name."""
    path = files.study_folder(study.study) / f"{name}.csv"
    if not path.is_file() or not tables.has_rows(path):
        return pd.DataFrame()
    table = files.read_csv(path, [])
    return table[table["stage"] == "post"].drop(columns="stage") if "stage" in table else table


def files_section(paths: list[Path]) -> str:
    """The section that lists files with size and SHA-256."""
    rows = [{"file": path.name, "bytes": path.stat().st_size, "sha256": files.sha256(path)} for path in paths]
    return f"\n## Files\n\n{markdown(pd.DataFrame(rows), '')}\n"


def _use(study: params.Study, dataset: Dataset) -> str:
    network = files.read_json(required(study, "03_model/model.json"))
    arguments = ", ".join(f"{name} {value}" for name, value in network["arguments"].items())
    parameters, count = tables.format_cell(network["parameters"], "n"), len(steps.training_steps(study))
    rows, cols = study.image_size
    given = f"volumes of slices with {dataset.channels} channels" if dataset.volumes else "grey images"
    several = (
        f"{count} networks, one per tested fold and seed, whose outputs are averaged" if count > 1 else "1 network"
    )
    lines = [
        f"- **Model:** {several}. `{network['model']}` ({arguments}), {parameters} parameters each.",
        f"- **Input and output:** {given}, resized to {rows} x {cols} pixels; {_output(study)}.",
        "- **Intended use:** research and teaching on images like those below, and comparison of methods.",
        "- **Not intended:** diagnosis, dating or any other decision about a patient; other planes, devices or "
        "populations without a test of one's own.",
        f"- **Licence of the weights:** {licence_of_weights(study)}.",
    ]
    return "\n".join([f"**{NOT_FOR_PATIENTS}**", "", "## Model and intended use", "", *lines])


def _output(study: params.Study) -> str:
    """What the networks predict and what is measured, in words."""
    if study.learns_landmarks:
        return "heatmaps of the endpoints of BPD and OFD, and from them both and the HC"
    mask = f"a mask of {', '.join(study.classes[1:])} at native size"
    return f"{mask}, and BPD, OFD and HC of the ellipse through the head's border" if study.head_classes else mask


def _data(study: params.Study, dataset: Dataset) -> str:
    listed = required(study, "01_data_verification/cases.csv")
    manifest = files.read_csv(listed, cases.CASE_COLUMNS)
    folds = read_table(study, "01_data_verification/folds")
    known = [f"- **{title}**, licence: {licence}." for title, licence in licences(study).items()]
    is_marked = study.learns_landmarks and dataset.phantom is None
    keys = [dataset.citation, content.LANDMARKS[study.landmarks][1] if is_marked else None]
    subjects = f"{manifest['subject'].nunique()} {dataset.subject}s"
    lines = [
        *known,
        f"- **Cases:** {len(manifest)} of {subjects}{_published(study, dataset)}.",
        f"- **Sizes:** {captions.of_sizes(manifest)}",
        f"- **Folds:** {captions.of_folds(folds)} No {dataset.subject} is in two folds.",
        f"- **List of cases** (`cases.csv`): SHA-256 {files.sha256(listed)}.",
    ]
    entries = [bibtex(key) for key in filter(None, keys)]  # own data and unpublished tables have none
    return "\n".join(["## Data", "", *lines]) + "".join(f"\n\n```bibtex\n{entry}\n```" for entry in entries)


def _published(study: params.Study, dataset: Dataset) -> str:
    """How many cases the publisher has, if this is registered."""
    if study.dataset not in datasets.DATASETS or dataset.phantom is not None:
        return ""
    source = sources.find_source(study.dataset, files.ROOT / "data" / "sources.yaml")
    count = source.expected.get("cases")
    return f" ({count} are published, {source.record})" if count else ""


def bibtex(key: str) -> str:
    """An entry of the report's bibliography as it stands there; ValueError for an unknown key."""
    path = build.TEMPLATE / "references.bib"
    found = re.search(rf"^@\w+{{{re.escape(key)},.*?^}}", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"{path}: no entry {key!r}; expected one for every data set")
    return found[0]


def _training(study: params.Study, dataset: Dataset) -> str:
    part = "all" if study.validation_subjects is None else f"{study.validation_subjects} {dataset.subject}s"
    loss = "squared error of the heatmaps" if study.learns_landmarks else _loss(study)
    metric = {"dice": "pooled Dice", "iou": "pooled IoU", None: "error of the endpoints"}
    judged = metric[study.selection_metric]
    judged += ", and threshold," if study.threshold_candidates else ""
    lines = [
        f"- **Split:** {study.fold_count} folds by {dataset.subject}; for fold k, validation on {part} of fold k + 1 "
        "and training on the rest.",
        f"- **Optimisation:** {study.epochs} epochs of batches of {study.batch_size}, {study.optimizer}, learning rate "
        f"{study.learning_rate:g} ({study.schedule}), loss: {loss}; all settings: `params/{study.study}.yaml`.",
        f"- **Selection:** epoch by {judged} on validation cases; test cases play no part.",
    ]
    return "\n".join(["## Training", "", *lines, "", markdown(_runs(study), dataset.subject)])


def _loss(study: params.Study) -> str:
    weights = {
        "cross-entropy": study.cross_entropy_weight,
        "focal loss": study.focal_weight,
        "soft Dice": study.dice_weight,
    }
    return " + ".join(f"{weight:g} x {name}" for name, weight in weights.items() if weight)


def _runs(study: params.Study) -> pd.DataFrame:
    """One row per network: its cases, selected epoch, threshold, and the checksum of the study's own file."""
    hashes = _record(study, "05_evaluation")["outputs"]
    chosen = table_of(study, "05_evaluation/chosen")  # none with landmarks
    thresholds = chosen.set_index(["fold", "seed"])["threshold"] if len(chosen) else {}
    rows = []
    for step in steps.training_steps(study):
        run, name = files.read_json(required(study, f"{step.label}/run.json")), step.label.partition("/")[2]
        fold, seed = step.run  # type: ignore[misc]
        kept = {key: run[key] for key in ("train_cases", "validation_cases", "epochs", "best_epoch", "precision")}
        row = {"fold": fold, "seed": seed} | kept | {"threshold": thresholds.get((fold, seed))}
        rows.append(row | {"sha256": hashes[f"models/{name}.safetensors"]})
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def _record(study: params.Study, label: str) -> dict[str, Any]:
    return files.read_json(required(study, f"{label}/record.json"))


def _results(study: params.Study, dataset: Dataset) -> str:
    """Result tables; those by fold only if several folds were tested."""
    first = (
        "After post-processing, over the test cases of all tested folds, each by the network that saw no case of its "
        f"{dataset.subject}; 95 % confidence intervals by {dataset.subject}."
    )
    shown = {name: title for name, title in RESULTS.items() if len(study.folds) > 1 or not name.endswith("/folds")}
    parts = ["## Results", first, *_tables(study, dataset, shown)]
    by_fold = errors_by_fold(study)
    if len(study.folds) > 1 and len(by_fold):
        parts += ["### Error of the measurements by fold", markdown(by_fold, dataset.subject)]
    return "\n\n".join([*parts, *_tables(study, dataset, ON_NEW_IMAGES)])


def _tables(study: params.Study, dataset: Dataset, titles: dict[str, str]) -> list[str]:
    found = {title: table_of(study, name) for name, title in titles.items()}
    return [part for t, table in found.items() if len(table) for part in (f"### {t}", markdown(table, dataset.subject))]


def errors_by_fold(study: params.Study) -> pd.DataFrame:
    """Mean absolute error, with its interval, and bias by tested fold, quantity and route; no rows without heads."""
    if not content.measures_heads(study):
        return pd.DataFrame(columns=["fold"])
    long = read_table(study, "06_biometry/measurements")
    rows = long[(long["stage"] == "post") & ~long["route"].isin(cases.TRIVIAL_BASELINES)]
    parts = [biometry_errors.agreement(part).assign(fold=fold) for fold, part in rows.groupby("fold")]
    table = pd.concat(parts, ignore_index=True)
    errors = [name for name in table if name.startswith("mae_mm")]
    return table[[*FOLD_COLUMNS, *errors, "bias_mm"]]


def _failures(study: params.Study, dataset: Dataset) -> str:
    parts = ["## Known failures"]
    for step, what in (("05_evaluation", "Predictions"), ("06_biometry", "Measurements")):
        if step == "05_evaluation" or content.measures_heads(study):
            counts, causes = (read_table(study, f"{step}/tables/failure-{name}") for name in ("counts", "causes"))
            listed = len(read_table(study, f"{step}/failures"))
            parts.append(f"**{what}.** {captions.of_failures(counts, causes, listed)}")
            worst = table_of(study, f"{step}/tables/failures")
            parts += [markdown(worst, dataset.subject)] if len(worst) else []
    return "\n\n".join(parts)


def _limits(study: params.Study, dataset: Dataset) -> str:
    long = read_table(study, "05_evaluation/cases")
    manifest = read_table(study, "01_data_verification/cases")
    tested, subjects = long["case"].nunique(), long["subject"].nunique()
    limits = {
        f"The figures rest on {tested} of {len(manifest)} cases, of {subjects} {dataset.subject}s; the intervals "
        f"reflect the choice of {dataset.subject}s, not of hospitals, devices or observers.": True,
        "Sizes of images, pixels and heads other than those above were not tested.": True,
        "Each network was trained once, so the variation between trainings is not known.": len(study.seeds) == 1,
        "The images are synthetic: the results say nothing about patients.": dataset.phantom is not None,
        "A person may have had several examinations, which the data do not identify.": dataset.subject == "examination"
        and dataset.phantom is None,
        "The publisher names no subjects; they were derived from the images.": not dataset.names_subjects,
        "Each case has one reference; there was no comparison with several observers, and no clinical outcome.": True,
        f"The report (`reports/{study.study}/report.pdf`) has a chapter on limitations.": True,
    }
    return "\n".join(["## Limits", "", *(f"- {limit}" for limit, holds in limits.items() if holds)])


def _repetition(study: params.Study) -> str:
    records = {step.label: _record(study, step.label) for step in steps.study_steps(study) if step != build.STEP}
    origin = build.describe_provenance(study, records)
    versions = ", ".join(f"{name} {version}" for name, version in origin["versions"].items())
    commits = ", ".join(filter(None, origin["commits"])) or "not known (outside a git repository)"
    phantom = datasets.of(study).phantom is not None
    data = "" if phantom else " DATA=<raw folder>" + " LANDMARKS=<folder>" * study.learns_landmarks
    devices = ", ".join(sorted({record["device"] for record in records.values()} - {""}))
    return f"""## How to repeat

```
make study STUDY={study.study}{data}
make card STUDY={study.study}
```

- **Commit:** {commits} (with + if files had changed). **Date:** {origin["date"]}.
- **Versions:** {versions}.
- **Computed on:** {devices}; all steps took {origin["seconds"]}.
- **Is every number right?** `make check-report STUDY={study.study}` recomputes the tables from one row per case."""
