"""Characteristics of each part of a data set: a table with one row per property and one column per part."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from lib.data import cases
from lib.report import tables

MOST_GROUPS = 12  # with more, only their number is given


@dataclass(frozen=True)
class Words:
    """The study's words for what is counted."""

    case: str  # "image" or "volume"
    subject: str
    group: str
    classes: tuple[str, ...]  # foreground classes; a refined stratum may name those that a case shows


def by_part(manifest: pd.DataFrame, parts: Mapping[str, Iterable[str]], voxels: pd.Series | None, words: Words) -> dict:
    """{"columns": names of parts, "rows": [{"name", "cells"}]}, all text.

    Args:
        manifest: cases.csv.
        parts: case names of each part.
        voxels: number of reference voxels by case, of volumes; else None.
        words: of the study.

    Medians have their quartiles in brackets; counts of groups their percentage of the part.
    """
    of_parts = {name: manifest[manifest["case"].isin(list(members))] for name, members in parts.items()}
    rows = [_row(f"{_capital(words.case)}s", of_parts, lambda part: _count(len(part)))]
    if (manifest["case"].groupby(manifest["subject"]).size() > 1).any() or words.case == "image":
        rows.append(_row(f"{_capital(words.subject)}s", of_parts, lambda part: _count(part["subject"].nunique())))
    if voxels is not None:
        rows += _of_volumes(of_parts, voxels, words)
    if manifest["hc_mm"].notna().any():
        rows.append(_row("HC (mm)", of_parts, lambda part: _median(part["hc_mm"], 1)))
        rows.append(_row("HC, least to largest (mm)", of_parts, lambda part: _range(part["hc_mm"], 1)))
    if manifest["spacing_row_mm"].notna().any():
        rows.append(_row("Pixel size (mm)", of_parts, lambda part: _median(part["spacing_row_mm"], 3)))
    size = f"{'Slice' if words.case == 'volume' else 'Image'} size (rows × columns)"
    rows.append(_row(size, of_parts, lambda part: f"{_ends(part['height'])} × {_ends(part['width'])}"))
    return {"columns": list(of_parts), "rows": rows + _of_groups(manifest, of_parts, words)}


def _of_volumes(of_parts: Mapping[str, pd.DataFrame], voxels: pd.Series, words: Words) -> list[dict]:
    def sizes(part: pd.DataFrame) -> pd.Series:
        found = part["case"].map(voxels)
        return found[found > 0]

    def without(part: pd.DataFrame) -> str:
        return _share(len(part) - len(sizes(part)), len(part))

    what = " or ".join(words.classes)
    rows = [_row("Slices per volume", of_parts, lambda part: _median(part["slices"], 1))]
    rows.append(_row("Slices in total", of_parts, lambda part: _count(int(part["slices"].sum()))))
    rows.append(_row(f"Voxels of the {what}", of_parts, lambda part: _median(sizes(part), 0)))
    return [*rows, _row(f"Volumes without {what}", of_parts, without)]


def _of_groups(manifest: pd.DataFrame, of_parts: Mapping[str, pd.DataFrame], words: Words) -> list[dict]:
    """Shares of the groups, and of cases that show a class, where strata name them."""
    group, named = cases.group_of(manifest["stratum"]), manifest["stratum"].str.split()
    printed = cases.group_names(manifest)
    names = sorted(set(group))
    rows = []
    if len(names) > MOST_GROUPS:
        rows.append(_row(f"{_capital(words.group)}s", of_parts, lambda part: _count(group[part.index].nunique())))
    elif len(names) > 1:
        for name in names:
            of_group = manifest[group == name]
            hc = f" (HC {_range(of_group['hc_mm'], 1)} mm)" if of_group["hc_mm"].notna().any() else ""
            text = f"{_capital(words.group)} {name}{hc}" if printed[name] == name else printed[name]
            rows.append(_shares(text, group == name, of_parts))
    for name in words.classes:
        holds = named.apply(lambda parts, name=name: name in parts[1:])
        if holds.any():
            rows.append(_shares(f"Showing {tables.WORDS.get(name, name)}", holds, of_parts))
    return rows


def _shares(name: str, holds: pd.Series, of_parts: Mapping[str, pd.DataFrame]) -> dict:
    return _row(name, of_parts, lambda part: _share(int(holds[part.index].sum()), len(part)))


def _row(name: str, of_parts: Mapping[str, pd.DataFrame], cell) -> dict:
    return {"name": name, "cells": [cell(part) for part in of_parts.values()]}


def _median(values: pd.Series, digits: int) -> str:
    known = values.dropna()
    if known.empty:
        return tables.DASH
    ends = known.quantile([0.25, 0.5, 0.75])
    low, middle, high = (tables.fixed(each, digits) if digits else _count(round(each)) for each in ends)
    return f"{middle} [{low}, {high}]"


def _range(values: pd.Series, digits: int) -> str:
    known = values.dropna()
    return f"{known.min():.{digits}f} to {known.max():.{digits}f}" if len(known) else tables.DASH


def _ends(values: pd.Series) -> str:
    """Least and largest value, one number if they are equal."""
    return (
        "–".join(str(each) for each in sorted({int(values.min()), int(values.max())})) if len(values) else tables.DASH
    )


def _share(count: int, total: int) -> str:
    return f"{_count(count)} ({100 * count / total:.1f}{tables.KEEP}%)" if total else tables.DASH


def _count(value: int) -> str:
    return tables.format_cell(value, "n")


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]
