"""Findings about training, masks and landmarks (steps 04 and 05), and about volumes."""

import pandas as pd

from lib.data.cases import TRIVIAL_BASELINES
from lib.evaluation.baselines import GAIN, HEAD, NETWORK, RIVAL
from lib.evaluation.failures import FEWEST, GROSS_PERCENT, LOW_DICE
from lib.report import tables
from lib.report.findings.rows import apart, bias, joined, number, p_value, rows_of, verdict
from lib.report.summaries.failures import LEVEL

MOST_NAMED = 2  # associated properties that are named; further ones are counted
FAILING = {  # what can fail and when it does, by the first column of a table of failures
    "class": ("segmentation", f"a Dice below {LOW_DICE:g}, or a missed or invented class"),
    "line": ("localisation", f"an endpoint error above {GROSS_PERCENT:g} % of the OFD, or a missed line"),
    "quantity": ("measurement", f"an error of any quantity above {GROSS_PERCENT:g} %, or no measurement"),
}


def training(runs: pd.DataFrame, measure: str) -> list[str]:
    """Whether the last epoch was selected, and the gap between training and validation there.

    Args:
        runs: one row per run: epochs (trained), best_epoch (selected), selection and train_selection (at that epoch).
        measure: "Dice", "IoU" or "error" (in percent of the OFD, whose selection is negative).
    """
    rows, count = runs.to_dict("records"), len(runs)
    run, last = rows[0], sum(row["best_epoch"] == row["epochs"] for row in rows)
    longer = ", so longer training may give better results."
    if count > 1:
        text = f"The last epoch was selected in {last or 'none'} of {count} runs{longer if last else '.'}"
    elif last:
        text = f"The last of {run['epochs']} epochs was selected{longer}"
    else:
        text = f"Epoch {run['best_epoch']} of {run['epochs']} was selected; no later epoch was better."
    error = ("the endpoint error", 1, f"{tables.KEEP}% of the OFD")
    name, digits, unit = error if measure == "error" else (f"pooled {measure}", 3, "")
    if count > 1:
        gaps = [abs(row["train_selection"]) - abs(row["selection"]) for row in rows]
        low, high = (tables.fixed(each, digits) for each in (min(gaps), max(gaps)))
        start = f"At the selected epoch, {name} on augmented training cases minus that on validation was"
        return [text, f"{start} {low} to {high}{unit}."]
    train, valid = (tables.fixed(abs(run[each]), digits) + unit for each in ("train_selection", "selection"))
    return [text, f"At that epoch, {name} was {train} on augmented training cases and {valid} on validation cases."]


def segmentation(per_class: pd.DataFrame, unit: str) -> list[str]:
    """Median Dice and missed structures by class.

    Args:
        per_class: table of `summaries.dice`, after post-processing; of several seeds the rows of all.
        unit: what is counted: "image" or "patient".
    """
    rows = [row for row in rows_of(per_class) if row.values["n"]]
    if not rows:
        return ["No reference shows a structure."]
    dice = joined([f"{number(row, 'dice_median')} for the {row.text['class']}" for row in rows])
    verb, counts = "was" if len(rows) == 1 else "were", [row.values["missed"] for row in rows]
    if "seeds" in per_class:
        missed = f"by {joined([str(count) for count in counts])} predictions"
    else:
        missed = f"in {joined([f'{count} of ' + str(row.values['n']) for count, row in zip(counts, rows)])} {unit}s"
    sentences = [f"Median Dice was {dice}, which {verb} missed {missed}."]
    for row in rows:
        elsewhere = row.values["no_overlap"] - row.values["missed"]
        times = f"in {elsewhere} {unit}{'s' * (elsewhere > 1)}" if "seeds" not in per_class else f"{elsewhere} times"
        sentences += [f"The {row.text['class']} was predicted without any overlap {times}."] * (elsewhere > 0)
    return sentences


