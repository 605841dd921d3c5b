"""Flags of heads by their indicators and limits, and the table of how many flagged heads have a large error of HC."""

import math
import statistics

from scipy import stats

from lib.report.recompute import printed
from lib.report.recompute.estimates import NAN, wilson
from lib.report.recompute.results import Results, Row, grouped
from lib.report.recompute.tables.biometry import GUESSES, error_mm

LARGE_MM = 5.0
FEWEST, REFERRED_PERCENT = 20, 10  # validation cases without which there are no limits; flagged at most
LEVEL = 0.05  # of the p value times the number of flags
SIGNIFICANT = 0.05  # of the p value of all flags
BEYOND = 1.5  # times the distance (for low values, the ratio) of the farthest validation case from the median
HIGH, LOW = 1, -1
FLAGS = {  # name: indicator, and whether high or low values raise it
    "cut by the frame": ("frame_share", HIGH),
    "outline visible in part": ("arc_coverage", LOW),
    "not elliptical": ("fit_residual", HIGH),
    "elongated": ("axis_ratio", HIGH),
    "small in the image": ("size_share", LOW),
    "large in the image": ("size_share", HIGH),
    "two regions": ("second_part", HIGH),
    "methods disagree": ("method_difference", HIGH),
    "uncertain outline": ("uncertain_mm", HIGH),
    "weak peak": ("peak_height", LOW),
    "unlike the training images": ("grey_distance", HIGH),
}
LEAST = {"cut by the frame": 0.01, "two regions": 0.01}  # smallest limits


def raised(results: Results) -> dict[tuple, list[str]]:
    """By case and seed, the flags whose indicator is beyond the limit of the run."""
    limits = {(row["fold"], row["seed"], row["flag"]): row["limit"] for row in results.rows("05_evaluation/limits")}
    flags = {}
    for row in results.rows("05_evaluation/indicators"):
        if row["role"] == "test":
            flags[row["case"], row["seed"]] = [
                name
                for name, (indicator, sign) in FLAGS.items()
                if sign * row.get(indicator, NAN) > sign * limits.get((row["fold"], row["seed"], name), NAN)
            ]
    return flags


def chosen_limits(results: Results) -> dict[tuple, float]:
    """Limits by fold, seed and flag, from the indicators and the errors of HC of the validation cases."""
    validated = [row for row in results.rows("05_evaluation/validation") if row["quantity"] == "hc"]
    hc = {(row["fold"], row["seed"], row["case"]): row for row in validated}
    rows = [row for row in results.rows("05_evaluation/indicators") if row["role"] == "validation"]
    return {
        (*run, name): limit
        for run, of_run in grouped(rows, "fold", "seed").items()
        for name, limit in limits_of_run(of_run, [hc[*run, row["case"]] for row in of_run]).items()
    }


def limits_of_run(indicators: list[Row], hc: list[Row]) -> dict[str, float]:
    """Limits by flag, from the indicators of the validation cases and their HC in the same order; {} with too few.

    Each limit starts beyond what validation cases show. Then the limit that finds most large errors, and of equal ones
    flags fewest, is tightened, again and again, while it is better than chance and at most a tenth is flagged.
    """
    if len(indicators) < FEWEST:
        return {}
    known = {name: sign for name, (column, sign) in FLAGS.items() if known_values(indicators, column)}
    limits = {name: farthest(known_values(indicators, FLAGS[name][0]), sign) for name, sign in known.items()}
    large = [math.isnan(row["predicted_mm"]) or error_mm(row) > LARGE_MM for row in hc]
    free = [place for place, row in enumerate(hc) if row["flags"] == ""]
    while True:
        left = len(hc) * REFERRED_PERCENT // 100 - (len(hc) - len(free))
        best = (0, 0)
        for name, sign in known.items():
            values = [(sign * indicators[place][FLAGS[name][0]], large[place]) for place in free]
            hits, flagged, limit = tightest(values, left, LEVEL / len(known))
            if (hits, -flagged) > best:
                best, tightened = (hits, -flagged), (name, limit)
        if not best[0]:
            break
        name, limit = tightened
        column, sign = FLAGS[name]
        limits[name] = sign * min(sign * limits[name], limit)
        free = [place for place in free if not sign * indicators[place][column] > sign * limits[name]]
    return {name: max(limit, LEAST.get(name, -math.inf)) for name, limit in limits.items()}


def known_values(rows: list[Row], column: str) -> list[float]:
    """Values of an indicator that are known; none if there is no such column."""
    return [row[column] for row in rows if not math.isnan(row.get(column, NAN))]


def farthest(values: list[float], sign: int) -> float:
    """A limit that no value reaches: above, as many times as far from the median; below, as many times the ratio."""
    middle = statistics.median(values)
    if sign == HIGH:
        return middle + BEYOND * (max(values) - middle)
    return middle * (min(values) / middle) ** BEYOND if middle > 0 else 0.0


def tightest(values: list[tuple[float, bool]], most: int, level: float) -> tuple[int, int, float]:
    """Large errors, heads and limit of the best cut of (value, large) from above; (0, 0, infinity) if none is better.

    A cut lies in the middle between two different values, and flags `most` heads or fewer.
    """
    ordered = sorted((each for each in values if not math.isnan(each[0])), key=lambda each: -each[0])
    total, best = sum(is_large for _, is_large in values), (0, 0, math.inf)
    for count in range(1, min(most, len(ordered) - 1) + 1):
        hits, (above, below) = (
            sum(is_large for _, is_large in ordered[:count]),
            (ordered[count - 1][0], ordered[count][0]),
        )
        if above > below and (hits, -count) > (best[0], -best[1]):
            table = [[hits, count - hits], [total - hits, len(values) - total - count + hits]]
            if stats.fisher_exact(table, alternative="greater").pvalue < level:
                best = (hits, count, (above + below) / 2)
    return best


