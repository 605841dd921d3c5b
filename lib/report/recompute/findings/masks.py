"""Findings about training, masks, landmarks and volumes."""

import math

from lib.report.recompute import printed
from lib.report.recompute.findings.lines import Line, Tables, apart, bias, listed, p_text
from lib.report.recompute.results import Results, Row
from lib.report.recompute.tables import failures
from lib.report.recompute.tables.biometry import GUESSES
from lib.report.recompute.tables.regions import GAIN, NETWORK

SIGNIFICANT = 0.05  # of p times the number of properties


def training(results: Results, runs: list[Row]) -> list[str]:
    """Selected epochs, and training against validation there."""
    rows = []
    for run in runs:
        history = results.rows(f"{run['label']}/history")
        rows.append(run | next(row for row in history if row["epoch"] == run["best_epoch"]))
    at_end, count, first = sum(row["best_epoch"] == row["epochs"] for row in rows), len(rows), rows[0]
    ending = ", so longer training may give better results." if at_end else "."
    error = results.study.learns_landmarks
    overlap_name = "IoU" if results.study.selection_metric == "iou" else "Dice"
    measure = "the endpoint error" if error else f"pooled {overlap_name}"
    digits, unit = (1, f"{printed.SPACE}% of the OFD") if error else (3, "")
    if count > 1:
        start = f"The last epoch was selected in {at_end if at_end else 'none'} of {count} runs{ending}"
        gaps = sorted(abs(row["train_selection"]) - abs(row["selection"]) for row in rows)
        low, high = printed.rounded(gaps[0], digits), printed.rounded(gaps[-1], digits)
        difference = f"At the selected epoch, {measure} on augmented training cases minus that on validation"
        return [start, f"{difference} was {low} to {high}{unit}."]
    start = f"Epoch {first['best_epoch']} of {first['epochs']} was selected; no later epoch was better."
    if at_end:
        start = f"The last of {first['epochs']} epochs was selected{ending}"
    train, valid = (printed.rounded(abs(first[key]), digits) + unit for key in ("train_selection", "selection"))
    second = f"At that epoch, {measure} was {train} on augmented training cases and {valid} on validation cases."
    return [start, second]


def overlap(lines: list[Line], by_seed: bool, unit: str) -> list[str]:
    """Median Dice and missed structures."""
    if not lines:
        return ["No reference shows a structure."]
    dice = listed([f"{line.with_unit('dice_median')} for the {line.t['class']}" for line in lines])
    missed = listed([f"{line.v['missed']}" if by_seed else f"{line.v['missed']} of {line.v['n']}" for line in lines])
    where = f"by {missed} predictions" if by_seed else f"in {missed} {unit}s"
    texts = [f"Median Dice was {dice}, which {'was' if len(lines) == 1 else 'were'} missed {where}."]
    for line in lines:
        more = line.v["no_overlap"] - line.v["missed"]
        times = f"{more} times" if by_seed else f"in {more} {unit}{'s' if more > 1 else ''}"
        texts += [f"The {line.t['class']} was predicted without any overlap {times}."] if more > 0 else []
    return texts


def rivals(lines: list[Line], tables: Tables) -> list[str]:
    """The network against methods without one."""
    methods = tables.lines("05_evaluation/tables/baselines")
    paired = [line for line in methods if line.v["method"].startswith(GAIN)]
    if paired:
        line, rival = paired[0], paired[0].v["method"].removeprefix(GAIN)
        gain, side = line.with_unit("dice"), line.side("dice")
        if side == 1:
            start = f"The network was better than a method without one (“{rival}”)"
            return [f"{start}: its mean Dice of the head was {gain} higher."]
        if side == -1:
            start = f"The network was worse than a method without one (“{rival}”)"
            return [f"{start}: the difference in mean Dice of the head was {gain}."]
        none = f"No difference from a method without a network (“{rival}”) was shown: {gain} in mean Dice of the head."
        return [none] if side == 0 else []
    texts = []
    for line in lines:
        others = [each for each in methods if each.v["class"] == line.v["class"] and not math.isnan(each.v["dice"])]
        others = [each for each in others if not each.v["method"].startswith(NETWORK)]
        if not others:
            continue
        best = max(others, key=lambda each: each.v["dice"])
        told = {1: "was better than", -1: "was worse than", 0: "was not shown to differ from"}.get(
            apart(line, best, "dice")
        )
        if told:
            own, its = line.with_unit("dice"), f"“{best.v['method']}”, {best.with_unit('dice')}"
            start = f"For the {line.t['class']}, the network (mean Dice {own})"
            texts.append(f"{start} {told} the best method without one ({its}).")
    return texts


def present_text(line: Line, unit: str) -> str:
    """Detected, and predicted where absent."""
    v, parts = line.v, []
    if v["detected"] + v["missed"]:
        found = f"was predicted in {v['detected']} of {v['detected'] + v['missed']} {unit}s that show it"
        parts.append(f"{found} ({line.with_unit('sensitivity_percent', '%')})")
    if v["invented"] + v["absent"]:
        wrong = f"was predicted in {v['invented']} of {v['invented'] + v['absent']} that do not"
        parts.append(f"{wrong} ({line.with_unit('false_alarms_percent', '%')})")
    seed = f" (seed {v['seed']})" if "seed" in v else ""
    return f"The {line.t['class']}{seed} {' and '.join(parts)}."


