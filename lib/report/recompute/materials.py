"""The content of the Materials chapter, rebuilt from long tables and from the files of facts."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.report.recompute import printed
from lib.report.recompute.estimates import known, quantile
from lib.report.recompute.results import Results, Row
from lib.report.recompute.tables.regions import group_of_cases, names_of_groups
from lib.study import files, plain_yaml

CASES, FOLDS, FINDINGS = (f"01_data_verification/{name}" for name in ("cases", "folds", "findings"))
MOST_GROUPS, MOST_FOLDS = 12, 6  # rows and columns of the table of characteristics
Cell = Callable[[list[Row]], str]


def rebuild(results: Results) -> dict[str, Any]:
    """Source, flow, characteristics and published results."""
    return {
        "source": source(results),
        "flow": flow(results),
        "characteristics": characteristics(results),
        "published": published(results),
    }


def kind_of(results: Results) -> str:
    """Whether the data are published, the author's own, or drawn by the project."""
    if results.study.dataset.startswith("own_"):
        return "own"
    return "published" if results.dataset.phantom is None else "phantom"


def registered(results: Results) -> dict[str, Any]:
    """The entry of data/sources.yaml."""
    return plain_yaml.read(files.ROOT / "data/sources.yaml")[results.study.dataset]


def source(results: Results) -> Row:
    """Names and facts."""
    kind, facts, record, drawn = kind_of(results), {}, "", ""
    short, word = "own data", "group"
    if kind == "published":
        entry = registered(results)
        facts, record, short = entry["facts"], entry["record"], entry["facts"]["short_name"]
        word = "institution" if results.study.dataset == "lgg" else word
    elif kind == "phantom":
        short, drawn = results.dataset.phantom.short_name, results.dataset.phantom.drawn
        word = "simulated group" if results.dataset.volumes else word
    return {"kind": kind, "short_name": short, "facts": facts, "drawn": drawn, "record": record, "group_word": word}


def flow(results: Results) -> Row:
    """Numbers of cases from published to included."""
    rows = results.rows(CASES)
    lacking = [row["found"] for row in results.rows(FINDINGS) if row["check"] == "no landmarks"]
    left_out = {
        "named in the study file": len(results.study.exclude),
        "without landmarks": sum(int(text.split(" ")[0]) for text in lacking),
    }
    available = len(rows) + sum(left_out.values())
    whole = registered(results)["expected"] if kind_of(results) == "published" else {}
    missing = whole.get("cases", 0) - available
    return {
        "published": {"cases": whole["cases"], "subjects": whole.get("subjects")} if "cases" in whole else None,
        "absent": missing if missing > 0 else None,
        "available": available,
        "excluded": [{"reason": why, "cases": count} for why, count in left_out.items() if count > 0],
        "included": {"cases": len(rows), "subjects": len({row["subject"] for row in rows})},
    }


def columns_of(results: Results) -> dict[str, set[str]]:
    """Names of cases of each column."""
    rows, study = results.rows(FOLDS), results.study
    names = {row["case"] for row in rows}
    in_fold = {fold: {row["case"] for row in rows if row["fold"] == fold} for fold in range(study.fold_count)}
    if len(study.folds) > 1:
        if study.fold_count > MOST_FOLDS:
            return {"Tested": set().union(*(in_fold[fold] for fold in study.folds)), "All": names}
        return {f"Fold {fold}": of_fold for fold, of_fold in in_fold.items()} | {"All": names}
    (fold,) = study.folds
    next_fold = in_fold[(fold + 1) % study.fold_count]
    validation = next_fold & {row["case"] for row in rows if row["validates"]}
    training = names - in_fold[fold] - validation
    return {"Training": training, "Validation": validation, "Test": in_fold[fold], "All": names}


