"""Synthetic studies of every kind, with known numbers, in the files that their steps would write."""

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
from pypdfium2 import PdfDocument

from lib import datasets, metrics
from lib.data import cases, findings, splits
from lib.datasets import lgg
from lib.evaluation import (
    baselines,
    biometry,
    boundaries,
    comparison,
    error_budget,
    failures,
    intervals,
    landmarks,
    quality,
    segmentation,
    training_precision,
    validation,
)
from lib.report import build, content, tables
from lib.report.content import read_table
from lib.report.summaries import (
    biometry_errors,
    coverage,
    dice,
    distances,
    flag_worth,
    landmark_errors,
    measurement_agreement,
    paired,
    patients,
    presence,
    widths,
)
from lib.report.summaries import error_budget as budgets
from lib.report.summaries import failures as failed
from lib.statistics import Estimate
from lib.study import files, params, steps
from lib.verification import rehosted
from tests import builders_gallery

CASES = 20
SLICES = 24  # of the first volume; the others have up to 3 fewer
DATE = "2026-11-21 15:57 UTC"
OTHER = "another_study"  # for comparison
LAST_IS_ABSENT = 3  # index of a test volume with an empty reference and an empty prediction
PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="20"><rect width="90" height="20"/></svg>\n'


def write_study(study: params.Study) -> None:
    """Writes small files of every step."""
    write_data(study)
    write_network(study)
    write_points(study) if study.learns_landmarks else write_regions(study)
    write_biometry(study)
    if study.compare_with:
        write_comparison(study)
    builders_gallery.write(study, tested(study), manifest_of(study))
    write_records(study)


def folder(study: params.Study, name: str) -> Path:
    return files.study_folder(study.study) / name


def write_step(study: params.Study, label: str, long: dict, printed: dict, filled: str = "", drawn: str = "") -> None:
    """Writes long and printed tables of a step, `filled` tables without numbers, and placeholder figures."""
    at = folder(study, label)
    for name, table in long.items():
        files.write_csv(at / f"{name}.csv", table)
    placeholders = {name: pd.DataFrame({"method": [f"cell of {name}"]}) for name in filled.split()}
    for name, table in (printed | placeholders).items():
        tables.save(table, at / "tables" / name, datasets.of(study).subject)
    for name in drawn.split():
        files.write_text(at / "figures" / f"{name}.svg", PICTURE)


def manifest_of(study: params.Study) -> pd.DataFrame:
    """20 cases in two groups, with pixel sizes and HC if the study measures heads; one subject per volume."""
    volumes = datasets.of(study).volumes
    table = pd.DataFrame({"case": [f"case{index:02d}" for index in range(CASES)]}).reindex(columns=cases.CASE_COLUMNS)
    table = table.astype({"split": str, "stratum": str, "fold_group": str})
    table["subject"] = table["fold_group"] = [f"s{index if volumes else index // 2:02d}" for index in range(CASES)]
    table["stratum"], table["split"] = ["low", "low", "high", "high"] * 5, ""
    table["height"], table["width"] = 270, 400
    table["slices"] = SLICES - np.arange(CASES) % 4 if volumes else 1
    if study.head_classes:
        table["spacing_row_mm"] = table["spacing_col_mm"] = np.linspace(0.2, 0.4, CASES)
        table["hc_mm"] = np.linspace(120, 300, CASES)
    return table


def write_data(study: params.Study) -> None:
    """The first two volumes lose 40 and 5 voxels in preprocessing; images lose none."""
    table, volumes = manifest_of(study), datasets.of(study).volumes
    found = [findings.Finding("warn", findings.Check("HC differs"), "case03", 'a "quoted" #name', "within $0.5 mm")]
    about = ("note", lgg.REPLACED_BY_FLAIR)
    replaced = [findings.Finding(*about, f"case{index:02d}", "post-contrast", "its own") for index in (4, 5, 6)]
    folds = splits.assign_folds(table, study.fold_count, study.split_seed, study.validation_subjects)
    long = {"cases": table, "findings": findings.to_table(found + replaced * volumes), "folds": folds}
    printed = {"identity": pd.DataFrame(columns=rehosted.IDENTITY_COLUMNS)}
    filled = "overview groups colours" + " landmark-audit" * study.learns_landmarks
    printed |= {} if study.learns_landmarks else {"landmark-audit": pd.DataFrame(columns=["quantity"])}
    write_step(study, "01_data_verification", long, printed, filled, "folds sizes")
    columns = ["case", "reference_voxels", "in_dropped_slices", "outside_crop"]
    rows = [(f"case{index:02d}", 1000, 40 * (index == 0), 5 * (index == 1)) for index in range(CASES)]
    lost = pd.DataFrame(rows if volumes else [], columns=columns)
    write_step(study, "02_preprocessing", {"lost": lost}, {"lost": lost[lost[columns[2:]].sum(axis=1) > 0]})


