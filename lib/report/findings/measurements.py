"""Findings about measurements (step 06) and about the comparison of studies (step 07)."""

import pandas as pd

from lib.data.cases import TRIVIAL_BASELINES
from lib.evaluation.baselines import GAIN
from lib.report import tables
from lib.report.findings.rows import Row, bias, joined, named, number, p_value, quantity_of, rows_of, verdict
from lib.statistics import conformal

MUCH_PERCENT = 100 / 3  # of the sum of errors, by the largest 5 %; normal errors have 15 %, by chance up to 26 %
SINGLE = {  # by verdict of single measurements within the margin
    "yes": "The limits of single measurements of {} lay within {}.",
    "no": "The limits of single measurements of {} exceeded {}.",
    "undecided": "Whether the limits of single measurements of {} lie within {} is undecided.",
    "depends on size": "Whether single measurements of {} lie within {} is undecided: their difference in percent "
    "changes with size.",
}


def biometry(agreement: pd.DataFrame, limits: pd.DataFrame, shares: pd.DataFrame) -> list[str]:
    """Error and bias by quantity.

    Args:
        agreement: table of errors, after post-processing.
        limits: table of bias and limits of agreement in mm.
        shares: part of the sum of errors by the largest (`biometry_errors.largest_shares`).
    """
    rows = [row for row in rows_of(agreement) if row.values["route"] not in TRIVIAL_BASELINES]
    of = {name: _each(rows, name, "mm") for name in ("median_mm", "mae_mm")}
    percent = joined([number(row, "mae_percent", "%") for row in rows])
    sentences = [f"The median absolute error was {of['median_mm']}."] if rows else []
    sentences += [f"The mean absolute error was {of['mae_mm']}, or {percent} of the reference."] if rows else []
    sentences += _few_large(rows_of(shares))
    for row in [row for row in rows if row.values["not_measured"]]:
        name, missing = quantity_of(row, rows), row.values["not_measured"]
        sentences.append(
            f"{missing} predictions have no measurable {name}."
            if missing > 1
            else f"1 prediction has no measurable {name}."
        )
    biased = rows_of(limits)
    return sentences + bias(biased, [quantity_of(row, biased) for row in biased], "mm")


def _few_large(rows: list[Row]) -> list[str]:
    """Quantities of which few large errors make up much of the mean."""
    of = [row for row in rows if row.values["largest_share_percent"] > MUCH_PERCENT]
    parts = joined([f"{number(row, 'largest_share_percent', '%')} for {quantity_of(row, rows)}" for row in of])
    start = "A few large errors make up much of the mean: of the sum of absolute errors, the largest 5 % make up"
    return [f"{start} {parts} (about 15 % would be expected if errors were normally distributed)."] * bool(of)


def rivals(baselines: pd.DataFrame) -> list[str]:
    """Whether HC is more accurate than by the method without a network (table of such methods, empty of landmarks)."""
    sentences = []
    for row in rows_of(baselines, method=GAIN):
        side = verdict(row, "hc_error_mm") if "hc_error_mm" in row.values else None
        text = number(row, "hc_error_mm", "mm") if side is not None else ""
        told = {
            -1: f"HC was more accurate than by that method: mean difference of the absolute errors {text}.",
            1: f"HC was less accurate than by that method: mean difference of the absolute errors {text}.",
            0: f"No difference in accuracy of HC from that method was shown: {text}.",
        }
        sentences += [] if side is None else [told[side]]
    return sentences


def agreement(limits_mm: pd.DataFrame, limits_percent: pd.DataFrame, equivalence: pd.DataFrame) -> list[str]:
    """Limits of agreement in mm and percent, and what was shown of equivalence within the margin."""
    sentences, rows = [], rows_of(limits_mm)
    for row, relative in zip(rows, rows_of(limits_percent)):
        low, high = (number(row, f"{end}_limit_mm", "mm") for end in ("lower", "upper"))
        least, most = (number(relative, f"{end}_limit_percent", "%") for end in ("lower", "upper"))
        text = f"The 95 % limits of agreement of {quantity_of(row, rows)} were {low} and {high}, or {least} and {most}"
        sentences.append(f"{text} of the reference.")
    rows = rows_of(equivalence)
    if not rows:
        return sentences
    margin = f"±{rows[0].values['margin_percent']:g}{tables.KEEP}%"
    means = {
        side: [row for row in rows if (row.values["mean_within_margin"] == "yes") == side] for side in (True, False)
    }
    if means[True]:
        verb, worst = (
            "was" if len(means[True]) == 1 else "were",
            max(means[True], key=lambda row: row.values["p_value"]),
        )
        p = p_value(worst.text["p_value"])
        p = p.replace("=", "≤") if len(means[True]) > 1 else p
        p = f"two one-sided tests, {p}"
        sentences.append(
            f"On average, {named(means[True], rows)} {verb} equivalent to the reference within {margin} ({p})."
        )
    if means[False]:
        sentences.append(f"Equivalence of the mean within {margin} was not shown for {named(means[False], rows)}.")
    for side, told in SINGLE.items():
        of = [row for row in rows if row.values["single_within_margin"] == side]
        sentences += [told.format(named(of, rows), margin)] * bool(of)
    return sentences


