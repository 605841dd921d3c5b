"""Results of a study as its report prints them: table rows as text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lib import statistics
from lib.data import cases
from lib.evaluation import baselines
from lib.evaluation import failures as cases_failed
from lib.imaging import growth, head_points
from lib.report import captions, every_case, tables
from lib.report.findings import conclusions, masks, measurements
from lib.report.summaries import biometry_errors, measurement_agreement
from lib.report.summaries import failures as failed
from lib.statistics import conformal
from lib.study import files, params, steps

# Title, citation and licence of the landmarks; their origin is in data/sources.yaml.
LANDMARKS = {
    "multicentre": ("Multicentre Fetal Biometry (Di Vece et al.)", "divece", "CC BY-NC-SA 4.0"),
    "role_challenge": ('the "role challenge" table', None, "no licence stated"),
}
OF_FINDINGS = ("agreement", "limits-mm", "limits-percent", "equivalence", "failure-counts", "proportional-bias")
OF_FINDINGS += ("limits-at-sizes", "gestational-age", "coverage", "coverage-by-size")  # tables of 06_biometry
FEW_SUBJECTS = 30  # below, the report prints the measured coverage of its intervals


# Tables of the agreement of measured heads, of measurements.csv alone.
AGREEMENT = {
    "limits-mm": measurement_agreement.limits_mm,
    "limits-percent": measurement_agreement.limits_percent,
    "limits-first-image": measurement_agreement.limits_first_image,
    "proportional-bias": measurement_agreement.proportional,
    "limits-at-sizes": measurement_agreement.limits_at_sizes,
    "reliability": measurement_agreement.reliabilities,
    "gestational-age": measurement_agreement.gestational_age,
    "centiles": measurement_agreement.centiles,
}


def required(study: params.Study, name: str) -> Path:
    """A file of the study; ValueError if it is missing, naming the notebook that writes it."""
    path = files.study_folder(study.study) / name
    if not path.is_file():
        raise ValueError(f"{path}: missing, but required by the report; rerun notebook {name.partition('/')[0]}")
    return path


def read_table(study: params.Study, name: str) -> pd.DataFrame:
    """<name>.csv, without columns if the table is empty; ValueError if it or the .typ of a printed table is missing."""
    path = required(study, f"{name}.csv")
    if path.parent.name == "tables":
        required(study, f"{name}.typ")
    is_empty = path.stat().st_size <= 1  # a newline
    return pd.DataFrame() if is_empty else files.read_csv(path, [])


def describe_software(path: Path) -> dict[str, str]:
    """DOI, repository and version of the project in CITATION.cff, "" for what it lacks; ValueError if it is no YAML."""
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(said, dict):
        raise ValueError(f"{path}: expected keys with values, as the Citation File Format has them")
    keys = {"doi": "doi", "repository": "repository-code", "version": "version"}
    return {name: str(said.get(key) or "") for name, key in keys.items()}


def as_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Rows of a table as formatted text."""
    columns = tables.printed_cells(table)
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def rows_of(study: params.Study, name: str) -> list[dict[str, str]]:
    """Rows of `read_table` as formatted text."""
    return as_rows(read_table(study, name))


def post_rows(study: params.Study, name: str) -> list[dict[str, str]]:
    """The rows after post-processing of a table by stage, as formatted text."""
    table = read_table(study, name)
    return as_rows(table[table["stage"] == "post"])


def describe_layers(study: params.Study) -> list[dict[str, str]]:
    """Blocks of the network in the order of execution, as formatted text, from the layers of 03_model.

    A block is the convolutions whose names share their first two parts; its size is that of its last output.
    """
    table = read_table(study, "03_model/tables/layers")
    block = table["layer"].str.split(".").str[:2].str.join(".")
    number = block.ne(block.shift()).cumsum()  # of the block of each layer
    parts = {"layer": "first", "convolutions": "size", "channels": "last", "rows": "last", "cols": "last"}
    blocks = table.assign(layer=block, convolutions=1).groupby(number).agg(parts | {"parameters": "sum"})
    return as_rows(blocks)


def describe_landmarks(study: params.Study) -> dict[str, Any]:
    """Source of the landmarks, and constants of heatmap decoding and loss."""
    source = dict(zip(("title", "citation", "licence"), LANDMARKS[study.landmarks]))
    constants = {"level": head_points.PEAK_LEVEL, "reach": head_points.PEAK_REACH}
    return source | constants | {"blank_loss": head_points.BLANK_LOSS}


def describe_lost(study: params.Study) -> dict[str, str]:
    """Numbers of reference voxels in excluded slices or outside the crop, from 02_preprocessing."""
    table = read_table(study, "02_preprocessing/lost")
    voxels = {name: int(table[name].sum()) for name in ("in_dropped_slices", "outside_crop")}
    cut = int((table[list(voxels)].sum(axis=1) > 0).sum())
    counts = {"cases": len(table), "cut": cut, "voxels": int(table["reference_voxels"].sum())} | voxels
    return {name: tables.format_cell(count, name) for name, count in counts.items()}


