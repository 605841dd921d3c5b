"""What a figure or table shows, said by a rule: a sentence below it, of the same numbers and no others."""

import numpy as np
import pandas as pd

from lib import statistics
from lib.data.cases import TRIVIAL_BASELINES
from lib.report.summaries.biometry_errors import measured_rows

NEW_LINE = "  \n"  # in Markdown
FAR_BELOW = 1.5  # interquartile ranges below the lower quartile, as a box plot's whisker
LEAST_GAP = 0.05  # of Dice: what is nearer to the lower quartile is not far below it
FEW = 4  # cases, or heads, of which no quartiles and no correlation are said
SURE = 1.96  # standard deviations of Fisher's z that hold 95 %


def of_sizes(cases: pd.DataFrame) -> str:
    """Range of head circumferences and pixel sizes, and how many cases have none; `cases` as in cases.csv."""
    parts = [f"{len(cases)} cases in {cases.groupby(['height', 'width']).ngroups} image sizes"]
    hc, pixel = cases["hc_mm"].dropna(), cases["spacing_row_mm"].dropna()
    if len(hc):
        parts.append(f"published HC from {hc.min():.1f} to {hc.max():.1f} mm (n = {len(hc)})")
    if len(pixel):
        parts.append(f"pixel size from {pixel.min():.3f} to {pixel.max():.3f} mm")
    unknown = len(cases) - len(pixel)
    return "; ".join(parts) + (f"; {unknown} without a pixel size: no millimetres there." if unknown else ".")


def of_folds(folds: pd.DataFrame) -> str:
    """How evenly cases and subjects are dealt; `folds` as in folds.csv."""
    counts = folds.groupby("fold").agg(cases=("case", "size"), subjects=("subject", "nunique"))
    ends = {name: sorted({counts[name].min(), counts[name].max()}) for name in counts}
    ranges = [f"{' to '.join(map(str, values))} {name}" for name, values in ends.items()]
    return f"{len(counts)} folds of {' and '.join(ranges)}."


def of_one_batch(losses: list[float]) -> str:
    """How far the loss on one batch fell."""
    first, last = losses[0], losses[-1]
    if not np.isfinite(last):
        return f"The loss is {last} after {len(losses)} steps: it diverged."
    way = "fell" if last < first else "rose"
    return f"The loss {way} from {first:.3g} to {last:.2g}, {last / first:.1%} of its start, in {len(losses)} steps."


def of_training(history: pd.DataFrame) -> str:
    """Which epoch of history.csv is kept, what it reaches (an error is a negative `selection`), and what came after."""
    kept, last = history[history["best"].astype(bool)].iloc[-1], history["epoch"].max()
    digits, unit = (2, " % of OFD") if "validation_error_percent" in history else (3, "")
    validation, training = (f"{abs(kept[name]):.{digits}f}{unit}" for name in ("selection", "train_selection"))
    text = f"Epoch {kept['epoch']:.0f} of {len(history)} is kept: {validation} on validation, {training} on augmented "
    text += "training cases."
    if kept["epoch"] == last:
        return f"{text} It is the last epoch: more epochs may help." if len(history) > 1 else text
    return f"{text} The {int(last - kept['epoch'])} epochs after it brought nothing better."


def of_dice(table: pd.DataFrame) -> str:
    """Where half of the cases of each class lie, and which lie far below the others (cases.csv of 05_evaluation)."""
    lines = []
    post = table[(table["stage"] == "post") & (table["tp"] + table["fn"] > 0)]
    for name, rows in post.groupby("class", sort=False):
        dice = rows.groupby("case", sort=False)["dice"].mean()
        if len(dice) < FEW:
            lines.append(f"{name}: {len(dice)} cases, from {dice.min():.3f} to {dice.max():.3f}.")
            continue
        low, high = np.percentile(dice, [25, 75])
        far = list(dice[dice < low - max(FAR_BELOW * (high - low), LEAST_GAP)].sort_values().index)
        first = ", ".join(far[:5]) + ", …" * (len(far) > 5)
        below = f"far below them {len(far)}: {first}" if far else "none lies far below them"
        lines.append(f"{name}: half of the {len(dice)} cases lie between {low:.3f} and {high:.3f}; {below}.")
    return NEW_LINE.join(lines) or "No case shows a class."


