import numpy as np
import pandas as pd
import pytest

from lib.imaging import growth
from lib.report import tables
from lib.report.summaries import measurement_agreement as summary
from lib.statistics import agreement

SIZES = np.linspace(120, 300, 12)
ERRORS = np.array([1.0, -2, 3, -1, 2, -3, 0, 1, -1, 2, 4, 5])
ALONE = [summary.limits_mm, summary.limits_percent, summary.proportional, summary.reliabilities]
ALONE += [summary.gestational_age, summary.centiles]
NEW = [summary.limits_first_image, summary.limits_at_sizes]  # without rows where they do not apply


def measured(predicted, reference, subjects=None, **columns: object) -> pd.DataFrame:
    """measurements.csv of HC, one case per value; each is a subject of its own unless given."""
    names = [f"c{place}" for place in range(len(reference))]
    table = pd.DataFrame({"case": names, "subject": names if subjects is None else subjects, "quantity": "hc"})
    values = {"predicted_mm": np.asarray(predicted, float), "reference_mm": np.asarray(reference, float)}
    return table.assign(route="ellipse", stage="post", seed=0, fold=0, flags="", **values, **columns)


HEADS = measured(SIZES + ERRORS, SIZES)


def test_limits_are_in_mm_and_in_percent_of_the_reference():
    mm, percent = summary.limits_mm(HEADS).iloc[0], summary.limits_percent(HEADS).iloc[0]
    relative = 100 * ERRORS / SIZES
    assert (mm["n"], mm["bias_mm"], percent["bias_percent"]) == (12, pytest.approx(ERRORS.mean()), relative.mean())
    assert mm["upper_limit_mm"] == pytest.approx(ERRORS.mean() + 1.96 * ERRORS.std(ddof=1))
    assert percent["lower_limit_percent"] == pytest.approx(relative.mean() - 1.96 * relative.std(ddof=1))
    expected = agreement.limits_of_agreement(relative, np.arange(12)).lower
    assert percent["lower_limit_percent_low"] == pytest.approx(expected.low)
    # seeds are of the same subject: n stays, the interval does not shrink
    both = pd.concat([HEADS, HEADS.assign(seed=1)])
    twice = summary.limits_mm(both).iloc[0]
    assert twice["n"] == 12
    width = [row["upper_limit_mm_high"] - row["upper_limit_mm_low"] for row in (mm, twice)]
    assert width[1] == pytest.approx(width[0], rel=0.1)
    # baselines, raw masks and heads without a value have no part
    others = [HEADS.assign(route="baseline"), HEADS.assign(stage="raw"), HEADS.assign(predicted_mm=np.nan)]
    others.append(HEADS.assign(reference_mm=np.nan))
    assert summary.limits_mm(pd.concat([HEADS, *others])).iloc[0].equals(mm)


def test_the_slope_is_per_100_mm_and_its_limits_stand_only_where_the_interval_excludes_0():
    rows = pd.concat([HEADS, measured(1.03 * SIZES - 5 + np.sin(SIZES), SIZES).assign(quantity="ofd")])
    table = summary.proportional(rows).set_index("quantity")
    assert table["proportional"].to_dict() == {"hc": "no", "ofd": "yes"}
    line = table.loc["ofd"]
    assert line["slope_per_100_mm"] == pytest.approx(3, abs=0.5)
    assert line["slope_per_100_mm_low"] < 3 < line["slope_per_100_mm_high"]
    at = summary.limits_at_sizes(rows)
    assert at[["quantity", "n"]].values.tolist() == [["ofd", 12], ["ofd", 12]]
    assert at["size_mm"].tolist() == line[["smallest_mm", "largest_mm"]].tolist()
    assert at["bias_mm"].tolist() == pytest.approx([-1.4, 4], abs=0.7)
    for bias, lower, upper in zip(*(bounds(at, name) for name in ("bias_mm", "lower_limit_mm", "upper_limit_mm"))):
        assert (np.diff([bias, lower, upper]) > 0).all()  # low, value, high
        assert lower[1] < bias[1] < upper[1]
    assert bounds(at, "bias_percent")[1] == pytest.approx(
        [100 * each / at["size_mm"][1] for each in bounds(at, "bias_mm")[1]]
    )
    few = summary.proportional(HEADS.head(5)).iloc[0]
    assert few["proportional"] == "not tested"
    assert np.isnan(few["slope_per_100_mm_low"])
    assert summary.limits_at_sizes(HEADS).empty


def bounds(table: pd.DataFrame, name: str) -> list[list[float]]:
    return table[[f"{name}_low", name, f"{name}_high"]].values.tolist()


