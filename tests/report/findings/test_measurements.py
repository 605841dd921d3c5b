"""Known answers of words: each rule at both sides of its limit."""

import pandas as pd
import pytest

from lib.report.findings import conclusions, measurements
from tests.report.findings.test_masks import causes, dice_row, estimate, plain, rival

OF = {"quantity": "hc", "route": "ellipse"}


def slope(low: float, value: float, high: float, subjects: int = 9) -> pd.DataFrame:
    return pd.DataFrame([OF | {"n": 9} | estimate("slope_per_100_mm", value, low, high, subjects)])


ENDS = pd.DataFrame(
    [
        OF | {"size_mm": size} | estimate("bias_mm", bias, bias - 1, bias + 1)
        for size, bias in ((60.0, -0.9), (320.0, 2.8))
    ]
)


@pytest.mark.parametrize(
    ("table", "first"),
    [
        (slope(0.55, 1.4, 2.26), "rose with size, by 1.40 mm per 100 mm [0.55, 2.26]."),
        (slope(-2.26, -1.4, -0.55), "fell with size, by −1.40 mm per 100 mm [−2.26, −0.55]."),
        (slope(0.001, 1.4, 2.8), "rose with size, by 1.40 mm per 100 mm [<0.01, 2.80]."),
    ],
)
def test_proportional_bias_is_told_with_a_slope_whose_interval_excludes_0(table, first):
    sentence, at_ends = plain(measurements.size(table, ENDS))
    assert sentence == f"The difference (predicted minus reference) of HC {first}"
    assert at_ends == "The bias of HC was −0.90 mm [−1.90, 0.10] at 60.00 mm and 2.80 mm [1.80, 3.80] at 320.00 mm."


@pytest.mark.parametrize("ends", [(-0.001, 2.8), (0.0, 2.8), (-2.8, 0.0)])
def test_proportional_bias_is_not_told_without_such_a_slope(ends):
    (sentence,) = measurements.size(slope(ends[0], 1.4, ends[1]), ENDS)
    assert sentence.startswith("No change of the difference with size was shown for HC (slope 1.40")
    (few,) = measurements.size(slope(0.5, 1.4, 2.3, subjects=5), ENDS)
    assert few == "There were too few subjects to test whether the difference of HC changes with size."


def errors(**values: object) -> pd.DataFrame:
    row = OF | {"n": 107, "not_measured": 0, "mae_percent": 1.3} | estimate("median_mm", 1.56, 1.01, 1.94)
    return pd.DataFrame([row | estimate("mae_mm", 1.96, 1.61, 2.37) | values])


def shares(*percent: float) -> pd.DataFrame:
    rows = [{"quantity": name, "route": "ellipse"} for name in ("hc", "bpd")]
    return pd.DataFrame([row | {"largest_share_percent": value} for row, value in zip(rows, percent)])


@pytest.mark.parametrize(
    ("percent", "names"),
    [
        ((33.4, 33.3), ["33.4 % for HC"]),
        ((57.7, 47.6), ["57.7 % for HC and 47.6 % for BPD"]),
        ((33.3, float("nan")), []),
    ],
)
def test_few_errors_dominate_a_mean_if_a_twentieth_of_them_is_a_third_of_the_sum(percent, names):
    limits = pd.DataFrame([OF | estimate("bias_mm", 0.71, 0.24, 1.22)])
    found = plain(measurements.biometry(errors(), limits, shares(*percent)))
    start = "A few large errors make up much of the mean: of the sum of absolute errors, the largest 5 % make up"
    end = "(about 15 % would be expected if errors were normally distributed)."
    assert [text for text in found if "largest 5 %" in text] == [f"{start} {each} {end}" for each in names]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.24, 1.22, "On average, HC was too large (bias 0.71 mm [0.24, 1.22])."),
        (-0.01, 1.22, "No bias of HC was shown (0.71 mm [−0.01, 1.22])."),
    ],
)
def test_a_bias_is_told_only_if_its_interval_excludes_0(low, high, words):
    limits = pd.DataFrame([OF | estimate("bias_mm", 0.71, low, high)])
    found = plain(measurements.biometry(errors(), limits, shares(20.0)))
    assert found == [
        "The median absolute error was 1.56 mm [1.01, 1.94] for HC.",
        "The mean absolute error was 1.96 mm [1.61, 2.37] for HC, or 1.3 % of the reference.",
        words,
    ]