def write_network(study: params.Study) -> None:
    channels = 1 if len(study.classes) == 2 else len(study.classes)
    if study.learns_landmarks:
        channels = {"line": 2, "point": 4}[study.heatmap_per]
    arguments = {"in_channels": datasets.of(study).channels, "out_channels": channels, "base_channels": 16}
    model = {"model": "unet", "arguments": arguments, "parameters": 1942289, "starts_blank": study.learns_landmarks}
    files.write_json(folder(study, "03_model/model.json"), model)
    layers = [("encoder.0.0", 16, 144), ("encoder.0.3", 16, 2304), ("up.0", 16, 2064), ("head", channels, 17)]
    rows = [{"layer": name, "channels": n, "rows": 96, "cols": 144, "parameters": size} for name, n, size in layers]
    write_step(study, "03_model", {}, {"layers": pd.DataFrame(rows)})
    about = {"best_epoch": 4, "best_value": 0.7, "epochs": 4, "stopped_early": False, "device": "cpu"}
    counts = {"train_cases": 12, "validation_cases": 4, "precision": "float32"}
    files.write_json(folder(study, "04_training/fold0-seed0/run.json"), about | counts)
    exposure = pd.DataFrame({"class": study.classes[1:], "cases": 12, "cases_percent": 77.7})
    write_step(study, "04_training/fold0-seed0", {"history": history_of(study)}, {"exposure": exposure}, drawn="curves")


def history_of(study: params.Study) -> pd.DataFrame:
    """Four improving epochs; the last has a validation loss of 0.3 and, for heatmaps, an error of 6.25 %."""
    epochs = np.arange(1, 5)
    history = pd.DataFrame({"epoch": epochs, "train_loss": 1.0 / epochs, "validation_loss": 1.2 / epochs})
    history = history.assign(train_selection=1 - 0.5 / epochs, learning_rate=1e-3, best=True)
    if study.learns_landmarks:
        error = 25.0 / epochs
        return history.assign(validation_error_percent=error, train_selection=-20.0 / epochs, selection=-error)
    for name in [*(f"validation_dice_{name}" for name in study.classes[1:]), "selection"]:
        history[name] = 0.8 - 0.4 / epochs
    return history


def tested(study: params.Study) -> list[dict]:
    """Case, subject, fold and seed of the cases of fold 0."""
    folds = files.read_csv(folder(study, "01_data_verification/folds.csv"), splits.FOLD_COLUMNS)
    return folds[folds["fold"] == 0].assign(seed=0)[["case", "subject", "fold", "seed"]].to_dict("records")


def counted(study: params.Study) -> pd.DataFrame:
    """The long table of 05_evaluation; one volume has an empty reference and prediction."""
    stages = ("raw", "post") if study.postprocessing else ("post",)
    rows, predictions = [], itertools.product(enumerate(tested(study)), study.classes[1:], stages)
    for (place, key), name, stage in predictions:
        one = metrics.Overlap(900 + place, 40 if stage == "post" else 60, 50 + 10 * place, 1000)
        if datasets.of(study).volumes and place == LAST_IS_ABSENT:
            one = metrics.Overlap(0, 0, 0, 1000)
        scores = {name: getattr(one, name) for name in ("dice", "iou", "size_error_percent")}
        rows.append(key | {"class": name, "stage": stage} | vars(one) | scores | bounded(study, place, one.tp > 0))
    return pd.DataFrame(rows).reindex(columns=segmentation.COLUMNS)