def heads(results: Results) -> list[Row]:
    """HC of every head of the network after post-processing that has a reference."""
    rows = results.rows("06_biometry/measurements")
    rows = [row for row in rows if (row["stage"], row["quantity"]) == ("post", "hc") and row["route"] not in GUESSES]
    return [row for row in rows if not math.isnan(row["reference_mm"])]


def flag_worth(results: Results) -> list[Row]:
    """One row per flag, the most frequent first, then of any flag and of none."""
    rows = heads(results)
    if not rows:
        return []
    raised = [name for row in rows for name in row["flags"].split("; ") if name]
    names = sorted(dict.fromkeys(raised), key=lambda name: (-raised.count(name), name))
    groups = {name: [name in row["flags"].split("; ") for row in rows] for name in names}
    groups |= {"any flag": [row["flags"] != "" for row in rows], "no flag": [row["flags"] == "" for row in rows]}
    large = [math.isnan(row["predicted_mm"]) or error_mm(row) > LARGE_MM for row in rows]
    table = [{"flag": name} | _worth(has, large) | {"p": NAN} for name, has in groups.items()]
    table[-2]["p"] = _chance(groups["any flag"], large)
    return table


def _chance(has: list[bool], large: list[bool]) -> float:
    """Fisher's p, by the hypergeometric probabilities of all tables that are no more likely than the one found."""
    flagged, errors, count = sum(has), sum(large), len(has)
    if flagged in (0, count) or errors in (0, count):
        return NAN
    likely = stats.hypergeom(count, errors, flagged).pmf
    found = likely(sum(a and b for a, b in zip(has, large)))
    each = [likely(hits) for hits in range(max(0, flagged + errors - count), min(flagged, errors) + 1)]
    return min(1.0, math.fsum(p for p in each if p <= found * (1 + 1e-7)))


def _worth(has: list[bool], large: list[bool]) -> Row:
    count, found = sum(has), sum(a and b for a, b in zip(has, large))
    row = {"heads": count} | _rate("share", count, len(has)) | {"large_errors": found}
    return row | _rate("precision", found, count) | _rate("recall", found, sum(large))


def _rate(name: str, hits: int, total: int) -> Row:
    names = (f"{name}_percent{part}" for part in ("", "_low", "_high"))
    return dict(zip(names, (100 * share for share in wilson(hits, total))))


def finding(results: Results, columns: list[str], worth: list[Row]) -> str:
    """The sentences about flagged heads and large errors, and about the limits of the flags."""
    if not worth:
        return "No head was measured against a reference."
    (flagged, rest), cells = worth[-2:], printed.printed_rows(columns, worth)[-2]
    share, precision, recall = (
        printed.with_unit(cells[f"{name}_percent"]) for name in ("share", "precision", "recall")
    )
    large, found, count = flagged["large_errors"] + rest["large_errors"], flagged["large_errors"], flagged["heads"]
    start = f"{count} of {count + rest['heads']} heads are flagged ({share})"
    meaning = f"(HC off by more than {LARGE_MM:g} mm, or not measured)"
    if not large:
        start += f"; no head has a large error {meaning}, so what the flags find cannot be judged."
    elif not count:
        start += f"; {large} have a large error {meaning}."
    else:
        start += f". They include {found} of {large} large errors {meaning} ({recall}), and {found} of the {count} "
        start += f"flagged heads have one ({precision})."
        start += _judged(flagged, rest, cells["p"])
    return f"{start} {_of_limits(results)}"


def _judged(flagged: Row, rest: Row, cell: str) -> str:
    """What Fisher's test says of the flags."""
    if math.isnan(flagged["p"]):
        return ""
    (hits, false), (missed, passed) = (
        (row["large_errors"], row["heads"] - row["large_errors"]) for row in (flagged, rest)
    )
    start = f" Of the heads without a large error, {false} of {false + passed} are flagged: "
    test = f"(Fisher’s exact test, p {cell.replace('<', '< ') if '<' in cell else '= ' + cell})."
    if flagged["p"] < SIGNIFICANT:
        word = "more" if hits * passed > false * missed else "less"
        return f"{start}heads with a large error are flagged {word} often than the other heads {test}"
    return f"{start}no evidence at this number of errors that flags find large errors better than chance {test}"


def _of_limits(results: Results) -> str:
    if not results.rows("05_evaluation/limits"):
        reason = f"there are fewer than {FEWEST} validation cases"
        return f"No limits were chosen, because {reason}: only those of the study file apply."
    rows = [row for row in results.rows("05_evaluation/indicators") if row["role"] == "validation"]
    counts = [len(of_run) for of_run in grouped(rows, "fold", "seed").values()]
    numbers = " to ".join(map(str, sorted({min(counts), max(counts)})))
    cases = f"{numbers} validation cases{' of each run' * (len(counts) > 1)}"
    return f"The limits were chosen on {cases}, of which at most {REFERRED_PERCENT} % are flagged."


TABLES = {"flag-worth": flag_worth}
