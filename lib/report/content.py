"""Results of a study as its report prints them: table rows as text."""

from pathlib import Path
from typing import Any

import pandas as pd

from lib import statistics
from lib.data import cases
from lib.evaluation import baselines
from lib.evaluation import failures as cases_failed
from lib.imaging import growth, head_points
from lib.report import captions, every_case, tables
from lib.report.summaries import failures as failed
from lib.report.summaries import measurement_agreement
from lib.statistics import conformal
from lib.study import files, params

# Title, citation and licence of the landmarks; their origin is in data/sources.yaml.
LANDMARKS = {
    "multicentre": ("Multicentre Fetal Biometry (Di Vece et al.)", "divece", "CC BY-NC-SA 4.0"),
    "role_challenge": ('the "role challenge" table', None, "no licence stated"),
}
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
    """How intervals are computed, and for few subjects behind a result their measured coverage in percent, as text."""
    name, column = ("points", "error_px") if study.learns_landmarks else ("per_class", "dice")
    subjects = read_table(study, f"05_evaluation/tables/{name}")[f"{column}_subjects"]
    least = min(subjects[subjects > 0], default=0)  # a class may be absent everywhere
    few = statistics.measured_coverage(max(least, statistics.FEWEST_SUBJECTS)) if least < FEW_SUBJECTS else None
    measured = {each: f"{value:.{each != 'subjects':d}f}" for each, value in few.items()} if few else None
    fixed = {"resamples": tables.format_cell(statistics.RESAMPLES, "n"), "fewest": statistics.FEWEST_SUBJECTS}
    fixed |= {"least_tail_percent": 100 * statistics.LEAST_TAIL}
    return fixed | {"least_subjects": least, "measured": measured}


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
    """Printed names of the groups of the tested cases."""
    manifest = files.read_csv(required(study, "01_data_verification/cases.csv"), cases.CASE_COLUMNS)
    tested = manifest[manifest["case"].isin(read_table(study, "05_evaluation/cases")["case"])]
    return cases.group_names(cases.group_of(tested["stratum"]), tested["hc_mm"])


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
