import numpy as np
import pandas as pd
import pytest

from lib.report import captions

ERRORS = {"validation_error_percent": [50.0, 2.0, 1.5], "train_selection": -1.25}


def holds(text: str, *parts: str) -> bool:
    """Whether a text contains some parts in this order."""
    starts = [text.find(part) for part in parts]
    return -1 not in starts and starts == sorted(starts)


def test_sizes_and_folds_are_given_as_ranges_and_cases_without_a_pixel_size_are_counted():
    cases = pd.DataFrame({"height": [540, 540, 400], "width": 800, "hc_mm": np.nan, "spacing_row_mm": 0.5})
    assert captions.of_sizes(cases) == "3 cases in 2 image sizes; pixel size from 0.500 to 0.500 mm."
    some = captions.of_sizes(cases.assign(hc_mm=[100.0, np.nan, 250.04], spacing_row_mm=[0.1, np.nan, 0.2]))
    assert holds(some, "100.0 to 250.0 mm (n = 2)", "0.100 to 0.200 mm; 1 without")
    folds = pd.DataFrame({"case": list("abcde"), "subject": list("ttuvw"), "fold": [0, 0, 0, 1, 1]})
    assert captions.of_folds(folds) == "2 folds of 2 to 3 cases and 2 subjects."


@pytest.mark.parametrize(
    ("values", "columns", "parts"),
    [
        (
            [0.0, 0.1, 0.9],
            {},
            ["Epoch 3 of 3 ", "0.900 on validation, 0.900 on augmented", "last epoch; training longer"],
        ),
        (
            [0.0, 0.1],
            {"learning_rate": [1.0, 0.1]},
            ["the last epoch; a longer schedule of the learning rate may help"],
        ),
        ([0.5, 0.8, 0.9, *[0.85] * 17], {}, ["Epoch 3 of 20 ", "0.900 on validation", "17 later epochs"]),
        ([0.0, 0.0, 0.0], {"best": [True, True, False]}, ["Epoch 2 of 3 "]),
        ([0.5], {}, ["Epoch 1 of 1 ", "0.500 on validation, 0.900 on augmented training cases."]),
        ([-50.0, -2.0, -1.5], ERRORS, ["1.50 % of OFD on validation, 1.25 % of OFD on augmented"]),
    ],
)
def test_the_selected_epoch_is_given_with_its_metric_and_the_number_of_later_epochs(values, columns, parts):
    best = [place == 0 or value > max(values[:place]) for place, value in enumerate(values)]
    history = pd.DataFrame({"epoch": np.arange(1, len(values) + 1), "selection": values, "train_selection": 0.9})
    history["learning_rate"] = 1.0
    text = captions.of_training(history.assign(**({"best": best} | columns)))
    assert holds(text, *parts)
    assert ("epochs" in text or "longer" in text) == (len(values) > 1)


def test_the_loss_on_one_batch_falls_rises_or_diverges():
    assert holds(captions.of_one_batch([2.0, 1.0, 0.1]), "fell from 2 to 0.1 (5.0%", "3 steps")
    assert holds(captions.of_one_batch([1.0, 1.5]), "rose from 1 to 1.5 (150.0%", "2 steps")
    assert holds(captions.of_one_batch([1.0, np.nan]), "nan after 2 steps", "diverged")


def dice_rows(values: list[float], **columns: object) -> pd.DataFrame:
    names = [f"c{place}" for place in range(len(values))]
    return pd.DataFrame({"case": names, "class": "csp", "stage": "post", "dice": values, "tp": 9, "fn": 1} | columns)


def test_outliers_of_dice_are_named_and_raw_masks_and_references_without_the_class_are_excluded():
    outlier = captions.of_dice(dice_rows([0.9, 0.92, 0.94, 0.96, 0.1]))
    assert holds(outlier, "5 cases", "0.900 and 0.940", "1 far below: c4.")
    assert captions.of_dice(dice_rows([0.8, 0.84, 0.88, 0.92, 0.6])).endswith("1 far below: c4.")  # 0.8 - 1.5 * 0.08
    for near in ([0.9, 0.92, 0.94, 0.93], [0.988, 0.990, 0.991, 0.990, 0.991]):  # the second: hardly lower
        assert captions.of_dice(dice_rows(near)).endswith("none is far below.")
    assert captions.of_dice(dice_rows([0.9, 0.8, 0.7])) == "csp: 3 cases from 0.700 to 0.900."
    table = dice_rows([0.9, 0.0, 0.0], tp=[9, 0, 9], fn=[1, 0, 1], stage=["post", "post", "raw"])
    assert captions.of_dice(table) == "csp: 1 cases from 0.900 to 0.900."
    ranked = pd.DataFrame({"case": ["b", "a", "c", "d"], "class": list("lccc"), "dice": [0.2, 0.4, 0.5, 0.9]})
    ranked = ranked.assign(tp=[1, 1, 1, 9], fp=1, fn=1)
    assert holds(captions.of_worst(ranked), "b (l 0.200)", "2 of 4")
    assert holds(captions.of_worst(ranked.assign(tp=0, fn=0)), "b (l invented)")
    assert captions.of_dice(table.head(0)) == captions.of_worst(ranked.head(0)) == "No reference contains a class."