def describe_evaluation(study: params.Study) -> dict[str, Any]:
    """Counts of 05_evaluation for regions and landmarks; `ranked` is the number of predictions with a Dice or error."""
    long = read_table(study, "05_evaluation/cases")
    ranked = long[(long["stage"] == "post") & long["dice"].notna()] if "dice" in long else long
    counts = {"cases": long["case"].nunique(), "subjects": long["subject"].nunique()}
    counts["ranked"] = len(ranked[["case", "seed"]].drop_duplicates())
    counts["failures"] = describe_failures(study, "05_evaluation")
    return counts | {"precision": rows_of(study, "05_evaluation/tables/precision")}


def describe_failures(study: params.Study, step: str) -> dict[str, Any]:
    """Counts of failed cases, what is associated with them, and the limits from which a prediction fails."""
    counts, causes = (read_table(study, f"{step}/tables/failure-{name}") for name in ("counts", "causes"))
    listed = len(read_table(study, f"{step}/failures"))
    limits = {"low_dice": cases_failed.LOW_DICE, "gross_percent": cases_failed.GROSS_PERCENT}
    limits |= {"worst": cases_failed.WORST, "share_percent": round(100 * cases_failed.WORST_SHARE)}
    limits |= {"fewest": cases_failed.FEWEST}
    whole = as_rows(counts)[-1] if len(counts) else {}  # a failure of any class, line or quantity
    associated = causes[causes["p_adjusted"] < failed.LEVEL] if len(causes) else causes
    rows = {"counts": counts, "associated": associated, "rows": read_table(study, f"{step}/tables/failures")}
    found = {"tested": len(causes), "listed": listed, "whole": whole}
    return found | limits | {name: as_rows(table) for name, table in rows.items()}


def describe_intervals(study: params.Study) -> dict[str, Any]:
    """How intervals are computed, and their measured coverage in percent, as text; `measured` only for few subjects."""
    name, column = ("points", "error_px") if study.learns_landmarks else ("per_class", "dice")
    subjects = read_table(study, f"05_evaluation/tables/{name}")[f"{column}_subjects"]
    least = min(subjects[subjects > 0], default=0)  # a class may be absent everywhere
    simulated = statistics.measured_coverage(max(least, statistics.FEWEST_SUBJECTS)) or {}
    coverage = {each: f"{value:.{each != 'subjects':d}f}" for each, value in simulated.items()}
    fixed = {"resamples": tables.format_cell(statistics.RESAMPLES, "n"), "fewest": statistics.FEWEST_SUBJECTS}
    fixed |= {"least_tail_percent": 100 * statistics.LEAST_TAIL}
    few = {"measured": coverage if least < FEW_SUBJECTS else None}
    return fixed | {"least_subjects": least, "coverage": coverage} | few


def describe_regions(study: params.Study, volumes: bool) -> dict[str, Any]:
    """Results by class after post-processing, and the thresholds selected on validation; for volumes also by patient.

    `distances` has rows by unit.
    """
    table = read_table(study, "05_evaluation/tables/per_class")
    summary = table[table["seeds"] == "all"] if "seeds" in table else table
    post = {stage: as_rows(summary[summary["stage"] == stage]) for stage in ("post", "raw")}
    names = {"mm": "distances", "px": "distances-pixels"}
    return (
        post
        | describe_baselines(read_table(study, "05_evaluation/tables/baselines"))
        | {
            "distances": {unit: post_rows(study, f"05_evaluation/tables/{name}") for unit, name in names.items()},
            "size_errors": post_rows(study, "05_evaluation/tables/size-errors"),
            "presence": post_rows(study, "05_evaluation/tables/presence"),
            "parts": post_rows(study, "05_evaluation/tables/parts"),
            "by_group": rows_of(study, "05_evaluation/tables/groups"),
            "by_fold": rows_of(study, "05_evaluation/tables/folds"),
            "effect": rows_of(study, "05_evaluation/tables/effect"),
            "chosen": rows_of(study, "05_evaluation/chosen") if study.threshold_candidates else [],
            "patients": rows_of(study, "05_evaluation/tables/patient-dice") if volumes else [],
            "end_slices": rows_of(study, "05_evaluation/tables/end-slices") if volumes else [],
        }
    )


def describe_baselines(table: pd.DataFrame) -> dict[str, Any]:
    """Methods without a network, the strongest of each class, the network's whole head, and its gain over the rival."""
    own = {name: table[table["method"] == name] for name in (baselines.NETWORK, baselines.GAIN)}
    others = table[~table["method"].isin(own)].dropna(subset=["dice"])
    strongest = others.loc[others.groupby("class", sort=False)["dice"].idxmax()]
    parts = {"baselines": table, "strongest": strongest}
    parts |= {"whole_head": own[baselines.NETWORK], "gain": own[baselines.GAIN]}
    return {name: as_rows(part) for name, part in parts.items()}


