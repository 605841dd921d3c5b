"""Captions computed from the data: one sentence per figure or table that states its main numbers."""

from typing import Any

import numpy as np
import pandas as pd

from lib.data.cases import TRIVIAL_BASELINES
from lib.evaluation.failures import FEWEST, GROSS_PERCENT, KINDS, LOW_DICE
from lib.evaluation.quality import FEWEST as FEWEST_VALIDATION
from lib.evaluation.quality import LARGE_MM, REFERRED
from lib.evaluation.ranking import mask_result
from lib.report import tables
from lib.report.findings.rows import p_value
from lib.report.summaries.biometry_errors import measured_rows
from lib.report.summaries.failures import LEVEL, kind_column
from lib.statistics import FEWEST_SUBJECTS, conformal
from lib.statistics.agreement import limits_of_agreement, proportional_bias

NEW_LINE = "  \n"  # in Markdown
OUTLIER_RANGES = 1.5  # interquartile ranges below the lower quartile, as the whisker of a box plot
MIN_GAP = 0.05  # of Dice; cases closer to the lower quartile are not outliers
MIN_COUNT = 4  # cases required for quartiles
KIND_COLUMNS = {kind_column(kind) for kinds in KINDS.values() for kind in kinds}  # of a table of failures


def of_sizes(cases: pd.DataFrame) -> str:
    """Ranges of head circumference and pixel size, and number of cases without a pixel size (cases.csv)."""
    sizes = cases.groupby(["height", "width"]).ngroups
    parts = [f"{len(cases)} cases in {sizes} image size{'s' * (sizes != 1)}"]
    hc, pixel = cases["hc_mm"].dropna(), cases["spacing_row_mm"].dropna()
    if len(hc):
        parts.append(f"published HC from {hc.min():.1f} to {hc.max():.1f} mm (n = {len(hc)})")
    if len(pixel):
        parts.append(f"pixel size from {pixel.min():.3f} to {pixel.max():.3f} mm")
    unknown = len(cases) - len(pixel)
    return "; ".join(parts) + (f"; {unknown} without a pixel size, so not measurable in mm." if unknown else ".")


def of_folds(folds: pd.DataFrame) -> str:
    """Range of the numbers of cases and subjects per fold (folds.csv)."""
    counts = folds.groupby("fold").agg(cases=("case", "size"), subjects=("subject", "nunique"))
    extremes = {name: sorted({counts[name].min(), counts[name].max()}) for name in counts}
    ranges = [f"{' to '.join(map(str, values))} {name}" for name, values in extremes.items()]
    return f"{len(counts)} folds of {' and '.join(ranges)}."


def of_one_batch(losses: list[float]) -> str:
    """First and last loss on one batch."""
    first, last = losses[0], losses[-1]
    if not np.isfinite(last):
        return f"The loss is {last} after {len(losses)} steps: it diverged."
    verb = "fell" if last < first else "rose"
    return f"The loss {verb} from {first:.3g} to {last:.2g} ({last / first:.1%} of its start) in {len(losses)} steps."


def of_epoch_profile(profile: pd.DataFrame) -> str:
    """Seconds of an epoch, its longest part, and its first row, waiting for data (epoch_profile.COLUMNS)."""
    longest, waiting = profile.loc[profile["percent"].idxmax()], profile.iloc[0]
    text = f"An epoch takes {profile['seconds'].sum():.1f} s: {longest['part']} {longest['percent']:.0f} %"
    if longest["part"] == waiting["part"]:
        return f"{text}."
    return f"{text}, {waiting['part']} {waiting['percent']:.0f} %."


def of_training(history: pd.DataFrame) -> str:
    """Selected epoch of history.csv, its metric (an error is a negative `selection`), and number of later epochs."""
    selected, last = history[history["best"].astype(bool)].iloc[-1], history["epoch"].max()
    digits, unit = (2, " % of OFD") if "validation_error_percent" in history else (3, "")
    validation, training = (f"{abs(selected[name]):.{digits}f}{unit}" for name in ("selection", "train_selection"))
    text = f"Epoch {selected['epoch']:.0f} of {len(history)} is selected: {validation} on validation, {training} on "
    text += "augmented training cases."
    if selected["epoch"] == last:
        rate = history["learning_rate"]
        advice = "training longer" if rate.iloc[-1] > rate.max() / 2 else "a longer schedule of the learning rate"
        return f"{text} It is the last epoch; {advice} may help." if len(history) > 1 else text
    return f"{text} The {int(last - selected['epoch'])} later epochs brought no improvement."


