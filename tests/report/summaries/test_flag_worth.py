import numpy as np
import pandas as pd
import pytest

from lib.report import captions
from lib.report.summaries import flag_worth


def measured(rows, **columns):
    """HC in the columns of measurements.csv, from (error in mm or NaN, flags)."""
    table = pd.DataFrame(rows, columns=["predicted_mm", "flags"])
    table["case"] = [f"c{n}" for n in range(len(table))]
    values = {"stage": "post", "route": "ellipse", "quantity": "hc", "reference_mm": 200.0, "seed": 0, "fold": 0}
    return table.assign(predicted_mm=200 + table["predicted_mm"], **(values | columns))


HEADS = [(0.0, "")] * 5 + [(6.0, "a"), (-6.0, "b; a"), (1.0, "a"), (np.nan, "no ellipse"), (7.0, "")]


def by_flag(table):
    return flag_worth.worth(table).set_index("flag")


def test_flags_are_counted_by_hand():
    table = by_flag(measured(HEADS))
    assert table.index.tolist() == ["a", "b", "no ellipse", "any flag", "no flag"]
    assert table["heads"].tolist() == [3, 1, 1, 4, 6]
    assert table["large_errors"].tolist() == [2, 1, 1, 3, 1]
    assert table["share_percent"].tolist() == [30, 10, 10, 40, 60]
    assert table["precision_percent"].tolist() == pytest.approx([200 / 3, 100, 100, 75, 100 / 6])
    assert table["recall_percent"].tolist() == [50, 25, 25, 75, 25]


def test_intervals_are_those_of_wilson():
    row = by_flag(measured(HEADS)).loc["any flag"]  # 3 of 4, as tabulated for Wilson's interval without correction
    assert (row["recall_percent_low"], row["recall_percent_high"]) == pytest.approx((30.06, 95.44), abs=0.01)


def test_raw_masks_other_quantities_baselines_and_heads_without_a_reference_do_not_count():
    others = [
        measured(HEADS, stage="raw"),
        measured(HEADS, quantity="bpd"),
        measured(HEADS, route="baseline"),
        measured(HEADS, reference_mm=np.nan),
    ]
    table = flag_worth.worth(pd.concat([*others, measured(HEADS)]))
    pd.testing.assert_frame_equal(table, flag_worth.worth(measured(HEADS)))
    assert flag_worth.holds_all_heads(table, measured(HEADS))
    assert not flag_worth.holds_all_heads(table, measured(HEADS[1:]))


def test_without_large_errors_there_is_no_recall_and_without_heads_no_table():
    table = by_flag(measured([(0.0, ""), (1.0, "a")]))
    assert table["recall_percent"].isna().all()
    assert table.loc["a", "precision_percent"] == 0
    empty = flag_worth.worth(measured([]))
    assert empty.empty
    assert flag_worth.holds_all_heads(empty, measured([]))


@pytest.mark.parametrize(
    ("heads", "p", "words"),
    [
        # by hand: of C(10, 4) = 210 ways, 24 give 3 of 4, 15 none and 1 all, which are no more likely
        (
            HEADS,
            40 / 210,
            "1 of 6 are flagged: no evidence at this number of errors that flags find large errors better ",
        ),
        ([(6.0, "a")] * 5 + [(0.0, "")] * 5, 2 / 252, "0 of 5 are flagged: heads with a large error are flagged more "),
        ([(6.0, "")] * 5 + [(0.0, "a")] * 5, 2 / 252, "5 of 5 are flagged: heads with a large error are flagged less "),
        ([(6.0, "a")] * 9 + [(0.0, "")] * 9, 2 / 48620, "(Fisher’s exact test, p < 0.001)"),
    ],
)
def test_flags_find_large_errors_only_if_fishers_test_says_so(heads, p, words):
    worth = flag_worth.worth(measured(heads))
    assert worth["p"].dropna().index.tolist() == worth.index[worth["flag"] == "any flag"].tolist()
    assert by_flag(measured(heads)).loc["any flag", "p"] == pytest.approx(p)
    indicators, limits = pd.DataFrame({"fold": [0], "seed": 0, "role": "validation"}), pd.DataFrame()
    assert words in captions.of_flags(worth, indicators, limits)


@pytest.mark.parametrize(
    "heads",
    [
        [(6.0, ""), (0.0, "")],  # no flag
        [(6.0, "a"), (0.0, "a")],  # no head without
        [(0.0, "a"), (0.0, "")],  # no large error
        [(6.0, "a"), (6.0, "")],  # no other error
    ],
)
def test_nothing_is_tested_without_both_kinds_of_heads_and_errors(heads):
    worth = flag_worth.worth(measured(heads))
    assert worth["p"].isna().all()
    indicators, limits = pd.DataFrame({"fold": [0], "seed": 0, "role": "validation"}), pd.DataFrame()
    assert "Fisher" not in captions.of_flags(worth, indicators, limits)


def test_the_caption_states_counts_with_intervals_and_how_limits_were_chosen():
    indicators = pd.DataFrame({"fold": 0, "seed": 0, "role": ["validation"] * 25 + ["test"] * 9})
    limits = pd.DataFrame({"fold": [0], "seed": [0], "flag": ["a"], "limit": [0.5]})
    text = captions.of_flags(flag_worth.worth(measured(HEADS)), indicators, limits)
    assert "4 of 10 heads are flagged (40.0 %" in text
    assert "3 of 4 large errors (HC off by more than 5 mm, or not measured) (75.0 %" in text
    assert "3 of the 4 flagged heads have one (75.0 %" in text
    assert "chosen on 25 validation cases, of which at most 10 % are flagged" in text
    none = captions.of_flags(flag_worth.worth(measured(HEADS[:5])), indicators, limits.iloc[:0])
    assert "0 of 5 heads are flagged" in none
    assert "no head has a large error" in none
    assert "fewer than 20 validation cases" in none
