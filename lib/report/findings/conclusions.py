"""Conclusions: what the numbers say, in a sentence each, for the abstract and the discussion."""

import pandas as pd

from lib.data.cases import TRIVIAL_BASELINES
from lib.evaluation.failures import FEWEST
from lib.report import tables
from lib.report.findings.rows import Row, bias, joined, named, number, quantity_of, rows_of, verdict
from lib.report.summaries.failures import LEVEL
from lib.statistics import conformal

FEWEST_WITHIN = 39  # of fewer differences, the ranks of percentiles 2.5 and 97.5 lie beyond the least and the largest


def of_masks(per_class: pd.DataFrame, unit: str) -> list[str]:
    """Which classes were found wherever the reference shows them, and which were missed (as `masks.segmentation`)."""
    rows = [row for row in rows_of(per_class) if row.values["n"]]
    found = [row for row in rows if not row.values["no_overlap"]]
    sentences = []
    if found:
        names = joined([f"the {row.text['class']}" for row in found])
        dice = joined([_value(row, "dice_median") for row in found])
        verb, them = ("was", "it") if len(found) == 1 else ("were", "them")
        sentences.append(
            f"{names[:1].upper()}{names[1:]} {verb} found in every {unit} that shows {them} (median Dice {dice})."
        )
    for row in [row for row in rows if row.values["no_overlap"]]:
        missed = row.values["no_overlap"]
        of = f"in {missed} of {row.values['n']} {unit}s" if "seeds" not in row.values else f"by {missed} predictions"
        dice = f"median Dice {_value(row, 'dice_median')}"
        sentences.append(f"The {row.text['class']} was missed, or predicted without any overlap, {of} ({dice}).")
    return sentences


def _value(row: Row, name: str) -> str:
    """A printed value without its interval."""
    return row.text[name].partition(tables.KEEP)[0]


def of_points(points: pd.DataFrame) -> list[str]:
    """The distance of the endpoints of each line (table of 05_evaluation)."""
    rows = [row for row in rows_of(points) if row.values["route"] not in TRIVIAL_BASELINES]
    texts = [
        f"{_value(row, 'median_mm')} mm for {row.text['line']}"
        if row.values["n_mm"]
        else f"{_value(row, 'error_px')} pixels for {row.text['line']}"
        for row in rows
    ]
    kind = "median" if all(row.values["n_mm"] for row in rows) else "mean"
    return [f"The {kind} distance between predicted and reference endpoints was {joined(texts)}."] * bool(texts)


def of_measurements(agreement: pd.DataFrame, equivalence: pd.DataFrame) -> list[str]:
    """The error of the last quantity (HC, if it is measured), and what was shown of its equivalence."""
    rows = [row for row in rows_of(agreement) if row.values["route"] not in TRIVIAL_BASELINES and row.values["n"]]
    if not rows:
        return []
    name, key = quantity_of(rows[-1], rows), {each: rows[-1].values[each] for each in ("quantity", "route")}
    text = f"The median absolute error of {name} was {_value(rows[-1], 'median_mm')} mm"
    for row in rows_of(equivalence, **key):
        margin = f"±{row.values['margin_percent']:g}{tables.KEEP}%"
        is_within = row.values["mean_within_margin"] == "yes"
        return [
            f"{text}, and {name} was on average equivalent to the reference within {margin}."
            if is_within
            else f"{text}."
        ]
    return [f"{text}."]


def of_volumes(limits: pd.DataFrame, seeds: int) -> list[str]:
    """Bias of volumes with limits of agreement, or percentiles of differences that are not normal (06_biometry).

    Every case has a difference per seed; percentiles of few differences are their minimum and maximum.
    """
    unit = "ml" if "bias_ml" in limits else "voxels"
    sentences = []
    for row in rows_of(limits):
        name = f"the volume of the {row.text['class']}"
        is_normal = pd.isna(row.values[f"percentile_2_5_{unit}"])
        names = ("lower_limit", "upper_limit") if is_normal else ("percentile_2_5", "percentile_97_5")
        ends = " and ".join(_value(row, f"{each}_{unit}") for each in names)
        told = f"The 95 % limits of agreement of {name} were {ends} {unit}."
        if not is_normal:
            few = row.values["n"] * seeds < FEWEST_WITHIN
            kind = "minimum and maximum" if few else "2.5th and 97.5th percentiles"
            told = f"The differences of {name} were not normally distributed; their {kind} were {ends} {unit}."
        sentences += [*bias([row], [name], unit), told]
    return sentences


