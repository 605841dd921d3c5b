import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib import models
from lib.evaluation import quality, segmentation
from lib.models import devices, inference
from tests import builders

LIMITS = {"cut by the frame": 0.1, "small in the image": 0.2, "large in the image": 0.6}


def test_a_flag_is_raised_beyond_its_limit_only():
    assert quality.raised({"frame_share": 0.1, "size_share": 0.2}, LIMITS) == []
    assert quality.raised({"frame_share": 0.11, "size_share": 0.19}, LIMITS) == [
        "cut by the frame",
        "small in the image",
    ]
    assert quality.raised({"size_share": 0.61}, LIMITS) == ["large in the image"]


def test_an_unknown_indicator_and_a_flag_without_a_limit_raise_nothing():
    assert quality.raised({"frame_share": np.nan, "size_share": np.nan, "second_part": 1.0}, LIMITS) == []
    assert quality.raised({"frame_share": 1.0}, {}) == []


def test_large_is_an_error_above_5_mm_or_no_measurement():
    predicted, reference = [100.0, 105.0, 105.1, 94.8, np.nan], [100.0] * 5
    assert quality.is_large(predicted, reference).tolist() == [False, False, True, True, True]


def of_validation(count=100, seed=2):
    """Indicators of validation cases that have nothing to do with an error."""
    random = np.random.default_rng(seed)
    return pd.DataFrame({name: random.permutation(count) / count for name in ("fit_residual", "grey_distance")})


def flagged_by(table, limits):
    return np.array([bool(quality.raised(row, limits)) for row in table.to_dict("records")])


def none(table):
    return np.zeros(len(table), bool)


def test_without_large_errors_a_limit_is_beyond_all_that_validation_showed():
    table = pd.DataFrame({"frame_share": [0.0] * 12 + [0.02] * 12 + [0.08], "size_share": [0.4] * 24 + [0.3]})
    limits = quality.choose_limits(table, none(table), none(table))
    # median 0.02 and largest value 0.08: half as far again from the median is 0.02 + 1.5 x 0.06
    assert limits["cut by the frame"] == pytest.approx(0.11)
    # on a scale of ratios from below: 0.3 is three quarters of the median 0.4
    assert limits["small in the image"] == pytest.approx(0.4 * 0.75**1.5)
    assert quality.choose_limits(table.assign(size_share=[0.4] * 24 + [0.01]), none(table), none(table))[
        "small in the image"
    ] == pytest.approx(0.4 * 0.025**1.5)  # positive: a limit that an image can be below
    assert limits["large in the image"] == pytest.approx(0.4)
    assert not flagged_by(table, limits).any()


def test_a_speck_and_a_touch_of_the_frame_raise_no_flag_even_if_validation_shows_none():
    table = pd.DataFrame({"frame_share": [0.0] * 25, "second_part": [0.0] * 25})
    limits = quality.choose_limits(table, none(table), none(table))
    assert quality.raised({"frame_share": 0.01, "second_part": 0.01}, limits) == []
    assert quality.raised({"frame_share": 0.02, "second_part": 0.02}, limits) == ["cut by the frame", "two regions"]


def test_too_few_validation_cases_give_no_limits():
    assert quality.choose_limits(of_validation(19), np.ones(19, bool), np.zeros(19, bool)) == {}
    assert quality.choose_limits(of_validation(20), np.ones(20, bool), np.zeros(20, bool))


def test_the_indicator_that_tells_large_errors_is_tightened_to_find_them():
    table = of_validation()
    large = (table["fit_residual"] > 0.935).to_numpy()  # the 6 largest of 100
    limits = quality.choose_limits(table, large, none(table))
    assert limits["not elliptical"] == pytest.approx(0.935)  # half-way between 0.93 and 0.94
    assert (flagged_by(table, limits) == large).all()


def test_chance_tightens_no_limit():
    table = of_validation()
    top = table["fit_residual"].rank(ascending=False) == 1
    large = (top | (table["grey_distance"] < 0.05)).to_numpy()  # one of six is the first of an indicator
    limits = quality.choose_limits(table, large, none(table))
    p = stats.fisher_exact([[1, 0], [5, 94]], alternative="greater").pvalue
    assert p * 2 > quality.LEVEL
    assert not flagged_by(table, limits).any()


