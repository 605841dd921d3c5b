"""Conclusions for the abstract and the discussion."""

from typing import Any

from lib.report.recompute import printed
from lib.report.recompute.findings.lines import Line, Tables, bias, listed, margin, name_of, names
from lib.report.recompute.findings.masks import SIGNIFICANT
from lib.report.recompute.tables import coverage, failures
from lib.report.recompute.tables.biometry import GUESSES


def main_of_masks(lines: list[Line], by_seed: bool, unit: str) -> list[str]:
    """Classes found wherever they are, and the others."""
    good = [line for line in lines if line.v["no_overlap"] == 0]
    texts = []
    if good:
        text = listed([f"the {line.t['class']}" for line in good])
        dice = listed([line.bare("dice_median") for line in good])
        verb, them = ("was", "it") if len(good) == 1 else ("were", "them")
        texts.append(f"T{text[1:]} {verb} found in every {unit} that shows {them} (median Dice {dice}).")
    for line in lines:
        count = line.v["no_overlap"]
        where = f"by {count} predictions" if by_seed else f"in {count} of {line.v['n']} {unit}s"
        text = f"The {line.t['class']} was missed, or predicted without any overlap, {where}"
        texts += [f"{text} (median Dice {line.bare('dice_median')})."] if count else []
    return texts


def main_of_points(lines: list[Line]) -> list[str]:
    """Distances of the endpoints."""
    lines = [line for line in lines if line.v["route"] not in GUESSES]
    values = [f"{line.bare('median_mm')} mm" if line.v["n_mm"] else f"{line.bare('error_px')} pixels" for line in lines]
    kind = "mean" if [line for line in lines if not line.v["n_mm"]] else "median"
    text = listed([f"{value} for {line.t['line']}" for value, line in zip(values, lines)])
    return [f"The {kind} distance between predicted and reference endpoints was {text}."] if lines else []


def main_of_heads(tables: Tables) -> list[str]:
    """Error and equivalence of the last quantity."""
    lines = [line for line in tables.lines("06_biometry/tables/agreement") if line.v["route"] not in GUESSES]
    lines = [line for line in lines if line.v["n"]]
    if not lines:
        return []
    last = lines[-1]
    text = f"The median absolute error of {name_of(last, lines)} was {last.bare('median_mm')} mm"
    tested = tables.lines("06_biometry/tables/equivalence")
    own = [line for line in tested if all(line.v[key] == last.v[key] for key in ("quantity", "route"))]
    if own and own[0].v["mean_within_margin"] == "yes":
        text += f", and {name_of(last, lines)} was on average equivalent to the reference within {margin(own)}"
    return [f"{text}."]


def main_of_volumes(limits: list[Line], seeds: int) -> list[str]:
    """Bias and limits of volumes, or the range of differences that are not normal."""
    unit = "ml" if limits and "bias_ml" in limits[0].v else "voxels"
    texts = []
    for line in limits:
        name = f"the volume of the {line.t['class']}"
        texts += bias([line], [name], unit)
        if line.t[f"percentile_2_5_{unit}"] == printed.DASH:
            ends = f"{line.bare(f'lower_limit_{unit}')} and {line.bare(f'upper_limit_{unit}')} {unit}."
            texts.append(f"The 95 % limits of agreement of {name} were {ends}")
        else:
            ends = f"{line.bare(f'percentile_2_5_{unit}')} and {line.bare(f'percentile_97_5_{unit}')} {unit}."
            start = f"The differences of {name} were not normally distributed"
            # Ranks 0.025 (n + 1) and 0.975 (n + 1) of fewer than 39 are those of the first and the last.
            which = "2.5th and 97.5th percentiles" if line.v["n"] * seeds >= 39 else "minimum and maximum"
            texts.append(f"{start}; their {which} were {ends}")
    return texts


def weak(tables: Tables) -> list[str]:
    """Where the network fails."""
    texts = []
    counts, tested = (tables.lines(f"05_evaluation/tables/failure-{name}") for name in ("counts", "causes"))
    if counts:
        few = counts[-1].v["failed"] < failures.FEWEST
        outcome = "were more often among the worst results" if few else "failed more often"
        more = [line for line in tested if line.v["p_adjusted"] < SIGNIFICANT]
        more = [line for line in more if line.v["listed_percent"] > line.v["other_percent"]]
        texts += [f"Cases with the property “{more[0].v['property']}” {outcome}."] if more else []
    for line in tables.lines("05_evaluation/tables/presence"):
        if line.v["invented"]:
            seed = f" (seed {line.v['seed']})" if "seed" in line.v else ""
            where = f"in {line.v['invented']} of {line.v['invented'] + line.v['absent']} cases without it"
            rate = line.with_unit("false_alarms_percent", "%")
            texts.append(f"The {line.t['class']}{seed} was predicted {where}, {rate}.")
    told: list[tuple[str, Any, str]] = [
        ("proportional-bias", lambda line: line.side("slope_per_100_mm"), "The bias of {} changed with size."),
        (
            "equivalence",
            lambda line: line.v["single_within_margin"] == "no",
            "The limits of agreement of {} exceeded {}{}.",
        ),
        (
            "coverage",
            lambda line: line.side("covered_percent", 100 * coverage.LEVEL) == -1,
            "The intervals of {} contained the reference too rarely.",
        ),
    ]
    for name, holds, form in told:
        lines = tables.lines(f"06_biometry/tables/{name}")
        of = [line for line in lines if holds(line)]
        text, rest = "", ""
        if name == "equivalence":
            text, unknown = margin(lines), [line for line in lines if is_open(line)]
            rest = f"; for {names(unknown, lines)}, this is undecided" if unknown else ""
        texts += [form.format(names(of, lines), text, rest)] if of else []
    return texts


def is_open(line: Line) -> bool:
    """Whether single measurements are neither shown to be within the margin nor to exceed it."""
    return line.v["single_within_margin"] in ("not shown", "undecided")


def unshown(tables: Tables, study: str) -> list[str]:
    """What remains open."""
    texts, at = [], "06_biometry/tables"
    tested = tables.lines("05_evaluation/tables/failure-causes")
    if tested and all(line.v["p_adjusted"] >= SIGNIFICANT for line in tested):
        texts.append("No property of the cases was shown to be associated with the worst results.")
    lines = tables.lines(f"{at}/equivalence")
    mean = [line for line in lines if line.v["mean_within_margin"] != "yes"]
    single = [line for line in lines if is_open(line)]
    if [line for line in lines if line.v["single_within_margin"] == "no"]:  # among the weaknesses
        single = []
    texts += [f"Equivalence of the mean was not shown for {names(mean, lines)}."] if mean else []
    start = "Whether single measurements are within the margin of equivalence remains open for"
    texts += [f"{start} {names(single, lines)}."] if single else []
    lines = tables.lines(f"{at}/proportional-bias")
    flat = [line for line in lines if line.side("slope_per_100_mm") == 0]
    ends = [
        " to ".join(printed.rounded(line.v[f"slope_per_100_mm_{end}"], 2) for end in ("low", "high")) for line in flat
    ]
    if flat:
        shown = "no change of the difference in millimetres with size was shown"
        possible = f"slopes from {listed(ends)} mm per 100 mm are compatible with the data"
        texts.append(f"For {names(flat, lines)}, {shown}, but {possible}.")
    for line in tables.lines("07_comparison/tables/comparison"):
        if line.v["study_b"] != study and line.side("difference_mm") == 0:
            shown = f"no difference of {line.t['quantity']} from “{line.v['study_b']}” was shown"
            texts.append(f"Between the studies, {shown}, which does not show that they are equal.")
    return texts