def rivals(per_class: pd.DataFrame, baselines: pd.DataFrame) -> list[str]:
    """Whether the network is better than a method without one: by the paired difference, or else by both intervals.

    Args:
        per_class: as of `segmentation`.
        baselines: table of methods without a network.
    """
    rows = [row for row in rows_of(per_class) if row.values["n"]]
    gains = rows_of(baselines, method=GAIN)
    if gains:
        text, dice = number(gains[0], "dice"), f"mean Dice of the {HEAD}"
        told = {
            1: f"The network was better than a method without one (“{RIVAL}”): its {dice} was {text} higher.",
            -1: f"The network was worse than a method without one (“{RIVAL}”): the difference in {dice} was {text}.",
            0: f"No difference from a method without a network (“{RIVAL}”) was shown: {text} in {dice}.",
        }
        return [told[side] for side in [verdict(gains[0], "dice")] if side is not None]
    sentences = []
    for row in rows:
        others = [
            each for each in rows_of(baselines, **{"class": row.values["class"]}) if pd.notna(each.values["dice"])
        ]
        others = [each for each in others if not each.values["method"].startswith(NETWORK)]
        if others and row.values["n"]:
            rival = max(others, key=lambda each: each.values["dice"])
            side = apart(row, rival, "dice")
            better = {1: "was better than", -1: "was worse than"}.get(side, "was not shown to differ from")
            sentences += [
                f"For the {row.text['class']}, the network (mean Dice {number(row, 'dice')}) {better} the best "
                f"method without one (“{rival.values['method']}”, {number(rival, 'dice')})."
            ] * (side is not None)
    return sentences


def boundaries(distances: pd.DataFrame, unit: str, tolerance: float | None) -> list[str]:
    """Median HD95 and the share of the boundary within the tolerance, by class (table of `summaries.distances`).

    Args:
        distances: rows after post-processing.
        unit: "mm" or "px".
        tolerance: of NSD, in that unit, if the study states it.
    """
    word = tables.UNITS[unit]
    rows = [row for row in rows_of(distances) if not row.values["penalty"] and row.values["n"]]
    if not rows:
        return []
    hd95 = joined([f"{number(row, f'median_hd95_{unit}', word)} for the {row.text['class']}" for row in rows])
    shares = joined([number(row, "nsd") for row in rows])
    limit = "the tolerance" if tolerance is None else f"{tolerance:g}{tables.KEEP}{word}"
    return [f"Median HD95 was {hd95}; the mean share of the boundary within {limit} was {shares}."]


def presence(table: pd.DataFrame, unit: str) -> list[str]:
    """How often each class was detected, and drawn where it is absent (table of `summaries.presence`, after post)."""
    sentences = []
    for row in rows_of(table):
        values, name = row.values, f"The {row.text['class']}" + f" (seed {row.values.get('seed')})" * ("seed" in table)
        shown, without = values["detected"] + values["missed"], values["invented"] + values["absent"]
        parts = []
        if shown:
            rate = number(row, "sensitivity_percent", "%")
            parts.append(f"was predicted in {values['detected']} of {shown} {unit}s that show it ({rate})")
        if without:
            rate = number(row, "false_alarms_percent", "%")
            parts.append(f"was predicted in {values['invented']} of {without} that do not ({rate})")
        sentences.append(f"{name} {' and '.join(parts)}.")
    return sentences


def failures(counts: pd.DataFrame, causes: pd.DataFrame, listed: int, unit: str) -> list[str]:
    """How many cases failed, and which properties are associated with failure (tables of `summaries.failures`)."""
    if counts.empty:
        return []
    row = rows_of(counts)[-1]  # a failure of any class, line or quantity
    failed, (what, meaning) = row.values["failed"], FAILING[counts.columns[0]]
    rate = number(row, "failed_percent", "%")
    start = f"The {what} failed ({meaning}) in {failed or 'none'} of {row.values['cases']} {unit}s ({rate})."
    return [start, *associations(causes, "failure" if failed >= FEWEST else f"being among the {listed} worst {unit}s")]