def of_dice(table: pd.DataFrame) -> str:
    """Interquartile range and low outliers of the Dice of each class (cases.csv of 05_evaluation)."""
    lines = []
    post = table[(table["stage"] == "post") & (table["tp"] + table["fn"] > 0)]
    for name, rows in post.groupby("class", sort=False):
        dice = rows.groupby("case", sort=False)["dice"].mean()
        if len(dice) < MIN_COUNT:
            lines.append(f"{name}: {len(dice)} cases from {dice.min():.3f} to {dice.max():.3f}.")
            continue
        low, high = np.percentile(dice, [25, 75])
        outliers = list(dice[dice < low - max(OUTLIER_RANGES * (high - low), MIN_GAP)].sort_values().index)
        first = ", ".join(outliers[:5]) + ", …" * (len(outliers) > 5)
        text = f"{len(outliers)} far below: {first}" if outliers else "none is far below"
        lines.append(f"{name}: half of the {len(dice)} cases are between {low:.3f} and {high:.3f}; {text}.")
    return NEW_LINE.join(lines) or "No reference contains a class."


def of_worst(ranked: pd.DataFrame) -> str:
    """The worst case and class, and the number of predictions below 0.5 (rows as from `ranking.ranked`)."""
    if ranked.empty:
        return "No reference contains a class."
    worst, low = ranked.iloc[0], int((ranked["dice"] < 0.5).sum())
    return (
        f"The worst is {worst['case']} ({mask_result(worst)}); {low} of {len(ranked)} predictions have a class that is "
        "missed, invented or below 0.5."
    )


def of_failures(counts: pd.DataFrame, causes: pd.DataFrame, listed: int) -> str:
    """How many cases failed, and the properties associated with the `listed` ones (tables of `summaries.failures`)."""
    if counts.empty:
        return "Nothing to judge: no case has a reference."
    whole, rate = counts.iloc[-1], _rate(tables.printed_cells(counts)["failed_percent"][-1])
    failed, cases = int(whole["failed"]), whole["cases"]
    if not failed:
        worst = {0: "no structure is in a reference or predicted, so none is", 1: "the worst is"}
        told = worst.get(listed, f"the {listed} worst are")
        return f"None of {cases} cases failed ({rate}); {told} listed. {_causes(causes, 'being listed')}"
    kinds = [name for name in counts if name in KIND_COLUMNS]
    limits = {"low_dice": f"Dice below {LOW_DICE}", "gross_error": f"error above {GROSS_PERCENT:g} %"}
    parts = [f"{limits.get(name, name.replace('_', ' '))} in {whole[name]}" for name in kinds if whole[name]]
    more = f", and the {listed - failed} worst of the others" if listed > failed else ""
    outcome = "being listed" if more else "failing"
    found = f"They are listed{more}. {_causes(causes, outcome)}"
    return f"{failed} of {cases} cases failed ({rate}): {', '.join(parts)}. {found}"


def _rate(cell: str) -> str:
    """A printed percentage and its interval with the unit after the value: "5.9 % [2.0, 15.9]"."""
    value, keep, interval = cell.partition(tables.KEEP)
    return f"{value} %{keep}{interval}"


def _causes(causes: pd.DataFrame, outcome: str) -> str:
    """The properties associated with an outcome; without any, the one of the lowest p."""
    count = len(causes)
    if not count:
        return f"No property could be tested, which takes {FEWEST} cases with it and {FEWEST} without."
    cells = pd.DataFrame(tables.printed_cells(causes)).to_dict("records")
    values = [row["p"] if row["p"].startswith("<") else f"= {row['p']}" for row in cells]
    texts = [
        f"“{row['property']}”, {row['listed']} of {row['cases']} cases ({_rate(row['listed_percent'])}) against "
        f"{row['other_listed']} of {row['other_cases']} others ({_rate(row['other_percent'])}; p {p})"
        for row, p in zip(cells, values)
    ]
    associated = int((causes["p_adjusted"] < LEVEL).sum())
    tested = f"{count} properties were tested" if count > 1 else "1 property was tested"
    threshold = f"p times {count} below {LEVEL}"
    if not associated:
        return f"{tested}; no association with {outcome} was shown ({threshold}). The lowest p is that of {texts[0]}."
    verb = "is" if associated == 1 else "are"
    return f"{tested}; {associated} {verb} associated with {outcome} ({threshold}): {'; '.join(texts[:associated])}."


