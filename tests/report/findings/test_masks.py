"""Known answers of words: each rule at both sides of its limit."""

import pandas as pd
import pytest

from lib.evaluation.baselines import GAIN
from lib.report import tables
from lib.report.findings import masks

NAN = float("nan")


def estimate(name: str, value: float, low: float, high: float, subjects: int = 9) -> dict[str, float]:
    """The columns of an estimate; without an interval, the least and the largest value are those of low and high."""
    few = subjects < 6
    ends = {"low": NAN, "high": NAN} if few else {"low": low, "high": high}
    ends |= {"least": low if few else value - 9, "largest": high if few else value + 9, "subjects": subjects}
    return {name: value} | {f"{name}_{end}": number for end, number in ends.items()}


def plain(sentences: list[str]) -> list[str]:
    return [sentence.replace(tables.KEEP, " ") for sentence in sentences]


def dice_row(name: str, n: int, missed: int, no_overlap: int, **mean: float) -> dict[str, object]:
    counts = {"class": name, "n": n, "missed": missed, "no_overlap": no_overlap, "absent": 0, "invented": 0}
    median = estimate("dice_median", 0.9771, 0.974, 0.98)
    return counts | median | estimate("dice", mean.get("dice", 0.9), mean.get("low", 0.8), mean.get("high", 0.95))


def rival(low: float, value: float, high: float, subjects: int = 9) -> pd.DataFrame:
    row = {"method": GAIN, "class": "head"} | estimate("dice", value, low, high, subjects)
    return pd.DataFrame([row | estimate("hc_error_mm", -value, -high, -low, subjects)])


def test_median_dice_has_its_interval_and_counts_missed_structures():
    one = masks.segmentation(pd.DataFrame([dice_row("head", 107, 0, 0)]), "image")
    assert plain(one) == ["Median Dice was 0.977 [0.974, 0.980] for the head, which was missed in 0 of 107 images."]
    two = [dice_row("head", 28, 1, 1), dice_row("csp", 20, 0, 2)]
    median, elsewhere = plain(masks.segmentation(pd.DataFrame(two), "patient"))
    assert median.endswith("[0.974, 0.980] for the CSP, which were missed in 1 of 28 and 0 of 20 patients.")
    assert elsewhere == "The CSP was predicted without any overlap in 2 patients."
    nothing = pd.DataFrame([dice_row("head", 0, 0, 0)])
    assert masks.segmentation(nothing, "image") == ["No reference shows a structure."]


@pytest.mark.parametrize(
    ("low", "value", "high", "words"),
    [
        (0.001, 0.05, 0.1, "was better than a method without one"),
        (-0.1, -0.05, -0.001, "was worse than a method without one"),
        (-0.001, 0.05, 0.1, "No difference from a method without a network"),
    ],
)
def test_the_network_is_better_only_if_the_paired_interval_excludes_0(low, value, high, words):
    per_class = pd.DataFrame([dice_row("head", 9, 0, 0)])
    (text,) = masks.rivals(per_class, rival(low, value, high))
    assert words in text
    assert f"{tables.fixed(value, 3)} [{tables.fixed(low, 3)}, {tables.fixed(high, 3)}]" in plain([text])[0]
    assert masks.rivals(per_class, rival(low, value, high, subjects=5)) == []  # no interval


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.61, 0.9, "was better than"), (0.6, 0.9, "was not shown to differ from"), (0.1, 0.39, "was worse than")],
)
def test_without_a_paired_difference_only_intervals_that_do_not_overlap_show_one(low, high, words):
    per_class = pd.DataFrame([dice_row("lesion", 9, 0, 0, dice=0.5, low=low, high=high)])
    other = {"method": "threshold", "class": "lesion"} | estimate("dice", 0.5, 0.4, 0.6)
    weaker = {"method": "average", "class": "lesion"} | estimate("dice", 0.2, 0.1, 0.3)
    (text,) = masks.rivals(per_class, pd.DataFrame([weaker, other]))
    assert words in text
    assert "“threshold”" in text