def failed(tables: Tables, step: str, unit: str) -> list[str]:
    """How many failed."""
    name = f"{step}/tables/failure-counts"
    if not tables.lines(name):
        return []
    line = tables.lines(name)[-1]
    gross = f"{failures.GROSS_PERCENT:g}"
    meaning = {
        "class": f"a Dice below {failures.LOW_DICE:g}, or a missed or invented class",
        "line": f"an endpoint error above {gross} % of the OFD, or a missed line",
        "quantity": f"an error of any quantity above {gross} %, or no measurement",
    }[tables.columns(name)[0]]
    what = {"class": "segmentation", "line": "localisation", "quantity": "measurement"}[tables.columns(name)[0]]
    count = line.v["failed"] if line.v["failed"] else "none"
    share = f"{count} of {line.v['cases']} {unit}s ({line.with_unit('failed_percent', '%')})"
    return [f"The {what} failed ({meaning}) in {share}."]


def causes(results: Results, tables: Tables, unit: str) -> list[str]:
    """Properties associated with failure."""
    counts, lines = (tables.lines(f"05_evaluation/tables/failure-{name}") for name in ("counts", "causes"))
    if not counts or not lines:
        return []
    worst = f"being among the {len(results.rows('05_evaluation/failures'))} worst {unit}s"
    outcome = worst if counts[-1].v["failed"] < failures.FEWEST else "failure"
    associated = [line for line in lines if line.v["p_adjusted"] < SIGNIFICANT]
    if not associated:
        lowest = f"lowest adjusted {p_text(lines[0].t['p_adjusted'])}, of “{lines[0].v['property']}”"
        return [f"No tested property was associated with {outcome} ({len(lines)} tested; {lowest})."]
    more = [line for line in associated if line.v["listed_percent"] > line.v["other_percent"]]
    shown, word = (more or associated)[:2], "more" if more else "less"
    texts = []
    for line in shown:
        own = f"{line.v['listed']} of {line.v['cases']}, {line.with_unit('listed_percent', '%')}"
        rest = f"{line.v['other_listed']} of {line.v['other_cases']}, {line.with_unit('other_percent', '%')}"
        p = p_text(line.t["p_adjusted"])
        texts.append(f"“{line.v['property']}” ({own}, against {rest}; adjusted {p})")
    left = len(associated) - len(shown)
    what = "property was" if left == 1 else "properties were"
    end = f"; {left} further {what} associated." if left else "."
    return [f"{outcome[0].upper()}{outcome[1:]} was {word} frequent with {listed(texts)}{end}"]


def of_volumes(lines: list[Line], limits: list[Line]) -> list[str]:
    """Errors of volumes, bias and slope."""
    unit, count = ("ml", "n_ml") if limits and "bias_ml" in limits[0].v else ("voxels", "n")
    texts = []
    for line in lines:
        error = line.with_unit(f"error_{unit}", unit)
        percent = f", or {line.t['error_percent']}{printed.SPACE}% of the reference" if line.v["n_percent"] else ""
        text = f"The mean absolute error of the volume of the {line.t['class']} was {error}{percent}"
        texts += [f"{text} (n = {line.v[count]} patients)."] if line.v[count] else []
    for line in limits:
        texts += bias([line], [f"the volume of the {line.t['class']}"], unit)
        side, slope = line.side("slope_percent"), line.with_unit("slope_percent", "%")
        verb = {1: "rose", -1: "fell"}.get(side or 0)
        if verb:
            texts.append(f"The difference {verb} with the volume (slope {slope} of the volume).")
        elif side == 0:
            texts.append(f"No change of the difference with the volume was shown (slope {slope} of the volume).")
    return texts


def of_points(lines: list[Line]) -> list[str]:
    """Endpoint distances, and those of the mean shape."""
    texts = []
    for line in [line for line in lines if line.v["route"] not in GUESSES]:
        in_mm = line.v["n_mm"] > 0
        value = line.with_unit("median_mm", "mm") if in_mm else line.with_unit("error_px", "pixels")
        start = f"The {'median' if in_mm else 'mean'} distance of the endpoints of {line.t['line']} from the reference"
        missed = f"{line.v['missed']} of {line.v['n'] + line.v['missed']} predictions missed the line"
        texts.append(f"{start} was {value}; {missed}.")
        column, unit = ("error_mm", "mm") if in_mm else ("error_px", "pixels")
        for other in lines:
            if other.v["route"] == "mean shape" and other.v["line"] == line.v["line"]:
                told = {-1: "smaller than", 1: "larger than", 0: "not shown to differ from"}
                word = told.get(apart(line, other, column))
                own, its = line.with_unit(column, unit), other.with_unit(column, unit)
                text = f"The mean distance ({own}) was {word} that of the mean shape of the training cases ({its})."
                texts += [text] if word else []
    return texts
