"""Charts of the quality of predictions; every case is a point, drawn together with any summary."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.data.cases import TRIVIAL_BASELINES
from lib.imaging.class_colours import OTHER_COLOURS, class_colour, printed_name
from lib.report.figures import style
from lib.report.figures.style import FAINT, INK, PREDICTED, panels, styled
from lib.report.summaries import dice, distances

MAX_NAMES = 40  # of cases below bars; more are illegible
VISIBLE = 0.01  # difference of Dice
STAGES = {"raw": "before", "post": "after"}  # post-processing


@styled
def dice_distribution(table: pd.DataFrame, classes: list[str]) -> Figure:
    """Dice by class, one point per case and seed; boxes are of cases whose reference contains the class.

    It is that after post-processing, beside that before if they visibly differ. The axis begins at the least value.
    """
    figure, ((axes,),) = panels(60)
    outcomes = {"missed": 0, "invented": 0}
    stages = list(dict.fromkeys(table["stage"])) if _differ(table) else ["post"]
    shown = table[table["stage"].isin(stages) & dice.in_reference(table)]
    least = float(np.nan_to_num(shown["dice"].min()))
    low = np.floor(least * 20) / 20
    step = 0.03 * (1 - low)

    def draw(name: str, stage: str, at: float) -> str:
        of_column = table[(table["class"] == name) & (table["stage"] == stage)]
        positive, counts = of_column[dice.in_reference(of_column)], dice.outcomes(of_column)
        found = positive[positive["tp"] + positive["fp"] > 0]
        style.draw_points(axes, found["dice"].to_numpy(float), at, class_colour(name))
        style.draw_box(axes, positive["dice"].to_numpy(float), at)
        style.draw_markers(axes, counts["missed"], at, 0.0)
        style.draw_markers(axes, counts["invented"], at, low - 2 * step, "invented")
        outcomes.update({key: outcomes[key] + counts[key] for key in outcomes})
        when = f"{STAGES[stage]}\n" * (len(stages) > 1)
        return f"{printed_name(name)}\n{when}n = {positive['case'].nunique()}"

    style.draw_columns(axes, classes[1:], stages, draw)
    axes.set_ylabel("Dice")
    axes.set_ylim(low - (3 if outcomes["invented"] else 1) * step, 1 + step)
    if outcomes["invented"]:  # below the axis, from which a dotted line parts them
        axes.axhline(low - step, color=FAINT, linewidth=0.6, linestyle=":")
        axes.set_yticks([tick for tick in axes.get_yticks() if low - 1e-9 <= tick <= 1 + 1e-9])
    style.add_markers(figure, outcomes)
    return figure


def _differ(table: pd.DataFrame) -> bool:
    """Whether post-processing changed a Dice enough to be seen."""
    if table["stage"].nunique() < 2:
        return False
    wide = table.pivot(index=["case", "class", "seed"], columns="stage", values="dice")
    return bool((wide["raw"] - wide["post"]).abs().max() >= VISIBLE)


@styled
def hd95_distribution(table: pd.DataFrame, classes: list[str]) -> Figure:
    """HD95 after post-processing on a logarithmic axis, one point per case and seed; in mm if a pixel size is known."""
    unit, word = ("mm", "mm") if table["diagonal_mm"].notna().any() else ("px", "pixels")
    figure, ((axes,),) = panels(60)
    rows_of_unit, column = distances.in_unit(table, unit), f"hd95_{unit}"
    rows_of_unit = rows_of_unit.assign(**{column: style.on_logarithmic_axis(axes, rows_of_unit[column])})
    largest = np.nan_to_num(rows_of_unit[column].max(), nan=1.0)
    outcomes = {"missed": 0, "invented": 0}

    def draw(name: str, stage: str, at: float) -> str:
        rows = rows_of_unit[(rows_of_unit["class"] == name) & (rows_of_unit["stage"] == stage)]
        known, counts = rows.dropna(subset=[column]), dice.outcomes(rows)
        style.draw_points_and_box(axes, known[column].to_numpy(float), at, class_colour(name))
        style.draw_markers(axes, counts["missed"], at, 1.6 * largest)
        style.draw_markers(axes, counts["invented"], at, 2.2 * largest, "invented")
        outcomes.update({key: outcomes[key] + counts[key] for key in outcomes})
        return f"{printed_name(name)}\nn = {known['case'].nunique()}"

    style.draw_columns(axes, classes[1:], ["post"], draw)
    axes.set_ylabel(f"HD95 ({word})")
    style.add_markers(figure, outcomes)
    return figure


@styled
def dice_bars(table: pd.DataFrame, classes: list[str]) -> Figure:
    """Dice after post-processing, seeds averaged, of cases whose reference contains the class; others are counted."""
    rows = table[table["stage"] == "post"]
    named = rows["case"].nunique() <= MAX_NAMES
    figure, axes = panels((len(classes) - 1) * (66 if named else 36), 1, len(classes) - 1)
    for name, each in zip(classes[1:], axes[:, 0]):
        of_class = rows[rows["class"] == name]
        summary = dice.describe_class(of_class)
        values = dice.dice_by_case(of_class)["dice"].sort_index().sort_values(kind="stable")
        at = np.arange(len(values))
        each.bar(at, values, 0.8 if named else 1.0, color=class_colour(name))
        each.scatter(at[values == 0], values[values == 0] + 0.01, marker="x", s=16, color=PREDICTED, linewidths=0.8)
        for key, line in (("dice", "-"), ("dice_median", "--")):
            each.axhline(summary[key], color=INK, linewidth=0.8, linestyle=line)
        text = f"mean {summary['dice']:.3f} (solid), median {summary['dice_median']:.3f} (dashed), n = {summary['n']}; "
        each.set_title(f"{text}not in the reference: absent {summary['absent']}, invented {summary['invented']}")
        each.set(ylim=(0, 1), ylabel=f"Dice, {printed_name(name)}", xlim=(-0.8, max(len(values), 1) - 0.2))
        each.set_xlabel("Cases with the class in the reference, in order of Dice")
        each.set_xticks(at if named else [], map(style.shortened, values.index) if named else [], rotation=90)
        each.grid(axis="y", color=FAINT, linewidth=0.3)
        each.set_axisbelow(True)
    return figure


@styled
def confusion(shares: pd.DataFrame, classes: list[str]) -> Figure:
    """Confusion matrix in percent of the pixels of each reference class; `shares` as from dice.confusion."""
    values = shares.set_index("reference").loc[classes, [f"{name}_percent" for name in classes]].to_numpy(float)
    import seaborn  # takes half a second, and not every notebook draws

    figure, ((axes,),) = panels(16 + 9 * len(classes), width_mm=0.8 * style.WIDTH_MM)
    labels = [printed_name(name) for name in classes]
    texts = [["none" if np.isnan(value) else f"{value:.1f}" for value in row] for row in values]
    seaborn.heatmap(np.nan_to_num(values), annot=np.array(texts), fmt="", vmin=0, vmax=100, **style.GRID, ax=axes)
    axes.set_xticks(np.arange(len(labels)) + 0.5, labels)
    axes.set_yticks(np.arange(len(labels)) + 0.5, labels, rotation=0)
    axes.set(xlabel="Predicted class (% of the reference class's pixels)", ylabel="Reference class")
    axes.tick_params(length=0)
    return figure


@styled
def landmark_errors(errors: pd.DataFrame) -> Figure:
    """Endpoint errors by line and route, one point per case and seed, in mm if known; crosses mark missed lines."""
    unit, word = ("mm", "mm") if errors["error_mm"].notna().any() else ("px", "pixels")
    figure, ((axes,),) = panels(60)
    errors = errors.assign(**{f"error_{unit}": style.on_logarithmic_axis(axes, errors[f"error_{unit}"])})
    above = 1.6 * np.nan_to_num(errors[f"error_{unit}"].max(), nan=1.0)

    def draw(line: str, route: str, at: float) -> str:
        rows = errors[(errors["line"] == line) & (errors["route"] == route)]
        known, missed = rows.dropna(subset=[f"error_{unit}"]), int(rows["error_px"].isna().sum())
        colour = FAINT if route in TRIVIAL_BASELINES else OTHER_COLOURS[2]
        style.draw_points_and_box(axes, known[f"error_{unit}"].to_numpy(float), at, colour)
        style.draw_markers(axes, missed, at, above)
        return f"{line.upper()}\n{route}\nn = {known['case'].nunique()}" + f", {missed} missed" * (missed > 0)

    style.draw_columns(axes, list(dict.fromkeys(errors["line"])), list(dict.fromkeys(errors["route"])), draw)
    axes.set_ylabel(f"Endpoint error ({word})")
    style.add_markers(figure, {"missed": int(errors["error_px"].isna().sum())})
    return figure
