import math

import numpy as np
import pytest

from lib.imaging.growth import age_weeks, mean_and_sd_mm, share_crossing


# Of HC, BPD, OFD in mm: mean and SD from the equations, and the 50th centile as printed in the paper's tables.
@pytest.mark.parametrize(
    ("ga_weeks", "published"),
    [
        (14, [(97.8772, 5.5817, 97.9), (29.6141, 1.7433, 29.6), (33.7608, 1.9355, 33.8)]),
        (20, [(172.4796, 7.4399, 172.5), (48.4461, 2.2984, 48.4), (60.6899, 2.7773, 60.7)]),
        (30, [(278.3857, 9.2493, 278.4), (78.9186, 3.0724, 78.9), (98.0290, 3.8833, 98.0)]),
        (40, [(333.9483, 12.9239, 333.9), (94.9166, 3.9194, 94.9), (115.7682, 6.1954, 115.8)]),
    ],
)
def test_mean_and_sd_are_those_of_the_published_equations_and_tables(ga_weeks, published):
    for quantity, (mean, sd, printed) in zip(("hc", "bpd", "ofd"), published):
        assert mean_and_sd_mm(quantity, ga_weeks) == pytest.approx((mean, sd), abs=6e-5)
        assert mean == pytest.approx(printed, abs=0.07)  # printed to 0.1 mm


def test_z_scores_of_the_worked_examples():
    for ga_weeks, hc_mm, z in ((20, 180, 1.01081), (32, 300, 0.58537)):
        mean, sd = mean_and_sd_mm("hc", ga_weeks)
        assert (hc_mm - mean) / sd == pytest.approx(z, abs=1e-5)


@pytest.mark.parametrize(
    ("quantity", "ga_weeks", "message"),
    [
        *[("hc", ga, rf"ga_weeks = {ga:g} .*14 to 40 weeks") for ga in (13.999, 40.001, -3, 140, math.nan)],
        ("fl", 20, "quantity = 'fl' .*allowed: hc, bpd, ofd"),
    ],
)
def test_an_age_outside_the_charts_and_an_unknown_quantity_are_refused(quantity, ga_weeks, message):
    with pytest.raises(ValueError, match=message):
        mean_and_sd_mm(quantity, ga_weeks)


@pytest.mark.parametrize("quantity", ["hc", "bpd", "ofd"])
def test_an_age_is_that_of_the_charts_mean_and_there_is_none_outside_its_weeks(quantity):
    weeks = np.linspace(14, 40, 53)
    means = [mean_and_sd_mm(quantity, week)[0] for week in weeks]
    assert (np.diff(means) > 0).all()
    assert [age_weeks(quantity, mean) for mean in means] == pytest.approx(weeks, abs=1e-6)
    outside = (means[0] - 0.1, means[-1] + 0.1, 0, -5, math.nan, math.inf)
    assert np.isnan([age_weeks(quantity, size) for size in outside]).all()


def test_the_share_that_crosses_a_centile_is_that_of_simulated_fetuses():
    true = np.random.default_rng(0).normal(size=400_000)
    for error, centile in ((0.3, 10), (-0.3, 10), (0.5, 3), (-0.2, 90)):
        below = np.quantile(true, centile / 100)
        crossed = np.mean((true < below) != (true + error < below))
        assert share_crossing(np.array([error]), centile) == pytest.approx(crossed, abs=0.002)
    assert share_crossing(np.zeros(2), 10) == pytest.approx([0, 0])
    assert share_crossing(np.array([9.0, -9.0]), 10) == pytest.approx([0.1, 0.9])  # all of one side
