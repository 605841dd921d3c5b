"""Fetal head size by gestational age, INTERGROWTH-21st: mean and standard deviation of HC, BPD and OFD.

Source: Papageorghiou et al. 2014, Lancet 384:869-79; equations in exact weeks, millimetres, natural logarithm. BPD
and OFD are measured from outer border to outer border.
"""

import math

import numpy as np
from scipy import special

GA_RANGE_WEEKS = (14.0, 40.0)  # to which the charts were fitted


def mean_and_sd_mm(quantity: str, ga_weeks: float) -> tuple[float, float]:
    """Mean and standard deviation of "hc", "bpd" or "ofd" in healthy fetuses of one gestational age, in mm.

    The age is in exact weeks (20 weeks 3 days is 20 + 3 / 7); ValueError outside 14 to 40, or for another quantity.
    """
    first, last = GA_RANGE_WEEKS
    if not first <= ga_weeks <= last:
        raise ValueError(f"ga_weeks = {ga_weeks:g}   outside the growth charts; allowed: {first:g} to {last:g} weeks")
    ga, ln = ga_weeks, math.log(ga_weeks)
    if quantity == "hc":
        mean = -28.2849 + 1.69267 * ga**2 - 0.397485 * ga**2 * ln
        return mean, 1.98735 + (0.0136772 - 0.00726264 * ln + 0.000976253 * ln**2) * ga**3
    if quantity == "bpd":
        mean = 5.60878 + 0.158369 * ga**2 - 0.00256379 * ga**3
        return mean, math.exp(0.101242 + (0.00150557 - 0.000771535 * ln + 0.0000999638 * ln**2) * ga**3)
    if quantity == "ofd":
        mean = -12.4097 + 0.626342 * ga**2 - 0.148075 * ga**2 * ln
        return mean, math.exp(-0.880034 + (0.0631165 - 0.0317136 * ln + 0.00408302 * ln**2) * ga**2)
    raise ValueError(f"quantity = {quantity!r}   not known; allowed: hc, bpd, ofd")


def age_weeks(quantity: str, size_mm: float) -> float:
    """The age in exact weeks at which the chart's mean is this size; NaN for a size outside those of 14 to 40 weeks.

    The means increase throughout the chart, so there is one such age. This inverts the chart of size by age; it is not
    the published equation for dating, which is a regression of age on size and gives other ages.
    """
    smallest, largest = (mean_and_sd_mm(quantity, weeks)[0] for weeks in GA_RANGE_WEEKS)
    if not smallest <= size_mm <= largest:
        return math.nan
    from scipy import optimize  # takes a fifth of a second, and `lib.datasets` imports this module

    return float(optimize.brentq(lambda weeks: mean_and_sd_mm(quantity, weeks)[0] - size_mm, *GA_RANGE_WEEKS))


def share_crossing(errors_sd: np.ndarray, centile: float) -> np.ndarray:
    """Share of fetuses that an error moves across a centile of the chart.

    Of healthy fetuses of one age, whose sizes in standard deviations are normal, an error (any shape, in standard
    deviations of the chart) moves those between the centile and the centile less the error.
    """
    at = special.ndtri(centile / 100)
    return np.abs(special.ndtr(at - np.asarray(errors_sd, float)) - centile / 100)
