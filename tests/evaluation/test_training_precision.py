import numpy as np
import pandas as pd
import pytest

from lib.evaluation import training_precision

NAN, KEY = float("nan"), ["a", "s", 0, 0, "bfloat16"]


def predicted(mask, certainty=0.9):
    """A mask of three classes and a probability that makes it."""
    mask = np.array([mask], np.uint8)
    probability = np.stack([np.where(mask == index, certainty, (1 - certainty) / 2) for index in range(3)])
    return mask, probability.astype(np.float32)


@pytest.mark.parametrize(
    ("one", "other", "index", "expected"),
    [
        ([1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], 0, ["head", 2 * 3 / (4 + 3), -25, 0.85]),
        ([1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], 1, ["csp", NAN, NAN, 0]),
        ([1, 2, 0], [1, 1, 0], 1, ["csp", 0, -100, 0.85]),  # it goes
        ([1, 1, 0], [1, 2, 0], 1, ["csp", 0, NAN, 0.85]),  # it appears: more by a share of nothing
    ],
)
def test_two_masks_of_one_case_counted_by_hand(one, other, index, expected):
    rows = training_precision.compare_masks(predicted(one), predicted(other), ("background", "head", "csp"))
    name, *values = rows[index].values()
    assert name == expected[0]
    assert values == pytest.approx(expected[1:], nan_ok=True)


def test_points_that_move_counted_by_hand():
    one = np.array([[10.0, 10], [10, 50], [5, 30], [25, 30]])
    other, missed = one.copy(), one.copy()
    other[0] = [13.0, 14.0]  # 5 px; 0.3 x 2 and 0.4 x 1 mm: 1.0 at 0.2 by 0.1
    missed[3, 0] = np.nan
    ofd, bpd = training_precision.compare_points(one, other, (0.2, 0.1))
    assert ofd == {"line": "ofd", "shift_px": 2.5, "shift_mm": pytest.approx(np.hypot(0.6, 0.4) / 2)}
    assert bpd == {"line": "bpd", "shift_px": 0, "shift_mm": 0}
    ofd, bpd = training_precision.compare_points(one, missed, None)
    assert ofd["shift_px"] == 0
    assert np.isnan([ofd["shift_mm"], bpd["shift_px"]]).all()


def test_a_summary_has_mean_and_worst_of_each_class_and_line():
    rows = [[*KEY, "head", 1.0, 1.0, 0.01], [*KEY, "head", 0.9, -3.0, 0.02], [*KEY, "csp", NAN, NAN, 0.5]]
    table = training_precision.summary(pd.DataFrame(rows, columns=training_precision.MASK_COLUMNS))
    assert table.columns.tolist()[:3] == ["class", "training_precision", "n"]
    head, csp = (row[3:] for row in table.values.tolist())
    assert table["n"].tolist() == [2, 0]
    assert head == pytest.approx([0.95, 0.9, -1, 3, 0.02])
    assert csp == pytest.approx([NAN, NAN, NAN, NAN, 0.5], nan_ok=True)
    rows = [[*KEY, "ofd", 1.0, 0.1], [*KEY, "bpd", 0.5, 0.05], [*KEY, "ofd", 3.0, NAN], [*KEY, "ofd", NAN, 0.3]]
    table = training_precision.summary(pd.DataFrame(rows, columns=training_precision.POINT_CHANGE_COLUMNS))
    ofd, bpd = table.to_dict("records")
    assert (ofd["line"], ofd["n"], bpd["mean_shift_px"]) == ("ofd", 2, 0.5)
    assert (ofd["mean_shift_px"], ofd["largest_shift_px"]) == (2, 3)
    assert (ofd["mean_shift_mm"], ofd["largest_shift_mm"]) == (pytest.approx(0.2), pytest.approx(0.3))
