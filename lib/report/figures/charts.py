"""Charts; every case is a point, drawn together with any summary."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib import statistics
from lib.data.cases import QUANTITIES, TRIVIAL_BASELINES, group_of
from lib.imaging.class_colours import OTHER_COLOURS, class_colour, printed_name
from lib.imaging.head_points import BLANK_LOSS
from lib.report.figures import style
from lib.report.figures.style import FAINT, INK, PREDICTED, panels, styled
from lib.report.summaries import dice, distances
from lib.report.summaries.biometry_errors import measured_rows
from lib.report.summaries.measurement_agreement import volume_differences
from lib.statistics.agreement import limits_of_agreement, proportional_bias

MAX_NAMES = 40  # of cases below bars; more are illegible
NO_HEAD = "no head with a known pixel size was measured"
NO_VOLUME = "no volume was measured"
INVENTED_AT = -0.06  # height of invented structures on the axis of Dice
BAND_POINTS = 41  # of a band whose edges are curves
MAX_STRATA = 12  # in a legend; with more, groups are shown instead


@styled
def sizes(cases: pd.DataFrame) -> Figure:
    """Head circumference and pixel size if known, and image sizes (cases.csv)."""
    columns = {"hc_mm": "Head circumference (mm)", "spacing_row_mm": "Pixel size, rows (mm)"}
    known = [(cases[key].dropna().to_numpy(float), text) for key, text in columns.items() if cases[key].notna().any()]
    figure, axes = panels(58, len(known) + 1)
    for each, (values, text) in zip(axes[0], known):
        style.draw_points_and_box(each, values, 0, OTHER_COLOURS[2])
        each.set(ylabel=text, xticks=[], xlabel=f"n = {len(values)}", xlim=(-0.6, 0.6))
    counts = cases.groupby(["height", "width"]).size().reset_index(name="count")
    areas = 10 + 190 * counts["count"] / counts["count"].max()
    last = axes[0, -1]
    last.scatter(counts["width"], counts["height"], s=areas, color=OTHER_COLOURS[2], alpha=0.6, linewidths=0)
    last.set(xlabel=f"Columns (pixels), n = {len(cases)}", ylabel="Rows (pixels)")
    last.set(title="Image sizes, area by count", xmargin=0.25, ymargin=0.25)
    return figure


@styled
def folds(cases: pd.DataFrame, folds: pd.DataFrame) -> Figure:
    """Cases per fold, stacked by stratum, or by group if there are many strata."""
    joined = folds[["case", "fold"]].merge(cases[["case", "stratum"]], on="case")
    strata = joined["stratum"].replace("", "all cases")
    if strata.nunique() > MAX_STRATA:
        strata = group_of(joined["stratum"])
    counts = joined.groupby(["fold", strata]).size().unstack(fill_value=0)
    figure, ((axes,),) = panels(58)
    colours = matplotlib.colormaps["cividis"](np.linspace(0.15, 0.9, counts.shape[1]))
    below = counts.cumsum(axis=1) - counts
    for name, colour in zip(counts.columns, colours):
        label = f"{printed_name(name)} (n = {counts[name].sum()})"
        axes.bar(counts.index, counts[name], 0.7, bottom=below[name], color=colour, label=label)
    axes.set(xlabel="Fold", ylabel="Cases", xticks=list(counts.index))
    figure.legend(loc="outside right upper", title="Stratum", reverse=True)
    return figure


@styled
def feature_sizes(shapes: pd.DataFrame) -> Figure:
    """Output size and number of parameters of each layer; columns layer, channels, rows, cols, parameters."""
    figure, axes = panels(14 + 4 * len(shapes), 2, share_y=True)
    at = np.arange(len(shapes))
    values = shapes[["channels", "rows", "cols"]].prod(axis=1)
    outputs = [f"{s.channels} × {s.rows} × {s.cols}" for s in shapes.itertuples()]
    counts = [f"{count:,}" for count in shapes["parameters"]]
    for each, widths, texts in zip(axes[0], (values, shapes["parameters"]), (outputs, counts)):
        each.bar_label(each.barh(at, widths, color=OTHER_COLOURS[2]), texts, padding=3, fontsize=7)
        each.margins(x=0.35, y=0.01)
        each.xaxis.set_major_formatter("{x:,.0f}")
        each.locator_params(axis="x", nbins=4)
    axes[0, 0].set_yticks(at, list(shapes["layer"]), fontsize=7)
    axes[0, 0].set_xlabel("Output values (channels × rows × columns)")
    axes[0, 1].set_xlabel(f"Parameters ({shapes['parameters'].sum():,} in these layers)")
    axes[0, 0].invert_yaxis()
    return figure


@styled
def overfit(losses: list[float]) -> Figure:
    """The loss when overfitting one batch."""
    figure, ((axes,),) = panels(55)
    axes.plot(np.arange(1, len(losses) + 1), losses, color=OTHER_COLOURS[2])
    axes.set(xlabel="Step", ylabel="Loss on one batch", ylim=(min([0.0, *losses]), None))
    return figure


@styled
def epoch_profile(profile: pd.DataFrame) -> Figure:
    """Share of each part of an epoch; columns part, seconds, percent."""
    figure, ((axes,),) = panels(14 + 5 * len(profile))
    at = np.arange(len(profile))
    texts = [f"{row.percent:.1f} % ({row.seconds:.2f} s)" for row in profile.itertuples()]
    axes.bar_label(axes.barh(at, profile["percent"], color=OTHER_COLOURS[2]), texts, padding=3, fontsize=7)
    axes.set_yticks(at, list(profile["part"]))
    axes.set_xlabel(f"Share of an epoch of {profile['seconds'].sum():.2f} s (%)")
    axes.margins(x=0.3, y=0.02)
    axes.invert_yaxis()
    return figure


@styled
def training_curves(history: pd.DataFrame, classes: list[str]) -> Figure:
    """Losses, selection metric (Dice, or landmark error) and learning rate by epoch; the selected epoch is marked."""
    figure, axes = panels(58 + 4 * len(classes), 3)
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
        for name in classes[1:]:
            values = history[f"validation_dice_{name}"]
            score.plot(epochs, values, color=class_colour(name), label=f"validation, {printed_name(name)}")
        score.plot(epochs, history["selection"], color=INK, linestyle=":", label="selection metric")
        score.set_ylim(-0.02, 1.02)
    rate.plot(epochs, history["learning_rate"], color=INK)
    selected = history.loc[history["best"].astype(bool), "epoch"].max()
    metric = "Error (% of OFD)" if points else "Pooled Dice and selection metric"
    for each, text in zip(axes[0], ("Loss", metric, "Learning rate")):
        each.set(xlabel="Epoch", title=text)
        each.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if np.isfinite(selected):
            label = f"selected: epoch {selected}"
            each.axvline(selected, color=OTHER_COLOURS[3], linewidth=0.8, linestyle="--", label=label)
    for each in (loss, score):
        each.legend(loc="upper center", bbox_to_anchor=(0.5, -0.33), fontsize=7)
    rate.ticklabel_format(axis="y", scilimits=(0, 0))
    return figure


@styled
def dice_distribution(table: pd.DataFrame, classes: list[str]) -> Figure:
    """Dice by class and stage, one point per case and seed; boxes are of cases whose reference contains the class."""
    figure, ((axes,),) = panels(68)

    def draw(name: str, stage: str, at: float) -> str:
        rows = table[(table["class"] == name) & (table["stage"] == stage)]
        positive, counts = rows[dice.in_reference(rows)], dice.outcomes(rows)
        style.draw_points_and_box(axes, positive["dice"].to_numpy(float), at, class_colour(name))
        style.draw_markers(axes, counts["missed"], at, 0.0)
        style.draw_markers(axes, counts["invented"], at, INVENTED_AT, "^")
        return f"{printed_name(name)}\n{stage}\nn = {positive['case'].nunique()}"

    style.draw_columns(axes, classes[1:], list(dict.fromkeys(table["stage"])), draw)
    axes.set_ylabel("Dice")
    least = float(np.nanmin(table["dice"])) if table["dice"].notna().any() else 0.0
    axes.set_ylim(np.floor(least * 10) / 10 - 0.02 if least >= 0.1 else -0.1, 1.01)
    style.add_markers(figure, {"case": "o", "missed": "x", "invented (not in the box)": "^"})
    return figure


@styled
def hd95_distribution(table: pd.DataFrame, classes: list[str]) -> Figure:
    """HD95 after post-processing on a logarithmic axis, one point per case and seed; in mm if a pixel size is known."""
    unit, word = ("mm", "mm") if table["diagonal_mm"].notna().any() else ("px", "pixels")
    figure, ((axes,),) = panels(68)
    rows_of_unit, column = distances.in_unit(table, unit), f"hd95_{unit}"
    rows_of_unit = rows_of_unit.assign(**{column: style.on_logarithmic_axis(axes, rows_of_unit[column])})
    largest = np.nan_to_num(rows_of_unit[column].max(), nan=1.0)

    def draw(name: str, stage: str, at: float) -> str:
        rows = rows_of_unit[(rows_of_unit["class"] == name) & (rows_of_unit["stage"] == stage)]
        known, counts = rows.dropna(subset=[column]), dice.outcomes(rows)
        style.draw_points_and_box(axes, known[column].to_numpy(float), at, class_colour(name))
        style.draw_markers(axes, counts["missed"], at, 1.6 * largest)
        style.draw_markers(axes, counts["invented"], at, 2.2 * largest, "^")
        return f"{printed_name(name)}\nn = {known['case'].nunique()}"

    style.draw_columns(axes, classes[1:], ["post"], draw)
    axes.set_ylabel(f"HD95 ({word})")
    style.add_markers(figure, {"case": "o", "missed (no distance)": "x", "invented (no distance)": "^"})
    return figure


@styled
def dice_bars(table: pd.DataFrame, classes: list[str]) -> Figure:
    """Dice after post-processing, seeds averaged, of cases whose reference contains the class; others are counted."""
    rows = table[table["stage"] == "post"]
    named = rows["case"].nunique() <= MAX_NAMES
    figure, axes = panels((len(classes) - 1) * (78 if named else 50), 1, len(classes) - 1)
    for name, each in zip(classes[1:], axes[:, 0]):
        of_class = rows[rows["class"] == name]
        summary = dice.describe_class(of_class)
        values = dice.dice_by_case(of_class)["dice"].sort_index().sort_values(kind="stable")
        at = np.arange(len(values))
        each.bar(at, values, 0.8 if named else 1.0, color=class_colour(name))
        each.scatter(at[values == 0], values[values == 0] + 0.01, marker="x", s=16, color=PREDICTED, linewidths=0.8)
        for key, line in (("dice", "-"), ("dice_median", "--")):
            each.axhline(summary[key], color=INK, linewidth=0.8, linestyle=line)
        each.set_title(f"mean {summary['dice']:.3f} (solid), median {summary['dice_median']:.3f} (dashed)")
        each.set(ylim=(0, 1), ylabel=f"Dice, {printed_name(name)}", xlim=(-0.8, max(len(values), 1) - 0.2))
        counts = f"n = {summary['n']}; not in the reference: absent {summary['absent']}, invented {summary['invented']}"
        each.set_xlabel(f"Cases with the class in the reference, in order of Dice ({counts})")
        each.set_xticks(at if named else [], values.index if named else [], rotation=90, fontsize=6)
        each.grid(axis="y", color=FAINT, linewidth=0.3)
        each.set_axisbelow(True)
    return figure


@styled
def confusion(shares: pd.DataFrame, classes: list[str]) -> Figure:
    """Confusion matrix in percent of the pixels of each reference class; `shares` as from dice.confusion."""
    values = shares.set_index("reference").loc[classes, [f"{name}_percent" for name in classes]].to_numpy(float)
    figure, ((axes,),) = panels(28 + 12 * len(classes))
    axes.imshow(np.nan_to_num(values), cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for (row, col), value in np.ndenumerate(values):
        text = "none" if np.isnan(value) else f"{value:.1f}"
        axes.text(col, row, text, ha="center", va="center", color="white" if not value >= 60 else "black")
    axes.set(xlabel="Predicted class (% of the reference class's pixels)", ylabel="Reference class")
    labels, at = [printed_name(name) for name in classes], range(len(classes))
    axes.set(xticks=at, xticklabels=labels, yticks=at, yticklabels=labels)
    axes.spines[:].set_visible(False)
    return figure


def quantity_panels(rows: pd.DataFrame, height_mm: float, empty: str, share_y: bool = False) -> tuple[Figure, dict]:
    """A figure with one panel (Axes) per quantity present in the rows; without rows it shows the text `empty`."""
    present = [quantity for quantity in QUANTITIES if (rows["quantity"] == quantity).any()]
    figure, (axes,) = panels(height_mm if present else 14, max(1, len(present)), share_y=share_y)
    if not present:
        axes[0].set_axis_off()
        axes[0].text(0.5, 0.5, empty, ha="center", va="center")
    return figure, dict(zip(present, axes))


@styled
def agreement_scatter(measurements: pd.DataFrame) -> Figure:
    """Predicted against reference with the line of identity, one point per case and seed; training mean in grey."""
    figure, axes = quantity_panels(measurements, 62, NO_HEAD)
    # No other baseline: a blank map measures 0 mm and would squeeze all other points into a corner.
    baseline = measurements[measurements["route"] == "baseline"].drop_duplicates(["case", "quantity"])
    baseline = baseline.dropna(subset=["predicted_mm", "reference_mm"])
    network = measured_rows(measurements)
    routes = (("x", FAINT, "training mean", baseline), ("o", OTHER_COLOURS[2], "predicted", network))
    for quantity, each in axes.items():
        for marker, colour, label, of_route in routes:
            rows = of_route[of_route["quantity"] == quantity]
            marks = {"marker": marker, "color": colour, "label": f"{label}, n = {rows['case'].nunique()}"}
            each.scatter(rows["reference_mm"], rows["predicted_mm"], s=9, alpha=0.7, linewidths=0.6, **marks)
        limits = min(each.get_xlim()[0], each.get_ylim()[0]), max(each.get_xlim()[1], each.get_ylim()[1])
        each.plot(limits, limits, color=INK, linewidth=0.7)
        each.set(aspect="equal", xlim=limits, ylim=limits)
        each.set(xlabel=f"Reference {quantity.upper()} (mm)", ylabel=f"Predicted {quantity.upper()} (mm)")
        each.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), fontsize=7)
    return figure


@styled
def bland_altman(measurements: pd.DataFrame) -> Figure:
    """Bland-Altman plots after post-processing, one point per case and seed, with bias and 95 % limits of agreement."""
    rows = measured_rows(measurements)
    figure, axes = quantity_panels(rows, 62, NO_HEAD)
    for quantity, each in axes.items():
        one = rows[rows["quantity"] == quantity]
        size = (one["predicted_mm"] + one["reference_mm"]) / 2
        draw_agreement(each, size, one["predicted_mm"] - one["reference_mm"], one["subject"], 2)
        each.set(xlabel=f"Mean {quantity.upper()} (mm)", ylabel="Predicted − reference (mm)", ymargin=0.2)
        each.set_title(f"{quantity.upper()}, n = {one['case'].nunique()}")
    return figure


@styled
def volume_agreement(volumes: pd.DataFrame) -> Figure:
    """Bland-Altman plots of volumes by class, as `bland_altman` (volumes.csv of 06_biometry)."""
    rows, unit = volume_differences(volumes)
    classes = list(dict.fromkeys(rows["class"]))
    figure, (axes,) = panels(62 if classes else 14, max(1, len(classes)))
    for name, each in zip(classes, axes):
        one = rows[rows["class"] == name]
        draw_agreement(each, one["mean"], one["difference"], one["subject"], 0 if unit == "voxels" else 2)
        each.set(xlabel=f"Mean volume ({unit})", ylabel=f"Predicted − reference ({unit})", ymargin=0.2)
        each.set_title(f"{printed_name(name)}, n = {one['case'].nunique()}")
    if not classes:
        axes[0].set_axis_off()
        axes[0].text(0.5, 0.5, NO_VOLUME, ha="center", va="center")
    return figure


def draw_agreement(axes: Axes, size: pd.Series, difference: pd.Series, subjects: pd.Series, digits: int) -> None:
    """Differences against sizes with bias and limits of agreement, constant or sloping, and their intervals as bands.

    They slope, as lines of the regression, where the confidence interval of the slope excludes 0. `digits` is the
    number of decimals of the values next to the lines.
    """
    axes.scatter(size, difference, s=9, color=OTHER_COLOURS[2], alpha=0.7, linewidths=0)
    axes.axhline(0, color=FAINT, linewidth=0.6)
    limits, fitted = limits_of_agreement(difference, subjects), proportional_bias(difference, size, subjects)
    sizes = np.linspace(size.min(), size.max(), BAND_POINTS)
    constant = (limits.bias, limits.lower, limits.upper) if np.isfinite(limits.lower.value) else ()
    lines = zip(*map(fitted.intervals_at, sizes)) if fitted.is_proportional else ((each,) for each in constant)
    for place, line in enumerate(lines):
        look = {"color": OTHER_COLOURS[3], "linewidth": 0.9, "linestyle": "--" if place else "-"}
        band = {"color": OTHER_COLOURS[3], "alpha": 0.15, "linewidth": 0}
        last = line[-1]
        if fitted.is_proportional:
            axes.plot(sizes, [each.value for each in line], **look)
            axes.fill_between(sizes, [each.low for each in line], [each.high for each in line], **band)
        else:
            axes.axhline(last.value, **look)
        if not fitted.is_proportional and np.isfinite(last.low):
            axes.axhspan(last.low, last.high, **band)
        text, transform = f"{last.value:+.{digits}f}".replace("-", "−"), axes.get_yaxis_transform()
        axes.text(1.02, last.value, text, transform=transform, va="center", fontsize=7)


@styled
def landmark_errors(errors: pd.DataFrame) -> Figure:
    """Endpoint errors by line and route, one point per case and seed, in mm if known; crosses mark missed lines."""
    unit, word = ("mm", "mm") if errors["error_mm"].notna().any() else ("px", "pixels")
    figure, ((axes,),) = panels(68)
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
    style.add_markers(figure, {"case": "o", "missed (no distance)": "x"})
    return figure


@styled
def paired_differences(long: pd.DataFrame) -> Figure:
    """Errors of this study minus those of others by case, with mean and 95 % confidence interval."""
    rows = long[long["study_a"] != long["study_b"]].dropna(subset=["difference_mm"])
    pairs = {pair: row for row, pair in enumerate(dict.fromkeys(zip(rows["study_b"], rows["route_b"])))}
    figure, axes = quantity_panels(rows, 22 + 24 * len(pairs), "no measurement in mm is compared", share_y=True)
    for quantity, each in axes.items():
        each.axvline(0, color=FAINT, linewidth=0.6)
        for pair, group in rows[rows["quantity"] == quantity].groupby(["study_b", "route_b"], sort=False):
            draw_pair(each, group, pairs[pair])
        each.set(title=quantity.upper(), xlabel="Error A − error B (mm)", ylim=(len(pairs) - 0.4, -0.6))
        if each is figure.axes[0]:
            each.set_yticks(list(pairs.values()), [f"{study}\n{route}" for study, route in pairs])
    return figure


def draw_pair(axes: Axes, rows: pd.DataFrame, at: float) -> None:
    """One row of `paired_differences`: points, mean with confidence interval, and n."""
    values = rows["difference_mm"].to_numpy(float)
    offsets = style.jitter(len(values), 0.5)
    axes.scatter(values, at + offsets, s=5, color=OTHER_COLOURS[2], alpha=0.55, linewidths=0)
    mean = statistics.mean_interval(values, rows["subject"].to_numpy())
    bounds = np.nan_to_num([[mean.value - mean.low], [mean.high - mean.value]])
    axes.errorbar([mean.value], [at], xerr=bounds, color=INK, marker="o", markersize=4, capsize=4)
    text = f"n = {rows['case'].nunique()}"
    axes.text(0.99, at - 0.42, text, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=7)
