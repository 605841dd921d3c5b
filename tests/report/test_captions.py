"""Sentences below figures: of typed-out tables, the numbers and the words that a rule gives them."""

import numpy as np
import pandas as pd
import pytest

from lib.report import captions


def cases(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"height": [540, 540, 400], "width": 800} | columns)


def test_sizes_name_ranges_and_how_many_cases_have_no_pixel_size():
    table = cases(hc_mm=[100.0, np.nan, 250.04], spacing_row_mm=[0.1, np.nan, 0.2])
    assert captions.of_sizes(table) == (
        "3 cases in 2 image sizes; published HC from 100.0 to 250.0 mm (n = 2); pixel size from 0.100 to 0.200 mm; "
        "1 without a pixel size: no millimetres there."
    )


def test_sizes_of_cases_without_hc_say_nothing_of_it():
    assert captions.of_sizes(cases(hc_mm=np.nan, spacing_row_mm=0.5)) == (
        "3 cases in 2 image sizes; pixel size from 0.500 to 0.500 mm."
    )


def test_folds_of_unequal_size_are_a_range():
    folds = pd.DataFrame({"case": list("abcde"), "subject": list("ttuvw"), "fold": [0, 0, 0, 1, 1]})
    assert captions.of_folds(folds) == "2 folds of 2 to 3 cases and 2 subjects."


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([2.0, 1.0, 0.1], "The loss fell from 2 to 0.1, 5.0% of its start, in 3 steps."),
        ([1.0, 1.5], "The loss rose from 1 to 1.5, 150.0% of its start, in 2 steps."),
        ([1.0, float("nan")], "The loss is nan after 2 steps: it diverged."),
    ],
)
def test_the_loss_on_one_batch_fell_rose_or_diverged(losses, said):
    assert captions.of_one_batch(losses) == said


def history(values: list[float], **columns: object) -> pd.DataFrame:
    """history.csv of some values that choose; an epoch is the best so far if none before it was as good."""
    best = [place == 0 or value > max(values[:place]) for place, value in enumerate(values)]
    epochs = np.arange(1, len(values) + 1)
    return pd.DataFrame({"epoch": epochs, "selection": values, "train_selection": 0.9, "best": best} | columns)


def test_a_last_epoch_that_is_the_best_asks_for_more():
    assert captions.of_training(history([0.1 * n for n in range(10)])) == (
        "Epoch 10 of 10 is kept: 0.900 on validation, 0.900 on augmented training cases. It is the last epoch: more "
        "epochs may help."
    )


def test_epochs_after_the_best_one_are_counted():
    said = captions.of_training(history([0.5, 0.8, 0.9, *[0.85] * 17]))
    assert said.startswith("Epoch 3 of 20 is kept: 0.900 on validation")
    assert said.endswith("The 17 epochs after it brought nothing better.")


def test_the_kept_epoch_is_the_last_one_marked_best_where_none_found_anything():
    assert captions.of_training(history([0.0, 0.0, 0.0], best=[True, True, False])).startswith("Epoch 2 of 3 is kept")


def test_one_epoch_says_nothing_of_others():
    said = captions.of_training(history([0.5]))
    assert said == "Epoch 1 of 1 is kept: 0.500 on validation, 0.900 on augmented training cases."


def test_an_error_that_chooses_is_said_in_percent_of_the_ofd():
    table = history([-50.0, -2.0, -1.5], validation_error_percent=[50.0, 2.0, 1.5], train_selection=-1.25)
    assert captions.of_training(table).startswith(
        "Epoch 3 of 3 is kept: 1.50 % of OFD on validation, 1.25 % of OFD on augmented training cases"
    )


def dice_rows(values: list[float], **columns: object) -> pd.DataFrame:
    names = [f"c{place}" for place in range(len(values))]
    return pd.DataFrame({"case": names, "class": "csp", "stage": "post", "dice": values, "tp": 9, "fn": 1} | columns)


def test_a_case_far_below_the_others_is_named():
    assert captions.of_dice(dice_rows([0.9, 0.92, 0.94, 0.96, 0.1])) == (
        "csp: half of the 5 cases lie between 0.900 and 0.940; far below them 1: c4."
    )


def test_cases_close_together_are_said_to_be():
    assert captions.of_dice(dice_rows([0.9, 0.92, 0.94, 0.93])).endswith("none lies far below them.")


def test_cases_that_do_not_show_the_class_and_raw_masks_do_not_count():
    table = dice_rows([0.9, 0.0, 0.0], tp=[9, 0, 9], fn=[1, 0, 1], stage=["post", "post", "raw"])
    assert captions.of_dice(table) == "csp: 1 cases, from 0.900 to 0.900."
    assert captions.of_dice(table.head(0)) == "No case shows a class."