def bounded(study: params.Study, place: int, is_found: bool) -> dict[str, float]:
    """Distances from 1.25 mm or pixels and, of the first case, two parts in the reference, one of which is found."""
    unit = "mm" if study.head_classes else "px"
    lengths = {"hausdorff": 2.5 + place, "hd95": 1.25 + place, "assd": 0.5 + place / 8}
    row = {f"{name}_{unit}": length if is_found else np.nan for name, length in lengths.items()}
    counts = dict(zip(boundaries.PART_COLUMNS, [1 + (place == 0), 1, 1, 1] if is_found else [0] * 4))
    return row | {f"diagonal_{unit}": 100.0, "nsd": 0.875 if is_found else np.nan} | counts


def structures(study: params.Study) -> pd.DataFrame:
    """References of the tested cases: the larger their number, the smaller and fainter, each 1 % from the frame."""
    names = [*study.classes[1:], failures.WHOLE]
    rows = [
        {"case": key["case"], "class": name, "share_percent": 20.0 - place, "contrast": 0.5 - place / 50}
        for (place, key), name in itertools.product(enumerate(tested(study)), names)
    ]
    return pd.DataFrame(rows).assign(gap_percent=1.0).reindex(columns=failures.STRUCTURE_COLUMNS)


def failed_in(study: params.Study, long: pd.DataFrame) -> tuple[dict, dict]:
    """Long and printed tables about the failed cases of a long table."""
    found = read_table(study, "01_data_verification/findings")
    about = structures(study), manifest_of(study), found
    listed = failures.failures(long, failures.properties(long, *about), about[0])
    printed = {"failure-counts": failed.counts(long), "failure-causes": failed.causes(long, *about)}
    return {"failures": listed}, printed | {"failures": failed.worst(listed)}


def without_network(study: params.Study) -> pd.DataFrame:
    """Two methods for the first class, the second is stronger, and for a head one more, the network and its gain."""
    rows = [(baselines.AVERAGE, study.classes[1], 0.321), (baselines.OTSU, study.classes[1], 0.505)]
    if study.head_classes and not datasets.of(study).volumes:
        rows += [(baselines.RIVAL, "head", 0.876), (baselines.NETWORK, "head", 0.987)]
        rows.append((baselines.GAIN, "head", 0.987 - 0.876))
    values = [Estimate(dice, dice - 0.02, dice + 0.01, 4, 4, 0.1, 0.99).columns("dice") for *_, dice in rows]
    if len(rows) > 2:  # an error of HC of each method for the head
        for row, value in zip(rows, values):
            mm = 10 * ((row[0] != baselines.GAIN) - row[-1]) if row[1] == "head" else np.nan
            value |= Estimate(mm, mm - 0.01, mm + 0.01, 4, 4, 0.0, 9.0).columns("hc_error_mm")
    return pd.DataFrame([{"method": row[0], "class": row[1], "n": 4} | value for row, value in zip(rows, values)])


def write_regions(study: params.Study) -> None:
    long, manifest, precision = counted(study), manifest_of(study), rounded_of(study)
    group = cases.group_of(manifest.set_index("case")["stratum"])
    chosen = {"fold": 0, "seed": 0, "threshold": 0.45, "validation_score": 0.876, "validation_cases": 4}
    printed = {
        "precision": training_precision.summary(precision),
        "per_class": dice.per_class(long),
        "distances": distances.per_class(long, "mm"),
        "distances-pixels": distances.per_class(long, "px"),
        "size-errors": distances.size_errors(long),
        "presence": presence.per_class(long),
        "parts": presence.parts(long),
        "groups": dice.by_part(long.join(group, on="case"), "group"),
        "folds": dice.by_part(long, "fold"),
        "effect": dice.effect(long),
        "detection": dice.detection(long),
        "baselines": without_network(study),
        "patients": patients.per_patient(long, manifest),
        "patient-dice": patients.summary(long, manifest),
        "end-slices": patients.end_slice_cost(long, read_table(study, "02_preprocessing/lost")),
    }
    listed, of_failures = failed_in(study, long)
    tables_of_05 = {"cases": long, "chosen": pd.DataFrame([chosen]), "precision": precision} | listed
    tables_of_05 |= {"structures": structures(study)} | calibrated(study) | indicators_of(study)
    drawn = "hd95-distribution dice-distribution dice-bars confusion worst median best probability close-ups"
    write_step(study, "05_evaluation", tables_of_05, printed | of_failures, "confusion", drawn)


