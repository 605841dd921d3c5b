"""Captions computed from the data: one sentence per figure or table that states its main numbers."""

import numpy as np
import pandas as pd

from lib.data.cases import TRIVIAL_BASELINES
from lib.report.summaries.biometry_errors import measured_rows
from lib.statistics import FEWEST_SUBJECTS
from lib.statistics.agreement import limits_of_agreement

NEW_LINE = "  \n"  # in Markdown
OUTLIER_RANGES = 1.5  # interquartile ranges below the lower quartile, as the whisker of a box plot
MIN_GAP = 0.05  # of Dice; cases closer to the lower quartile are not outliers
MIN_COUNT = 4  # cases or heads required for quartiles and correlation
Z_95 = 1.96  # normal quantile of a 95 % confidence interval


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
        f"The lowest Dice is {worst['dice']:.3f}, for {worst['class']} in {worst['case']}; {low} of {len(ranked)} "
        "predictions have a class below 0.5."
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
    """Bias, limits of agreement and trend with size, by route and quantity (measurements.csv of 06_biometry)."""
    rows = measured_rows(measurements)
    lines = []
    for (route, quantity), one in rows.groupby(["route", "quantity"], sort=False):
        of_cases = one.groupby("case", sort=False)[["predicted_mm", "reference_mm"]].mean()
        few = f"{len(of_cases)} heads, too few for limits of agreement"
        text = few if len(of_cases) < MIN_COUNT else _bias(of_cases["predicted_mm"], of_cases["reference_mm"])
        lines.append(f"{quantity.upper()} by {route}: {text}.")
    return NEW_LINE.join(lines) or "No head was measured against a reference."


def _bias(predicted: pd.Series, reference: pd.Series) -> str:
    """Bias with limits; a trend with size only if the 95 % confidence interval of the correlation excludes 0."""
    difference, mean = (predicted - reference).to_numpy(), ((predicted + reference) / 2).to_numpy()
    bias, lower, upper = limits_of_agreement(difference)
    amount = f"{abs(bias):.2f}"
    text = f"{amount} mm too {'large' if bias > 0 else 'small'} on average" if amount != "0.00" else "no mean bias"
    spread = difference.std() > 0 and mean.std() > 0
    r = float(np.clip(np.corrcoef(difference, mean)[0, 1], -0.999999, 0.999999)) if spread else 0.0
    low, high = np.tanh(np.arctanh(r) + Z_95 / np.sqrt(len(difference) - 3) * np.array([-1, 1]))
    trend = "grows with size" if low > 0 else "falls with size" if high < 0 else "shows no trend with size"
    numbers = f"limits {lower:+.2f} to {upper:+.2f} mm; the difference {trend} (n = {len(difference)}, r = {r:.2f})"
    return f"{text}, {numbers.replace('-', '−')}"


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
