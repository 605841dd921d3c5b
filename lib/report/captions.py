"""What a figure or table shows, said by a rule: a sentence below it, of the same numbers and no others."""

import numpy as np
import pandas as pd

from lib import statistics
from lib.data.cases import GUESSES

SETTLED = 0.002  # gain of the value that chooses, per tenth of the epochs, below which more epochs would hardly help
GROWS = 0.3  # correlation of difference and size from which an error is said to grow with size
FAR_BELOW = 1.5  # interquartile ranges below the lower quartile, as a box plot's whisker


def of_sizes(cases: pd.DataFrame) -> str:
    """Range of head circumferences and pixel sizes, and how many cases have none; `cases` as in cases.csv."""
    said = [f"{len(cases)} cases in {cases.groupby(['height', 'width']).ngroups} image sizes"]
    hc, pixel = cases["hc_mm"].dropna(), cases["spacing_row_mm"].dropna()
    if len(hc):
        said.append(f"published HC from {hc.min():.1f} to {hc.max():.1f} mm (n = {len(hc)})")
    if len(pixel):
        said.append(f"pixel size from {pixel.min():.3f} to {pixel.max():.3f} mm")
    unknown = len(cases) - len(pixel)
    return "; ".join(said) + (f"; {unknown} without a pixel size: no millimetres there." if unknown else ".")


def of_folds(folds: pd.DataFrame) -> str:
    """How evenly cases and subjects are dealt; `folds` as in folds.csv."""
    counts = folds.groupby("fold").agg(cases=("case", "size"), subjects=("subject", "nunique"))
    return f"{len(counts)} folds of {_range(counts['cases'], 'cases')} and {_range(counts['subjects'], 'subjects')}."


def of_one_batch(losses: list[float]) -> str:
    """How far the loss on one batch fell."""
    share = losses[-1] / losses[0]
    return f"The loss fell from {losses[0]:.3g} to {losses[-1]:.2g}, {share:.1%} of its start, in {len(losses)} steps."


def of_training(history: pd.DataFrame) -> str:
    """Which epoch is kept, how far training and validation lie apart there, and whether more epochs may help.

    Args:
        history: history.csv of a run; `selection` is negative where an error chooses.
    """
    best = history.loc[history["selection"].idxmax()]
    percent = "validation_error_percent" in history
    value, training = abs(best["selection"]), abs(best["train_selection"])
    figures = (
        f"error {value:.2f} % of OFD on validation, {training:.2f} % on training cases"
        if percent
        else (f"{value:.3f} on validation, {training:.3f} on training cases")
    )
    tenth = max(1, len(history) // 10)
    before = history["selection"].iloc[:-tenth].max() if len(history) > tenth else -np.inf
    gain = (history["selection"].max() - before) / (100 if percent else 1)
    more = (
        "the best value still rose in the last tenth of the epochs, so more epochs may help"
        if gain > SETTLED
        else f"the last tenth of the epochs brought no more than {SETTLED:g}, so more epochs would hardly help"
    )
    return f"Epoch {best['epoch']:.0f} of {len(history)} is kept: {figures}; {more}."


def of_dice(table: pd.DataFrame) -> str:
    """Where half of the cases of each class lie, and which lie far below the others (cases.csv of 05_evaluation)."""
    said = []
    post = table[(table["stage"] == "post") & (table["tp"] + table["fn"] > 0)]
    for name, rows in post.groupby("class", sort=False):
        dice = rows.groupby("case", sort=False)["dice"].mean()
        low, high = np.percentile(dice, [25, 75])
        far = dice[dice < low - FAR_BELOW * (high - low)].sort_values()
        below = f"; far below them {_listed(far.index.tolist())}" if len(far) else "; none lies far below them"
        said.append(f"{name}: half of the {len(dice)} cases lie between {low:.3f} and {high:.3f}{below}.")
    return "  \n".join(said) or "No case shows a class."


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
    """Median and 95th percentile of the network's errors by line (cases.csv of a landmark study's 05_evaluation)."""
    unit, word = ("mm", "mm") if errors["error_mm"].notna().any() else ("px", "pixels")
    said = []
    for line, rows in errors[~errors["route"].isin(GUESSES)].groupby("line", sort=False):
        known = rows[f"error_{unit}"].dropna()
        if len(known):
            middle, high = np.percentile(known, [50, 95])
            said.append(
                f"{line.upper()}: half of the errors are below {middle:.2f} {word}, 95 % below {high:.2f} {word}."
            )
    return "  \n".join(said) or "No line was found."


def of_agreement(measurements: pd.DataFrame) -> str:
    """Bias, limits, and whether the error grows with size, by route and quantity (measurements.csv of 06_biometry)."""
    rows = measurements[(measurements["stage"] == "post") & ~measurements["route"].isin(GUESSES)]
    rows = rows.dropna(subset=["predicted_mm", "reference_mm"])
    said = []
    for (route, quantity), one in rows.groupby(["route", "quantity"], sort=False):
        if len(one) >= 3:
            said.append(f"{quantity.upper()} by {route}: {_bias(one['predicted_mm'], one['reference_mm'])}.")
    return "  \n".join(said) or "Too few heads were measured."


def _bias(predicted: pd.Series, reference: pd.Series) -> str:
    difference, middle = (predicted - reference).to_numpy(), ((predicted + reference) / 2).to_numpy()
    bias, lower, upper = statistics.limits_of_agreement(difference)
    side = "too large" if bias > 0 else "too small"
    spread = difference.std() > 0 and middle.std() > 0
    r = float(np.corrcoef(difference, middle)[0, 1]) if spread else 0.0
    trend = "does not depend on size" if abs(r) < GROWS else "grows with size" if r > 0 else "falls with size"
    limits = f"limits {lower:+.2f} to {upper:+.2f} mm".replace("-", "−")
    return f"{abs(bias):.2f} mm {side} on average, {limits}; the difference {trend} (r = {r:.2f})".replace(
        "r = -", "r = −"
    )


def of_differences(compared: pd.DataFrame) -> str:
    """Which study is nearer by how much, and whether the interval leaves it open (the table `paired.comparison`)."""
    said = []
    for row in compared.to_dict("records"):
        if row["n"] == 0:
            continue
        nearer = "nearer" if row["difference_mm"] < 0 else "farther off"
        open_ = row["difference_mm_low"] <= 0 <= row["difference_mm_high"]
        sure = "the interval holds 0: undecided" if open_ else "the interval leaves out 0"
        said.append(
            f"{row['quantity'].upper()}, {row['route_a']} against {row['route_b']} of {row['study_b']}: A is "
            f"{abs(row['difference_mm']):.2f} mm {nearer} on average ({sure})."
        )
    return "  \n".join(said) or "Nothing is compared in millimetres."


def _range(counts: pd.Series, what: str) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low} {what}" if low == high else f"{low} to {high} {what}"


def _listed(names: list[str]) -> str:
    """How many, and the first of them."""
    return f"{len(names)}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