def rounded_of(study: params.Study, precision: str = "float32") -> pd.DataFrame:
    """Effect of a precision: none for float32; otherwise a Dice of at least 0.9876, or shifts up to 0.37 mm."""
    by_line, is_other = study.learns_landmarks, precision != "float32"
    rows, names = [], ("ofd", "bpd") if by_line else study.classes[1:]
    for place, key in enumerate(tested(study)):
        amount = 0.0 if not is_other else 1.0 if place == 0 else 0.5
        values = [0.74 * amount, 0.37 * amount] if by_line else [1 - 0.0124 * amount, 2.5 * amount, 0.046 * amount]
        rows += [[*key.values(), precision, name, *values] for name in names]
    columns = training_precision.POINT_CHANGE_COLUMNS if by_line else training_precision.MASK_COLUMNS
    return pd.DataFrame(rows, columns=columns)


def errors_of(study: params.Study) -> pd.DataFrame:
    """Errors from 1 mm by the network, whose first BPD is missed, and from 9 and 30 mm by the baselines."""
    rows = []
    routes = ((landmarks.NETWORK, 1.0), (landmarks.MEAN_SHAPE, 9.0), (landmarks.BLANK_MAP, 30.0))
    for (place, key), (route, least), line in itertools.product(enumerate(tested(study)), routes, ("ofd", "bpd")):
        is_missed = (route, line, place) == (landmarks.NETWORK, "bpd", 0)
        mm = np.nan if is_missed else least + place / 8 + (line == "bpd") / 4
        rows.append([*key.values(), route, line, mm * 4, mm, mm * 1.25])
    return pd.DataFrame(rows, columns=landmarks.ERROR_COLUMNS)


def calibrated(study: params.Study) -> dict[str, pd.DataFrame]:
    """Measured validation heads, and the bounds of their errors."""
    heads = validated(study)
    return {"validation": heads, "intervals": intervals.of_runs(heads)}


def write_points(study: params.Study) -> None:
    errors, precision = errors_of(study), rounded_of(study)
    losses = landmark_errors.heatmap_losses(study.folds, study.seeds, folder(study, "04_training"))
    printed = {"precision": training_precision.summary(precision), "heatmap_loss": losses}
    printed["points"] = landmark_errors.landmarks(errors)
    listed, of_failures = failed_in(study, errors)
    drawn = "error-distribution worst median best heatmaps close-ups"
    long = {"cases": errors, "precision": precision, "structures": structures(study)} | listed
    long |= calibrated(study) | indicators_of(study)
    write_step(study, "05_evaluation", long, printed | of_failures, drawn=drawn)


def indicators_of(study: params.Study) -> dict[str, pd.DataFrame]:
    """Indicators of 20 validation heads and the tested ones, and one limit; the first tested head has two regions."""
    route, rows = "landmark" if study.learns_landmarks else "ellipse", []
    validated = [{"case": f"v{n:02d}", "subject": f"v{n:02d}", "fold": 0, "seed": 0} for n in range(quality.FEWEST)]
    for role, keys in (("validation", validated), ("test", tested(study))):
        rows += [
            key | {"role": role, "route": route, "second_part": 0.5 * (role == "test" and place == 0)}
            for place, key in enumerate(keys)
        ]
    limits = [[0, 0, "two regions", 0.25]] if study.head_classes else []
    of_limits = pd.DataFrame(limits, columns=quality.LIMIT_COLUMNS)
    return {"indicators": quality.table(rows if study.head_classes else []), "limits": of_limits}


def measured(study: params.Study) -> pd.DataFrame:
    """Heads that are at least 0.5 mm too long, and baselines; empty if the study has no head class."""
    route = "landmark" if study.learns_landmarks else "ellipse"
    routes = [(route, 0.5), ("baseline", 20.0)]
    routes += [("mean shape", 7.0), ("blank map", -48.0)] if study.learns_landmarks else []
    sizes = (("bpd", 50.0), ("ofd", 65.0), ("hc", 180.0)) if study.head_classes else ()
    rows = []
    for (place, key), (quantity, size), (name, error) in itertools.product(enumerate(tested(study)), sizes, routes):
        values = {"predicted_mm": size + error + place * (name == route), "reference_mm": size}
        values["flags"] = "two regions" if name == route and place == 0 else ""
        rows.append(key | {"stage": "post", "route": name, "quantity": quantity} | values)
    return intervals.with_limits(pd.DataFrame(rows, columns=biometry.COLUMNS), intervals.of_runs(validated(study)))


