"""Failed cases counted by kind, and properties of cases associated with them; from the long tables of 05 and 06.

Shares have Wilson's interval over the effective number of cases, p takes them as independent. An association is no
cause: properties go together.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from lib.data.cases import group_names
from lib.evaluation import failures
from lib.report.summaries.means import share_over
from lib.verification.case_checks import CONTRAST_IS_LOW, NEAR_BORDER, NEAR_FRAME, TOUCHES_FRAME

LEVEL = 0.05  # of the p value times the number of properties tested
THIRDS = {  # column: property, format of its limit, whether the third of the lowest values is meant
    "hc_mm": ("HC", "{:.0f} mm", True),
    "share_percent": ("Share of the image", "{:.2g} %", True),
    "contrast": ("Contrast", "{:.2f}", True),
    "spacing_mm": ("Pixel size", "{:.3f} mm", False),
}
MEASURED_HERE = (NEAR_FRAME.name, TOUCHES_FRAME.name, CONTRAST_IS_LOW.name)  # findings of 01 that say the same
NAMES = {"Dice": "class", "endpoint error": "line", "measurement error": "quantity"}  # of an item, by metric
RATE = ["percent", "percent_low", "percent_high"]
CAUSE_COLUMNS = ["property", "cases", "listed", *(f"listed_{name}" for name in RATE), "other_cases", "other_listed"]
CAUSE_COLUMNS += [*(f"other_{name}" for name in RATE), "p", "p_adjusted"]
WORST_COLUMNS = ["case", "result", "kind", "share_percent", "contrast", "gap_percent", "group", "hc_mm", "spacing_mm"]
WORST_COLUMNS += ["findings"]


def counts(long: pd.DataFrame) -> pd.DataFrame:
    """Cases by class, line or quantity: n tested, n with each kind of failure, n failed and its share with 95 % CI.

    With several, the last row is for a failure of any. A case fails if a prediction of any seed does. A class is tested
    in every case: `in_reference` of them can have a low Dice or be missed, the others can be invented.
    """
    every = failures.scores(long)
    if every.empty:
        return pd.DataFrame()
    metric = every["metric"].iloc[0]
    order = long[NAMES[metric]].unique()
    parts = {name: every[every["item"] == name] for name in order}
    parts |= {"any": every} if len(parts) > 1 else {}
    return pd.DataFrame([{NAMES[metric]: name} | _count(rows, metric) for name, rows in parts.items()])


def _count(rows: pd.DataFrame, metric: str) -> dict[str, object]:
    failed = rows.assign(failed=rows["kind"] != "").groupby("case", sort=False)
    of_cases = failed.agg({"subject": "first", "failed": "any"})
    row = {"cases": len(of_cases)}
    if metric == "Dice":
        row["in_reference"] = rows.loc[rows["score"].notna() & (rows["kind"] != "invented"), "case"].nunique()
    row |= {kind_column(kind): rows.loc[rows["kind"] == kind, "case"].nunique() for kind in failures.KINDS[metric]}
    return row | {"failed": int(of_cases["failed"].sum())} | share_over(of_cases, "failed")


def kind_column(kind: str) -> str:
    """The column of `counts` for a kind of failure."""
    return kind.lower().replace(" ", "_")


def causes(
    long: pd.DataFrame, structures: pd.DataFrame, manifest: pd.DataFrame, findings: pd.DataFrame
) -> pd.DataFrame:
    """Properties of cases tested for an association with being listed (`failures.listed`): CAUSE_COLUMNS, by p.

    Of the cases with a property and of the others whose value is known, how many are listed, with Wilson's interval.
    p is that of Fisher's exact test, `p_adjusted` is p times the number of properties tested (at most 1). Properties
    of fewer than FEWEST cases, or lacking in fewer, are not tested, nor is one that the same cases have as another.
    """
    known = failures.properties(long, structures, manifest, findings)
    subjects = long.drop_duplicates("case").set_index("case")["subject"].loc[known["case"]].to_numpy()
    is_listed = known["case"].isin(failures.listed(long)["case"]).to_numpy()
    of_cases = pd.DataFrame({"subject": subjects, "listed": is_listed, "other": is_listed})
    rows, tested_already = [], set()
    for name, holds in _properties(known, group_names(manifest)):
        measured, has = holds.notna().to_numpy(), holds.eq(1).to_numpy()
        if has.tobytes() in tested_already:
            continue
        tested_already.add(has.tobytes())
        groups = has, measured & ~has
        totals, hits = [int(each.sum()) for each in groups], [int(is_listed[each].sum()) for each in groups]
        if min(totals) < failures.FEWEST:
            continue
        row = {"property": name, "cases": totals[0], "listed": hits[0], "other_cases": totals[1]}
        row |= {"other_listed": hits[1]}
        for kind, group in zip(("listed", "other"), groups):
            row |= share_over(of_cases[group], kind)
        table = [[hit, total - hit] for hit, total in zip(hits, totals)]
        rows.append(row | {"p": float(stats.fisher_exact(table).pvalue)})
    tested = pd.DataFrame(rows).reindex(columns=CAUSE_COLUMNS)
    tested["p_adjusted"] = np.minimum(1.0, tested["p"].astype(float) * len(tested))
    return tested.sort_values("p", kind="stable").reset_index(drop=True)


def _properties(known: pd.DataFrame, names: dict[str, str]) -> Iterator[tuple[str, pd.Series]]:
    """Candidate causes in words, and by case 1.0 where it holds, 0.0 where not, NaN where unknown."""
    groups = sorted(set(known["group"]))
    for group in groups if len(groups) > 2 else groups[:1]:  # of two groups, one is the other's complement
        name = f"Group {group}" if names[group] == group else names[group]
        yield name, (known["group"] == group).astype(float)
    for column, (name, form, is_low) in THIRDS.items():
        values = known[column]
        at, way = (1 / 3, "lower") if is_low else (2 / 3, "higher")
        limit = values.quantile(at, interpolation=way)
        holds = values <= limit if is_low else values >= limit
        end = ("up to", "lowest") if is_low else ("from", "highest")
        yield f"{name} {end[0]} {form.format(limit)} ({end[1]} third)", holds.astype(float).where(values.notna())
    near = known["gap_percent"] < 100 * NEAR_BORDER
    yield f"Within {100 * NEAR_BORDER:g} % of the frame", near.astype(float).where(known["gap_percent"].notna())
    yield "A class is absent from the reference", (known["lacking"] != "").astype(float)
    found = known["findings"].map(lambda text: text.split("; "))
    for check in sorted({each for checks in found for each in checks} - {"", *MEASURED_HERE}):
        yield f"Finding of verification: {check}", found.map(lambda checks, check=check: float(check in checks))


def worst(failed: pd.DataFrame) -> pd.DataFrame:
    """The first rows of failures.csv with their properties, as printed; columns in which nothing is known left out."""
    rows = failed.head(failures.WORST)[WORST_COLUMNS]
    return rows.loc[:, [name for name in rows if not (rows[name].isna() | rows[name].eq("")).all()]]
