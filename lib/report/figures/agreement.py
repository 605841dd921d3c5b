"""Charts of measurements against references and against other studies; every case is a point."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib import statistics
from lib.data.cases import QUANTITIES
from lib.imaging.class_colours import OTHER_COLOURS, printed_name
from lib.report.figures import style
from lib.report.figures.style import FAINT, INK, panels, styled
from lib.report.summaries.biometry_errors import measured_rows
from lib.report.summaries.measurement_agreement import volume_differences
from lib.statistics.agreement import limits_of_agreement, proportional_bias

NO_HEAD = "no head with a known pixel size was measured"
NO_VOLUME = "no volume was measured"
BESIDE = 0.36  # place of a mean below its points; rows are 1 apart
BAND_POINTS = 41  # of a band whose edges are curves
POINT = {"s": 10, "edgecolors": INK, "linewidths": 0.35}  # of a case


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
    crosses = {"marker": "x", "color": INK, "s": 9, "linewidths": 0.6, "alpha": 0.6}
    routes = ((crosses, "training mean", baseline), (POINT | {"color": OTHER_COLOURS[2]}, "predicted", network))
    for quantity, each in axes.items():
        for marks, label, of_route in routes:
            rows = of_route[of_route["quantity"] == quantity]
            text = f"{label}, n = {rows['case'].nunique()}"
            each.scatter(rows["reference_mm"], rows["predicted_mm"], label=text, **marks)
        limits = min(each.get_xlim()[0], each.get_ylim()[0]), max(each.get_xlim()[1], each.get_ylim()[1])
        each.plot(limits, limits, color=INK, linewidth=0.7)
        each.set(aspect="equal", xlim=limits, ylim=limits)
        each.set(xlabel=f"Reference {quantity.upper()} (mm)", ylabel=f"Predicted {quantity.upper()} (mm)")
        each.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24))
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
    if axes:
        style.add_shared_legend(figure)
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
        for axis in (each.xaxis, each.yaxis) if unit == "voxels" else ():
            axis.set_major_formatter(lambda value, _: style.spaced(value))
        each.set_title(f"{printed_name(name)}, n = {one['case'].nunique()}")
    if classes:
        style.add_shared_legend(figure)
    else:
        axes[0].set_axis_off()
        axes[0].text(0.5, 0.5, NO_VOLUME, ha="center", va="center")
    return figure


def draw_agreement(axes: Axes, size: pd.Series, difference: pd.Series, subjects: pd.Series, digits: int) -> None:
    """Differences against sizes with bias and limits of agreement, constant or sloping, and their intervals as bands.

    They slope, as lines of the regression, where the confidence interval of the slope excludes 0. `digits` is the
    number of decimals of the values next to the lines.
    """
    axes.scatter(size, difference, color=OTHER_COLOURS[2], label="case", **POINT)
    axes.axhline(0, color=FAINT, linewidth=0.6)
    limits, fitted = limits_of_agreement(difference, subjects), proportional_bias(difference, size, subjects)
    sizes = np.linspace(size.min(), size.max(), BAND_POINTS)
    constant = (limits.bias, limits.lower, limits.upper) if np.isfinite(limits.lower.value) else ()
    lines = zip(*map(fitted.intervals_at, sizes)) if fitted.is_proportional else ((each,) for each in constant)
    for place, line in enumerate(lines):
        look = {"color": OTHER_COLOURS[3], "linewidth": 1.1, "linestyle": "--" if place else "-"}
        look["label"] = "95 % limits of agreement" if place else "bias"
        band = {"color": OTHER_COLOURS[3], "alpha": 0.2, "linewidth": 0}
        band |= {"label": "95 % confidence interval"} if place else {}  # after both kinds of lines in the legend
        last = line[-1]
        if fitted.is_proportional:
            axes.plot(sizes, [each.value for each in line], **look)
            axes.fill_between(sizes, [each.low for each in line], [each.high for each in line], **band)
        else:
            axes.axhline(last.value, **look)
        if not fitted.is_proportional and np.isfinite(last.low):
            axes.axhspan(last.low, last.high, **band)
        text, transform = f"{last.value:+,.{digits}f}".replace("-", "−"), axes.get_yaxis_transform()
        axes.text(1.02, last.value, text.replace(",", "\u00a0"), transform=transform, va="center")


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
    """One row of `paired_differences`: points, below them the mean with its confidence interval, and n."""
    values = rows["difference_mm"].to_numpy(float)
    style.draw_points(axes, values, at, OTHER_COLOURS[2], horizontal=True)
    mean = statistics.mean_interval(values, rows["subject"].to_numpy())
    bounds = np.nan_to_num([[mean.value - mean.low], [mean.high - mean.value]])
    axes.errorbar([mean.value], [at + BESIDE], xerr=bounds, color=INK, marker="o", markersize=4, capsize=4)
    text = f"n = {rows['case'].nunique()}"
    axes.text(0.99, at - 0.42, text, transform=axes.get_yaxis_transform(), ha="right", va="center")