def test_a_tenth_of_the_validation_cases_is_flagged_at_most():
    table = of_validation()
    large = (table["fit_residual"] > 0.745).to_numpy()  # 25 of 100
    flagged = flagged_by(table, quality.choose_limits(table, large, none(table)))
    assert flagged.sum() == 10
    assert large[flagged].all()


def test_heads_that_cannot_be_measured_count_among_the_flagged():
    table = of_validation()
    large = (table["fit_residual"] > 0.745).to_numpy()
    unmeasured = (table["fit_residual"] < 0.04).to_numpy()  # 4
    flagged = flagged_by(table, quality.choose_limits(table, large | unmeasured, unmeasured))
    assert (flagged | unmeasured).sum() == 10


def test_a_second_flag_finds_what_the_first_leaves():
    table = of_validation()
    large = ((table["fit_residual"] > 0.945) | (table["grey_distance"] > 0.955)).to_numpy()
    limits = quality.choose_limits(table, large, none(table))
    assert (flagged_by(table, limits) == large).all()
    assert large.sum() == 9


def test_unknown_values_are_never_flagged():
    table = of_validation()
    large = (table["fit_residual"] > 0.935).to_numpy()
    table.loc[table["fit_residual"] < 0.5, "fit_residual"] = np.nan
    table["arc_coverage"] = np.nan
    limits = quality.choose_limits(table, large, none(table))
    assert limits["not elliptical"] == pytest.approx(0.935)
    assert "outline visible in part" not in limits


def test_the_order_of_cases_does_not_matter():
    table = of_validation()
    large = (table["fit_residual"] > 0.9).to_numpy() & (np.arange(100) % 3 > 0)
    order = np.random.default_rng(5).permutation(100)
    limits = quality.choose_limits(table, large, none(table))
    assert quality.choose_limits(table.iloc[order], large[order], none(table)) == limits


def evaluated(folder, tested):
    """Evaluation of fold 0 by a network that puts out the image: two test, two validation and two training images."""
    drawn = [builders.ellipse_region((32, 32), (15, 16), size, size - 4, 30) for size in (24, 22, 21, 23, 20, 19)]
    bench = builders.image_bench(folder, [*tested, *(0.9 * head for head in drawn[2:])], drawn, spacing_mm=0.9)
    weights = builders.write_weights(folder / "model.safetensors", bench.arrays.preparation)
    measuring = {"head_classes": ["head"], "max_axis_ratio": 1.7, "hc_range_mm": [10.0, 400.0]}
    protocol = segmentation.Protocol([0.5], [], False, devices.choose("cpu"), {}, measuring)
    measured = segmentation.evaluate_run(protocol, bench, weights, 0, 0)
    return measured, models.load_described(bench.folder / "models" / "fold0-seed0.safetensors")[1]["flags"]


def test_limits_do_not_depend_on_test_cases_and_are_in_the_model_file(tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "predict", builders.predict_image)
    monkeypatch.setattr(quality, "FEWEST", 2)
    whole = [0.9 * builders.ellipse_region((32, 32), (15, 16), 24, 20, 30)] * 2
    cut = [0.9 * builders.ellipse_region((32, 32), (0, 16), 24, 20, 30), np.zeros((32, 32))]
    measured, about = zip(*(evaluated(tmp_path / name, tested) for name, tested in (("a", whole), ("b", cut))))
    assert about[0] == about[1]
    assert dict(measured[0].limits[["flag", "limit"]].values) == about[0]["limits"]
    assert about[0]["limits"]["cut by the frame"] == pytest.approx(0.01)
    indicators = measured[1].indicators.set_index("case")
    assert indicators["role"].tolist() == ["validation"] * 2 + ["test"] * 2
    raised = quality.raised_by_head(measured[1].indicators, measured[1].limits)
    assert "cut by the frame" in raised["c0", 0, "ellipse"]
    assert np.isnan(indicators.loc["c1", "frame_share"])


def test_a_study_without_heads_has_an_empty_table_of_indicators():
    assert quality.table([]).columns.tolist() == quality.HEAD_COLUMNS
