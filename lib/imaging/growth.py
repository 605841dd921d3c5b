"""Fetal head size by gestational age, INTERGROWTH-21st: mean and standard deviation of HC, BPD and OFD.

Source: Papageorghiou et al. 2014, Lancet 384:869-79; equations in exact weeks, millimetres, natural logarithm. BPD
and OFD are measured from outer border to outer border.
"""

import math

GA_RANGE_WEEKS = (14.0, 40.0)  # the ages that the charts were fitted to


def mean_mm(quantity: str, ga_weeks: float) -> float:
    """Mean size at an age.

    Args:
        quantity: "hc", "bpd" or "ofd".
        ga_weeks: gestational age in exact weeks (20 weeks 3 days is 20 + 3 / 7), 14 to 40.

    Returns:
        Millimetres.

    Raises:
        ValueError: the age is outside the charts (nothing is clipped), or no such quantity.
    """
    ga, ln = _age(ga_weeks)
    if quantity == "hc":
        return -28.2849 + 1.69267 * ga**2 - 0.397485 * ga**2 * ln
    if quantity == "bpd":
        return 5.60878 + 0.158369 * ga**2 - 0.00256379 * ga**3
    if quantity == "ofd":
        return -12.4097 + 0.626342 * ga**2 - 0.148075 * ga**2 * ln
    raise _unknown(quantity)


def sd_mm(quantity: str, ga_weeks: float) -> float:
    """Standard deviation of the size between healthy fetuses of one age; arguments and errors as in `mean_mm`.

    HC's equation gives it directly, those of BPD and OFD give its logarithm.
    """
    ga, ln = _age(ga_weeks)
    if quantity == "hc":
        return 1.98735 + (0.0136772 - 0.00726264 * ln + 0.000976253 * ln**2) * ga**3
    if quantity == "bpd":
        return math.exp(0.101242 + (0.00150557 - 0.000771535 * ln + 0.0000999638 * ln**2) * ga**3)
    if quantity == "ofd":
        return math.exp(-0.880034 + (0.0631165 - 0.0317136 * ln + 0.00408302 * ln**2) * ga**2)
    raise _unknown(quantity)


def _age(ga_weeks: float) -> tuple[float, float]:
    """The age and its natural logarithm."""
    first, last = GA_RANGE_WEEKS
    if not first <= ga_weeks <= last:
        raise ValueError(f"ga_weeks = {ga_weeks:g}   outside the charts; allowed: {first:g} to {last:g} weeks")
    return ga_weeks, math.log(ga_weeks)


def _unknown(quantity: str) -> ValueError:
    return ValueError(f"quantity = {quantity!r}   not known; allowed: hc, bpd, ofd")
