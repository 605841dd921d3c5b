"""How often the 95 % intervals of lib.statistics contain the true value, and how wide they are.

python -m benchmarks.coverage prints the table of docs/statistics.md and writes lib/statistics/coverage.csv.
"""

import datetime
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from lib import statistics
from lib.study import files

DRAWS, POPULATION = 1000, 200_000
SUBJECTS = (2, 4, 6, 8, 10, 15, 20, 30, 50, 100)
MOST_IMAGES, CORRELATION = 11, 0.4  # of a subject; HC18 has up to 5 images per examination, LGG one volume
DESIGNS = {"one": "one value per subject", "clusters": f"1 to {MOST_IMAGES} images per subject"}

Draw = Callable[[np.random.Generator, int], np.ndarray]


def _lesions(draw: np.random.Generator, count: int) -> np.ndarray:
    """Dice around 0.82, of which 8 % fail: half of these are missed, the others overlap little."""
    failed = np.where(draw.random(count) < 0.5, 0.0, draw.beta(1, 3, count))
    return np.where(draw.random(count) < 0.08, failed, draw.beta(8, 1.8, count))


def _outliers(draw: np.random.Generator, count: int) -> np.ndarray:
    """Absolute errors of about 0.8 mm, to which 4 % add about 30 mm."""
    return np.abs(draw.normal(0, 1, count)) + np.where(draw.random(count) < 0.04, draw.gamma(2, 15, count), 0)


OUTLIERS = "rare outliers"
KINDS: dict[str, Draw] = {
    "normal": lambda draw, count: draw.normal(0, 1, count),
    "Dice of heads": lambda draw, count: 1 - np.clip(draw.gamma(2, 0.009, count), 0, 1),
    "Dice of lesions": _lesions,
    "skewed errors": lambda draw, count: draw.lognormal(0, 0.8, count),
    OUTLIERS: _outliers,
}
ENDS = {"lowest": "min", "highest": "max"}
REALISTIC = ("Dice of heads", "Dice of lesions", "skewed errors")  # of which the report gives the range


def population(kind: str) -> np.ndarray:
    """Values of all cases that there are, sorted: their mean and median are the truth."""
    return np.sort(KINDS[kind](np.random.default_rng(7), POPULATION))