def validated(study: params.Study) -> pd.DataFrame:
    """Ten validation heads of 100 mm of as many subjects, 0 to 4.5 mm too long."""
    heads = itertools.product(range(10), cases.QUANTITIES) if study.head_classes else ()
    key = {"fold": 0, "seed": 0, "stage": "post", "route": "landmark" if study.learns_landmarks else "ellipse"}
    rows = [
        key
        | {
            "case": f"v{place}",
            "subject": f"v{place}",
            "quantity": quantity,
            "reference_mm": 100.0 - place / 2,
            "flags": "",
        }
        | {"predicted_mm": 100.0}
        for place, quantity in heads
    ]
    return pd.DataFrame(rows, columns=validation.COLUMNS)


def widths_of(study: params.Study) -> pd.DataFrame:
    """Structures of 8 mm and more measured 0.25 mm too wide, the first missed, and a CSP invented in the last case."""
    structures = [name for name in study.classes if name in biometry.WIDTHS and not study.learns_landmarks]
    rows = []
    for (place, key), name in itertools.product(enumerate(tested(study)), structures):
        mm = 8.0 + place
        values, outcome = (mm, mm + 0.25), "both"
        if place == 0 and name == "lv":
            values, outcome = (mm, np.nan), "missed"
        elif place == len(tested(study)) - 1 and name == "csp":
            values, outcome = (np.nan, 3.0), "invented"
        rows.append([*key.values(), name, 1, *values, outcome])
    return pd.DataFrame(rows, columns=biometry.WIDTH_COLUMNS)


def budget_of(study: params.Study) -> pd.DataFrame:
    """Components of 0.1, 0, -0.2 mm and a prediction of at least 1 mm; the last head is not measured."""
    keys = tested(study) if study.head_classes and datasets.of(study).phantom else []
    rows = [[*key.values(), "ellipse", 0.1, 0.0, -0.2, 1.0 + n, 0.9 + n] for n, key in enumerate(keys)]
    table = pd.DataFrame(rows, columns=error_budget.COLUMNS)
    return table.assign(total_mm=table["total_mm"].where(table.index < len(table) - 1))


def write_biometry(study: params.Study) -> None:
    """Volumes are the voxel counts of 05_evaluation, without a voxel size."""
    long, volumes = measured(study), pd.DataFrame(columns=biometry.VOLUME_COLUMNS)
    if datasets.of(study).volumes:
        volumes = counted(study).assign(reference_ml=np.nan, predicted_ml=np.nan)
        volumes["reference_voxels"] = volumes["tp"] + volumes["fn"]
        volumes["predicted_voxels"] = volumes["tp"] + volumes["fp"]
        volumes = volumes[biometry.VOLUME_COLUMNS]
    of_parts, budget = widths_of(study), budget_of(study)
    printed = {"agreement": biometry_errors.agreement(long), "volumes": biometry_errors.volumes(volumes)}
    printed |= {"flag-worth": flag_worth.worth(long), "flagged": biometry.flagged(long)}
    printed |= {"widths": widths.widths(of_parts), "enlarged": widths.enlarged(of_parts)}
    printed["error-budget"] = budgets.error_budget(budget)
    printed |= {name: compute(long) for name, compute in content.AGREEMENT.items()}
    printed["equivalence"] = measurement_agreement.equivalence(long, study.equivalence_margin_percent)
    printed["by-size"] = measurement_agreement.by_size(long, manifest_of(study))
    bounds = intervals.of_runs(validated(study))
    printed["coverage"] = coverage.coverage(long, bounds)
    printed["coverage-by-size"] = coverage.by_size(long, bounds, manifest_of(study))
    printed["volume-limits"] = measurement_agreement.volume_limits(volumes)
    if not (study.learns_landmarks or datasets.of(study).volumes):
        printed["shapes"] = shapes_of(study)
    drawn = "scatter bland-altman volume-agreement" + " error-budget" * (len(budget) > 0)
    drawn += " close-ups" * (len(long) > 0 and not study.learns_landmarks)
    listed, of_failures = failed_in(study, long)
    long_tables = {"measurements": long, "volumes": volumes, "widths": of_parts, "error-budget": budget} | listed
    write_step(study, "06_biometry", long_tables, printed | of_failures, drawn=drawn)