def describe_groups(study: params.Study) -> dict[str, str]:
    """Printed names of the groups of the data set."""
    return cases.group_names(files.read_csv(required(study, "01_data_verification/cases.csv"), cases.CASE_COLUMNS))


def describe_cases(study: params.Study) -> dict[str, Any]:
    """Results of every test case."""
    errors = read_table(study, "05_evaluation/cases")
    measured = read_table(study, "06_biometry/measurements") if measures_heads(study) else pd.DataFrame()
    return every_case.every_case(errors, measured)


def describe_widths(study: params.Study) -> dict[str, Any]:
    """Widths of the CSP and the ventricles, and how well enlarged ventricles are recognised; [] without them."""
    return {name: rows_of(study, f"06_biometry/tables/{name}") for name in ("widths", "enlarged")}


def describe_points(study: params.Study) -> dict[str, Any]:
    """Endpoint errors of each line by the network (`found`) and the baselines (`guesses`), and heatmap losses."""
    table = read_table(study, "05_evaluation/tables/points")
    is_baseline = table["route"].isin(cases.TRIVIAL_BASELINES)
    loss_rows = rows_of(study, "05_evaluation/tables/heatmap_loss")
    return {"found": as_rows(table[~is_baseline]), "guesses": as_rows(table[is_baseline]), "losses": loss_rows}


def measures_heads(study: params.Study) -> bool:
    """Whether 06_biometry has any measurement."""
    path = files.study_folder(study.study) / "06_biometry" / "measurements.csv"
    return path.is_file() and not read_table(study, "06_biometry/measurements").empty


def describe_biometry(study: params.Study) -> dict[str, Any]:
    """Errors in mm from 06_biometry; `baseline` is the mean of the training cases, `guesses` are other baselines."""
    measurements = read_table(study, "06_biometry/measurements")
    table = read_table(study, "06_biometry/tables/agreement")
    post = table[table["stage"] == "post"]
    is_baseline, is_mean = post["route"].isin(cases.TRIVIAL_BASELINES), post["route"] == "baseline"
    counts = {"cases": measurements["case"].nunique(), "subjects": measurements["subject"].nunique()}
    rows = {"post": post[~is_baseline], "baseline": post[is_mean], "guesses": post[is_baseline & ~is_mean]}
    rows["raw"] = table[(table["stage"] == "raw") & ~table["route"].isin(cases.TRIVIAL_BASELINES)]
    routes = sorted(set(table["route"]) - set(cases.TRIVIAL_BASELINES))
    counts |= {"failures": describe_failures(study, "06_biometry"), "routes": routes}
    counts |= {"chart_weeks": growth.GA_RANGE_WEEKS} | {name: as_rows(part) for name, part in rows.items()}
    names = [*AGREEMENT, "equivalence", "by-size", "coverage"]
    counts |= {name: rows_of(study, f"06_biometry/tables/{name}") for name in names}
    counts |= {"calibration": describe_calibration(study), "flags": describe_flags(study)}
    return counts | {"budget": rows_of(study, "06_biometry/tables/error-budget")}


def describe_flags(study: params.Study) -> str:
    """The finding about the flags of heads."""
    worth = read_table(study, "06_biometry/tables/flag-worth")
    return captions.of_flags(worth, *(read_table(study, f"05_evaluation/{name}") for name in ("indicators", "limits")))


def describe_calibration(study: params.Study) -> dict[str, Any]:
    """Level of the intervals of measurements, and numbers of validation subjects and images by run: [least, most]."""
    runs = read_table(study, "05_evaluation/intervals")
    counts = {name: [int(runs[name].min()), int(runs[name].max())] for name in ("subjects", "images") if len(runs)}
    fixed = {"level_percent": round(100 * conformal.LEVEL), "fewest": conformal.fewest_subjects()}
    return {"subjects": [0, 0], "images": [0, 0]} | counts | fixed


def describe_comparison(study: params.Study) -> dict[str, Any]:
    """This study (A) and others (B), from 07_comparison; `guess` pairs A with the mean of its training cases."""
    table = read_table(study, "07_comparison/tables/comparison")
    baseline = table[table["study_b"] == study.study] if len(table) else table
    others = {name: rows_of(study, f"07_comparison/tables/{name}") for name in ("references", "overlaps")}
    pairs = {"pairs": as_rows(table.drop(baseline.index)), "guess": as_rows(baseline)}
    return pairs | others | {"others": list(study.compare_with)}