def test_a_bias_of_few_subjects_has_a_range_and_predictions_without_a_value_are_counted():
    limits = pd.DataFrame([OF | estimate("bias_mm", 0.71, 0.24, 1.22, subjects=5)])
    found = plain(measurements.biometry(errors(not_measured=2), limits, shares(20.0)))
    assert found[2:] == ["2 predictions have no measurable HC.", "The bias of HC was 0.71 mm (range 0.24 to 1.22)."]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.1, 8.0, "HC was more accurate than by that method"),
        (-8.0, -0.1, "HC was less accurate than by that method"),
        (-0.1, 8.0, "No difference in accuracy of HC from that method was shown"),
    ],
)
def test_hc_is_more_accurate_than_without_a_network_only_if_the_interval_excludes_0(low, high, words):
    (found,) = measurements.rivals(rival(low, (low + high) / 2, high))
    assert found.startswith(words)


def equivalent(mean: str, single: str, p: float = 0.0001) -> pd.DataFrame:
    return pd.DataFrame(
        [OF | {"margin_percent": 3.0, "p_value": p, "mean_within_margin": mean, "single_within_margin": single}]
    )


@pytest.mark.parametrize(
    ("single", "words"),
    [
        ("yes", ["The limits of single measurements of HC lay within ±3 %."]),
        ("no", ["The limits of single measurements of HC exceeded ±3 %."]),
        ("undecided", ["Whether the limits of single measurements of HC lie within ±3 % is undecided."]),
        ("not shown", []),
    ],
)
def test_equivalence_is_told_as_tested(single, words):
    mm = OF | estimate("lower_limit_mm", -4.34, -5.2, -3.6) | estimate("upper_limit_mm", 5.76, 4.7, 7.0)
    percent = OF | estimate("lower_limit_percent", -3.3, -4.3, -2.5) | estimate("upper_limit_percent", 3.9, 2.9, 5.0)
    tables_of = pd.DataFrame([mm]), pd.DataFrame([percent])
    found = plain(measurements.agreement(*tables_of, equivalent("yes", single)))
    assert found[0] == (
        "The 95 % limits of agreement of HC were −4.34 mm [−5.20, −3.60] and 5.76 mm [4.70, 7.00], or −3.3 % "
        "[−4.3, −2.5] and 3.9 % [2.9, 5.0] of the reference."
    )
    assert found[1] == "On average, HC was equivalent to the reference within ±3 % (two one-sided tests, p < 0.001)."
    assert found[2:] == words
    open_ = plain(measurements.agreement(*tables_of, equivalent("not shown", single, p=0.2)))
    assert open_[1] == "Equivalence of the mean within ±3 % was not shown for HC."


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (80.0, 90.0, "held their level"),
        (80.0, 89.9, "fell short of their level"),
        (90.1, 99.0, "were wider than needed"),
    ],
)
def test_intervals_hold_their_level_of_90_percent_or_fall_short_also_by_group(low, high, words):
    share = estimate("covered_percent", 85.0, low, high)
    row = OF | {"n": 19, "group": "HC 44–100 mm"} | share
    found = plain(measurements.intervals(pd.DataFrame([row]), pd.DataFrame([row])))
    assert found[0] == f"The 90 % intervals of HC {words}: 85.0 % [{low}, {high}] contained the reference."
    short = f"In group HC 44–100 mm (n = 19), those of HC fell short: 85.0 % [{low}, {high}]."
    assert found[1:] == [short] * (high < 90)
    both = plain(measurements.intervals(pd.DataFrame(), pd.DataFrame([row | {"quantity": "bpd"}, row])))
    together = f"those of BPD and HC fell short: 85.0 % [{low}, {high}] and 85.0 % [{low}, {high}]."
    assert both == [f"In group HC 44–100 mm (n = 19), {together}"] * (high < 90)
    assert conclusions.weaknesses(*[pd.DataFrame()] * 5, pd.DataFrame([row])) == [
        "The intervals of HC contained the reference too rarely."
    ] * (high < 90)


def test_ages_are_given_in_days_with_the_number_within_a_week():
    row = OF | {"n": 89, "up_to_one_week": 87, "over_one_week": 2} | estimate("mae_days", 1.43, 1.1, 2.0)
    assert plain(measurements.ages(pd.DataFrame([row]))) == [
        "The mean absolute error corresponds to 1.4 days [1.1, 2.0] for HC in gestational age; the error was at most "
        "one week in 87 of 89 predictions."
    ]
    assert measurements.ages(pd.DataFrame([row | {"n": 0}])) == []


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-2.0, -0.1, "this study was better than “other”"),
        (0.1, 2.0, "this study was worse than “other”"),
        (-0.1, 2.0, "no difference from “other” was shown"),
    ],
)
def test_studies_differ_only_if_the_paired_interval_excludes_0_and_are_never_called_equal(low, high, words):
    row = OF | {"route_a": "ellipse", "route_b": "landmark", "study_b": "other", "n": 9, "p_adjusted": 0.012}
    row |= estimate("difference_mm", (low + high) / 2, low, high)
    own = row | {"study_b": "this"}
    (text,) = measurements.comparison(pd.DataFrame([row, own]), pd.DataFrame(), "this")
    assert words in text
    assert text.endswith("; adjusted p = 0.012).")
    assert "equal" not in text
    dice = {"class": "head", "study_b": "other", "n": 9} | estimate("difference", -(low + high) / 2, -high, -low)
    (of_dice,) = measurements.comparison(pd.DataFrame(), pd.DataFrame([dice]), "this")
    assert words in of_dice
    assert of_dice.startswith("For Dice of the head")


