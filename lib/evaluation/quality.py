"""Flags of predicted heads in words, and their limits, which are chosen on validation cases alone.

An indicator (`lib.imaging.head_quality`) raises its flag beyond a limit. Limits go into the model file, so that a new
image is flagged as the test cases of the study are. A flagged head is kept in every mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib.data.arrays import Arrays
from lib.imaging import head_quality
from lib.imaging.preparation import prepare
from lib.imaging.regions import region_of

Key = tuple[str, int, str]  # case, seed and route of a predicted head
LARGE_MM = 5.0  # error of HC that a flag is to find
REFERRED = 0.1  # of the validation cases, at most, may be flagged
FEWEST = 20  # validation cases; with fewer, a tenth is a single one, and no limit is chosen
LEVEL = 0.05  # of the p value times the number of flags
ELONGATED = "elongated"  # raised by the limit of the study file, too
UNSEEN = 1.5  # times as far from the median as the farthest validation case
HEAD_COLUMNS = ["case", "subject", "fold", "seed", "role", "route"]  # of indicators.csv, before the indicators
LIMIT_COLUMNS = ["fold", "seed", "flag", "limit"]  # of limits.csv


@dataclass(frozen=True)
class Flag:
    """A flag in words, with the indicator that raises it."""

    name: str
    indicator: str
    is_above: bool  # whether it is raised above its limit, or below it
    least: float = -np.inf  # smallest limit: below it, the words would say too much


FLAGS = [
    Flag("cut by the frame", "frame_share", True, least=0.01),
    Flag("outline visible in part", "arc_coverage", False),
    Flag("not elliptical", "fit_residual", True),
    Flag(ELONGATED, "axis_ratio", True),
    Flag("small in the image", "size_share", False),
    Flag("large in the image", "size_share", True),
    Flag("two regions", "second_part", True, least=0.01),
    Flag("methods disagree", "method_difference", True),
    Flag("uncertain outline", "uncertain_mm", True),
    Flag("weak peak", "peak_height", False),
    Flag("unlike the training images", "grey_distance", True),
]


def of_indicators(names: Sequence[str]) -> list[Flag]:
    """The flags that these indicators can raise."""
    return [flag for flag in FLAGS if flag.indicator in names]


def raised(indicators: Mapping[str, float], limits: Mapping[str, float]) -> list[str]:
    """Names of the flags whose indicator is beyond its limit, in the order of FLAGS; NaN raises none."""
    flags = [flag for flag in of_indicators(list(indicators)) if flag.name in limits]
    return [flag.name for flag in flags if _sign(flag) * (indicators[flag.indicator] - limits[flag.name]) > 0]


def _sign(flag: Flag) -> int:
    return 1 if flag.is_above else -1


def key_of(head: Mapping[str, Any]) -> Key:
    """What tells a predicted head from the others of a study."""
    return head["case"], head["seed"], head["route"]


def raised_by_head(indicators: pd.DataFrame, limits: pd.DataFrame) -> dict[Key, list[str]]:
    """Flags of each test case of indicators.csv by the limits of its run (limits.csv)."""
    of_runs = {run: dict(zip(rows["flag"], rows["limit"])) for run, rows in limits.groupby(["fold", "seed"])}
    heads = indicators[indicators["role"] == "test"].to_dict("records")
    return {key_of(head): raised(head, of_runs.get((head["fold"], head["seed"]), {})) for head in heads}


def table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """indicators.csv: HEAD_COLUMNS and the indicators that its heads have."""
    names = [flag.indicator for flag in FLAGS if rows and flag.indicator in rows[0]]
    return pd.DataFrame(rows, columns=[*HEAD_COLUMNS, *dict.fromkeys(names)])


def limits_of(heads: pd.DataFrame, indicators: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`choose_limits` for the validation heads of a run (rows of validation.csv) and their indicators, in one order."""
    of_hc = heads[heads["quantity"] == "hc"]
    large = is_large(of_hc["predicted_mm"].to_numpy(), of_hc["reference_mm"].to_numpy())
    return choose_limits(pd.DataFrame(indicators), large, of_hc["flags"].ne("").to_numpy())


def usual_greys(arrays: Arrays, names: Sequence[str]) -> list[float]:
    """Distribution of the grey values of the named cases (images): the mean of their quantiles, to a hundredth."""
    shown = ((arrays.images[row, 0], arrays.geometries[row].inner) for row in arrays.rows(list(names)))
    levels = np.mean([head_quality.grey_levels(image[inner]) for image, inner in shown], axis=0)
    return [round(float(level), 2) for level in levels]


