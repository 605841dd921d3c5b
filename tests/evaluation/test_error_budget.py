"""The error of HC of drawn heads, whose exact value is known, as a sum of components."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import datasets
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import landmark_tables
from lib.datasets.phantoms import TRUTH, write_landmarks
from lib.evaluation import biometry, error_budget
from lib.imaging import geometry, head_points, mask_files
from lib.study import files
from tests import builders

HC18 = datasets.DATASETS["hc18"]
NATIVE, NETWORK = (300, 400), [96, 128]
DRAWN = [builders.Head(f"{n:03d}_HC", (150.3, 200.2 + n), 250 - 9.0 * n, 200, 30.0 * n, NATIVE, 0.5) for n in range(4)]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """An evaluation set of drawn heads, their exact sizes, and measurements of heads that are 4 pixels too large."""
    folder = tmp_path_factory.mktemp("drawn")
    table = builders.verified(builders.write_hc18(folder / "raw", DRAWN)).cases
    table["hc_mm"] = [head.hc_mm for head in DRAWN]  # as published, it is rounded
    folds = table[["case", "subject"]].assign(fold_group=table["case"], fold=0, validates=True)
    test_set = EvaluationSet(table, folds, None, HC18, folder)
    for head in DRAWN:
        large = replace(head, major=head.major + 4, minor=head.minor + 4)
        mask_files.write(test_set.predicted("post", 0, 0, head.name), builders.region_of(large).astype(np.uint8))
    predictions = pd.DataFrame({"case": table["case"], "fold": 0, "seed": 0, "stage": "post"})
    heads = biometry.find_heads(test_set, predictions, ["head"])
    measured = biometry.measure_all(heads, biometry.references_of(test_set, ["head"]), folds, 1.7, [10.0, 400.0], {})
    sizes = {"spacing_row_mm": 0.5, "spacing_col_mm": 0.5}
    return test_set, measured, table[["case", "hc_mm"]].assign(**sizes)


def budget(study, truth=None, image_size=NETWORK):
    test_set, measured, exact = study
    return error_budget.budget(
        test_set, measured, exact if truth is None else truth, ["head"], {"image_size": image_size}
    )


def test_a_head_four_pixels_too_large_is_an_error_of_the_prediction_and_all_components_add_up(study):
    table = budget(study)
    assert table.columns.tolist() == error_budget.COLUMNS
    assert table["case"].tolist() == [head.name for head in DRAWN]
    larger = [builders.perimeter(head.major + 4, head.minor + 4) * 0.5 - head.hc_mm for head in DRAWN]
    assert table["prediction_mm"].tolist() == pytest.approx(larger, abs=0.5)  # network pixels are 1.6 mm
    assert table["fit_mm"].abs().max() < 0.05
    assert table["resolution_mm"].abs().max() < 0.5
    assert (table["pixel_size_mm"] == 0).all()
    assert error_budget.adds_up(table, study[1])
    assert not error_budget.adds_up(table.assign(total_mm=table["total_mm"] + 0.01), study[1])


def test_a_pixel_size_published_five_percent_too_large_is_an_error_of_the_pixel_size(study):
    wrong = study[2].assign(spacing_row_mm=0.5 / 1.05, spacing_col_mm=0.5 / 1.05, hc_mm=study[2]["hc_mm"] / 1.05)
    table = budget(study, truth=wrong)
    hc = np.array([head.hc_mm for head in DRAWN])
    assert table["pixel_size_mm"].to_numpy() == pytest.approx(hc - hc / 1.05, abs=0.05)
    assert table["fit_mm"].abs().max() < 0.05


def test_resolution_costs_nothing_at_native_size_and_more_the_smaller_the_network(study):
    spread = [
        budget(study, image_size=list(size))["resolution_mm"].abs().max() for size in (NATIVE, (96, 128), (24, 32))
    ]
    assert spread[0] == 0
    assert spread[0] < spread[1] < spread[2]


def test_a_mask_at_network_size_and_back_is_the_same_at_native_size_and_keeps_its_classes():
    mask = builders.ellipse_region((40, 60), (20, 30), 40, 30, 20).astype(np.uint8) * 2
    mask[18:22, 28:34] = 1
    assert np.array_equal(error_budget.through_network(mask, geometry.fit((40, 60), (40, 60)), 3), mask)
    smaller = error_budget.through_network(mask, geometry.fit((40, 60), (32, 32)), 3)
    assert (smaller == mask).mean() > 0.95
    assert set(np.unique(smaller)) == {0, 1, 2}


def test_without_an_exact_hc_there_is_no_budget(study):
    test_set, measured, exact = study
    for truth, rows in ((None, measured), (exact.drop(columns="hc_mm"), measured), (exact, measured.iloc[:0])):
        table = error_budget.budget(test_set, rows, truth, ["head"], {"image_size": NETWORK})
        assert (len(table), table.columns.tolist()) == (0, error_budget.COLUMNS)
        assert error_budget.adds_up(table, rows)
    nothing = pd.DataFrame(columns=biometry.COLUMNS)  # of volumes
    assert error_budget.adds_up(error_budget.budget(test_set, nothing, None, [], {}), nothing)


def test_a_head_that_cannot_be_measured_has_no_total(study):
    test_set, measured, exact = study
    is_first = measured["case"] == DRAWN[0].name
    table = error_budget.budget(
        test_set,
        measured.assign(predicted_mm=measured["predicted_mm"].mask(is_first)),
        exact,
        ["head"],
        {"image_size": NETWORK},
    )
    assert table["total_mm"].isna().tolist() == [True, False, False, False]
    assert table["fit_mm"].notna().all()


def test_landmarks_rounded_to_pixels_are_an_error_of_the_fit_and_clean_heatmaps_cost_nothing(tmp_path):
    write_landmarks.write_landmarks(tmp_path, 4, 12)
    truth = files.read_csv(tmp_path / TRUTH, ["case"])
    points, _ = landmark_tables.read(tmp_path / "landmarks", "multicentre")
    table = truth.assign(height=270, width=400)
    test_set = EvaluationSet(table, table[["case", "subject"]], None, HC18, tmp_path, points)
    ends = head_points.as_arrays(points, truth["case"].tolist())
    size = truth.set_index("case")["spacing_row_mm"]
    hc = [error_budget._hc_of_lines(each, (mm, mm)) for each, mm in zip(ends, size)]
    keys = {"fold": 0, "seed": 0, "stage": "post", "route": "landmark", "quantity": "hc", "flags": ""}
    measured = truth[["case", "subject"]].assign(**keys, predicted_mm=np.array(hc) + 2, reference_mm=truth["hc_mm"])
    prepared = {"image_size": [96, 144], "heatmap_sigma": 3.0, "heatmap_sigma_unit": "pixels"}
    found = error_budget.budget(test_set, measured, truth, ["head"], prepared)
    assert found["fit_mm"].to_numpy() == pytest.approx(np.array(hc) - truth["hc_mm"])
    assert 0 < found["fit_mm"].abs().max() < 3 * size.max()
    assert found["resolution_mm"].abs().max() < 0.01
    assert found["prediction_mm"].to_numpy() == pytest.approx(2, abs=0.01)
