"""Findings about measurements and the comparison of studies."""

from lib.report.recompute.findings.lines import (
    Line,
    Tables,
    bias,
    each_of,
    lines_of,
    listed,
    margin,
    name_of,
    names,
    p_text,
)
from lib.report.recompute.findings.masks import failed
from lib.report.recompute.results import Results
from lib.report.recompute.tables import biometry, coverage
from lib.report.recompute.tables.biometry import GUESSES
from lib.report.recompute.tables.regions import GAIN

SINGLE = {
    "yes": "The limits of single measurements of {} lay within {}.",
    "no": "The limits of single measurements of {} exceeded {}.",
    "undecided": "Whether the limits of single measurements of {} lie within {} is undecided.",
    "depends on size": "Whether single measurements of {} lie within {} is undecided: their difference in percent "
    "changes with size.",
}


def of_heads(results: Results, tables: Tables, unit: str) -> dict[str, list[str]]:
    """Errors, agreement, size, ages and intervals."""
    at = "06_biometry/tables"
    return {
        "biometry": errors(results, tables),
        "measurement_failures": failed(tables, "06_biometry", unit),
        "agreement": agreement(tables),
        "size": sizes(tables.lines(f"{at}/proportional-bias"), tables.lines(f"{at}/limits-at-sizes")),
        "ages": ages([line for line in tables.lines(f"{at}/gestational-age") if line.v["n"]]),
        "intervals": intervals(tables.lines(f"{at}/coverage"), tables.lines(f"{at}/coverage-by-size")),
    }


def errors(results: Results, tables: Tables) -> list[str]:
    """Errors of measurements and their bias."""
    lines = [line for line in tables.lines("06_biometry/tables/agreement") if line.v["route"] not in GUESSES]
    texts = []
    if lines:
        percent = listed([line.with_unit("mae_percent", "%") for line in lines])
        texts.append(f"The median absolute error was {each_of(lines, 'median_mm', 'mm')}.")
        texts.append(f"The mean absolute error was {each_of(lines, 'mae_mm', 'mm')}, or {percent} of the reference.")
    every = lines_of(["quantity", "route", "largest_share_percent"], biometry.largest_shares(results))
    heavy = [line for line in every if line.v["largest_share_percent"] > 100 / 3]
    if heavy:
        start = "A few large errors make up much of the mean: of the sum of absolute errors, the largest 5 % make up"
        shares = [f"{line.with_unit('largest_share_percent', '%')} for {name_of(line, every)}" for line in heavy]
        normal = "about 15 % would be expected if errors were normally distributed"
        texts.append(f"{start} {listed(shares)} ({normal}).")
    for line in lines:
        count = line.v["not_measured"]
        if count:
            start = "1 prediction has" if count == 1 else f"{count} predictions have"
            texts.append(f"{start} no measurable {name_of(line, lines)}.")
    limits = tables.lines("06_biometry/tables/limits-mm")
    return texts + bias(limits, [name_of(line, limits) for line in limits], "mm")


def rivals(tables: Tables) -> list[str]:
    """The error of HC against that of the method without a network."""
    texts = []
    for line in tables.lines("05_evaluation/tables/baselines"):
        if line.v["method"].startswith(GAIN) and "hc_error_mm_low" in line.v:
            value = line.with_unit("hc_error_mm", "mm")
            difference = f"than by that method: mean difference of the absolute errors {value}."
            text = {
                -1: f"HC was more accurate {difference}",
                1: f"HC was less accurate {difference}",
                0: f"No difference in accuracy of HC from that method was shown: {value}.",
            }.get(line.side("hc_error_mm"))
            texts += [text] if text else []
    return texts


def agreement(tables: Tables) -> list[str]:
    """Limits of agreement and equivalence."""
    texts, limits = [], tables.lines("06_biometry/tables/limits-mm")
    for line, percent in zip(limits, tables.lines("06_biometry/tables/limits-percent")):
        mm = " and ".join(line.with_unit(f"{end}_limit_mm", "mm") for end in ("lower", "upper"))
        relative = " and ".join(percent.with_unit(f"{end}_limit_percent", "%") for end in ("lower", "upper"))
        start = f"The 95 % limits of agreement of {name_of(line, limits)} were {mm}"
        texts.append(f"{start}, or {relative} of the reference.")
    lines = tables.lines("06_biometry/tables/equivalence")
    shown = [line for line in lines if line.v["mean_within_margin"] == "yes"]
    if shown:
        p = p_text(max(shown, key=lambda line: line.v["p_value"]).t["p_value"])
        p, verb = (p, "was") if len(shown) == 1 else (p.replace("=", "≤"), "were")
        tests = f"two one-sided tests, {p}"
        texts.append(
            f"On average, {names(shown, lines)} {verb} equivalent to the reference within {margin(lines)} ({tests})."
        )
    others = [line for line in lines if line not in shown]
    if others:
        texts.append(f"Equivalence of the mean within {margin(lines)} was not shown for {names(others, lines)}.")
    for told, form in SINGLE.items():
        of = [line for line in lines if line.v["single_within_margin"] == told]
        texts += [form.format(names(of, lines), margin(lines))] if of else []
    return texts


