"""What a study's steps found, as its report prints it: rows of their tables as text; and these tables made once more.

Three kinds of study: class regions of images, class regions of volumes, landmarks.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from lib import datasets, losses
from lib.data import cases
from lib.evaluation import training_precision
from lib.imaging import heatmaps
from lib.report import tables
from lib.report.summaries import biometry_errors, dice, landmark_errors, paired, patients
from lib.study import files, params

# Whose points are learnt, and on what terms; data/sources.yaml says where they come from.
LANDMARKS = {
    "multicentre": ("Multicentre Fetal Biometry (Di Vece et al.)", "divece", "CC BY-NC-SA 4.0"),
    "role_challenge": ('the "role challenge" table', None, "no licence stated"),
}


def required(study: params.Study, name: str) -> Path:
    """A file of the study that must be there.

    Raises:
        ValueError: it is missing; the message says which notebook writes it.
    """
    path = files.study_folder(study.study) / name
    if not path.is_file():
        raise ValueError(f"{path}: missing; the report needs it; run notebook {name.partition('/')[0]} again")
    return path


def read_table(study: params.Study, name: str) -> pd.DataFrame:
    """A table of the study, numbers to the last digit; without columns where the notebook had nothing to list."""
    path = required(study, name)
    return pd.DataFrame() if holds_nothing(path) else files.read_csv(path, [])


def holds_nothing(path: Path) -> bool:
    """Whether a .csv holds no column."""
    return path.stat().st_size <= 1  # a line end


def as_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """A table's rows as text for reading."""
    columns = tables.printed_cells(table)
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def rows_of(study: params.Study, name: str) -> list[dict[str, str]]:
    """Rows of tables/<name> as text for reading; both its files must be there.

    Args:
        study: whose.
        name: such as 05_evaluation/tables/effect.
    """
    required(study, f"{name}.typ")
    return as_rows(read_table(study, f"{name}.csv"))


def describe_landmarks(study: params.Study) -> dict[str, Any] | None:
    """Whose landmarks are learnt and how heatmaps are read; None where regions are."""
    if study.landmarks == "none":
        return None
    title, citation, licence = LANDMARKS[study.landmarks]
    about = {"title": title, "citation": citation, "licence": licence}
    return about | {"level": heatmaps.LEVEL, "reach": heatmaps.REACH, "blank_loss": losses.BLANK_LOSS}


def describe_lost(study: params.Study) -> dict[str, str] | None:
    """How many reference voxels no network can find, from 02_preprocessing; None for images."""
    if not datasets.of(study).volumes:
        return None
    table = read_table(study, "02_preprocessing/lost.csv")
    gone = table["in_dropped_slices"] + table["outside_crop"]
    counts = {
        "cases": len(table),
        "cut": int((gone > 0).sum()),
        "voxels": int(table["reference_voxels"].sum()),
        "in_dropped_slices": int(table["in_dropped_slices"].sum()),
        "outside_crop": int(table["outside_crop"].sum()),
    }
    return {name: tables.format_cell(count, name) for name, count in counts.items()}


def describe_evaluation(study: params.Study) -> dict[str, Any]:
    """What 05_evaluation measured: of regions Dice and IoU by class, of landmarks how far they are off."""
    long = read_table(study, "05_evaluation/cases.csv")
    known = long[(long["stage"] == "post") & long["dice"].notna()] if study.landmarks == "none" else long
    counts = {
        "cases": long["case"].nunique(),
        "subjects": long["subject"].nunique(),
        "ranked": len(known[["case", "seed"]].drop_duplicates()),  # predictions that can be put in order
    }
    counts["precision"] = rows_of(study, "05_evaluation/tables/precision")
    return counts | (describe_regions(study) if study.landmarks == "none" else describe_points(study))


def describe_regions(study: params.Study) -> dict[str, Any]:
    """Dice and IoU by class; of volumes also by patient."""
    table = read_table(study, "05_evaluation/tables/per_class.csv")
    required(study, "05_evaluation/tables/per_class.typ")
    summary = table[table["seeds"] == "all"] if "seeds" in table else table
    return {
        "post": as_rows(summary[summary["stage"] == "post"]),
        "raw": as_rows(summary[summary["stage"] == "raw"]),
        "baselines": as_rows(read_table(study, "05_evaluation/tables/baselines.csv")),
        "groups": sorted(set(read_table(study, "05_evaluation/tables/groups.csv")["group"])),
        "effect": as_rows(read_table(study, "05_evaluation/tables/effect.csv")),
        "chosen": describe_choice(study),
        "patients": rows_of(study, "05_evaluation/tables/patient-dice") if datasets.of(study).volumes else [],
        "end_slices": rows_of(study, "05_evaluation/tables/end-slices") if datasets.of(study).volumes else [],
    }


def describe_choice(study: params.Study) -> list[dict[str, str]]:
    """What validation chose for each run, where it chose anything."""
    if not study.threshold_candidates:
        return []
    return as_rows(read_table(study, "05_evaluation/chosen.csv"))


def describe_points(study: params.Study) -> dict[str, Any]:
    """How far the ends of each line are off: found by the network, and by guesses; what the heatmaps have learnt."""
    table = read_table(study, "05_evaluation/tables/points.csv")
    required(study, "05_evaluation/tables/points.typ")
    is_guess = table["route"].isin(cases.GUESSES)
    return {
        "found": as_rows(table[~is_guess]),
        "guesses": as_rows(table[is_guess]),
        "losses": rows_of(study, "05_evaluation/tables/heatmap_loss"),
    }


