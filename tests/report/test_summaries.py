"""Views of landmarks, volumes and compared studies, worked by hand."""

import numpy as np
import pandas as pd
import pytest

from lib.imaging import shapes
from lib.report import tables
from lib.report.summaries import biometry_errors, landmark_errors, paired

NAN = float("nan")


def errors(values, line="ofd", route="landmark", seed=0):
    """cases.csv of a landmark study; two images a subject, pixels of half a mm, an OFD of 100 mm."""
    table = pd.DataFrame({"error_mm": values})
    table["case"] = [f"c{place}" for place in range(len(table))]
    table["subject"] = [f"s{place // 2}" for place in range(len(table))]
    table["error_px"], table["normalised_error_percent"] = table["error_mm"] * 2, table["error_mm"]
    return table.assign(line=line, route=route, seed=seed, fold=0)


def test_landmarks_of_five_lines_worked_by_hand():
    row = landmark_errors.landmarks(errors([1.0, 2.0, 3.0, 10.0, NAN])).iloc[0]
    assert (row["line"], row["route"], row["n"], row["n_mm"], row["missed"]) == ("ofd", "landmark", 4, 4, 1)
    assert (row["error_mm"], row["error_px"], row["normalised_error_percent"]) == (4, 8, 4)
    assert row["median_mm"] == 2.5
    assert row["percentile_95_mm"] == pytest.approx(3 + 0.85 * 7)  # 0.95 * 3 = 2.85 steps from the first of four
    assert row["error_mm_low"] < 4 < row["error_mm_high"]
    assert row["error_px_low"] == pytest.approx(2 * row["error_mm_low"])


def test_there_is_a_row_for_each_line_and_route():
    both = [errors([1.0, 2.0], line, route) for line in ("ofd", "bpd") for route in ("landmark", "blank map")]
    table = landmark_errors.landmarks(pd.concat(both))
    assert table[["line", "route"]].values.tolist() == [
        ["ofd", "landmark"],
        ["ofd", "blank map"],
        ["bpd", "landmark"],
        ["bpd", "blank map"],
    ]


def test_seeds_of_a_case_are_averaged_before_the_mean_and_each_miss_counts():
    both = pd.concat([errors([1.0, 2.0]), errors([3.0, NAN], seed=1)])
    row = landmark_errors.landmarks(both).iloc[0]
    assert (row["n"], row["missed"]) == (2, 1)
    assert row["error_mm"] == (2 + 2) / 2
    assert landmark_errors.holds_all_lines(landmark_errors.landmarks(both), both)
    assert not landmark_errors.holds_all_lines(landmark_errors.landmarks(both[both["error_px"].notna()]), both)


def test_a_mean_in_mm_counts_the_cases_whose_pixel_size_is_known_alone():
    table = errors([1.0, 3.0, 5.0])
    table["error_mm"] = [1.0, 3.0, NAN]
    row = landmark_errors.landmarks(table).iloc[0]
    assert (row["n"], row["error_px"], row["n_mm"], row["error_mm"]) == (3, 6, 2, 2)


def test_without_pixel_sizes_landmarks_are_counted_in_pixels():
    unknown = errors([1.0, 3.0]).assign(error_mm=NAN)
    row = landmark_errors.landmarks(unknown).iloc[0]
    assert (row["n"], row["missed"], row["error_px"]) == (2, 0, 4)
    assert np.isnan([row["error_mm"], row["median_mm"], row["percentile_95_mm"]]).all()


def test_a_printed_view_of_landmarks_has_its_units_and_intervals():
    printed = tables.readable(landmark_errors.landmarks(errors([1.0, 2.0, 3.0, 4.0])))
    assert printed["Line"].tolist() == ["OFD"]
    titles = [title.replace(tables.KEEP, " ") for title in printed.columns]
    assert {"Error (mm) [95 % interval]", "Error (pixels) [95 % interval]", "Median (mm)", "Missed"} <= set(titles)


# Shapes