@pytest.mark.parametrize("unit", ["ml", "voxels"])
def test_volumes_have_percentiles_instead_of_limits_where_their_differences_are_not_normal(unit):
    row = {"class": "lesion", "n": 20} | estimate(f"bias_{unit}", 0.5, 0.1, 0.9)
    row |= estimate(f"lower_limit_{unit}", -2.0, -3, -1) | estimate(f"upper_limit_{unit}", 3.0, 2, 4)
    unknown = {f"percentile_2_5_{unit}": float("nan"), f"percentile_97_5_{unit}": float("nan")}
    _, limits = plain(conclusions.of_volumes(pd.DataFrame([row | unknown]), 1))
    number = {"ml": "−2.00 and 3.00 ml", "voxels": "−2 and 3 voxels"}[unit]
    assert limits == f"The 95 % limits of agreement of the volume of the lesion were {number}."
    known = {f"percentile_2_5_{unit}": -1.0, f"percentile_97_5_{unit}": 6.0}
    _, extremes = plain(conclusions.of_volumes(pd.DataFrame([row | known]), 1))
    _, percentiles = plain(conclusions.of_volumes(pd.DataFrame([row | known]), 2))
    number = {"ml": "−1.00 and 6.00 ml", "voxels": "−1 and 6 voxels"}[unit]
    start = "The differences of the volume of the lesion were not normally distributed"
    assert extremes == f"{start}; their minimum and maximum were {number}."
    assert percentiles == f"{start}; their 2.5th and 97.5th percentiles were {number}."


def test_conclusions_name_what_was_found_what_fails_and_what_is_open():
    found = pd.DataFrame([dice_row("head", 9, 0, 0), dice_row("csp", 9, 0, 0), dice_row("lv", 8, 1, 2)])
    assert conclusions.of_masks(found, "image") == [
        "The head and the CSP were found in every image that shows them (median Dice 0.977 and 0.977).",
        "The LV was missed, or predicted without any overlap, in 2 of 8 images (median Dice 0.977).",
    ]
    assert plain(conclusions.of_measurements(errors(), equivalent("yes", "no"))) == [
        "The median absolute error of HC was 1.56 mm, and HC was on average equivalent to the reference within ±3 %."
    ]
    assert conclusions.of_measurements(errors(), equivalent("not shown", "no")) == [
        "The median absolute error of HC was 1.56 mm."
    ]
    counts, none = pd.DataFrame([{"class": "head", "failed": 7}]), pd.DataFrame()
    sloped, flat = slope(0.55, 1.4, 2.26), slope(-0.55, 1.4, 2.26)
    weak = conclusions.weaknesses(counts, causes(0.01), none, equivalent("yes", "no"), sloped, none)
    assert plain(weak) == [
        "Cases with the property “P0” failed more often.",
        "The bias of HC changed with size.",
        "The limits of agreement of HC exceeded ±3 %.",
    ]
    assert conclusions.weaknesses(counts, causes(0.05), none, equivalent("yes", "yes"), flat, none) == []
    both = pd.concat([equivalent("yes", "no").assign(quantity="ofd"), equivalent("yes", "undecided")])
    assert plain(conclusions.weaknesses(none, none, none, both, none, none)) == [
        "The limits of agreement of OFD exceeded ±3 %; for HC, this is undecided."
    ]
    assert conclusions.unshown(none, both, none, none, "this") == []
    assert conclusions.unshown(causes(0.05), equivalent("not shown", "undecided"), flat, none, "this") == [
        "No property of the cases was shown to be associated with the worst results.",
        "Equivalence of the mean was not shown for HC.",
        "Whether single measurements are within the margin of equivalence remains open for HC.",
        "For HC, no change of the difference in millimetres with size was shown, but slopes from −0.55 to 2.26 mm per "
        "100 mm are compatible with the data.",
    ]
    assert conclusions.unshown(causes(0.01), equivalent("yes", "no"), sloped, none, "this") == []