def test_landmark_errors_are_those_of_the_network_over_cases_and_excluded_cases_are_counted():
    table = pd.DataFrame({"case": list("aabcab"), "line": ["ofd"] * 5 + ["bpd"]})
    table["route"] = ["landmark"] * 4 + ["mean shape", "landmark"]
    table["error_mm"], table["error_px"] = [1.0, 2.0, 2.5, np.nan, 90.0, np.nan], [2.0, 4.0, 5.0, 7.0, 180.0, np.nan]
    ofd, bpd = captions.of_landmarks(table).splitlines()
    assert holds(ofd, "OFD", "below 2.00, 95 % below 2.45 mm (n = 2, 1 without a pixel size)")
    assert holds(bpd, "BPD", "(n = 0, 1 missed)")
    assert "below 5.00, 95 % below 6.80 pixels (n = 3)" in captions.of_landmarks(table.assign(error_mm=np.nan))


def measured(predicted: list[float], reference: list[float], **columns: object) -> pd.DataFrame:
    names = [f"c{place}" for place in range(len(predicted))]
    table = {
        "case": names,
        "subject": names,
        "predicted_mm": predicted,
        "reference_mm": reference,
        "quantity": "hc",
        "route": "ellipse",
    }
    return pd.DataFrame(table | {"stage": "post"} | columns)


@pytest.mark.parametrize(
    ("differences", "parts"),
    [
        (
            [1.0, 2, 3, 4, 5, 6.5],
            ["3.58 mm too large", "; the difference changes with size, +1.07 mm per 100 mm [+0.88, +1.25]"],
        ),
        ([6.5, 5, 4, 3, 2, 1.0], ["3.58 mm too large", "the difference changes with size, −1.08 mm per 100 mm [−1.2"]),
        ([1.0, 2, 3, 2, 3, 2], ["2.17 mm too large", "no clear trend, +0.20 mm per 100 mm [−0.48, +0.89]"]),
        ([-1.0, -2, -1, -2], ["1.50 mm too small", "limits −2.63 to −0.37 mm; too few subjects or sizes for a trend"]),
        ([-1.0, 1, -1, 1, -1, 1], ["HC by ellipse: no mean bias", "(n = 6)"]),
        ([2.0] * 6, ["2.00 mm too large", "limits +2.00 to +2.00 mm; no clear trend"]),
    ],
)
def test_bias_limits_and_the_slope_with_size_are_stated_with_its_interval(differences, parts):
    sizes = [100.0 * place for place in range(1, len(differences) + 1)]
    table = measured([size + each for size, each in zip(sizes, differences)], sizes)
    assert holds(captions.of_agreement(table), *parts)


def test_baselines_and_heads_without_a_reference_are_excluded():
    table = measured([1.0, 2.0, 3.0], [2.0, 2.0, np.nan], route=["baseline", "ellipse", "ellipse"])
    assert captions.of_agreement(table).startswith("HC by ellipse: 1 heads of 1 subjects, too few")
    assert captions.of_agreement(table.head(1)) == "No head was measured against a reference."


def test_a_paired_difference_is_inconclusive_if_its_interval_includes_0_or_is_missing():
    rows = [(9, -0.9, -0.5, -0.1), (9, -0.1, 0.2, 0.5), (1, np.nan, -0.5, np.nan), (0, np.nan, np.nan, np.nan)]
    table = pd.DataFrame(rows, columns=["n", "difference_mm_low", "difference_mm", "difference_mm_high"])
    table = table.assign(quantity="hc", route_a="ellipse", study_b="other", route_b="landmark")
    better, inconclusive, alone = captions.of_differences(table).splitlines()
    assert holds(better, "HC, ellipse against landmark of other: A is 0.50 mm better", "excludes 0")
    assert holds(inconclusive, "0.20 mm worse", "includes 0: inconclusive")
    assert holds(alone, "0.50 mm better", "no CI: fewer than 6 subjects")
    assert captions.of_differences(table.tail(1)).startswith("No measurement")
