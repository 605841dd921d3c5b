import numpy as np
import pandas as pd
import pytest

from lib import statistics
from lib.report.summaries import distances, presence
from tests.builders_figures import overlap_rows

FOUND, MISSED, INVENTED, ABSENT, ELSEWHERE = (40, 10, 10), (0, 0, 50), (0, 30, 0), (0, 0, 0), (0, 5, 5)


def rows(outcomes, hd95, nsd, unit="mm", **columns):
    """The long table of 05: HD95 and NSD of each outcome, ASSD half of HD95, a diagonal of 100."""
    table = overlap_rows(outcomes).assign(
        **{f"{name}_{end}": np.nan for name in ("hd95", "assd", "diagonal") for end in ("mm", "px")}
    )
    lengths = {f"hd95_{unit}": hd95, f"assd_{unit}": np.array(hd95) / 2, f"diagonal_{unit}": 100.0}
    return table.assign(**lengths, nsd=nsd, **columns)


SIX = [FOUND, FOUND, ELSEWHERE, MISSED, INVENTED, ABSENT]
LONG = rows(SIX, [1.0, 2.0, 6.0, np.nan, np.nan, np.nan], [1.0, 0.9, 0.2, 0.0, 0.0, np.nan])


def test_means_are_of_structures_in_both_masks_and_missed_and_invented_ones_have_the_diagonal_in_a_second_row():
    found, penalised = distances.per_class(LONG, "mm").to_dict("records")
    for row, n, hd95, assd, nsd, largest in (
        (found, 3, 3, 1.5, 0.7, 6),
        (penalised, 5, 209 / 5, 204.5 / 5, 2.1 / 5, 100),
    ):
        assert (row["n"], row["missed"], row["invented"]) == (n, 1, 1)
        means = [row[name] for name in ("hd95_mm", "assd_mm", "nsd", "largest_hd95_mm")]
        assert means == pytest.approx([hd95, assd, nsd, largest])
    # medians of 1, 2, 6 and of 1, 2, 6, 100, 100; without the largest, 1, 2 and 1, 2, 6, 100 are left
    for row, median, others in ((found, 2, 1.5), (penalised, 6, 109 / 4)):
        assert [row["median_hd95_mm"], row["median_assd_mm"], row["others_hd95_mm"]] == pytest.approx(
            [median, median / 2 if row is found else 3, others]
        )
    assert (found["penalty"], penalised["penalty"]) == (False, True)
    assert len(distances.per_class(LONG.iloc[[0, 1, 5]], "mm")) == 1  # nothing to penalise
    assert distances.are_of_found_structures(LONG)
    for column, place in (("hd95_mm", 3), ("hd95_mm", 5), ("hd95_px", 0)):
        assert not distances.are_of_found_structures(
            LONG.assign(**{column: LONG[column].where(LONG.index != place, 1.0)})
        )
    assert not distances.are_of_found_structures(LONG.assign(hd95_mm=np.nan))


def test_cases_with_and_without_a_pixel_size_are_never_in_one_mean():
    long = pd.concat([LONG, rows([FOUND, MISSED], [7.0, np.nan], [0.5, 0.0], "px").assign(case=["d0", "d1"])])
    assert distances.per_class(long, "mm").equals(distances.per_class(LONG, "mm"))
    in_px = distances.per_class(long, "px")
    assert in_px[["penalty", "n", "hd95_px"]].values.tolist() == [[False, 1, 7.0], [True, 2, 53.5]]
    assert not [name for name in in_px if name.endswith("_mm")]
    none = distances.per_class(LONG, "px")
    assert (len(none), none.columns.tolist()) == (0, distances.COLUMNS)


def test_seeds_of_a_case_are_averaged_and_a_class_absent_everywhere_has_no_mean():
    twice = pd.concat([LONG.assign(seed=seed, hd95_mm=LONG["hd95_mm"] + seed) for seed in (0, 1)])
    row = distances.per_class(twice, "mm").iloc[0]
    assert (row["n"], row["hd95_mm"], row["missed"], row["invented"]) == (3, 3.5, 2, 2)
    nothing = rows([ABSENT] * 3, [np.nan] * 3, [np.nan] * 3)
    (row,) = distances.per_class(nothing, "mm").to_dict("records")
    assert (row["n"], row["missed"], row["invented"]) == (0, 0, 0)
    assert np.isnan([row["hd95_mm"], row["largest_hd95_mm"], row["nsd"]]).all()
    (row,) = distances.size_errors(nothing.assign(size_error_percent=np.nan)).to_dict("records")
    assert row["n"] == 0
    assert np.isnan(row["size_error_percent"])


def test_intervals_end_where_a_distance_or_a_share_must():
    outcomes = [FOUND] * 11 + [MISSED]
    long = rows(outcomes, [0.01] * 11 + [np.nan], [0.99] * 11 + [0.0]).assign(subject=[f"s{n}" for n in range(12)])
    row = distances.per_class(long, "mm").iloc[1]
    assert row["hd95_mm_low"] >= 0
    assert row["hd95_mm_high"] <= 100
    assert 0 <= row["nsd_low"] <= row["nsd_high"] <= 1