def characteristics(results: Results) -> Row:
    """The table of characteristics: one row per property, one cell per part."""
    rows, study = results.rows(CASES), results.study
    columns = {name: [row for row in rows if row["case"] in of] for name, of in columns_of(results).items()}
    volumes, subject = results.dataset.volumes, results.dataset.subject
    found: list[tuple[str, Cell]] = [("Volumes" if volumes else "Images", lambda part: printed.whole(len(part)))]
    if not volumes or len({row["subject"] for row in rows}) < len(rows):
        found.append((f"{subject.capitalize()}s", lambda part: printed.whole(len({row["subject"] for row in part}))))
    if volumes:
        found += of_volumes(results)
    if known([row["hc_mm"] for row in rows]):
        found.append(("HC (mm)", lambda part: median([row["hc_mm"] for row in part], 1)))
        found.append(("HC, least to largest (mm)", lambda part: extremes([row["hc_mm"] for row in part])))
    if known([row["spacing_row_mm"] for row in rows]):
        found.append(("Pixel size (mm)", lambda part: median([row["spacing_row_mm"] for row in part], 3)))
    size = "Slice size (rows × columns)" if volumes else "Image size (rows × columns)"
    found.append(
        (size, lambda part: " × ".join(least_to_most([row[side] for row in part]) for side in ("height", "width")))
    )
    found += of_groups(results)
    for name in study.classes[1:]:
        showing = {row["case"] for row in rows if name in row["stratum"].split()[1:]}
        if showing:
            found.append((f"Showing {printed.cell(name, 'class')}", share_of(showing)))
    table = [{"name": name, "cells": [cell(part) for part in columns.values()]} for name, cell in found]
    return {"columns": list(columns), "rows": table}


def of_volumes(results: Results) -> list[tuple[str, Cell]]:
    """Slices, and voxels of the reference."""
    voxels = {row["case"]: row["reference_voxels"] for row in results.rows("02_preprocessing/lost")}
    what = " or ".join(results.study.classes[1:])
    return [
        ("Slices per volume", lambda part: median([row["slices"] for row in part], 1)),
        ("Slices in total", lambda part: printed.whole(sum(row["slices"] for row in part))),
        (f"Voxels of the {what}", lambda part: median([n for row in part if (n := voxels[row["case"]])], 0)),
        (f"Volumes without {what}", share_of({case for case, count in voxels.items() if not count})),
    ]


def of_groups(results: Results) -> list[tuple[str, Cell]]:
    """Shares of the groups, with their range of HC."""
    rows, group, word = results.rows(CASES), group_of_cases(results), source(results)["group_word"].capitalize()
    names = sorted(set(group.values()))
    if len(names) > MOST_GROUPS:
        return [(f"{word}s", lambda part: printed.whole(len({group[row["case"]] for row in part})))]
    found: list[tuple[str, Cell]] = []
    in_print = names_of_groups(results)
    for name in names if len(names) > 1 else []:
        hc = [row["hc_mm"] for row in rows if group[row["case"]] == name]
        size = f" (HC {extremes(hc)} mm)" if known(hc) else ""
        text = f"{word} {name}{size}" if in_print[name] == name else in_print[name]
        found.append((text, share_of({case for case, of in group.items() if of == name})))
    return found


def median(values: list[float], digits: int) -> str:
    """Median with quartiles."""
    if not known(values):
        return printed.DASH
    ends = [quantile(values, each) for each in (0.25, 0.5, 0.75)]
    low, middle, high = (printed.rounded(each, digits) if digits else printed.whole(round(each)) for each in ends)
    return f"{middle} [{low}, {high}]"


def extremes(values: list[float]) -> str:
    """Least and largest value."""
    kept = [value for value in values if not math.isnan(value)]
    return f"{min(kept):.1f} to {max(kept):.1f}" if kept else printed.DASH


def least_to_most(values: list[int]) -> str:
    """Least and largest number, or the only one."""
    if not values:
        return printed.DASH
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}–{high}"


def image_size(part: list[Row]) -> str:
    """Rows and columns of the images."""
    return " × ".join(least_to_most([row[side] for row in part]) for side in ("height", "width"))


def share_of(cases: set[str]) -> Cell:
    """A cell with the number and percentage of a part's rows that are of these cases."""

    def cell(part: list[Row]) -> str:
        count = sum(row["case"] in cases for row in part)
        return f"{printed.whole(count)} ({100 * count / len(part):.1f}{printed.SPACE}%)" if part else printed.DASH

    return cell


def published(results: Results) -> list[Row]:
    """Published results on the same data; a landmark study shows none that give only a Dice."""
    if kind_of(results) != "published":
        return []
    rows = plain_yaml.read(files.ROOT / "reports/template/published-results.yaml").get(results.study.dataset, [])
    shown = {"hc_error_mm", "age_error_days"} | (set() if results.study.learns_landmarks else {"dice"})
    return [row for row in rows if any(row[name] is not None for name in shown)]


def software(citation: Path) -> dict[str, str]:
    """What CITATION.cff says of the project, by the lines of its top level."""
    text = citation.read_text(encoding="utf-8") if citation.is_file() else ""
    values = {}
    for name, key in (("doi", "doi"), ("repository", "repository-code"), ("version", "version")):
        line = re.search(rf"(?m)^{key}:\s*(.*?)\s*(?:#.*)?$", text)
        values[name] = line[1].strip("\"'") if line else ""
    return values
