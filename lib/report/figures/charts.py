"""Charts of the data, the network and its training; every case is a point, drawn together with any summary."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.data.cases import group_names, group_of
from lib.imaging.class_colours import OTHER_COLOURS, class_colour, printed_name
from lib.imaging.head_points import BLANK_LOSS
from lib.report.figures import style
from lib.report.figures.style import FAINT, INK, PREDICTED, panels, styled

ALONE_MM = 96.0  # width of a figure of one small panel, which the report prints at 60 % of the text
MAX_STRATA = 12  # rows of a figure; with more, groups are shown instead
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@styled
def sizes(cases: pd.DataFrame) -> Figure:
    """Head circumference and pixel size if known, and image sizes unless all are equal (cases.csv)."""
    columns = {"hc_mm": "Head circumference (mm)", "spacing_row_mm": "Pixel size, rows (mm)"}
    known = [(cases[key].dropna().to_numpy(float), text) for key, text in columns.items() if cases[key].notna().any()]
    counts = cases.groupby(["height", "width"]).size().reset_index(name="count")
    has_panel = len(counts) > 1 or not known
    width_mm = style.WIDTH_MM if cases["spacing_row_mm"].notna().any() else ALONE_MM
    figure, axes = panels(50, len(known) + has_panel, width_mm=width_mm)
    for each, (values, text) in zip(axes[0], known):
        style.draw_points_and_box(each, values, 0, OTHER_COLOURS[2])
        each.set(ylabel=text, xticks=[], xlabel=f"n = {style.spaced(len(values))}", xlim=(-0.6, 0.6))
    if has_panel:
        last, areas = axes[0, -1], 10 + 190 * counts["count"] / counts["count"].max()
        look = {"color": OTHER_COLOURS[2], "alpha": 0.6, "edgecolors": INK, "linewidths": 0.4}
        last.scatter(counts["width"], counts["height"], s=areas, **look)
        last.set(xlabel=f"Columns (pixels), n = {style.spaced(len(cases))}", ylabel="Rows (pixels)")
        last.set(title="Image sizes, area by count", xmargin=0.25, ymargin=0.25)
    return figure


@styled
def folds(cases: pd.DataFrame, folds: pd.DataFrame) -> Figure:
    """Cases of each stratum (row) in each fold (column), or of each group if there are many strata."""
    import seaborn  # takes half a second, and not every notebook draws

    joined = folds[["case", "fold"]].merge(cases[["case", "stratum", "hc_mm"]], on="case")
    strata = joined["stratum"].replace("", "all cases")
    if strata.nunique() > MAX_STRATA:
        strata = group_of(joined["stratum"])
    counts = joined.groupby([strata, "fold"]).size().unstack(fill_value=0)
    ranges, names = joined.groupby(group_of(joined["stratum"]))["hc_mm"].agg(hc_range), group_names(cases)
    labels = [f"{stratum_label(name, names, ranges)} (n = {row.sum()})" for name, row in counts.iterrows()]
    figure, ((axes,),) = panels(
        14 + 4.6 * len(counts), width_mm=style.WIDTH_MM if len(counts.columns) > 3 else ALONE_MM
    )
    seaborn.heatmap(counts, annot=True, fmt="d", vmin=0, **style.GRID, ax=axes)
    axes.set_yticks(np.arange(len(labels)) + 0.5, labels, rotation=0)
    axes.set(xlabel="Fold (numbers: cases)", ylabel="")
    axes.tick_params(length=0)
    return figure


def stratum_label(stratum: str, names: dict[str, str], ranges: pd.Series) -> str:
    """A stratum with the printed name of its group, and with the range of HC of the group if the name has none."""
    group, _, rest = stratum.partition(" ")
    if names.get(group, group) != group:
        return f"{names[group]} {printed_name(rest)}".strip()
    return f"{printed_name(stratum)}{ranges.get(group, '')}"


def hc_range(values: pd.Series) -> str:
    """Least and largest HC of a group in words, if that of every case is known."""
    return f", HC {values.min():.0f}–{values.max():.0f} mm" if values.notna().all() else ""


@styled
def feature_sizes(shapes: pd.DataFrame) -> Figure:
    """Output size and number of parameters of each layer; columns layer, channels, rows, cols, parameters."""
    figure, axes = panels(13 + 3.7 * len(shapes), 2, share_y=True)
    at = np.arange(len(shapes))
    values = shapes[["channels", "rows", "cols"]].prod(axis=1)
    outputs = [f"{s.channels} × {s.rows} × {s.cols}" for s in shapes.itertuples()]
    counts = [style.spaced(count) for count in shapes["parameters"]]
    for each, widths, texts in zip(axes[0], (values, shapes["parameters"]), (outputs, counts)):
        each.bar_label(each.barh(at, widths, 0.7, color=OTHER_COLOURS[2]), texts, padding=3)
        each.margins(x=0.38, y=0.01)
        each.xaxis.set_major_formatter(lambda x, _: style.spaced(x))
        each.locator_params(axis="x", nbins=4)
        each.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(at, list(shapes["layer"]))
    axes[0, 0].set_xlabel("Output values (channels × rows × columns)")
    axes[0, 1].set_xlabel(f"Parameters ({style.spaced(shapes['parameters'].sum())} in these layers)")
    axes[0, 0].invert_yaxis()
    return figure


@styled
def overfit(losses: list[float]) -> Figure:
    """The loss when overfitting one batch."""
    figure, ((axes,),) = panels(45, width_mm=0.75 * style.WIDTH_MM)
    axes.plot(np.arange(1, len(losses) + 1), losses, color=OTHER_COLOURS[2])
    axes.set(xlabel="Step", ylabel="Loss on one batch", ylim=(min([0.0, *losses]), None))
    return figure


@styled
def epoch_profile(profile: pd.DataFrame) -> Figure:
    """Share of each part of an epoch; columns part, seconds, percent."""
    figure, ((axes,),) = panels(14 + 5 * len(profile))
    at = np.arange(len(profile))
    texts = [f"{row.percent:.1f} % ({row.seconds:.2f} s)" for row in profile.itertuples()]
    axes.bar_label(axes.barh(at, profile["percent"], color=OTHER_COLOURS[2]), texts, padding=3)
    axes.set_yticks(at, list(profile["part"]))
    axes.set_xlabel(f"Share of an epoch of {profile['seconds'].sum():.2f} s (%)")
    axes.margins(x=0.3, y=0.02)
    axes.invert_yaxis()
    return figure


@styled
def training_curves(history: pd.DataFrame, classes: list[str]) -> Figure:
    """Losses, selection metric (Dice, or landmark error) and learning rate by epoch; the selected epoch is marked."""
    figure, axes = panels(50 + 4 * (len(classes) > 2), 3)
    loss, score, rate = axes[0]
    epochs, points = history["epoch"], "validation_error_percent" in history
    below = {"color": FAINT, "linewidth": 2.6, "zorder": 1.5, "label": "training"}  # remains visible below other lines
    loss.plot(epochs, history["train_loss"], **below)
    loss.plot(epochs, history["validation_loss"], color=INK, label="validation")
    score.plot(epochs, history["train_selection"] * (-1 if points else 1), **below)
    if points:
        loss.axhline(BLANK_LOSS, color=PREDICTED, linewidth=0.9, linestyle=":", label="blank map")
        loss.set_ylim(bottom=0)
        for name, colour in (("train_loss", FAINT), ("validation_loss", INK)):  # an untrained network starts far above
            style.mark_clipped(loss, epochs.to_numpy(), history[name].to_numpy(float), 1.5 * BLANK_LOSS, colour)
        score.plot(epochs, history["validation_error_percent"], color=INK, label="selection metric")
    else:
        metric = "selection metric"
        for name in classes[1:]:
            values, label = history[f"validation_dice_{name}"], f"validation, {printed_name(name)}"
            if np.allclose(values, history["selection"]):  # of the only class; a second line would hide the first
                label, metric = f"{label} ({metric})", ""
            score.plot(epochs, values, color=class_colour(name), label=label)
        if metric:
            score.plot(epochs, history["selection"], color=INK, linestyle=":", label=metric)
        score.set_ylim(-0.02, 1.02)
    power = int(np.floor(np.log10(history["learning_rate"].max())))
    rate.plot(epochs, history["learning_rate"] / 10.0**power, color=INK)
    selected = history.loc[history["best"].astype(bool), "epoch"].max()
    measure = "Error (% of OFD)" if points else "Pooled Dice"
    for each, text in zip(axes[0], ("Loss", measure, f"Learning rate × 10{str(-power).translate(RAISED)}")):
        each.set(xlabel="Epoch", title=text)
        each.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if np.isfinite(selected):
            label = f"selected: epoch {selected}"
            each.axvline(selected, color=OTHER_COLOURS[3], linewidth=0.8, linestyle="--", label=label)
    style.add_shared_legend(figure)
    return figure
