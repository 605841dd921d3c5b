"""Coverage of the 95 % intervals of limits of agreement and of the slope of proportional bias, simulated.

Prints, for each kind of difference and number of subjects, how often the interval contains the true value (both limits
together; constant ones, and those of the regression at the smallest and the largest size), and its median width
relative to the standard deviation. Subjects have 1 to 3 images, as in HC18.

    python -m benchmarks.agreement_coverage [draws, default 1000]
"""

import sys
from collections.abc import Callable

import numpy as np

from lib.statistics import Estimate, agreement

SUBJECTS = (6, 10, 30, 100)
IMAGES, SHARES = (1, 2, 3), (0.80, 0.17, 0.03)  # of HC18's examinations
BETWEEN = 0.3  # share of the variance that lies between subjects
SLOPE, SPREAD_MM, MEDIAN_MM = 0.014, 2.6, 170.0  # as of hc18_quick
Draw = Callable[[np.random.Generator, int], np.ndarray]
KINDS: dict[str, Draw] = {  # mean 0, standard deviation 1
    "normal": lambda random, count: random.normal(size=count),
    "heavy tails (t, 5 degrees)": lambda random, count: random.standard_t(5, count) / np.sqrt(5 / 3),
    "skewed (gamma, shape 2)": lambda random, count: (random.gamma(2, 1, count) - 2) / np.sqrt(2),
}


def draw(random: np.random.Generator, kind: Draw, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Subjects, head sizes (mm) and differences (mm) without bias."""
    subjects = np.repeat(np.arange(count), random.choice(IMAGES, count, p=SHARES))
    sizes = MEDIAN_MM * np.exp(random.normal(0, 0.4, count))[subjects] * (1 + random.normal(0, 0.02, len(subjects)))
    own, rest = kind(random, count)[subjects], kind(random, len(subjects))
    return subjects, sizes, SPREAD_MM * (np.sqrt(BETWEEN) * own + np.sqrt(1 - BETWEEN) * rest)


def covers(limits: tuple[Estimate, Estimate], bias: float) -> float:
    """Percentage of two limits whose intervals contain the true value."""
    truth = bias - agreement.Z * SPREAD_MM, bias + agreement.Z * SPREAD_MM
    return 100 * float(np.mean([each.low <= value <= each.high for each, value in zip(limits, truth)]))


def coverage(kind: Draw, count: int, draws: int) -> list[float]:
    """Percentages of covering intervals (limits, at the ends, slope) and median widths in SD (limit, at an end)."""
    random = np.random.default_rng(count)
    rows = []
    for _ in range(draws):
        subjects, sizes, differences = draw(random, kind, count)
        limits = agreement.limits_of_agreement(differences, subjects)
        fitted = agreement.proportional_bias(differences + SLOPE * sizes, sizes, subjects)
        ends = [(SLOPE * size, fitted.intervals_at(size)[1:]) for size in (sizes.min(), sizes.max())]
        at_ends, slope = np.mean([covers(pair, bias) for bias, pair in ends]), fitted.slope
        upper = limits.upper, ends[1][1][1]
        widths = [(each.high - each.low) / SPREAD_MM for each in upper]
        hits = covers((limits.lower, limits.upper), 0.0), at_ends, 100 * (slope.low <= SLOPE <= slope.high)
        rows.append((*hits, *widths))
    table = np.array(rows)
    return [*table[:, :3].mean(axis=0), *np.median(table[:, 3:], axis=0)]


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(f"{draws} draws a row; covered (%) and median width\n")
    print("| differences | subjects | limits | at the ends | slope | width of a limit's (SD) | at the largest size |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, kind in KINDS.items():
        for count in SUBJECTS:
            limits, at_ends, slope, width, at_largest = coverage(kind, count, draws)
            shares = f"{limits:.1f} | {at_ends:.1f} | {slope:.1f}"
            print(f"| {name} | {count} | {shares} | {width:.2f} | {at_largest:.2f} |", flush=True)


if __name__ == "__main__":
    main()
