import numpy as np
import pandas as pd
import pytest

from lib.imaging import shapes
from lib.report import tables
from lib.report.summaries import biometry_errors


def measurements(rows: list[tuple[str, str, float, float, object]]) -> pd.DataFrame:
    """The long table of 06, from (route, stage, predicted, reference, flags); one subject per row."""
    table = pd.DataFrame(rows, columns=["route", "stage", "predicted_mm", "reference_mm", "flags"])
    table["case"] = table["subject"] = [f"c{place}" for place in range(len(table))]
    return table.assign(quantity="hc", seed=0, fold=0)


def test_agreement_of_three_heads_worked_by_hand() -> None:
    rows = [("ellipse", "post", 101.0, 100.0, ""), ("ellipse", "post", 198.0, 200.0, "HC out of range")]
    rows += [("ellipse", "post", 304.0, 300.0, ""), ("ellipse", "post", np.nan, 250.0, "no ellipse")]
    row = biometry_errors.agreement(measurements(rows)).iloc[0]
    assert (row["n"], row["not_measured"], row["flagged"]) == (3, 1, 2)
    assert row["mae_mm"] == pytest.approx(7 / 3)
    assert row["mae_percent"] == pytest.approx((1 + 1 + 4 / 3) / 3)
    assert row["median_mm"] == 2  # of 1, 2 and 4
    assert row["bias_mm"] == pytest.approx(1)  # (1 - 2 + 4) / 3; standard deviation 3
    assert row["lower_limit_mm"] == pytest.approx(1 - 1.96 * 3)
    assert row["upper_limit_mm"] == pytest.approx(1 + 1.96 * 3)
    # a case without a reference is not counted
    rows = [("ellipse", "post", 101.0, 100.0, ""), ("ellipse", "post", 90.0, np.nan, "")]
    row = biometry_errors.agreement(measurements(rows)).iloc[0]
    assert (row["n"].item(), row["not_measured"].item()) == (1, 0)
    assert row["bias_mm"] == 1
    assert np.isnan(row["lower_limit_mm"])


def test_quantities_stay_together_and_the_baseline_has_one_row_for_both_stages() -> None:
    rows = [(route, stage, 1.0, 2.0, "") for route in ("ellipse", "baseline") for stage in ("raw", "post")]
    hc = measurements(rows)
    bpd = hc.assign(quantity="bpd")
    table = biometry_errors.agreement(pd.concat([hc.iloc[:2], bpd.iloc[:2], hc.iloc[2:], bpd.iloc[2:]]))
    routes = [["ellipse", "raw"], ["ellipse", "post"], ["baseline", "post"]]
    assert table[biometry_errors.AGREEMENT_KEY].values.tolist() == [[q, *r] for q in ("hc", "bpd") for r in routes]


def test_seeds_count_a_case_once_and_are_averaged_before_the_mean() -> None:
    rows = [("ellipse", "post", 102.0, 100.0, ""), ("ellipse", "post", 210.0, 200.0, "")]
    baseline = [("baseline", "post", 150.0, 100.0, ""), ("baseline", "post", 150.0, 200.0, "")]
    first, again = measurements(rows), measurements(rows).assign(seed=1, predicted_mm=[104.0, np.nan])
    mean = measurements(baseline)
    both = pd.concat([first, again, mean, mean.assign(seed=1)])
    table = biometry_errors.agreement(both).set_index("route")
    assert table["n"].tolist() == [2, 2]
    assert table.loc["ellipse", "mae_mm"] == pytest.approx(((2 + 4) / 2 + 10) / 2)
    assert table.loc["ellipse", "mae_percent"] == pytest.approx((3 + 5) / 2)
    assert table.loc["ellipse", "bias_mm"] == pytest.approx((2 + 4 + 10) / 3)  # of single predictions
    assert table.loc["baseline", "bias_mm"] == 0  # (50 - 50) / 2
    assert table["not_measured"].tolist() == [1, 0]
    assert biometry_errors.holds_all_measurements(table, both)
    assert not biometry_errors.holds_all_measurements(table, pd.concat([both, first.assign(case="another")]))
    fewer = biometry_errors.agreement(both[both["predicted_mm"].notna()])
    assert not biometry_errors.holds_all_measurements(fewer, both)


@pytest.mark.parametrize(
    ("errors", "share"),
    [
        ([1.0] * 19 + [19.0], 50),  # one of 20 is 5 %
        ([1.0] * 19 + [-19.0, 19.0], 100 * (19 + 19 / 20) / 57),  # of 21, one and a twentieth of the next
        ([1.0] * 38 + [20.0, 40.0, 60.0], 100 * (100 + 20 / 20) / 158),  # of 41, two and a twentieth of the third
        ([1.0] * 40, 5),
        ([1.0] * 18 + [19.0], np.nan),  # of 19, one is more than 5 %
        ([0.0] * 20, np.nan),
    ],
)
def test_the_share_of_the_largest_errors_in_their_sum(errors: list[float], share: float) -> None:
    table = measurements([("ellipse", "post", 100.0 + error, 100.0, "") for error in errors])
    others = [table.assign(route="baseline"), table.assign(stage="raw"), table.assign(reference_mm=np.nan)]
    (row,) = biometry_errors.largest_shares(pd.concat([table, *others])).to_dict("records")
    assert (row["quantity"], row["route"]) == ("hc", "ellipse")
    assert row["largest_share_percent"] == pytest.approx(share, nan_ok=True)