def sizes(lines: list[Line], ends: list[Line]) -> list[str]:
    """Change of the difference with size."""
    texts = []
    for side, verb in ((1, "rose"), (-1, "fell"), (0, ""), (None, "")):
        of = [line for line in lines if line.side("slope_per_100_mm") == side]
        slopes = listed([line.with_unit("slope_per_100_mm", "mm per 100 mm") for line in of])
        who = names(of, lines)
        if of and verb:
            texts.append(f"The difference (predicted minus reference) of {who} {verb} with size, by {slopes}.")
            for line in of:
                same = [each for each in ends if all(each.v[key] == line.v[key] for key in ("quantity", "route"))]
                at = listed([f"{each.with_unit('bias_mm', 'mm')} at {each.t['size_mm']} mm" for each in same])
                texts += [f"The bias of {name_of(line, lines)} was {at}."] if same else []
        elif of and side == 0:
            texts.append(f"No change of the difference with size was shown for {who} (slope {slopes}).")
        elif of:
            texts.append(f"There were too few subjects to test whether the difference of {who} changes with size.")
    return texts


def ages(lines: list[Line]) -> list[str]:
    """Errors in gestational age."""
    pairs = [(line.v["up_to_one_week"], line.v["over_one_week"]) for line in lines]
    within = listed([f"{week} of {week + more}" for week, more in pairs])
    text = f"The mean absolute error corresponds to {each_of(lines, 'mae_days', 'days')} in gestational age"
    return [f"{text}; the error was at most one week in {within} predictions."] if lines else []


def intervals(lines: list[Line], groups: list[Line]) -> list[str]:
    """Coverage of the intervals, in all and by group."""
    level, texts = 100 * coverage.LEVEL, []
    lines = [line for line in lines if line.v["n"]]
    for side, told in {0: "held their level", -1: "fell short of their level", 1: "were wider than needed"}.items():
        of = [line for line in lines if line.side("covered_percent", level) == side]
        share = listed([line.with_unit("covered_percent", "%") for line in of])
        start = f"The {level:g} % intervals of {names(of, lines)} {told}"
        texts += [f"{start}: {share} contained the reference."] if of else []
    short = [line for line in groups if line.side("covered_percent", level) == -1]
    for where in dict.fromkeys(group_of(line) for line in short):
        of = [line for line in short if group_of(line) == where]
        share = listed([line.with_unit("covered_percent", "%") for line in of])
        texts.append(f"In group {where}, those of {names(of, lines)} fell short: {share}.")
    return texts


def group_of(line: Line) -> str:
    """A group with its number of cases."""
    return f"{line.v['group']} (n = {line.v['n']})"


def compared(tables: Tables, study: str) -> list[str]:
    """Paired differences from other studies."""
    texts = []
    for line in tables.lines("07_comparison/tables/comparison"):
        if line.v["study_b"] != study and line.v["n"]:
            routes = f"{line.v['route_a']} against {line.v['route_b']}"
            difference = f"mean difference of absolute errors {line.with_unit('difference_mm', 'mm')}"
            what, side = f"{line.t['quantity']} ({routes})", line.side("difference_mm")
            texts += against(line, what, None if side is None else -side, difference)
    for line in tables.lines("07_comparison/tables/overlaps"):
        if line.v["study_b"] != study and line.v["n"]:
            difference = f"mean difference {line.with_unit('difference')}"
            texts += against(line, f"Dice of the {line.t['class']}", line.side("difference"), difference)
    return texts


def against(line: Line, what: str, better: int | None, difference: str) -> list[str]:
    """One paired difference in words; better is 1 in favour of this study."""
    if "p_adjusted" in line.t:
        difference += f"; adjusted {p_text(line.t['p_adjusted'])}"
    other = line.v["study_b"]
    if better == 0:
        return [f"For {what}, no difference from “{other}” was shown ({difference})."]
    word = {1: "better", -1: "worse"}.get(better or 0)
    return [f"For {what}, this study was {word} than “{other}” ({difference})."] if word else []