def shapes_of(study: params.Study) -> pd.DataFrame:
    """Structures of 1234.5 mm² with an error of 12.5 mm², their centroids 0.75 mm apart."""
    table = pd.DataFrame({"class": study.classes[1:], "n": 4, "n_mm": 4, "reference_area_mm2": 1234.5})
    return table.assign(area_error_mm2=12.5, area_error_percent=1.5, centroid_distance_mm=0.75, eccentricity=0.625)


def write_comparison(study: params.Study) -> None:
    """Compares with a study of ellipses that has an error of 3 mm everywhere and references larger by 1 mm."""
    cases_of = frozenset(key["case"] for key in tested(study))
    own = comparison.Measured(study.study, cases_of, measured(study), None)
    other = own.measurements[own.measurements["route"] == own.routes[0]].copy()
    other["reference_mm"], other["route"] = other["reference_mm"] + 1.0, "ellipse"
    other["predicted_mm"] = other["reference_mm"] + 3.0
    long = comparison.compare_all(own, [comparison.Measured(OTHER, cases_of, other, None)])
    overlaps = pd.DataFrame(columns=comparison.OVERLAP_COLUMNS)
    printed = {"comparison": paired.comparison(long), "references": paired.references(long)}
    printed["overlaps"] = paired.overlap_comparison(overlaps)
    write_step(study, "07_comparison", {"comparison": long, "overlaps": overlaps}, printed, drawn="differences")
    for name in ("05_evaluation", "06_biometry"):
        files.write_json(steps.Step(name).record_file(OTHER), {"outputs": {}})


def write_records(study: params.Study) -> None:
    constant = {"needs": ["timing.json"], "commit": "0123456789ab", "device": "cpu (x86_64, 2 threads)"}
    constant["versions"] = {"python": "3.11", "numpy": "2.0"}
    for step in steps.study_steps(study)[:-1]:
        own, outputs = steps.own_values(step, study), steps.output_hashes(step.folder(study.study))
        record = {"step": step.label, "own": own, "outputs": outputs}
        record["checks"] = [{"claim": f"claim of {step.name}", "holds": True}]
        files.write_json(step.record_file(study.study), steps.snapshot(step, study) | constant | record)
        timing = {"date": DATE, "seconds": 70.4, "peak_bytes": 2**30}
        files.write_json(step.folder(study.study) / "timing.json", timing)


def text_of(pdf: Path, pages: int | None = None) -> str:
    """The text of the first pages, by default of all pages."""
    text = " ".join(page.get_textpage().get_text_bounded() for page in [*PdfDocument(pdf)][:pages])
    return re.sub(r"\s+", " ", text.replace("\u200b", "").replace("\x02", "-"))  # optional and actual hyphenation


def text_with(built: Path, content: dict, pages: bool = False) -> str:
    """The text of a report typeset with another content, on one endless page without page breaks."""
    source, pdf = built.parent / "report" / "report.typ", built.with_name("other.pdf")
    files.write_json(source.with_name("content.json"), content)
    style = (build.TEMPLATE / "style.typ").read_text(encoding="utf-8")
    endless = style.replace('paper: "a4"', "width: 210mm, height: auto")
    assert endless != style
    files.write_text(source.with_name("style.typ"), style if pages else endless)
    pdf.write_bytes(build.typeset(source, DATE))
    return text_of(pdf)


def cells_of(study: params.Study, name: str) -> list[str]:
    """Printed cells of a table that are longer than three characters; of AFTER_POST without those of raw masks."""
    table = read_table(study, name)
    if name.replace("/tables/", "/") in build.AFTER_POST:
        table = table[table["stage"] == "post"].drop(columns="stage")
    columns = tables.printed_cells(table)
    cells = [re.sub(r"\s+", " ", cell) for column in columns.values() for cell in column]
    return [cell for cell in cells if len(cell) > 3]


def unreferred(text: str) -> list[str]:
    """Figures and tables without a reference in the text; at least one of each must be present."""
    missing = []
    for kind in ("Figure", "Table"):
        numbers = {int(number) for number in re.findall(rf"{kind} (\d+)\.", text)}  # of the captions
        assert numbers
        missing += [f"{kind} {n}" for n in sorted(numbers) if not re.search(rf"{kind} {n}( (?!\.)\w|[),;:])", text)]
    return missing
