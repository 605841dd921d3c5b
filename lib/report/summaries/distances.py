"""Boundary distances and size errors by class, from the long table of 05_evaluation."""

import pandas as pd

from lib.report.summaries.dice import KEY, in_reference, outcomes
from lib.report.summaries.means import by_case, by_group, mean_over, mean_without_largest, median_over, with_interval

COLUMNS = [*KEY, "penalty", "n"]  # the first ones


def in_unit(cases: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Rows whose lengths are in a unit: "mm" where the pixel size is known, "px" elsewhere."""
    return cases[cases[f"diagonal_{unit}"].notna()]


def per_class(cases: pd.DataFrame, unit: str) -> pd.DataFrame:
    """HD95, ASSD and NSD by class and stage, over the cases whose lengths are in a unit.

    Medians and means are over the n cases in which both masks contain the class, seeds of a case averaged first. The
    mean of HD95 is also given without the case with the largest, which can decide it. Missed and invented structures
    have no distance; their numbers count predictions. Where there are any, a second row (`penalty`) includes them, each
    with the diagonal of its image or volume as distances, and an NSD of 0.
    """
    rows = []
    for key, group in in_unit(cases, unit).groupby(KEY, sort=False):
        both = group[group[f"hd95_{unit}"].notna()]
        counts = {name: count for name, count in outcomes(group).items() if name in ("missed", "invented")}
        parts = {False: both} | ({True: penalised(group, unit)} if any(counts.values()) else {})
        rows += [dict(zip(KEY, key)) | {"penalty": each} | _means(part, unit) | counts for each, part in parts.items()]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=COLUMNS)


def penalised(group: pd.DataFrame, unit: str) -> pd.DataFrame:
    """The rows in which either mask contains the class; distances that are missing are the image diagonal."""
    rows = group[group["tp"] + group["fp"] + group["fn"] > 0]
    lengths = (f"hd95_{unit}", f"assd_{unit}")
    return rows.assign(**{name: rows[name].fillna(rows[f"diagonal_{unit}"]) for name in lengths})


def _means(rows: pd.DataFrame, unit: str) -> dict[str, object]:
    """n, the medians and means of some rows with their intervals, the largest HD95, and the mean HD95 without it."""
    hd95, assd = f"hd95_{unit}", f"assd_{unit}"
    of_cases = by_case(rows, [hd95, assd, "nsd"])
    mean = mean_over(of_cases, hd95)
    row = {"n": mean.count} | with_interval(f"median_{hd95}", median_over(of_cases, hd95)) | with_interval(hd95, mean)
    row |= {f"largest_{hd95}": float(rows[hd95].max()), f"others_{hd95}": mean_without_largest(of_cases, hd95)}
    row |= with_interval(f"median_{assd}", median_over(of_cases, assd)) | with_interval(assd, mean_over(of_cases, assd))
    return row | with_interval("nsd", mean_over(of_cases, "nsd"))


def size_errors(cases: pd.DataFrame) -> pd.DataFrame:
    """Error of the area or volume in percent of the reference, by class and stage: absolute error and bias.

    All are over the n cases whose reference contains the class, seeds averaged first; a miss is an error of 100 %.
    """

    def describe(group: pd.DataFrame) -> dict[str, object]:
        rows = group[in_reference(group)].assign(absolute=lambda each: each["size_error_percent"].abs())
        of_cases = by_case(rows, ["absolute", "size_error_percent"])
        error = mean_over(of_cases, "absolute")
        row = {"n": error.count} | with_interval("median_error_percent", median_over(of_cases, "absolute"))
        row |= with_interval("size_error_percent", error)
        return row | with_interval("bias_percent", mean_over(of_cases, "size_error_percent"))

    return by_group(cases, KEY, describe)


def are_of_found_structures(cases: pd.DataFrame) -> bool:
    """Whether exactly those rows have a distance, in one unit, in which both masks contain the class."""
    both = (cases["tp"] + cases["fn"] > 0) & (cases["tp"] + cases["fp"] > 0)
    return bool((cases[["hd95_mm", "hd95_px"]].notna().sum(axis=1) == both.astype(int)).all())