def test_the_largest_errors_are_those_of_cases_whose_seeds_are_averaged() -> None:
    rows = measurements([("ellipse", "post", 101.0, 100.0, "")] * 19 + [("ellipse", "post", 119.0, 100.0, "")])
    both = pd.concat([rows, rows.assign(seed=1, predicted_mm=101.0)])
    assert biometry_errors.largest_shares(both)["largest_share_percent"].tolist() == pytest.approx([100 * 10 / 29])


def test_normal_errors_have_about_15_percent_in_their_largest_twentieth() -> None:
    errors = np.random.default_rng(0).normal(size=4000)
    table = measurements([("ellipse", "post", 100 + error, 100.0, "") for error in errors])
    share = biometry_errors.largest_shares(table)["largest_share_percent"].item()
    assert share == pytest.approx(100 * np.exp(-(1.959964**2) / 2), abs=0.5)  # 14.65: the mean of a half-normal tail


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
    areas = row[["reference_area_mm2", "area_error_mm2", "area_error_percent"]].tolist()
    assert areas == pytest.approx([75, 10, (10 + 20) / 2])
    assert row["centroid_distance_mm"] == pytest.approx((5 + 1) / 2)
    assert (row["height_error_mm"], row["width_error_mm"]) == (0.5, 2.0)
    assert (row["eccentricity"], row["eccentricity_error"]) == (pytest.approx(0.7), pytest.approx(0.15))


def test_cases_that_lack_a_structure_in_one_mask_are_not_compared() -> None:
    table = shape_rows(parts=[1, 1, 1, 0, 0, 2, 0, 0], area_mm2=[10.0, 12.0, 10.0, np.nan, np.nan, 3.0, np.nan, np.nan])
    row = biometry_errors.shapes(table).iloc[0]
    assert (row["n"], row["area_error_mm2"]) == (1, 2)
    none = biometry_errors.shapes(table.iloc[2:]).iloc[0]
    assert (none["n"], none["n_mm"]) == (0, 0)
    assert none.drop(["class", "n", "n_mm"]).isna().all()
    # without a pixel size only the shape is compared
    table = shape_rows(area_mm2=[np.nan, np.nan], eccentricity=[0.8, 0.6], height_mm=[np.nan, np.nan])
    row = biometry_errors.shapes(table.assign(centroid_row_mm=np.nan)).iloc[0]
    assert (row["n"], row["n_mm"]) == (1, 0)
    assert np.isnan(row["area_error_mm2"])
    assert np.isnan(row["centroid_distance_mm"])
    assert row["eccentricity_error"] == pytest.approx(0.2)


@pytest.mark.parametrize("order", range(3))
def test_predictions_are_paired_by_case_and_seed_in_any_order(order: int) -> None:
    table = shape_rows(parts=[1, 1, 1, 2, 1, 0], area_mm2=[100.0, 110.0, 50.0, 40.0, 70.0, np.nan])
    both = pd.concat([table, table.assign(seed=1)]).sample(frac=1, random_state=order)
    row = biometry_errors.shapes(both).iloc[0]
    assert (row["n"], row["reference_area_mm2"], row["area_error_mm2"]) == (2, 75, 10)


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
    assert row[["error_voxels_least", "error_voxels_largest", "error_voxels_subjects"]].tolist() == [10, 50, 4]


def test_seeds_of_a_volume_are_averaged_before_the_mean():
    both = pd.concat([sizes([(100, 110), (100, 100)]), sizes([(100, 70), (100, 100)], seed=1)])
    row = biometry_errors.volumes(both).iloc[0]
    assert row["n"] == 2
    assert row["error_voxels"] == (20 + 0) / 2  # not |90 - 100|
    assert row["bias_voxels"] == -5
    assert biometry_errors.holds_all_volumes(biometry_errors.volumes(both), both)
    assert not biometry_errors.holds_all_volumes(biometry_errors.volumes(both[both["case"] == "c0"]), both)
    absent = biometry_errors.volumes(sizes([(0, 0)])).iloc[0]
    assert absent[["n", "missed", "invented"]].tolist() == [1, 0, 0]
    for empty in (biometry_errors.agreement(measurements([])), biometry_errors.volumes(sizes([]))):
        assert empty.empty
        assert tables.to_typst(empty) == "no rows\n"
    # without a voxel size there are no millilitres
    row = biometry_errors.volumes(sizes([(100, 110), (50, 50)], ml=np.nan)).iloc[0]
    assert (row["error_voxels"], row["n"], row["n_ml"]) == (5, 2, 0)
    assert np.isnan([row["reference_ml"], row["error_ml"], row["bias_ml"]]).all()