def test_the_worst_case_is_named_with_its_class_and_how_many_are_below_a_half():
    ranked = pd.DataFrame({"case": ["b", "a", "c"], "class": ["lv", "csp", "csp"], "dice": [0.2, 0.4, 0.9]})
    assert captions.of_worst(ranked) == (
        "The worst is b, lv with Dice 0.200; 2 of 3 predictions have a class below 0.5."
    )


def test_what_is_hardly_lower_is_not_far_below():
    assert captions.of_dice(dice_rows([0.988, 0.990, 0.991, 0.990, 0.991])).endswith("none lies far below them.")


def test_landmark_errors_are_those_of_the_network_over_cases_and_say_what_they_leave_out():
    table = pd.DataFrame(
        {
            "case": ["a", "a", "b", "c", "a", "b"],
            "line": ["ofd"] * 5 + ["bpd"],
            "route": ["landmark"] * 4 + ["mean shape", "landmark"],
            "error_mm": [1.0, 2.0, 2.5, np.nan, 90.0, np.nan],
            "error_px": [2.0, 4.0, 5.0, 7.0, 180.0, np.nan],
        }
    )
    assert captions.of_landmarks(table).splitlines() == [
        "OFD: half of the errors are below 2.00, 95 % below 2.45 mm (n = 2, 1 without a pixel size).  ",
        "BPD: no error is known (n = 0, 1 missed).",
    ]
    assert "below 5.00, 95 % below 6.80 pixels (n = 3)" in captions.of_landmarks(table.assign(error_mm=np.nan))


def measured(predicted: list[float], reference: list[float], **columns: object) -> pd.DataFrame:
    names = [f"c{place}" for place in range(len(predicted))]
    table = {"case": names, "predicted_mm": predicted, "reference_mm": reference, "quantity": "hc", "route": "ellipse"}
    return pd.DataFrame(table | {"stage": "post"} | columns)


def test_a_difference_that_grows_with_size_is_said_with_its_limits():
    said = captions.of_agreement(measured([101.0, 202.0, 303.0, 404.0, 505.0], [100.0, 200.0, 300.0, 400.0, 500.0]))
    assert said == (
        "HC by ellipse: 3.00 mm too large on average, limits −0.10 to +6.10 mm; the difference grows with size "
        "(n = 5, r = 1.00)."
    )


def test_a_correlation_whose_interval_holds_0_is_no_trend():
    said = captions.of_agreement(measured([99.0, 198.0, 299.0, 398.0], [100.0, 200.0, 300.0, 400.0]))
    assert "1.50 mm too small on average" in said
    assert "the difference shows no trend with size (n = 4, r = −0.45)" in said


def test_a_case_s_seeds_count_once_and_no_bias_is_right():
    table = pd.concat([measured([99.0, 201.0, 299.0, 401.0], [100.0, 200.0, 300.0, 400.0])] * 2)
    assert captions.of_agreement(table).startswith("HC by ellipse: right on average")
    assert "(n = 4, " in captions.of_agreement(table)


def test_guesses_and_heads_without_a_reference_are_left_out():
    table = measured([1.0, 2.0, 3.0], [2.0, 2.0, np.nan], route=["baseline", "ellipse", "ellipse"])
    assert captions.of_agreement(table) == "HC by ellipse: 1 heads, too few for limits."
    assert captions.of_agreement(table.head(1)) == "No head was measured against a reference."


def test_a_paired_difference_is_undecided_where_its_interval_holds_0():
    table = pd.DataFrame(
        {
            "quantity": ["hc", "bpd", "ofd"],
            "route_a": "ellipse",
            "study_b": "other",
            "route_b": "landmark",
            "n": [9, 9, 0],
            "difference_mm": [-0.5, 0.2, np.nan],
            "difference_mm_low": [-0.9, -0.1, np.nan],
            "difference_mm_high": [-0.1, 0.5, np.nan],
        }
    )
    assert captions.of_differences(table).splitlines() == [
        "HC, ellipse against landmark of other: A is 0.50 mm nearer on average (the interval leaves out 0).  ",
        "BPD, ellipse against landmark of other: A is 0.20 mm farther off on average "
        "(the interval holds 0: undecided).",
    ]
    assert captions.of_differences(table.tail(1)) == "Nothing is compared in millimetres."


def test_a_difference_without_an_interval_is_not_called_decided():
    table = pd.DataFrame([{"quantity": "hc", "route_a": "ellipse", "study_b": "other", "route_b": "landmark", "n": 1}])
    table = table.assign(difference_mm=-0.5, difference_mm_low=np.nan, difference_mm_high=np.nan)
    assert captions.of_differences(table).endswith("on average (no interval: one subject).")
