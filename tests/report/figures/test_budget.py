import numpy as np

from lib.report import figures
from tests.report.summaries.test_error_budget import of_cases


def test_every_component_of_the_error_budget_is_a_column_of_all_its_cases():
    long = of_cases((1, 0, 0, 3), (1, 0, 0, -3), (1, 0, 0, np.nan))
    (axes,) = figures.error_budget(long).axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[0] == "fit\nn = 3"
    assert labels[-2:] == ["prediction\nn = 2", "total\nn = 2"]
    heights = [np.asarray(points.get_offsets())[:, 1].tolist() for points in axes.collections]
    assert heights[3:] == [[3, -3], [4, -2]]
