"""How often conformal intervals of measurements contain the reference of a new subject, whose images are alike.

python -m benchmarks.conformal_coverage prints the table of docs/statistics.md.
"""

import datetime
from collections.abc import Callable

import numpy as np
import pandas as pd

from lib.statistics import conformal

DRAWS, NEW = 1000, 50  # calibrations, and new subjects that each of them meets
SUBJECTS = (9, 20, 40, 80, 160)
MOST_IMAGES, CORRELATION = 11, 0.4  # of a subject, as in benchmarks.coverage
DESIGNS = {
    "one image each": lambda _, common: np.ones(len(common), int),
    "1 to 11 images": lambda draw, common: np.minimum(draw.geometric(0.45, len(common)), MOST_IMAGES),
    "easy heads more often": lambda _, common: np.where(common < 0, MOST_IMAGES, 1),
}
Bound = Callable[[np.ndarray, np.ndarray], float]
METHODS: dict[str, Bound] = {
    "subjects weigh the same": conformal.quantile,
    "largest of each subject": lambda scores, subjects: conformal.quantile(*largest(scores, subjects)),
    "images as if independent": lambda scores, _: conformal.quantile(scores, np.arange(len(scores)).astype(str)),
}


def largest(scores: np.ndarray, subjects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest score of each subject, and their names."""
    names, place = np.unique(subjects, return_inverse=True)
    most = np.zeros(len(names))
    np.maximum.at(most, place, scores)
    return most, names


def sample(draw: np.random.Generator, subjects: int, design: str) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of the images of random subjects (skewed, with a common part of each), and their subjects."""
    common = draw.normal(size=subjects)
    place = np.repeat(np.arange(subjects), DESIGNS[design](draw, common))
    parts = np.sqrt(CORRELATION) * common[place] + np.sqrt(1 - CORRELATION) * draw.normal(size=len(place))
    return 0.01 * np.exp(0.8 * parts), place.astype(str)


def coverage(design: str, subjects: int, draws: int = DRAWS) -> dict[str, tuple[float, float, float]]:
    """By method: percent of new subjects covered in one random image and in every image, and mean bound in percent."""
    draw, kept = np.random.default_rng([subjects, list(DESIGNS).index(design)]), {name: [] for name in METHODS}
    for _ in range(draws):
        known, (scores, names) = sample(draw, subjects, design), sample(draw, NEW, design)
        place = names.astype(int)
        for name, method in METHODS.items():
            bound = method(*known)
            share = np.bincount(place, scores <= bound) / np.bincount(place)
            kept[name].append((100 * share.mean(), 100 * (share == 1).mean(), 100 * bound))
    return {name: tuple(np.mean(values, axis=0)) for name, values in kept.items()}


def main() -> None:
    """Prints the table: promised are 90 % of one random image."""
    day, rows = datetime.datetime.now(datetime.UTC).date(), []
    for design in DESIGNS:
        for subjects in SUBJECTS:
            row: dict[str, object] = {"images": design, "subjects": subjects}
            for name, (one, every, bound) in coverage(design, subjects).items():
                row[name] = f"{one:.1f} / {every:.1f} ({bound:.2f})"
            rows.append(row)
    print(f"{day}, {DRAWS} calibrations a cell: percent covered in one image / in all images (mean bound, percent)")
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