def of_worst(ranked: pd.DataFrame) -> str:
    """Which case is worst and in what, and how many predictions score below 0.5 (rows as `ranking.ranked`)."""
    if ranked.empty:
        return "No case shows a class."
    worst, low = ranked.iloc[0], int((ranked["dice"] < 0.5).sum())
    return (
        f"The worst is {worst['case']}, {worst['class']} with Dice {worst['dice']:.3f}; {low} of {len(ranked)} "
        "predictions have a class below 0.5."
    )


def of_landmarks(errors: pd.DataFrame) -> str:
    """Median and 95th percentile of the network's errors by line, over cases, seeds averaged; what is in neither."""
    unit, word = ("mm", "mm") if errors["error_mm"].notna().any() else ("px", "pixels")
    lines = []
    for line, rows in errors[~errors["route"].isin(TRIVIAL_BASELINES)].groupby("line", sort=False):
        known = rows.groupby("case", sort=False)[f"error_{unit}"].mean().dropna()
        is_missed = rows["error_px"].isna()
        left_out = {"missed": is_missed, "without a pixel size": ~is_missed & rows[f"error_{unit}"].isna()}
        counts = [f"n = {len(known)}", *(f"{int(rows.sum())} {why}" for why, rows in left_out.items() if rows.any())]
        text = "no error is known"
        if len(known):
            middle, high = np.percentile(known, [50, 95])
            text = f"half of the errors are below {middle:.2f}, 95 % below {high:.2f} {word}"
        lines.append(f"{line.upper()}: {text} ({', '.join(counts)}).")
    return NEW_LINE.join(lines) or "No line was predicted."


def of_agreement(measurements: pd.DataFrame) -> str:
    """Bias, limits, and whether the error goes with size, by route and quantity (measurements.csv of 06_biometry)."""
    rows = measured_rows(measurements)
    lines = []
    for (route, quantity), one in rows.groupby(["route", "quantity"], sort=False):
        of_cases = one.groupby("case", sort=False)[["predicted_mm", "reference_mm"]].mean()
        few = f"{len(of_cases)} heads, too few for limits"
        text = few if len(of_cases) < FEW else _bias(of_cases["predicted_mm"], of_cases["reference_mm"])
        lines.append(f"{quantity.upper()} by {route}: {text}.")
    return NEW_LINE.join(lines) or "No head was measured against a reference."


def _bias(predicted: pd.Series, reference: pd.Series) -> str:
    """Mean difference with limits; a trend with size only where the 95 % interval of the correlation leaves out 0."""
    difference, middle = (predicted - reference).to_numpy(), ((predicted + reference) / 2).to_numpy()
    bias, lower, upper = statistics.limits_of_agreement(difference)
    side = f"{abs(bias):.2f} mm too {'large' if bias > 0 else 'small'}" if f"{abs(bias):.2f}" != "0.00" else "right"
    spread = difference.std() > 0 and middle.std() > 0
    r = float(np.clip(np.corrcoef(difference, middle)[0, 1], -0.999999, 0.999999)) if spread else 0.0
    low, high = np.tanh(np.arctanh(r) + SURE / np.sqrt(len(difference) - 3) * np.array([-1, 1]))
    trend = "grows with size" if low > 0 else "falls with size" if high < 0 else "shows no trend with size"
    figures = f"limits {lower:+.2f} to {upper:+.2f} mm; the difference {trend} (n = {len(difference)}, r = {r:.2f})"
    return f"{side} on average, {figures.replace('-', '−')}"


def of_differences(compared: pd.DataFrame) -> str:
    """Which study is nearer by how much, and whether the interval leaves it open (the table `paired.comparison`)."""
    lines = []
    for row in compared.to_dict("records"):
        if row["n"] == 0:
            continue
        nearer = "nearer" if row["difference_mm"] < 0 else "farther off"
        low, high = row["difference_mm_low"], row["difference_mm_high"]
        sure = "the interval holds 0: undecided" if low <= 0 <= high else "the interval leaves out 0"
        sure = sure if np.isfinite([low, high]).all() else "no interval: one subject"
        pair = f"{row['quantity'].upper()}, {row['route_a']} against {row['route_b']} of {row['study_b']}"
        lines.append(f"{pair}: A is {abs(row['difference_mm']):.2f} mm {nearer} on average ({sure}).")
    return NEW_LINE.join(lines) or "Nothing is compared in millimetres."
