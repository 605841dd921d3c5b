"""Bars: one a case, so that no case hides in a mean."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.report.figures.style import FAINT, INK, PREDICTED, class_colour, panels, styled
from lib.report.summaries import dice

NAMED = 40  # bars; beyond, names cannot be read


@styled
def dice_bars(table: pd.DataFrame, classes: list[str]) -> Figure:
    """Dice after post-processing of each case whose reference shows the class, sorted, a panel a class.

    Mean, median and n are those of `dice.per_class`; cases that do not show the class are counted below.

    Args:
        table: the long table of 05_evaluation; with several seeds a case's mean is drawn.
        classes: names, background first.
    """
    rows = table[table["stage"] == "post"]
    named = rows["case"].nunique() <= NAMED
    figure, axes = panels((len(classes) - 1) * (78 if named else 50), 1, len(classes) - 1)
    for name, each in zip(classes[1:], axes[:, 0]):
        of_class = rows[rows["class"] == name]
        said = dice.describe_class(of_class)
        values = dice.dice_by_case(of_class)["dice"].sort_index().sort_values(kind="stable")
        at = np.arange(len(values))
        each.bar(at, values, 0.8 if named else 1.0, color=class_colour(name))
        each.scatter(at[values == 0], values[values == 0] + 0.01, marker="x", s=16, color=PREDICTED, linewidths=0.8)
        for value, line in ((said["dice"], "-"), (said["dice_median"], "--")):
            each.axhline(value, color=INK, linewidth=0.8, linestyle=line)
        each.set_title(f"mean {said['dice']:.3f} (solid), median {said['dice_median']:.3f} (dashed)")
        each.set(ylim=(0, 1), ylabel=f"Dice, {name}", xlim=(-0.8, max(len(values), 1) - 0.2))
        counts = f"n = {said['n']}; not in the reference: absent {said['absent']}, invented {said['invented']}"
        each.set_xlabel(f"Cases whose reference shows it, in order of their Dice ({counts})")
        if named:
            each.set_xticks(at, values.index, rotation=90, fontsize=6)
        else:
            each.set_xticks([])
        each.grid(axis="y", color=FAINT, linewidth=0.3)
        each.set_axisbelow(True)
    return figure