def samples(values: np.ndarray, subjects: int, design: str, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Random values (draws, subjects, images) of a population, and which of them exist.

    Normal scores with a common part of each subject are turned into values of the population with the same rank.
    """
    draw = np.random.default_rng([subjects, list(DESIGNS).index(design)])
    shape = (draws, subjects)
    images = 1 if design == "one" else MOST_IMAGES
    sizes = np.minimum(draw.geometric(0.45, shape), images)
    many = draw.random(shape) < 0.1
    sizes = np.where(many, draw.integers(1, images + 1, shape), sizes)
    common, own = draw.normal(size=(*shape, 1)), draw.normal(size=(*shape, images))
    ranks = stats.norm.cdf(np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own) * len(values)
    return values[np.minimum(ranks.astype(int), len(values) - 1)], np.arange(images) < sizes[..., None]


def of_mean(values: np.ndarray, exists: np.ndarray, truth: float) -> dict[str, float]:
    """Coverage in percent of intervals of the mean, and their median width relative to the t interval of subjects."""
    sums, sizes = (values * exists).sum(axis=-1), exists.sum(axis=-1).astype(float)
    ends = np.where(exists, values, np.inf).min(axis=(1, 2)), np.where(exists, values, -np.inf).max(axis=(1, 2))
    low, high = (np.clip(limits, *ends) for limits in statistics.bootstrap_t(sums, sizes))
    count, total = sizes.shape[1], sizes.sum(axis=1)
    deviations = sums - (sums.sum(axis=1) / total)[:, None] * sizes
    error = np.sqrt(count / (count - 1) * np.square(deviations).sum(axis=1)) / total
    width = np.median((high - low) / (2 * stats.t.ppf(0.975, count - 1) * error))
    return {"mean_percent": 100 * np.mean((low <= truth) & (truth <= high)), "width": float(width)}


def of_median(values: np.ndarray, exists: np.ndarray, truth: float) -> dict[str, float]:
    """Coverage in percent of intervals of the median."""
    names = np.broadcast_to(np.arange(values.shape[1])[:, None], values.shape[1:])
    limits = np.array([statistics.median_limits(each[kept], names[kept]) for each, kept in zip(values, exists)])
    return {"median_percent": 100 * np.mean((limits[:, 0] <= truth) & (truth <= limits[:, 1]))}


def measure(draws: int = DRAWS) -> pd.DataFrame:
    """One row per kind of values, design and number of subjects; without numbers where there is no interval."""
    rows = []
    for kind in KINDS:
        values = population(kind)
        for design in DESIGNS:
            for subjects in SUBJECTS:
                row = {"kind": kind, "design": design, "subjects": subjects}
                if subjects >= statistics.FEWEST_SUBJECTS:
                    drawn = samples(values, subjects, design, draws)
                    row |= of_mean(*drawn, values.mean()) | of_median(*drawn, np.median(values))
                rows.append(row)
    return pd.DataFrame(rows)


def by_subjects(measured: pd.DataFrame) -> pd.DataFrame:
    """Lowest and highest coverage over the realistic kinds and both designs, and the lowest with rare outliers."""
    known = measured.dropna()
    ends = {f"{end}_{of}": (f"{of}_percent", how) for of in ("mean", "median") for end, how in ENDS.items()}
    table = known[known["kind"].isin(REALISTIC)].groupby("subjects").agg(**ends)
    outliers = known[known["kind"] == OUTLIERS].groupby("subjects")["mean_percent"].min()
    return table.assign(outlier_mean=outliers).round(1).reset_index()


def printed(measured: pd.DataFrame) -> str:
    """Markdown table: one row per kind and design, one column per number of subjects."""
    lines = ["| values | per subject | of the | " + " | ".join(map(str, SUBJECTS)) + " |"]
    lines.append("| --- | --- | --- | " + " | ".join(["---:"] * len(SUBJECTS)) + " |")
    for (kind, design), group in measured.groupby(["kind", "design"], sort=False):
        for name in ("mean", "median"):
            cells = [_cell(row, name) for row in group.to_dict("records")]
            lines.append(f"| {kind} | {design} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: dict[str, float], name: str) -> str:
    coverage = row[f"{name}_percent"]
    if np.isnan(coverage):
        return "–"
    return f"{coverage:.1f} ({row['width']:.2f})" if name == "mean" else f"{coverage:.1f}"


def rows() -> list[dict[str, object]]:
    """Seconds of an interval relative to what it may take."""
    draw = np.random.default_rng(0)
    cases = {"100 values": (100, statistics.RESAMPLES, 0.05), "1,000 values, 10,000 resamples": (1000, 10_000, 2.0)}
    measured = []
    for what, (count, resamples, most) in cases.items():
        values, names = draw.gamma(2, 1.5, count), np.arange(count)
        seconds = min(_seconds(values, names, resamples) for _ in range(3))
        row = {"what": f"mean_interval, {what} (s)", "ours": round(seconds, 3), "ratio": seconds / most}
        measured.append(row | {"goal": f"at most {most} s: 1"})
    return measured


def _seconds(values: np.ndarray, names: np.ndarray, resamples: int) -> float:
    started = time.process_time()
    statistics.mean_interval(values, names, resamples=resamples)
    return time.process_time() - started


def main() -> None:
    """Prints the coverage table and writes coverage.csv."""
    measured = measure()
    files.write_csv(statistics.COVERAGE, by_subjects(measured))
    print(f"{datetime.datetime.now(datetime.UTC).date()}, {DRAWS} draws a cell, {statistics.RESAMPLES} resamples")
    print(printed(measured))


if __name__ == "__main__":
    main()
