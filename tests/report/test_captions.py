"""Sentences below figures: of typed-out tables, the numbers and the words that a rule gives them."""

import numpy as np
import pandas as pd

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


def test_the_loss_on_one_batch_is_said_as_a_share_of_its_start():
    assert captions.of_one_batch([2.0, 1.0, 0.1]) == "The loss fell from 2 to 0.1, 5.0% of its start, in 3 steps."


def history(values: list[float], **columns: object) -> pd.DataFrame:
    epochs = np.arange(1, len(values) + 1)
    return pd.DataFrame({"epoch": epochs, "selection": values, "train_selection": 0.9} | columns)


def test_a_value_that_still_rises_at_the_end_asks_for_more_epochs():
    said = captions.of_training(history([0.1 * n for n in range(10)]))
    assert said == (
        "Epoch 10 of 10 is kept: 0.900 on validation, 0.900 on training cases; the best value still rose in the last "
        "tenth of the epochs, so more epochs may help."
    )


def test_a_value_that_has_settled_does_not():
    said = captions.of_training(history([0.5, 0.8, 0.9, *[0.85] * 17]))
    assert said.startswith("Epoch 3 of 20 is kept: 0.900 on validation")
    assert said.endswith("the last tenth of the epochs brought no more than 0.002, so more epochs would hardly help.")


def test_an_error_that_chooses_is_said_in_percent_of_the_ofd():
    table = history([-50.0, -2.0, -1.5], validation_error_percent=[50.0, 2.0, 1.5], train_selection=-1.25)
    assert captions.of_training(table).startswith(
        "Epoch 3 of 3 is kept: error 1.50 % of OFD on validation, 1.25 % on training cases"
    )


def dice_rows(values: list[float], **columns: object) -> pd.DataFrame:
    names = [f"c{place}" for place in range(len(values))]
    return pd.DataFrame({"case": names, "class": "csp", "stage": "post", "dice": values, "tp": 9, "fn": 1} | columns)


def test_a_case_far_below_the_others_is_named():
    assert captions.of_dice(dice_rows([0.9, 0.92, 0.94, 0.96, 0.1])) == (
        "csp: half of the 5 cases lie between 0.900 and 0.940; far below them 1: c4."
    )


def test_cases_close_together_are_said_to_be():
    assert captions.of_dice(dice_rows([0.9, 0.92, 0.94])).endswith("none lies far below them.")


def test_cases_that_do_not_show_the_class_and_raw_masks_do_not_count():
    table = dice_rows([0.9, 0.0, 0.0], tp=[9, 0, 9], fn=[1, 0, 1], stage=["post", "post", "raw"])
    assert captions.of_dice(table).startswith("csp: half of the 1 cases lie between 0.900 and 0.900")
    assert captions.of_dice(table.head(0)) == "No case shows a class."


def test_the_worst_case_is_named_with_its_class_and_how_many_are_below_a_half():
    ranked = pd.DataFrame({"case": ["b", "a", "c"], "class": ["lv", "csp", "csp"], "dice": [0.2, 0.4, 0.9]})
    assert captions.of_worst(ranked) == (
        "The worst is b, lv with Dice 0.200; 2 of 3 predictions have a class below 0.5."
    )


def test_landmark_errors_are_those_of_the_network_alone():
    table = pd.DataFrame(
        {
            "line": ["ofd"] * 4 + ["bpd"],
            "route": ["landmark"] * 3 + ["mean shape", "landmark"],
            "error_mm": [1.0, 2.0, 3.0, 90.0, np.nan],
            "error_px": [2.0, 4.0, 6.0, 180.0, np.nan],
        }
    )
    assert captions.of_landmarks(table) == "OFD: half of the errors are below 2.00 mm, 95 % below 2.90 mm."
    pixels = table.assign(error_mm=np.nan)
    assert captions.of_landmarks(pixels) == "OFD: half of the errors are below 4.00 pixels, 95 % below 5.80 pixels."


def measured(predicted: list[float], reference: list[float], **columns: object) -> pd.DataFrame:
    table = {"predicted_mm": predicted, "reference_mm": reference, "quantity": "hc", "route": "ellipse"}
    return pd.DataFrame(table | {"stage": "post"} | columns)


def test_a_bias_that_grows_with_size_is_said_with_its_limits():
    said = captions.of_agreement(measured([101.0, 202.0, 303.0], [100.0, 200.0, 300.0]))
    assert said == (
        "HC by ellipse: 2.00 mm too large on average, limits +0.04 to +3.96 mm; the difference grows with size "
        "(r = 1.00)."
    )


def test_an_even_bias_does_not_depend_on_size():
    said = captions.of_agreement(measured([99.0, 198.0, 299.0, 398.0], [100.0, 200.0, 300.0, 400.0]))
    assert "1.50 mm too small on average" in said
    assert captions.of_agreement(measured([99.0, 199.0, 299.0], [100.0, 200.0, 300.0])).endswith(
        "the difference does not depend on size (r = 0.00)."
    )


def test_guesses_and_heads_without_a_reference_are_left_out():
    table = measured([1.0, 2.0, 3.0], [2.0, 2.0, np.nan], route=["baseline", "ellipse", "ellipse"])
    assert captions.of_agreement(table) == "Too few heads were measured."


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