def size(slopes: pd.DataFrame, ends: pd.DataFrame) -> list[str]:
    """Whether the difference changes with size: only if the interval of the slope excludes 0.

    Args:
        slopes: table of `measurement_agreement.proportional`.
        ends: table of `measurement_agreement.limits_at_sizes`, bias at the smallest and the largest size.
    """
    sentences, rows = [], rows_of(slopes)
    for side in (1, -1, 0, None):
        of = [row for row in rows if verdict(row, "slope_per_100_mm") == side]
        names, values = named(of, rows), joined([number(row, "slope_per_100_mm", "mm per 100 mm") for row in of])
        changed = "The difference (predicted minus reference) of {} {} with size, by {}."
        told = {
            1: changed.format(names, "rose", values),
            -1: changed.format(names, "fell", values),
            0: f"No change of the difference with size was shown for {names} (slope {values}).",
            None: f"There were too few subjects to test whether the difference of {names} changes with size.",
        }
        sentences += [told[side]] * bool(of)
        for row in of if side else []:
            at = rows_of(ends, **{each: row.values[each] for each in ("quantity", "route")})
            biases = [f"{number(each, 'bias_mm', 'mm')} at {each.text['size_mm']} mm" for each in at]
            sentences += [f"The bias of {quantity_of(row, rows)} was {joined(biases)}."] * bool(biases)
    return sentences


def ages(table: pd.DataFrame) -> list[str]:
    """Error in days of gestational age (table of `measurement_agreement.gestational_age`)."""
    rows = [row for row in rows_of(table) if row.values["n"]]
    within = [row.values["up_to_one_week"] for row in rows]
    counts = joined([f"{count} of {count + row.values['over_one_week']}" for count, row in zip(within, rows)])
    text = f"The mean absolute error corresponds to {_each(rows, 'mae_days', 'days')} in gestational age"
    return [f"{text}; the error was at most one week in {counts} predictions."] * bool(rows)


def _each(rows: list[Row], name: str, unit: str) -> str:
    """A value of each quantity, in words."""
    return joined([f"{number(row, name, unit)} for {quantity_of(row, rows)}" for row in rows])


def intervals(coverage: pd.DataFrame, by_size: pd.DataFrame) -> list[str]:
    """Whether intervals of measurements contain the reference as often as intended (tables of `summaries.coverage`)."""
    level = 100 * conformal.LEVEL
    rows, sentences = [row for row in rows_of(coverage) if row.values["n"]], []
    for side, told in ((0, "held their level"), (-1, "fell short of their level"), (1, "were wider than needed")):
        of = [row for row in rows if verdict(row, "covered_percent", level) == side]
        shares = joined([number(row, "covered_percent", "%") for row in of])
        text = f"The {level:g} % intervals of {named(of, rows)} {told}: {shares} contained the reference."
        sentences += [text] * bool(of)
    groups: dict[str, list[Row]] = {}
    for each in [each for each in rows_of(by_size) if verdict(each, "covered_percent", level) == -1]:
        groups.setdefault(f"{each.values['group']} (n = {each.values['n']})", []).append(each)
    for group, of in groups.items():
        names, rates = named(of, rows), joined([number(each, "covered_percent", "%") for each in of])
        sentences.append(f"In group {group}, those of {names} fell short: {rates}.")
    return sentences


def comparison(pairs: pd.DataFrame, overlaps: pd.DataFrame, study: str) -> list[str]:
    """Paired differences from other studies: a difference where the interval excludes 0, else that none was shown.

    Args:
        pairs: table of `paired.comparison`; rows whose study_b is this study pair it with the mean of its training.
        overlaps: table of `paired.overlap_comparison`.
        study: name of this study.
    """
    sentences = []
    for table, name, unit in ((pairs, "difference_mm", "mm"), (overlaps, "difference", "")):
        for row in [each for each in rows_of(table) if each.values["study_b"] != study and each.values["n"]]:
            what = f"Dice of the {row.text['class']}" if "class" in row.text else row.text["quantity"]
            if "route_a" in row.values:
                what += f" ({row.values['route_a']} against {row.values['route_b']})"
            side, other = verdict(row, name), row.values["study_b"]
            p = f"; adjusted {p_value(row.text['p_adjusted'])}" if "p_adjusted" in row.text else ""
            text = f"{'mean difference of absolute errors' if unit else 'mean difference'} {number(row, name, unit)}{p}"
            if side == 0:
                sentences.append(f"For {what}, no difference from “{other}” was shown ({text}).")
            elif side is not None:
                better = "better" if (side < 0) == bool(unit) else "worse"
                sentences.append(f"For {what}, this study was {better} than “{other}” ({text}).")
    return sentences