def test_below_six_subjects_a_range_stands_instead_of_an_interval():
    row = dice_row("head", 5, 0, 0) | estimate("dice_median", 0.8, 0.6, 0.9, subjects=5)
    (text,) = plain(masks.segmentation(pd.DataFrame([row]), "image"))
    assert "0.800 (range 0.600 to 0.900) for the head" in text


def test_boundaries_have_the_tolerance_and_leave_out_penalties_and_empty_rows():
    row = {"class": "head", "penalty": False, "n": 9}
    row |= estimate("median_hd95_mm", 1.28, 1.13, 1.49) | estimate("nsd", 0.824, 0.787, 0.855)
    table = pd.DataFrame([row, row | {"penalty": True}, row | {"n": 0}])
    expected = "Median HD95 was 1.28 mm [1.13, 1.49] for the head; the mean share of the boundary within 1 mm was "
    assert plain(masks.boundaries(table, "mm", 1.0)) == [f"{expected}0.824 [0.787, 0.855]."]
    assert masks.boundaries(table[table["n"] == 0], "mm", 1.0) == []


def test_presence_tells_of_false_alarms_only_where_images_lack_the_class():
    row = {"class": "lv", "detected": 34, "missed": 0, "invented": 1, "absent": 16}
    rates = {"sensitivity_percent": 100.0, "sensitivity_percent_low": 89.8, "sensitivity_percent_high": 100.0}
    rates |= {f"false_alarms_percent{end}": value for end, value in (("", 5.9), ("_low", 1.0), ("_high", 27.0))}
    (both,) = plain(masks.presence(pd.DataFrame([row | rates]), "image"))
    assert both == (
        "The LV was predicted in 34 of 34 images that show it (100.0 % [89.8, 100.0]) and was predicted in 1 of 17 "
        "that do not (5.9 % [1.0, 27.0])."
    )
    (one,) = plain(masks.presence(pd.DataFrame([row | rates | {"invented": 0, "absent": 0}]), "image"))
    assert one.endswith("that show it (100.0 % [89.8, 100.0]).")


def causes(*p_adjusted: float, reverse: bool = False) -> pd.DataFrame:
    rates = {f"listed_percent{end}": value for end, value in (("", 19.4), ("_low", 9.8), ("_high", 35.0))}
    rates |= {f"other_percent{end}": value for end, value in (("", 0.0), ("_low", 0.0), ("_high", 5.1))}
    if reverse:
        rates = {
            name.replace("listed", "x").replace("other", "listed").replace("x", "other"): rates[name] for name in rates
        }
    row = {"cases": 36, "listed": 7, "other_cases": 71, "other_listed": 0} | rates
    return pd.DataFrame([{"property": f"P{i}"} | row | {"p_adjusted": p} for i, p in enumerate(p_adjusted)])


def test_failure_is_associated_with_a_property_only_below_the_level():
    counts = pd.DataFrame([{"class": "head", "cases": 107, "failed": 7}])
    counts = counts.assign(failed_percent=6.5, failed_percent_low=3.2, failed_percent_high=12.9)
    start, shown = plain(masks.failures(counts, causes(0.0004, 0.049, 0.05), 7, "image"))
    assert start == (
        "The segmentation failed (a Dice below 0.7, or a missed or invented class) in 7 of 107 images "
        "(6.5 % [3.2, 12.9])."
    )
    assert shown.startswith(
        "Failure was more frequent with “P0” (7 of 36, 19.4 % [9.8, 35.0], against 0 of 71, 0.0 % ["
    )
    assert shown.endswith("; adjusted p = 0.049).")
    assert "adjusted p < 0.001" in shown
    assert "P2" not in shown
    assert masks.failures(counts, causes(0.05, 0.2), 7, "image")[1] == (
        "No tested property was associated with failure (2 tested; lowest adjusted p = 0.050, of “P0”)."
    )
    less = masks.associations(causes(0.01, reverse=True), "failure")[0]
    assert less.startswith("Failure was less frequent with “P0”")
    assert masks.associations(causes(0.01, 0.01, 0.01), "failure")[0].endswith("; 1 further property was associated.")
    assert masks.associations(causes().reindex(columns=causes(1.0).columns), "failure") == []