def describe_biometry(study: params.Study) -> dict[str, Any] | None:
    """Errors in mm, from 06_biometry; None where nothing could be measured.

    `baseline` is the mean of the training cases, `guesses` are the others that look at no image.
    """
    path = files.study_folder(study.study) / "06_biometry" / "measurements.csv"
    measurements = read_table(study, "06_biometry/measurements.csv") if path.is_file() else pd.DataFrame()
    if measurements.empty:
        return None
    table = read_table(study, "06_biometry/tables/agreement.csv")
    required(study, "06_biometry/tables/agreement.typ")
    final = table[table["stage"] == "post"]
    is_guess, is_mean = final["route"].isin(cases.GUESSES), final["route"] == "baseline"
    return {
        "cases": measurements["case"].nunique(),
        "subjects": measurements["subject"].nunique(),
        "routes": sorted(set(table["route"]) - set(cases.GUESSES)),
        "post": as_rows(final[~is_guess]),
        "baseline": as_rows(final[is_mean]),
        "guesses": as_rows(final[is_guess & ~is_mean]),
    }


def describe_sizes(study: params.Study) -> list[dict[str, str]]:
    """Predicted volumes against reference ones, from 06_biometry; nothing of images."""
    return rows_of(study, "06_biometry/tables/volumes") if datasets.of(study).volumes else []


def describe_comparison(study: params.Study) -> dict[str, Any] | None:
    """This study (A) beside others (B), from 07_comparison; None where none is named.

    `guess` are the pairs of A with the mean of its own training cases.
    """
    if not study.compare_with:
        return None
    table = read_table(study, "07_comparison/tables/comparison.csv")
    own = table[table["study_b"] == study.study] if len(table) else table
    return {
        "others": list(study.compare_with),
        "pairs": as_rows(table.drop(own.index)),
        "guess": as_rows(own),
        "references": rows_of(study, "07_comparison/tables/references"),
        "overlaps": rows_of(study, "07_comparison/tables/overlaps"),
    }


def made_again(study: params.Study) -> dict[str, pd.DataFrame]:
    """Printed tables of 05, 06 and 07 as they follow from the study's long tables, by <step>/tables/<name>.

    Raises:
        ValueError: a long table is missing.
    """
    long = read_table(study, "05_evaluation/cases.csv")
    if study.landmarks != "none":
        made = {"05_evaluation/tables/points": landmark_errors.landmarks(long)}
    else:
        made = {"05_evaluation/tables/per_class": dice.per_class(long)}
    rounded = read_table(study, "05_evaluation/precision.csv")
    made["05_evaluation/tables/precision"] = training_precision.summary(rounded)
    if datasets.of(study).volumes:
        made |= _patients_again(study, long)
    if describe_biometry(study) is not None:
        made["06_biometry/tables/agreement"] = biometry_errors.agreement(
            read_table(study, "06_biometry/measurements.csv")
        )
    return made | (_comparison_again(study) if study.compare_with else {})


def rows_lost(study: params.Study) -> list[str]:
    """Printed tables of 05 and 06 whose n and counts leave out a row of their long table, a line each."""
    long, step = read_table(study, "05_evaluation/cases.csv"), "05_evaluation/tables"
    if study.landmarks != "none":
        whole = {f"{step}/points": landmark_errors.holds_all_lines(read_table(study, f"{step}/points.csv"), long)}
    else:
        whole = {f"{step}/per_class": dice.holds_all_cases(read_table(study, f"{step}/per_class.csv"), long)}
    if datasets.of(study).volumes:
        table, sizes = (read_table(study, f"06_biometry/{name}.csv") for name in ("tables/volumes", "volumes"))
        whole["06_biometry/tables/volumes"] = biometry_errors.holds_all_volumes(table, sizes)
    if describe_biometry(study) is not None:
        table, heads = (read_table(study, f"06_biometry/{name}.csv") for name in ("tables/agreement", "measurements"))
        whole["06_biometry/tables/agreement"] = biometry_errors.holds_all_measurements(table, heads)
    return [
        f"{name}.csv: n and what is counted beside it leave out rows of the long table"
        for name in whole
        if not whole[name]
    ]


def _patients_again(study: params.Study, long: pd.DataFrame) -> dict[str, pd.DataFrame]:
    manifest = cases.read_cases(required(study, "01_data_verification/cases.csv"))
    return {
        "05_evaluation/tables/patients": patients.listed(long, manifest),
        "05_evaluation/tables/patient-dice": patients.summary(long, manifest),
        "05_evaluation/tables/end-slices": patients.end_slice_cost(
            long, read_table(study, "02_preprocessing/lost.csv")
        ),
        "06_biometry/tables/volumes": biometry_errors.volumes(read_table(study, "06_biometry/volumes.csv")),
    }


def _comparison_again(study: params.Study) -> dict[str, pd.DataFrame]:
    long = read_table(study, "07_comparison/comparison.csv")
    return {
        "07_comparison/tables/comparison": paired.comparison(long),
        "07_comparison/tables/references": paired.references(long),
        "07_comparison/tables/overlaps": paired.overlap_comparison(read_table(study, "07_comparison/overlaps.csv")),
    }