def test_an_error_that_is_a_fixed_share_of_the_head_has_a_slope_in_mm_and_none_in_percent():
    wobble = 1 + 0.001 * np.cos(np.arange(12))
    row = summary.proportional(measured(1.02 * SIZES * wobble, SIZES)).iloc[0]
    assert row["slope_per_100_mm"] == pytest.approx(100 * 2 * 0.02 / 2.02, abs=0.15)  # of 0.02 x on the mean, 1.01 x
    assert row["proportional"] == "yes"
    assert row["percent_slope_per_100_mm_low"] < 0 < row["percent_slope_per_100_mm_high"]


def test_limits_over_the_first_image_of_each_subject_are_those_of_single_measurements():
    owners = ["a", "a", "b", "c", "c", "c", "d", "e", "f", "g", "h", "i"]
    rows = measured(SIZES + ERRORS, SIZES, owners)
    (row,) = summary.limits_first_image(pd.concat([rows, HEADS.assign(quantity="bpd")])).to_dict("records")
    kept = ERRORS[[0, 2, 3, 6, 7, 8, 9, 10, 11]]
    assert (row["quantity"], row["n"], row["bias_mm"]) == ("hc", 9, pytest.approx(kept.mean()))
    ends = kept.mean() - 1.96 * kept.std(ddof=1), kept.mean() + 1.96 * kept.std(ddof=1)
    assert (row["lower_limit_mm"], row["upper_limit_mm"]) == pytest.approx(ends)
    assert summary.limits_first_image(HEADS).empty


def test_percentiles_stand_only_where_differences_are_not_normal():
    normal = summary.limits_mm(HEADS).iloc[0]
    assert normal["p_normal"] > 0.05
    assert np.isnan(normal[["percentile_2_5_mm", "percentile_97_5_mm"]].astype(float)).all()
    sizes = np.linspace(100, 200, 79)
    errors = np.exp(np.linspace(0, 4, 79))  # ranks (79 + 1) times 0.025 and 0.975: the second and the last but one
    skewed = summary.limits_mm(measured(sizes + errors, sizes)).iloc[0]
    assert skewed["p_normal"] < 0.001
    ends = skewed[["percentile_2_5_mm", "percentile_97_5_mm"]].tolist()
    assert ends == pytest.approx([errors[1], errors[-2]])
    percent = summary.limits_percent(measured(sizes + errors, sizes)).iloc[0]
    assert percent["percentile_97_5_percent"] == pytest.approx(np.sort(100 * errors / sizes)[-2])


def test_groups_are_in_order_of_hc_with_the_range_that_they_span():
    manifest = pd.DataFrame({"case": HEADS["case"], "stratum": ["hc0"] * 5 + ["hc1 csp"] * 5 + ["hc10"] * 2})
    manifest["hc_mm"] = [100.0] * 5 + [150, 150, 150, 150, 160.4] + [np.nan] * 2
    shuffled = HEADS.sample(frac=1, random_state=0)
    table = summary.by_size(
        pd.concat([shuffled, shuffled.assign(quantity="bpd")]), manifest.sample(frac=1, random_state=1)
    )
    assert table[["quantity", "group"]].values.tolist() == [
        [q, g] for q in ("hc", "bpd") for g in ("HC 100–100 mm", "HC 150–160 mm", "hc10")
    ]
    last = table.iloc[2]
    assert (last["n"], last["bias_mm"], last["mae_mm"]) == (2, 4.5, 4.5)
    assert (last["smallest_hc_mm"], last["largest_hc_mm"]) == (SIZES[10], 300)
    assert last["mae_percent"] == pytest.approx(100 * (4 / SIZES[10] + 5 / 300) / 2)
    assert (last["mae_mm_least"], last["mae_mm_largest"], last["mae_mm_subjects"]) == (
        4,
        5,
        2,
    )  # too few for an interval
    (only,) = summary.by_size(HEADS, manifest.assign(stratum=""))["group"]
    assert only == "all"


@pytest.mark.parametrize(
    ("percent", "mean", "single"),
    [(0.5, "yes", "yes"), (1.5, "yes", "undecided"), (2.4, "yes", "no"), (4.0, "not shown", "no")],
)
def test_the_mean_and_single_measurements_are_tested_against_the_margin(percent, mean, single):
    spread = np.resize([-0.6, 0.6], 12)
    row = summary.equivalence(measured(SIZES * (1 + (percent + spread) / 100), SIZES), 3.0).iloc[0]
    assert (row["mean_within_margin"], row["single_within_margin"], row["margin_percent"]) == (mean, single, 3.0)
    assert row["bias_percent"] == pytest.approx(percent)