def weaknesses(
    counts: pd.DataFrame,
    causes: pd.DataFrame,
    presence: pd.DataFrame,
    equivalence: pd.DataFrame,
    slopes: pd.DataFrame,
    coverage: pd.DataFrame,
) -> list[str]:
    """Where the network fails: which cases, false alarms, size, intervals (as the rules of findings)."""
    sentences = []
    if len(counts):
        few = counts["failed"].iloc[-1] < FEWEST
        outcome = "were more often among the worst results" if few else "failed more often"
        found = [row for row in rows_of(causes) if row.values["p_adjusted"] < LEVEL]
        raised = [row for row in found if row.values["listed_percent"] > row.values["other_percent"]]
        sentences += [f"Cases with the property “{row.values['property']}” {outcome}." for row in raised[:1]]
    for row in rows_of(presence):
        invented, without = row.values["invented"], row.values["invented"] + row.values["absent"]
        rate = number(row, "false_alarms_percent", "%") if invented else ""
        seed = f" (seed {row.values['seed']})" if "seed" in row.values else ""
        text = f"The {row.text['class']}{seed} was predicted in {invented} of {without} cases without it, {rate}."
        sentences += [text] * bool(invented)
    rows = rows_of(slopes)
    sloped = [row for row in rows if verdict(row, "slope_per_100_mm") in (1, -1)]
    sentences += [f"The bias of {named(sloped, rows)} changed with size."] if sloped else []
    rows = rows_of(equivalence)
    beyond = [row for row in rows if row.values["single_within_margin"] == "no"]
    margin = f"±{rows[0].values['margin_percent']:g}{tables.KEEP}%" if rows else ""
    single = _left_open(rows)
    left = f"; for {named(single, rows)}, this is undecided" if single else ""
    sentences += [f"The limits of agreement of {named(beyond, rows)} exceeded {margin}{left}."] if beyond else []
    rows, level = rows_of(coverage), 100 * conformal.LEVEL
    short = [row for row in rows if verdict(row, "covered_percent", level) == -1]
    sentences += [f"The intervals of {named(short, rows)} contained the reference too rarely."] if short else []
    return sentences


def _left_open(rows: list[Row]) -> list[Row]:
    """Quantities whose intervals leave open whether single measurements are within the margin."""
    return [row for row in rows if row.values["single_within_margin"] in ("undecided", "not shown")]


def unshown(
    causes: pd.DataFrame, equivalence: pd.DataFrame, slopes: pd.DataFrame, pairs: pd.DataFrame, study: str
) -> list[str]:
    """What intervals and tests leave open; "not shown" is not "absent"."""
    sentences = []
    if len(causes) and not (causes["p_adjusted"] < LEVEL).any():
        sentences.append("No property of the cases was shown to be associated with the worst results.")
    rows = rows_of(equivalence)
    mean = [row for row in rows if row.values["mean_within_margin"] != "yes"]
    is_told = any(row.values["single_within_margin"] == "no" for row in rows)  # by `weaknesses`
    single = [] if is_told else _left_open(rows)
    sentences += [f"Equivalence of the mean was not shown for {named(mean, rows)}."] if mean else []
    text = "Whether single measurements are within the margin of equivalence remains open for"
    sentences += [f"{text} {named(single, rows)}."] if single else []
    rows = rows_of(slopes)
    flat = [row for row in rows if verdict(row, "slope_per_100_mm") == 0]
    ends = [[tables.fixed(row.values[f"slope_per_100_mm_{end}"], 2) for end in ("low", "high")] for row in flat]
    text = f"but slopes from {joined([' to '.join(each) for each in ends])} mm per 100 mm are compatible with the data"
    change = "no change of the difference in millimetres with size was shown"
    sentences += [f"For {named(flat, rows)}, {change}, {text}."] if flat else []
    for row in [row for row in rows_of(pairs) if row.values["study_b"] != study]:
        if verdict(row, "difference_mm") == 0:
            text = f"no difference of {row.text['quantity']} from “{row.values['study_b']}” was shown"
            sentences.append(f"Between the studies, {text}, which does not show that they are equal.")
    return sentences