def of_masks(
    stages: Mapping[str, np.ndarray],
    probability: np.ndarray,
    heads: Sequence[int],
    spacing_mm: tuple[float, float] | None,
) -> dict[str, float]:
    """Indicators of a head, the union of the classes `heads`, from its probability (C, H, W).

    `stages` are its masks (H, W) uint8, "post" and, with post-processing, "raw".
    """
    post, raw = (region_of(stages.get(stage, stages["post"]), heads) for stage in ("post", "raw"))
    return head_quality.describe(post, raw, entropy(probability, heads), spacing_mm)


def entropy(probability: np.ndarray, heads: Sequence[int]) -> float:
    """Entropy (bits) of a head, the union of the classes `heads`, from the probability (C, H, W)."""
    return head_quality.entropy(probability[heads[0]] if len(heads) == 1 else probability[list(heads)].sum(axis=0))


def grey_distance(native: np.ndarray, preparation: dict[str, Any], usual: Sequence[float]) -> dict[str, float]:
    """Indicator of a native image (H, W) uint8, compared at network size as the training images are (`usual_greys`)."""
    prepared = prepare(native, preparation)
    shown = prepared.images[0, 0][prepared.mapping.inner]
    return {"grey_distance": head_quality.grey_distance(shown, np.asarray(usual))}


def is_large(predicted_mm: np.ndarray, reference_mm: np.ndarray) -> np.ndarray:
    """Whether errors of HC are above LARGE_MM, or the head was not measured (NaN): bool, of the arrays' shape."""
    return ~(np.abs(np.asarray(predicted_mm, float) - np.asarray(reference_mm, float)) <= LARGE_MM)


def choose_limits(indicators: pd.DataFrame, large: np.ndarray, flagged: np.ndarray) -> dict[str, float]:
    """Limits by flag, from the indicators of validation cases (one row each); {} with fewer than FEWEST of them.

    A limit starts UNSEEN times as far from the median as the farthest validation case (below it, on a scale of ratios),
    so that only what validation never showed raises the flag. Then one limit after the other is tightened: the one that
    finds most large errors, and of equal ones that which flags fewest, as long as at most REFERRED of the cases are
    flagged and the flag is better than chance (the p value of Fisher's exact test, one-sided, among the cases not
    flagged yet, times the number of flags is below LEVEL). No limit is below the `least` of its flag.

    Args:
        indicators: columns as in `lib.imaging.head_quality`.
        large: (N,) bool, which heads have a large error (`is_large`).
        flagged: (N,) bool, which heads are flagged whatever the limits, such as those that cannot be measured.
    """
    if len(indicators) < FEWEST:
        return {}
    flags = [flag for flag in of_indicators(list(indicators)) if indicators[flag.indicator].notna().any()]
    values = {flag.name: _sign(flag) * indicators[flag.indicator].to_numpy(float) for flag in flags}
    limits = {flag.name: _sign(flag) * _unseen(indicators[flag.indicator].to_numpy(float), flag) for flag in flags}
    free = ~np.asarray(flagged, bool)
    while (left := int(REFERRED * len(free)) - int(np.count_nonzero(~free))) > 0 and large[free].any():
        found = [
            (*_tightest(of_flag[free], large[free], left, LEVEL / len(flags)), name) for name, of_flag in values.items()
        ]
        hits, _, limit, name = max(found, key=lambda each: each[:2])
        if hits == 0:
            break
        limits[name] = min(limits[name], limit)
        free &= ~(values[name] > limit)
    return {flag.name: max(_sign(flag) * limits[flag.name], flag.least) for flag in flags}


def _unseen(values: np.ndarray, flag: Flag) -> float:
    """The limit that no validation case reaches. A limit from below is as many times the ratio, so never negative."""
    middle = np.nanmedian(values)
    if flag.is_above:
        return float(middle + UNSEEN * (np.nanmax(values) - middle))
    return float(middle * (np.nanmin(values) / middle) ** UNSEEN) if middle > 0 else 0.0


def _tightest(values: np.ndarray, large: np.ndarray, most: int, level: float) -> tuple[int, int, float]:
    """The best limit that flags at most `most` of (N,) values and has a p value below `level`; NaN is never flagged.

    (large errors that it finds, minus the number of flagged values, limit); (0, 0, infinity) if there is none.
    """
    from scipy import stats  # takes two fifths of a second, and the report imports this module

    order = np.argsort(-values, kind="stable")  # NaN comes last
    ordered, hits = values[order], np.cumsum(large[order])
    best = (0, 0, np.inf)
    for count in range(1, min(most, np.count_nonzero(~np.isnan(values)) - 1) + 1):
        p = stats.hypergeom.sf(hits[count - 1] - 1, len(large), int(large.sum()), count)
        if p < level and ordered[count - 1] > ordered[count]:
            best = max(best, (int(hits[count - 1]), -count, float(ordered[count - 1] + ordered[count]) / 2))
    return best
