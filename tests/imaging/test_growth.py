import math

import pytest

from lib.imaging import growth


def mean_mm(quantity, ga):
    return growth.mean_and_sd_mm(quantity, ga)[0]


def sd_mm(quantity, ga):
    return growth.mean_and_sd_mm(quantity, ga)[1]


# Mean and SD in mm from the equations (facts/formulas.md), and the 50th centile as the paper's tables print it.
KNOWN = [
    (14, "hc", 97.8772, 5.5817, 97.9),
    (14, "bpd", 29.6141, 1.7433, 29.6),
    (14, "ofd", 33.7608, 1.9355, 33.8),
    (20, "hc", 172.4796, 7.4399, 172.5),
    (20, "bpd", 48.4461, 2.2984, 48.4),
    (20, "ofd", 60.6899, 2.7773, 60.7),
    (30, "hc", 278.3857, 9.2493, 278.4),
    (30, "bpd", 78.9186, 3.0724, 78.9),
    (30, "ofd", 98.0290, 3.8833, 98.0),
    (40, "hc", 333.9483, 12.9239, 333.9),
    (40, "bpd", 94.9166, 3.9194, 94.9),
    (40, "ofd", 115.7682, 6.1954, 115.8),
]


@pytest.mark.parametrize(("ga_weeks", "quantity", "mean", "sd", "printed"), KNOWN)
def test_mean_and_sd_are_those_of_the_published_equations(ga_weeks, quantity, mean, sd, printed):
    assert mean_mm(quantity, ga_weeks) == pytest.approx(mean, abs=6e-5)
    assert sd_mm(quantity, ga_weeks) == pytest.approx(sd, abs=6e-5)


@pytest.mark.parametrize(("ga_weeks", "quantity", "mean", "sd", "printed"), KNOWN)
def test_the_mean_is_the_50th_centile_of_the_printed_table(ga_weeks, quantity, mean, sd, printed):
    assert mean_mm(quantity, ga_weeks) == pytest.approx(printed, abs=0.07)  # printed to 0.1 mm


def test_z_scores_of_the_worked_examples():
    assert (180 - mean_mm("hc", 20)) / sd_mm("hc", 20) == pytest.approx(1.01081, abs=1e-5)
    assert (300 - mean_mm("hc", 32)) / sd_mm("hc", 32) == pytest.approx(0.58537, abs=1e-5)


def test_the_logarithm_is_natural_and_not_decadic():
    decadic = -28.2849 + 1.69267 * 20**2 - 0.397485 * 20**2 * math.log10(20)
    assert decadic == pytest.approx(441.9, abs=0.05)  # what public code with log10 prints
    assert mean_mm("hc", 20) < 200


def test_the_sd_of_ofd_is_an_exponential_and_not_its_absolute_exponent():
    assert abs(math.log(sd_mm("ofd", 20))) == pytest.approx(1.021, abs=1e-3)  # what public code prints
    assert sd_mm("ofd", 20) == pytest.approx(2.777, abs=1e-3)


def test_sizes_are_millimetres_and_grow_with_age():
    weeks = [14 + step / 4 for step in range(105)]
    for quantity, largest in (("hc", 340), ("bpd", 100), ("ofd", 120)):
        means = [mean_mm(quantity, ga) for ga in weeks]
        assert means == sorted(means)
        assert 25 < means[0] < means[-1] < largest


def test_axes_and_circumference_belong_together():
    for ga in range(14, 41):
        round_head = math.pi / 2 * (mean_mm("bpd", ga) + mean_mm("ofd", ga))
        assert mean_mm("hc", ga) == pytest.approx(round_head, rel=0.025)  # three separate regressions


@pytest.mark.parametrize("ga_weeks", [14, 40])
def test_both_ends_of_the_range_are_valid(ga_weeks):
    assert mean_mm("hc", ga_weeks) > 0


@pytest.mark.parametrize("ga_weeks", [13.999, 40.001, -3, 140, math.nan])
def test_an_age_outside_the_charts_is_refused_and_not_clipped(ga_weeks):
    message = rf"ga_weeks = {ga_weeks:g}   outside the charts; allowed: 14 to 40 weeks"
    for curve in (mean_mm, sd_mm):
        with pytest.raises(ValueError, match=message):
            curve("hc", ga_weeks)


def test_an_unknown_quantity_is_refused_by_name():
    for curve in (mean_mm, sd_mm):
        with pytest.raises(ValueError, match="quantity = 'fl'   not known; allowed: hc, bpd, ofd"):
            curve("fl", 20)