def shape_rows(**values: list[float]) -> pd.DataFrame:
    """shapes.csv of one class: the reference and the prediction of each case, in turn."""
    count = len(next(iter(values.values())))
    table = pd.DataFrame(dict.fromkeys(shapes.COLUMNS, 1.0), index=range(count)).assign(**values)
    table.insert(0, "source", ["reference", "predicted"] * (count // 2))
    key = {"case": [f"c{place // 2}" for place in range(count)], "seed": 0, "class": "csp"}
    return table.assign(**key)


def test_shapes_of_two_structures_compared_by_hand() -> None:
    table = shape_rows(
        area_mm2=[100.0, 110.0, 50.0, 40.0],
        centroid_row_mm=[10.0, 13.0, 20.0, 20.0],
        centroid_col_mm=[10.0, 14.0, 20.0, 21.0],
        height_mm=[5.0, 6.0, 4.0, 4.0],
        width_mm=[9.0, 8.0, 4.0, 7.0],
        eccentricity=[0.8, 0.7, 0.6, 0.8],
    )
    row = biometry_errors.shapes(table).iloc[0]
    assert (row["class"], row["n"]) == ("csp", 2)
    assert row["reference_area_mm2"] == 75
    assert row["area_error_mm2"] == 10
    assert row["area_error_percent"] == pytest.approx((10 + 20) / 2)
    assert row["centroid_distance_mm"] == pytest.approx((5 + 1) / 2)
    assert (row["height_error_mm"], row["width_error_mm"]) == (0.5, 2.0)
    assert (row["eccentricity"], row["eccentricity_error"]) == (pytest.approx(0.7), pytest.approx(0.15))


def test_cases_that_lack_a_structure_in_one_mask_are_not_compared() -> None:
    table = shape_rows(parts=[1, 1, 1, 0, 0, 2, 0, 0], area_mm2=[10.0, 12.0, 10.0, NAN, NAN, 3.0, NAN, NAN])
    row = biometry_errors.shapes(table).iloc[0]
    assert row["n"] == 1
    assert row["area_error_mm2"] == 2


def test_a_structure_that_no_case_shows_in_both_masks_has_no_figures() -> None:
    row = biometry_errors.shapes(shape_rows(parts=[1, 0], area_mm2=[10.0, NAN])).iloc[0]
    assert row["n"] == 0
    assert row["n_mm"] == 0
    assert row.drop(["class", "n", "n_mm"]).isna().all()


def test_without_a_pixel_size_only_form_is_compared() -> None:
    table = shape_rows(area_mm2=[NAN, NAN], eccentricity=[0.8, 0.6], height_mm=[NAN, NAN])
    row = biometry_errors.shapes(table.assign(centroid_row_mm=NAN)).iloc[0]
    assert (row["n"], row["n_mm"]) == (1, 0)
    assert np.isnan(row["area_error_mm2"])
    assert np.isnan(row["centroid_distance_mm"])
    assert row["eccentricity_error"] == pytest.approx(0.2)


@pytest.mark.parametrize("order", range(5))
def test_predictions_are_paired_by_case_and_seed_in_any_order(order: int) -> None:
    table = shape_rows(parts=[1, 1, 1, 2, 1, 0], area_mm2=[100.0, 110.0, 50.0, 40.0, 70.0, NAN])
    both = pd.concat([table, table.assign(seed=1)]).sample(frac=1, random_state=order)
    row = biometry_errors.shapes(both).iloc[0]
    assert (row["n"], row["reference_area_mm2"], row["area_error_mm2"]) == (2, 75, 10)


# Volumes


def sizes(pairs, seed=0, ml=0.01):
    """volumes.csv of (reference, predicted) voxels, one case each."""
    table = pd.DataFrame(pairs, columns=["reference_voxels", "predicted_voxels"])
    for side in ("reference", "predicted"):
        table[f"{side}_ml"] = table[f"{side}_voxels"] * ml
    table["case"] = table["subject"] = [f"c{place}" for place in range(len(table))]
    return table.assign(**{"class": "lesion"}, stage="post", seed=seed)


def test_volumes_of_four_patients_worked_by_hand():
    row = biometry_errors.volumes(sizes([(100, 110), (200, 150), (50, 0), (0, 20)])).iloc[0]
    assert (row["n"], row["missed"], row["invented"]) == (4, 1, 1)
    assert (row["reference_voxels"], row["predicted_voxels"]) == (87.5, 70)
    assert row["error_voxels"] == (10 + 50 + 50 + 20) / 4
    assert row["bias_voxels"] == (10 - 50 - 50 + 20) / 4
    assert row["error_percent"] == pytest.approx((10 + 25 + 100) / 3)  # where there is a reference
    assert (row["n_percent"], row["n_ml"]) == (3, 4)
    assert row["error_ml"] == pytest.approx(0.325)
    assert row["error_voxels_low"] < row["error_voxels"] < row["error_voxels_high"]


def test_seeds_of_a_volume_are_averaged_before_the_mean():
    both = pd.concat([sizes([(100, 110), (100, 100)]), sizes([(100, 70), (100, 100)], seed=1)])
    row = biometry_errors.volumes(both).iloc[0]
    assert row["n"] == 2
    assert row["error_voxels"] == (20 + 0) / 2  # not |90 - 100|
    assert row["bias_voxels"] == -5
    assert biometry_errors.holds_all_volumes(biometry_errors.volumes(both), both)
    assert not biometry_errors.holds_all_volumes(biometry_errors.volumes(both[both["case"] == "c0"]), both)


def test_volumes_without_a_voxel_size_have_no_millilitres():
    row = biometry_errors.volumes(sizes([(100, 110), (50, 50)], ml=NAN)).iloc[0]
    assert (row["error_voxels"], row["n"], row["n_ml"]) == (5, 2, 0)
    assert np.isnan([row["reference_ml"], row["error_ml"], row["bias_ml"]]).all()


# Studies


def compared(pairs, route_b="landmark", study_b="other", missed=(0, 0)):
    """comparison.csv of (error of A, error of B), one case each."""
    table = pd.DataFrame(pairs, columns=["error_a_mm", "error_b_mm"])
    table["case"] = table["subject"] = [f"c{place}" for place in range(len(table))]
    table["difference_mm"] = table["error_a_mm"] - table["error_b_mm"]
    table["reference_a_mm"], table["reference_b_mm"] = 100.0, 99.0
    table["not_measured_a"], table["not_measured_b"] = missed
    return table.assign(quantity="hc", study_a="own", route_a="ellipse", study_b=study_b, route_b=route_b)


def test_a_comparison_of_five_cases_worked_by_hand():
    long = compared([(1.0, 3.0), (2.0, 2.5), (4.0, 1.0), (NAN, 1.0), (2.0, NAN)])
    long.loc[3, "not_measured_a"], long.loc[4, "not_measured_b"] = 2, 1
    row = paired.comparison(long).iloc[0]
    assert row[paired.PAIR].tolist() == ["hc", "ellipse", "other", "landmark"]
    assert (row["n"], row["not_measured_a"], row["not_measured_b"]) == (3, 2, 1)
    assert row["error_a_mm"] == pytest.approx(7 / 3)
    assert row["error_b_mm"] == pytest.approx(6.5 / 3)
    assert row["difference_mm"] == pytest.approx((-2 - 0.5 + 3) / 3)
    assert row["difference_mm_low"] < 0 < row["difference_mm_high"]
    assert row["a_better_percent"] == pytest.approx(200 / 3)


def test_a_pair_that_no_case_was_measured_by_has_no_difference():
    row = paired.comparison(compared([(NAN, 1.0), (2.0, NAN)])).iloc[0]
    assert row["n"] == 0
    assert np.isnan([row["difference_mm"], row["error_a_mm"], row["a_better_percent"]]).all()


def test_cases_that_are_equal_are_not_better():
    assert paired.comparison(compared([(1.0, 1.0), (1.0, 2.0)]))["a_better_percent"].tolist() == [50]


def test_references_half_a_millimetre_apart_are_not_the_same():
    long = compared([(1.0, 3.0), (2.0, 2.5)])
    row = paired.references(pd.concat([long, compared([(1.0, 3.0)], "baseline", "own")])).iloc[0]
    assert (row["n"], row["difference_mm"], row["amount_mm"], row["largest_mm"], row["differ"]) == (2, 1, 1, 1, True)
    nearer = long.assign(reference_b_mm=[100.5, 99.75])
    row = paired.references(nearer).iloc[0]
    assert row["difference_mm"] == pytest.approx(-0.125)
    assert (row["amount_mm"], row["largest_mm"]) == pytest.approx((0.375, 0.5))
    assert not row["differ"]


def test_references_of_one_study_are_not_compared_with_themselves():
    assert paired.references(compared([(1.0, 3.0)], "baseline", "own")).empty


def test_references_count_a_case_once_however_many_routes():
    both = pd.concat([compared([(1.0, 3.0), (2.0, 2.0)], route) for route in ("landmark", "another")])
    assert paired.references(both)["n"].tolist() == [2]


def test_overlaps_of_three_cases_worked_by_hand():
    long = pd.DataFrame({"dice_a": [0.9, 0.8, 0.0], "dice_b": [0.8, 0.85, 0.5], "subject": list("abc")})
    long = long.assign(difference=long["dice_a"] - long["dice_b"], **{"class": "head"}, study_b="other", study_a="own")
    row = paired.overlap_comparison(long).iloc[0]
    assert (row["n"], row["class"], row["study_b"]) == (3, "head", "other")
    assert row["dice_a"] == pytest.approx(1.7 / 3)
    assert row["difference"] == pytest.approx(-0.45 / 3)
    assert row["a_better_percent"] == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    "view", [landmark_errors.landmarks, biometry_errors.volumes, paired.comparison, paired.references]
)
def test_a_view_of_nothing_is_empty(view):
    long = {landmark_errors.landmarks: errors([]), biometry_errors.volumes: sizes([])}.get(view, compared([]))
    assert tables.to_typst(view(long)) == "nothing to list\n"