def test_of_few_failures_the_worst_cases_are_tested():
    counts = pd.DataFrame([{"class": "head", "cases": 107, "failed": 0}])
    counts = counts.assign(failed_percent=0.0, failed_percent_low=0.0, failed_percent_high=4.5)
    start, shown = masks.failures(counts, causes(0.9), 12, "image")
    assert "class) in none of 107 images" in start
    assert "associated with being among the 12 worst images" in shown


def runs(*rows: tuple[int, int, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["best_epoch", "epochs", "selection", "train_selection"])


def test_the_last_epoch_and_the_gap_between_training_and_validation_are_told():
    last, gap = masks.training(runs((40, 40, 0.939, 0.925)), "Dice")
    assert last == "The last of 40 epochs was selected, so longer training may give better results."
    assert gap == "At that epoch, pooled Dice was 0.925 on augmented training cases and 0.939 on validation cases."
    assert (
        masks.training(runs((39, 40, 0.9, 0.9)), "Dice")[0] == "Epoch 39 of 40 was selected; no later epoch was better."
    )
    two = runs((3, 9, 0.9, 0.95), (9, 9, 0.9, 0.87))
    assert masks.training(two, "Dice")[0].startswith("The last epoch was selected in 1 of 2 runs, so longer")
    assert masks.training(two, "Dice")[1].endswith("minus that on validation was −0.030 to 0.050.")
    assert masks.training(two.head(1).loc[[0, 0]], "Dice")[0] == "The last epoch was selected in none of 2 runs."
    error = plain(masks.training(runs((33, 36, -6.59, -5.31)), "error"))[1]
    assert "the endpoint error was 5.3 % of the OFD on augmented training cases and 6.6 % of the OFD on" in error


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (
            -30.0,
            24.6,
            "No change of the difference with the volume was shown (slope −2.9 % [−30.0, 24.6] of the volume).",
        ),
        (-30.0, -0.1, "The difference fell with the volume (slope −2.9 % [−30.0, −0.1] of the volume)."),
    ],
)
def test_the_difference_of_volumes_changes_only_if_the_interval_of_the_slope_excludes_0(low, high, words):
    errors = {"class": "lesion", "n": 28, "n_percent": 28, "error_percent": 28.5}
    table = pd.DataFrame([errors | estimate("error_voxels", 2987.0, 1338, 7643)])
    limits = (
        {"class": "lesion"} | estimate("bias_voxels", -272.0, -4358, 1631) | estimate("slope_percent", -2.9, low, high)
    )
    error, bias, slope = plain(masks.volumes(table, pd.DataFrame([limits])))
    assert error.startswith(
        "The mean absolute error of the volume of the lesion was 2987 voxels [1338, 7643], or 28.5 %"
    )
    assert (bias, slope) == ("No bias of the volume of the lesion was shown (−272 voxels [−4358, 1631]).", words)


@pytest.mark.parametrize(("least", "words"), [(5.2, "smaller than"), (5.1, "not shown to differ from")])
def test_endpoints_are_nearer_than_the_mean_shape_only_if_the_intervals_do_not_overlap(least, words):
    row = {"line": "ofd", "route": "landmark", "n": 100, "n_mm": 100, "missed": 7}
    row |= estimate("median_mm", 1.85, 1.57, 2.39) | estimate("error_mm", 3.58, 2.72, 5.1)
    other = row | {"route": "mean shape"} | estimate("error_mm", 11.78, least, 14.06)
    distance, against = plain(masks.landmarks(pd.DataFrame([row, other])))
    assert distance == (
        "The median distance of the endpoints of OFD from the reference was 1.85 mm [1.57, 2.39]; 7 of 107 predictions "
        "missed the line."
    )
    assert f"(3.58 mm [2.72, 5.10]) was {words} that of the mean shape" in against