def of_flags(worth: pd.DataFrame, indicators: pd.DataFrame, limits: pd.DataFrame) -> str:
    """How many heads are flagged, whether those with large errors are more often, and how the limits were chosen.

    Arguments: the table of `summaries.flag_worth`, and indicators.csv and limits.csv of 05_evaluation.
    """
    if worth.empty:
        return "No head was measured against a reference."
    (flagged, rest), cells = worth.tail(2).to_dict("records"), tables.printed_cells(worth)
    heads, large = flagged["heads"] + rest["heads"], flagged["large_errors"] + rest["large_errors"]
    share, precision, recall = (_rate(cells[f"{name}_percent"][-2]) for name in ("share", "precision", "recall"))
    text = f"{flagged['heads']} of {heads} heads are flagged ({share})"
    found, meaning = flagged["large_errors"], f"(HC off by more than {LARGE_MM:g} mm, or not measured)"
    if not large:
        text += f"; no head has a large error {meaning}, so what the flags find cannot be judged."
    elif not flagged["heads"]:
        text += f"; {large} have a large error {meaning}."
    else:
        text += f". They include {found} of {large} large errors {meaning} ({recall}), and {found} of the "
        text += f"{flagged['heads']} flagged heads have one ({precision})."
        text += _beside_chance(flagged, rest, cells["p"][-2])
    return f"{text} {_limits(indicators, limits)}"


def _beside_chance(flagged: dict[str, Any], rest: dict[str, Any], p: str) -> str:
    """Whether large errors are flagged more often than other heads, by the p value of the table; "" without one."""
    if np.isnan(flagged["p"]):
        return ""
    found, large = flagged["large_errors"], flagged["large_errors"] + rest["large_errors"]
    false, others = flagged["heads"] - found, flagged["heads"] + rest["heads"] - large
    often = "more" if found * others > false * large else "less"
    verdict = f"heads with a large error are flagged {often} often than the other heads"
    if flagged["p"] >= LEVEL:
        verdict = "no evidence at this number of errors that flags find large errors better than chance"
    start = f" Of the heads without a large error, {false} of {others} are flagged"
    return f"{start}: {verdict} (Fisher’s exact test, {p_value(p)})."


def _limits(indicators: pd.DataFrame, limits: pd.DataFrame) -> str:
    """On how many validation cases the limits of the flags were chosen."""
    counts = sorted(indicators[indicators["role"] == "validation"].groupby(["fold", "seed"]).size())
    if limits.empty:
        few = f"there are fewer than {FEWEST_VALIDATION} validation cases"
        return f"No limits were chosen, because {few}: only those of the study file apply."
    number = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    each = "" if len(counts) == 1 else " of each run"
    return (
        f"The limits were chosen on {number} validation cases{each}, of which at most {100 * REFERRED:g} % are flagged."
    )


def of_landmarks(errors: pd.DataFrame) -> str:
    """Median and 95th percentile of the network's errors by line, over cases with seeds averaged; excluded cases."""
    unit, word = ("mm", "mm") if errors["error_mm"].notna().any() else ("px", "pixels")
    lines = []
    for line, rows in errors[~errors["route"].isin(TRIVIAL_BASELINES)].groupby("line", sort=False):
        known = rows.groupby("case", sort=False)[f"error_{unit}"].mean().dropna()
        is_missed = rows["error_px"].isna()
        excluded = {"missed": is_missed, "without a pixel size": ~is_missed & rows[f"error_{unit}"].isna()}
        counts = [f"n = {len(known)}", *(f"{int(is_in.sum())} {why}" for why, is_in in excluded.items() if is_in.any())]
        text = "no error is known"
        if len(known):
            median, high = np.percentile(known, [50, 95])
            text = f"half of the errors are below {median:.2f}, 95 % below {high:.2f} {word}"
        lines.append(f"{line.upper()}: {text} ({', '.join(counts)}).")
    return NEW_LINE.join(lines) or "No line was predicted."


