"""What another precision would change, on masks and points counted by hand."""

import numpy as np
import pandas as pd
import pytest

from lib.evaluation import training_precision

CLASSES = ["background", "head", "csp"]


def predicted(mask, certainty):
    """A mask and a probability that makes it."""
    mask = np.array(mask, np.uint8)
    probability = np.stack([np.where(mask == index, certainty, (1 - certainty) / 2) for index in range(3)])
    return mask, probability.astype(np.float32)


def test_two_masks_of_one_case_counted_by_hand():
    one = predicted([[1, 1, 1, 1, 0, 0]], 0.9)
    other = predicted([[1, 1, 1, 0, 0, 0]], 0.9)
    head, csp = training_precision.compare_masks(one, other, CLASSES)
    assert (head["class"], csp["class"]) == ("head", "csp")
    assert head["dice"] == pytest.approx(2 * 3 / (4 + 3))
    assert head["area_change_percent"] == pytest.approx(-25)
    assert head["probability_change"] == pytest.approx(0.85)
    assert np.isnan(csp["dice"])
    assert np.isnan(csp["area_change_percent"])
    assert csp["probability_change"] == 0


def test_a_structure_that_appears_or_goes_has_a_dice_of_0():
    with_csp, without = predicted([[1, 2, 0]], 0.9), predicted([[1, 1, 0]], 0.9)
    gone, new = (
        training_precision.compare_masks(*pair, CLASSES)[1] for pair in ((with_csp, without), (without, with_csp))
    )
    assert (gone["dice"], gone["area_change_percent"]) == (0, -100)
    assert new["dice"] == 0
    assert np.isnan(new["area_change_percent"])  # of nothing


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


def test_a_summary_of_masks_has_mean_and_worst_of_each_class():
    key = ["a", "s", 0, 0, "bfloat16"]
    rows = [[*key, "head", 1.0, 1.0, 0.01], [*key, "head", 0.9, -3.0, 0.02], [*key, "csp", np.nan, np.nan, 0.5]]
    head, csp = training_precision.summary(pd.DataFrame(rows, columns=training_precision.MASK_COLUMNS)).to_dict(
        "records"
    )
    assert head == {
        "class": "head",
        "training_precision": "bfloat16",
        "n": 2,
        "dice_mean": pytest.approx(0.95),
        "dice_least": 0.9,
        "area_change_percent": pytest.approx(-1),
        "largest_area_change_percent": 3,
        "largest_probability_change": 0.02,
    }
    assert (csp["n"], csp["largest_probability_change"]) == (0, 0.5)
    assert np.isnan(csp["dice_mean"])


def test_a_summary_of_points_has_mean_and_largest_shift_of_each_line():
    key = ["a", "s", 0, 0, "bfloat16"]
    rows = [[*key, "ofd", 1.0, 0.1], [*key, "bpd", 0.5, 0.05], [*key, "ofd", 3.0, np.nan], [*key, "ofd", np.nan, 0.3]]
    ofd, bpd = training_precision.summary(pd.DataFrame(rows, columns=training_precision.POINT_CHANGE_COLUMNS)).to_dict(
        "records"
    )
    assert (ofd["line"], ofd["n"]) == ("ofd", 2)
    assert (ofd["mean_shift_px"], ofd["largest_shift_px"]) == (2, 3)
    assert (ofd["mean_shift_mm"], ofd["largest_shift_mm"]) == (pytest.approx(0.2), pytest.approx(0.3))
    assert bpd["mean_shift_px"] == 0.5