def associations(causes: pd.DataFrame, outcome: str) -> list[str]:
    """The properties associated with an outcome, by p times the number of properties tested."""
    rows = rows_of(causes)
    if not rows:
        return []
    found = [row for row in rows if row.values["p_adjusted"] < LEVEL]
    if not found:
        p = p_value(rows[0].text["p_adjusted"])
        least = f"lowest adjusted {p}, of “{rows[0].values['property']}”"
        return [f"No tested property was associated with {outcome} ({len(rows)} tested; {least})."]
    raised = [row for row in found if row.values["listed_percent"] > row.values["other_percent"]]
    named = (raised or found)[:MOST_NAMED]
    texts = [
        f"“{row.values['property']}” ({row.values['listed']} of {row.values['cases']}, "
        f"{number(row, 'listed_percent', '%')}, against {row.values['other_listed']} of {row.values['other_cases']}, "
        f"{number(row, 'other_percent', '%')}; adjusted {p_value(row.text['p_adjusted'])})"
        for row in named
    ]
    more = len(found) - len(named)
    text = f"{outcome[:1].upper()}{outcome[1:]} was {'more' if raised else 'less'} frequent with {joined(texts)}"
    further = f"; {more} further {'property was' if more == 1 else 'properties were'} associated" if more else ""
    return [f"{text}{further}."]


def volumes(table: pd.DataFrame, limits: pd.DataFrame) -> list[str]:
    """Volume error, bias and change of the difference with the volume (tables of 06_biometry, after post)."""
    unit = "ml" if "bias_ml" in limits else "voxels"
    sentences = []
    for row in rows_of(table):
        name, known = f"the {row.text['class']}", row.values["n_ml" if unit == "ml" else "n"]
        if known:
            text = f"The mean absolute error of the volume of {name} was {number(row, f'error_{unit}', unit)}"
            percent = f", or {row.text['error_percent']}{tables.KEEP}% of the reference" * bool(row.values["n_percent"])
            sentences.append(f"{text}{percent} (n = {known} patients).")
    for row in rows_of(limits):
        name = f"the volume of the {row.text['class']}"
        sentences += bias([row], [name], unit)
        slope = f"{number(row, 'slope_percent', '%')} of the volume"
        side = verdict(row, "slope_percent")
        if side == 0:
            sentences.append(f"No change of the difference with the volume was shown (slope {slope}).")
        elif side is not None:
            sentences.append(f"The difference {'rose' if side > 0 else 'fell'} with the volume (slope {slope}).")
    return sentences


def landmarks(points: pd.DataFrame) -> list[str]:
    """Endpoint distance by line, and whether it is smaller than that of the mean shape (table of 05_evaluation)."""
    rows = rows_of(points)
    sentences = []
    for row in [each for each in rows if each.values["route"] not in TRIVIAL_BASELINES]:
        values, line = row.values, row.text["line"]
        column, unit = ("median_mm", "mm") if values["n_mm"] else ("error_px", "pixels")
        kind = "median" if values["n_mm"] else "mean"
        text = f"The {kind} distance of the endpoints of {line} from the reference was {number(row, column, unit)}; "
        sentences.append(f"{text}{values['missed']} of {values['n'] + values['missed']} predictions missed the line.")
        for other in [each for each in rows if each.values["route"] == "mean shape" and each.text["line"] == line]:
            mean = "error_mm" if values["n_mm"] else "error_px"
            side = apart(row, other, mean)
            own, its = (number(each, mean, unit) for each in (row, other))
            better = {-1: "smaller than", 1: "larger than"}.get(side, "not shown to differ from")
            text = f"The mean distance ({own}) was {better} that of the mean shape of the training cases ({its})."
            sentences += [text] * (side is not None)
    return sentences