def of_agreement(measurements: pd.DataFrame) -> str:
    """Bias, limits of agreement and slope with size, by route and quantity (measurements.csv of 06_biometry)."""
    rows = measured_rows(measurements)
    groups = rows.groupby(["route", "quantity"], sort=False)
    lines = [f"{quantity.upper()} by {route}: {_agreement(one)}." for (route, quantity), one in groups]
    return NEW_LINE.join(lines) or "No head was measured against a reference."


def _agreement(rows: pd.DataFrame) -> str:
    """Bias with limits, and the slope with its interval and whether that excludes 0."""
    difference, mean = rows["predicted_mm"] - rows["reference_mm"], (rows["predicted_mm"] + rows["reference_mm"]) / 2
    limits, subjects = limits_of_agreement(difference, rows["subject"]), rows["subject"]
    if np.isnan(limits.lower.value):
        return f"{rows['case'].nunique()} heads of {subjects.nunique()} subjects, too few for limits of agreement"
    bias, counts = limits.bias.value, f"n = {rows['case'].nunique()}"
    amount = f"{abs(bias):.2f}"
    text = f"{amount} mm too {'large' if bias > 0 else 'small'} on average" if amount != "0.00" else "no mean bias"
    text += f", limits {limits.lower.value:+.2f} to {limits.upper.value:+.2f} mm; {_trend(difference, mean, subjects)}"
    return f"{text} ({counts})".replace("-", "−")


def _trend(difference: pd.Series, mean: pd.Series, subjects: pd.Series) -> str:
    fitted = proportional_bias(difference, mean, subjects)
    slope, low, high = (100 * value for value in (fitted.slope.value, fitted.slope.low, fitted.slope.high))
    if not np.isfinite([slope, low]).all():
        return "too few subjects or sizes for a trend"
    numbers = f"{slope:+.2f} mm per 100 mm [{low:+.2f}, {high:+.2f}]"
    return f"the difference changes with size, {numbers}" if fitted.is_proportional else f"no clear trend, {numbers}"


def of_coverage(covered: pd.DataFrame) -> str:
    """How often the intervals contain the reference, and how wide they are (table of `summaries.coverage`)."""
    level = f"{100 * conformal.LEVEL:.0f} %"
    cells, lines = pd.DataFrame(tables.printed_cells(covered)).to_dict("records"), []
    for row, values in zip(cells, covered.to_dict("records")):
        text = (
            f"no run has an interval, which takes {conformal.fewest_subjects()} validation subjects with measured heads"
        )
        if values["n"]:
            text = f"{_rate(row['covered_percent'])} of the intervals contain the reference ({level} intended)"
            text += f"; their median width is {values['median_width_mm']:.2f} mm (n = {row['n']})"
        lines.append(f"{row['quantity']} by {row['route']}: {text}.")
    return NEW_LINE.join(lines) or "No head was measured against a reference."


def of_differences(compared: pd.DataFrame) -> str:
    """Mean difference of each pair of studies, and whether its confidence interval excludes 0 (`paired.comparison`)."""
    lines = []
    for row in compared.to_dict("records"):
        if row["n"] == 0:
            continue
        better = "better" if row["difference_mm"] < 0 else "worse"
        low, high = row["difference_mm_low"], row["difference_mm_high"]
        verdict = "the 95 % CI includes 0: inconclusive" if low <= 0 <= high else "the 95 % CI excludes 0"
        verdict = verdict if np.isfinite([low, high]).all() else f"no CI: fewer than {FEWEST_SUBJECTS} subjects"
        pair = f"{row['quantity'].upper()}, {row['route_a']} against {row['route_b']} of {row['study_b']}"
        lines.append(f"{pair}: A is {abs(row['difference_mm']):.2f} mm {better} on average ({verdict}).")
    return NEW_LINE.join(lines) or "No measurement in mm is compared."