def describe_findings(study: params.Study, runs: list[steps.Step], volumes: bool) -> dict[str, list[str]]:
    """Findings as sentences by section of the results, and conclusions: `main`, `weak` and `unshown`."""

    def table(name: str) -> pd.DataFrame:
        is_there = (files.study_folder(study.study) / f"{name}.csv").is_file()
        rows = read_table(study, name) if is_there else pd.DataFrame()
        return rows[rows["stage"] == "post"].drop(columns="stage") if "stage" in rows else rows

    of_05 = _findings_of_points(table) if study.learns_landmarks else _findings_of_masks(study, table, volumes)
    unit, pairs = "patient" if volumes else "image", table("07_comparison/tables/comparison")
    counts, causes = (table(f"05_evaluation/tables/failure-{name}") for name in ("counts", "causes"))
    listed = len(read_table(study, "05_evaluation/failures"))
    found = {"training": masks.training(_selected(study, runs), _measure(study))} | of_05
    found["failures"] = masks.failures(counts, causes, listed, unit)
    of_06 = {name: table(f"06_biometry/tables/{name}") for name in OF_FINDINGS}
    slopes, equivalence = of_06["proportional-bias"], of_06["equivalence"]
    if measures_heads(study):
        shares = biometry_errors.largest_shares(read_table(study, "06_biometry/measurements"))
        found["biometry"] = measurements.biometry(of_06["agreement"], of_06["limits-mm"], shares)
        found["rivals"] = found["rivals"] + measurements.rivals(table("05_evaluation/tables/baselines"))
        found["measurement_failures"] = masks.failures(of_06["failure-counts"], pd.DataFrame(), 0, unit)
        found["agreement"] = measurements.agreement(of_06["limits-mm"], of_06["limits-percent"], equivalence)
        found["size"] = measurements.size(slopes, of_06["limits-at-sizes"])
        found["ages"] = measurements.ages(of_06["gestational-age"])
        found["intervals"] = measurements.intervals(of_06["coverage"], of_06["coverage-by-size"])
        found["main"] = found["main"] + conclusions.of_measurements(of_06["agreement"], equivalence)
    if study.compare_with:
        overlaps = table("07_comparison/tables/overlaps")
        found["comparison"] = measurements.comparison(pairs, overlaps, study.study)
    presence = table("05_evaluation/tables/presence")
    found["weak"] = conclusions.weaknesses(counts, causes, presence, equivalence, slopes, of_06["coverage"])
    return found | {"unshown": conclusions.unshown(causes, equivalence, slopes, pairs, study.study)}


def _findings_of_masks(
    study: params.Study, table: Callable[[str], pd.DataFrame], volumes: bool
) -> dict[str, list[str]]:
    """Findings about masks and volumes; `table` reads a table after post-processing."""
    per_class, unit = table("05_evaluation/tables/per_class"), "patient" if volumes else "image"
    per_class = per_class[per_class["seeds"] == "all"] if "seeds" in per_class else per_class
    found = {"segmentation": masks.segmentation(per_class, unit)}
    found["rivals"] = masks.rivals(per_class, table("05_evaluation/tables/baselines"))
    found["boundaries"] = [
        sentence
        for name, tolerance in (("distances", study.nsd_tolerance_mm), ("distances-pixels", study.nsd_tolerance_px))
        for sentence in masks.boundaries(
            table(f"05_evaluation/tables/{name}"), "px" if "pixels" in name else "mm", tolerance
        )
    ]
    found["presence"] = masks.presence(table("05_evaluation/tables/presence"), unit)
    found["main"] = conclusions.of_masks(per_class, unit)
    if volumes:
        limits = table("06_biometry/tables/volume-limits")
        found["volumes"] = masks.volumes(table("06_biometry/tables/volumes"), limits)
        found["main"] += conclusions.of_volumes(limits, len(study.seeds))
    return found


def _findings_of_points(table: Callable[[str], pd.DataFrame]) -> dict[str, list[str]]:
    points = table("05_evaluation/tables/points")
    return {"landmarks": masks.landmarks(points), "rivals": [], "main": conclusions.of_points(points)}


def _selected(study: params.Study, runs: list[steps.Step]) -> pd.DataFrame:
    """Epochs, selected epoch and its values of each run."""
    rows = []
    for step in runs:
        run, history = (
            files.read_json(required(study, f"{step.label}/run.json")),
            read_table(study, f"{step.label}/history"),
        )
        (at,) = history[history["epoch"] == run["best_epoch"]].to_dict("records")
        values = {name: at[name] for name in ("selection", "train_selection")}
        rows.append({name: run[name] for name in ("epochs", "best_epoch")} | values)
    return pd.DataFrame(rows)


def _measure(study: params.Study) -> str:
    """What selects the epoch, as `masks.training` names it."""
    return "error" if study.learns_landmarks else {"iou": "IoU"}.get(study.selection_metric, "Dice")
