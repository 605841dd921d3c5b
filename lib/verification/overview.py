"""Summary tables of 01_data_verification."""

from collections import Counter

import numpy as np
import pandas as pd

from lib.data import cases
from lib.data.findings import fact_table
from lib.study import printable
from lib.verification import case_checks, landmark_audit

MAX_NAMED = 3  # cases of a check, where no case can be used
MAX_LISTED_COLOURS = 40  # lossy masks have hundreds


def audit_summary(audited: pd.DataFrame) -> pd.DataFrame:
    """The landmark audit with one row per fact (fact, value); no rows without landmarks."""
    return landmark_audit.summary(audited) if len(audited) else pd.DataFrame(columns=["fact", "value"])


def of_folds(table: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """Number of cases, subjects and fold groups of each fold, and of cases with a pixel size."""
    sized = folds.assign(sized=folds["case"].map(cases.has_pixel_size(table.set_index("case"))))
    counts = sized.groupby("fold").agg(
        cases=("case", "size"),
        subjects=("subject", "nunique"),
        fold_groups=("fold_group", "nunique"),
        with_pixel_size=("sized", "sum"),
    )
    return counts.reset_index()


def facts(table: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Summary of the data set with one row per fact (fact, value); facts without a value are left out."""
    spacing = table["spacing_row_mm"]
    values = {
        "cases": len(table),
        "subjects": table["subject"].nunique(),
        "fold groups": table["fold_group"].nunique(),
        "most cases of one subject": int(table["subject"].value_counts().max()),
        "slices": int(table["slices"].sum()) if (table["slices"] > 1).any() else np.nan,
        "image sizes": table.groupby(["height", "width"]).ngroups,
        "with pixel size": int(cases.has_pixel_size(table).sum()),
        "least pixel size (mm)": spacing.min(),
        "largest pixel size (mm)": spacing.max(),
        "with published HC": int(table["hc_mm"].notna().sum()) or np.nan,
        "least HC (mm)": table["hc_mm"].min(),
        "largest HC (mm)": table["hc_mm"].max(),
        "with an empty mask": int((measured["area_fraction"] == 0).sum()),
        "cut by the frame": int((measured["border_gap"] == 0).sum()),
    }
    return fact_table(values)


def by_group(table: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Number of cases and properties of their references, one row per published split and group."""
    joined = table[["case", "split"]].assign(group=cases.group_of(table["stratum"])).merge(measured, on="case")
    grouped = joined.assign(
        empty=joined["area_fraction"] == 0,
        cut=joined["border_gap"] == 0,
        near=(joined["border_gap"] > 0) & (joined["border_gap"] < case_checks.NEAR_BORDER),
        share=joined["area_fraction"].where(joined["area_fraction"] > 0) * 100,
    ).groupby(["split", "group"], sort=True)
    counts = grouped.agg(
        cases=("case", "size"),
        empty_masks=("empty", "sum"),
        cut_by_the_frame=("cut", "sum"),
        near_the_frame=("near", "sum"),
        mean_area_percent=("share", "mean"),
        mean_contrast=("contrast", "mean"),
    ).reset_index()
    counts["group"] = counts["group"].map(cases.group_names(table))
    return counts.drop(columns="split") if (counts["split"] == "").all() else counts


def colour_table(checked: dict[str, case_checks.CheckedCase]) -> pd.DataFrame:
    """Colours of all masks (colour, pixels, cases), the most frequent first; the rest combined in one row."""
    pixels: Counter[tuple[int, ...]] = Counter()
    counts: Counter[tuple[int, ...]] = Counter()  # of cases
    for case in checked.values():
        pixels.update(case.colours)
        counts.update(case.colours.keys())
    ordered = sorted(pixels, key=lambda colour: (-pixels[colour], colour))
    rows = [(" ".join(map(str, colour)), pixels[colour], counts[colour]) for colour in ordered[:MAX_LISTED_COLOURS]]
    rest = ordered[MAX_LISTED_COLOURS:]
    if rest:
        rows.append((f"{len(rest)} others", sum(pixels[c] for c in rest), max(counts[c] for c in rest)))
    return pd.DataFrame(rows, columns=["colour", "pixels", "cases"])


def stop_claim(findings: pd.DataFrame) -> str:
    """The statement that no finding stops the study, followed by the findings that do, as `describe_findings`."""
    stops = findings[findings["severity"] == "stop"]
    return "\n".join(["no finding stops the study", *([describe_findings(stops)] if len(stops) else [])])


def describe_findings(table: pd.DataFrame) -> str:
    """Findings as indented lines: number, name and advice of each check, then its first MAX_NAMED cases."""
    lines = []
    for row in count_findings(table).to_dict("records"):
        of_check = table[(table["check"] == row["check"]) & (table["severity"] == row["severity"])]
        lines.append(f"    {row['findings']} x {row['check']}{': ' * bool(row['advice'])}{row['advice']}")
        named = of_check[["case", "found"]].head(MAX_NAMED).to_numpy()
        lines += [f"        {printable.printable(f'{case}: {found}')}" for case, found in named]
        lines += [f"        … and {len(of_check) - MAX_NAMED} more"] * (len(of_check) > MAX_NAMED)
    return "\n".join(lines)


def count_findings(findings: pd.DataFrame) -> pd.DataFrame:
    """Number of findings of each check, the most severe first: severity, check, findings, advice."""
    by_check = findings.groupby(["severity", "check"], sort=False)
    return by_check.agg(findings=("case", "size"), advice=("advice", "first")).reset_index()
