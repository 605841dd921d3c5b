"""Figure of the error budget of HC."""

import pandas as pd
from matplotlib.figure import Figure

from lib.imaging.class_colours import OTHER_COLOURS
from lib.report.figures import style
from lib.report.figures.style import FAINT, panels, styled
from lib.report.summaries.error_budget import component_name, components


@styled
def error_budget(long: pd.DataFrame) -> Figure:
    """Contribution of each component to the error of HC, and their sum: one point per case and seed."""
    figure, ((axes,),) = panels(62)
    axes.axhline(0, color=FAINT, linewidth=0.6)
    labels = []
    for at, column in enumerate(components(long)):
        rows = long.dropna(subset=[column])
        style.draw_points_and_box(axes, rows[column].to_numpy(float), at, OTHER_COLOURS[2])
        labels.append(f"{component_name(column)}\nn = {rows['case'].nunique()}")
    axes.set_xticks(range(len(labels)), labels)
    axes.set(xlim=(-0.6, len(labels) - 0.4), ylabel="Contribution to the error of HC (mm)")
    return figure