def test_a_size_error_of_a_miss_is_100_percent_and_inventions_are_left_out():
    long = overlap_rows([(8, 4, 2), (8, 0, 2), MISSED, INVENTED]).assign(size_error_percent=[20, -20, -100, np.nan])
    (row,) = distances.size_errors(long).to_dict("records")
    assert row["median_error_percent"] == 20
    assert (row["n"], row["size_error_percent"], row["bias_percent"]) == (
        3,
        pytest.approx(140 / 3),
        pytest.approx(-100 / 3),
    )


def test_presence_is_counted_by_image_with_wilson_intervals():
    # 4 of 17 images without the structure have one predicted: 23.5 % [9.6, 47.3]; Wilson's formula by hand
    long = overlap_rows([FOUND] * 30 + [ELSEWHERE] * 3 + [MISSED] * 2 + [INVENTED] * 4 + [ABSENT] * 13)
    long["subject"] = long["case"]
    table = presence.per_class(long)
    (row,) = table.to_dict("records")
    counts = {"n": 52, "detected": 33, "dice_from_half": 30, "missed": 2, "invented": 4, "absent": 13}
    assert {name: row[name] for name in counts} == counts
    alarms = [row[f"false_alarms_percent{end}"] for end in ("", "_low", "_high")]
    share, squared = 4 / 17, 1.959964**2
    centre, half = share + squared / 34, 1.959964 * (share * (1 - share) / 17 + squared / (4 * 17**2)) ** 0.5
    bounds = [100 * (centre + sign * half) / (1 + squared / 17) for sign in (-1, 1)]
    assert alarms == pytest.approx([100 * share, *bounds], abs=1e-4)
    assert alarms[1:] == pytest.approx([9.6, 47.3], abs=0.05)
    assert row["sensitivity_percent"] == pytest.approx(100 * 33 / 35)
    assert [row["specificity_percent"], row["specificity_percent_low"]] == pytest.approx(
        [100 - alarms[0], 100 - alarms[2]]
    )
    assert presence.holds_all_predictions(table, long)
    assert not presence.holds_all_predictions(table, long.iloc[1:])
    assert not presence.holds_all_predictions(table.assign(n=51), long)


def test_the_interval_of_a_presence_is_wider_if_images_of_a_subject_are_alike():
    # 10 subjects, each with two equal images: 20 images tell as much as 10
    outcomes = [each for each in [INVENTED] * 2 + [ABSENT] * 8 for _ in range(2)]
    twice, once = (presence.per_class(overlap_rows(each)).iloc[0] for each in (outcomes, [INVENTED] * 2 + [ABSENT] * 8))
    assert twice["false_alarms_percent"] == once["false_alarms_percent"] == 20
    low, high = (twice[f"false_alarms_percent_{end}"] for end in ("low", "high"))
    # design effect 2 x (10 / 9) / (20 / 19), t quantiles of 19 and 9 degrees of freedom: 2.0930 and 2.2622
    number = 20 / (2 * (10 / 9) / (20 / 19)) * (2.0930 / 2.2622) ** 2
    expected = [100 * bound for bound in statistics.proportion_interval(0.2 * number, number)[1:]]
    assert [low, high] == pytest.approx(expected, abs=0.01)
    assert twice["specificity_percent"] == 80


def test_presence_without_images_of_a_kind_is_undefined_and_seeds_have_rows_of_their_own():
    twice = pd.concat([overlap_rows([FOUND, MISSED], seed) for seed in (0, 3)])
    table = presence.per_class(twice)
    assert table[["seed", "n", "sensitivity_percent"]].values.tolist() == [[0, 2, 50], [3, 2, 50]]
    assert table[["specificity_percent", "false_alarms_percent", "specificity_percent_low"]].isna().all(axis=None)
    absent = presence.per_class(overlap_rows([ABSENT] * 3)).iloc[0]
    assert (absent["absent"], absent["specificity_percent"]) == (3, 100)
    assert np.isnan(absent["sensitivity_percent"])


def with_parts(counts, **columns):
    """Rows of (reference parts, found, predicted, matched) per case."""
    names = ["reference_parts", "found_parts", "predicted_parts", "matched_parts"]
    long = overlap_rows([FOUND if each[0] else INVENTED if each[2] else ABSENT for each in counts])
    return pd.concat([long, pd.DataFrame(counts, columns=names)], axis=1).assign(**columns)


def test_f1_of_parts_is_of_classes_of_which_a_reference_has_several():
    # F1: 2 of 2 without a false one, 1 of 2 with one false, none of 1; an invention has no F1, but a false part
    long = with_parts([(2, 2, 1, 1), (2, 1, 2, 1), (1, 0, 0, 0), (0, 0, 1, 0)])
    single = with_parts([(1, 1, 3, 1), (0, 0, 2, 0)], **{"class": "head"})
    (row,) = presence.parts(pd.concat([long, single])).to_dict("records")
    assert (row["class"], row["n"], row["part_f1"]) == ("csp", 3, pytest.approx((1 + 2 / 4 + 0) / 3))
    assert [row[name] for name in ("reference_parts", "found_parts", "false_parts")] == [5, 3, 2]
    none = presence.parts(single)
    assert (len(none), none.columns.tolist()) == (0, presence.PART_COLUMNS)