def test_limits_in_percent_within_the_margin_decide_nothing_if_the_difference_changes_with_size():
    percent = np.linspace(-1, 1, 12) + np.resize([-0.2, 0.2], 12)
    row = summary.equivalence(measured(np.sort(SIZES) * (1 + percent / 100), np.sort(SIZES)), 3.0).iloc[0]
    assert (row["mean_within_margin"], row["single_within_margin"]) == ("yes", "depends on size")


def test_days_and_standard_deviations_are_those_of_the_growth_chart():
    mean, sd = growth.mean_and_sd_mm("hc", 20)
    later, outside = growth.mean_and_sd_mm("hc", 21)[0], 60.0
    heads = measured([later, mean, later, outside, 334.5], [mean, mean, mean, outside, 333.0])
    days = summary.gestational_age(heads).iloc[0]
    assert (days["n"], days["outside_chart"]) == (3, 2)
    assert (days["bias_days"], days["mae_days"]) == (pytest.approx(14 / 3), pytest.approx(14 / 3))
    assert (days["up_to_one_week"], days["over_one_week"]) == (3, 0)
    row = summary.centiles(heads).iloc[0]
    last = 1.5 / growth.mean_and_sd_mm("hc", growth.age_weeks("hc", 333.0))[1]
    errors = np.array([(later - mean) / sd, 0, (later - mean) / sd, last])
    assert (row["n"], row["bias_sd"]) == (4, pytest.approx(errors.mean()))
    assert row["across_10th_centile_percent"] == pytest.approx(100 * growth.share_crossing(errors, 10).mean())
    none = summary.gestational_age(measured([50.0, 55.0], [51.0, 54.0])).iloc[0]
    assert (none["n"], none["outside_chart"]) == (0, 2)
    assert np.isnan([none["bias_days"], none["mae_days"]]).all()


def test_one_subject_equal_differences_and_no_heads_are_no_errors():
    one = measured(SIZES + ERRORS, SIZES, subjects=["s"] * 12)
    equal = measured(SIZES + 2, SIZES)
    manifest = pd.DataFrame({"case": HEADS["case"], "stratum": "", "hc_mm": np.nan})
    functions = [*ALONE, lambda rows: summary.by_size(rows, manifest), lambda rows: summary.equivalence(rows, 3.0)]
    for compute in functions:
        assert len(compute(one)) == len(compute(equal)) == 1
    for compute in (*functions, *NEW):
        for empty in (HEADS.iloc[:0], HEADS.assign(reference_mm=np.nan)):
            assert tables.to_typst(compute(empty)) == "no rows\n"
    (first,) = summary.limits_first_image(one)["n"]
    assert first == 1
    row = summary.limits_mm(one).iloc[0]
    assert row["bias_mm"] == pytest.approx(ERRORS.mean())
    assert np.isnan(row[["bias_mm_low", "lower_limit_mm", "upper_limit_mm"]].astype(float)).all()
    assert (
        summary.equivalence(one, 3.0).iloc[0][["mean_within_margin", "single_within_margin"]].tolist()
        == ["not shown"] * 2
    )
    row = summary.limits_mm(equal).iloc[0]
    assert (row["lower_limit_mm"], row["upper_limit_mm_high"]) == pytest.approx((2, 2))


def test_volumes_have_limits_in_ml_if_any_voxel_size_is_known_and_else_in_voxels():
    columns = {"class": "lesion", "reference_voxels": 10 * SIZES, "predicted_voxels": 10 * (SIZES + ERRORS)}
    volumes = HEADS.assign(**columns, reference_ml=SIZES, predicted_ml=SIZES + ERRORS)
    volumes.loc[11, ["reference_ml", "predicted_ml"]] = np.nan
    row = summary.volume_limits(volumes).iloc[0]
    assert (row["n"], row["bias_ml"]) == (11, pytest.approx(ERRORS[:11].mean()))
    assert row["slope_percent_low"] < row["slope_percent"] < row["slope_percent_high"]
    voxels = summary.volume_limits(volumes.assign(reference_ml=np.nan, predicted_ml=np.nan)).iloc[0]
    assert (voxels["n"], voxels["bias_voxels"]) == (12, pytest.approx(10 * ERRORS.mean()))
    assert voxels["upper_limit_voxels"] == pytest.approx(10 * (ERRORS.mean() + 1.96 * ERRORS.std(ddof=1)))
    assert summary.volume_limits(volumes.iloc[:0]).empty
