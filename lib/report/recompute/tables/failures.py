"""Tables of failed cases of 05 and 06: how many, which, and what they have in common."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from scipy import stats

from lib.report.recompute import printed
from lib.report.recompute.estimates import NAN, least, share_of_cases
from lib.report.recompute.results import Results, Row, drawn, grouped, present
from lib.report.recompute.tables.biometry import GUESSES
from lib.report.recompute.tables.regions import dice_of, group_of_cases, names_of_groups

LOW_DICE, GROSS_PERCENT = 0.7, 5.0
WORST, WORST_SHARE = 12, 0.25  # cases listed although they did not fail, and the share of all that they may be
FEWEST = 5  # cases with a property, and without it; failed cases from which no other is listed
NEAR_PERCENT = 2.0  # of the shorter side
KNOWN_HERE = {"near the frame", "touches the frame", "low contrast"}  # findings that say what is measured here too
SHOWN = ("case", "result", "kind", "share_percent", "contrast", "gap_percent", "group", "hc_mm", "spacing_mm")
SHOWN += ("findings",)
KINDS_OF_MASKS = ("low Dice", "missed", "invented")
ALL = "all classes"
LABELS = {"hc", "bpd", "ofd", "csp", "lv"}  # names that are printed in capitals


class Scored(NamedTuple):
    """A prediction: its class, line or quantity, how bad it is, and how it failed, "" if it did not."""

    row: Row
    item: str
    value: float  # Dice, or the error in percent
    score: float  # 1 - Dice, or the absolute error, infinite if missing; NaN of a class in neither mask
    kind: str
    result: str  # in words

    @property
    def case(self) -> str:
        """Name of the case."""
        return self.row["case"]


def scored(results: Results, step: str) -> tuple[str, tuple[str, ...], list[Scored]]:
    """Column of the item, kinds of failure, and every prediction."""
    if step == "06_biometry":
        rows = [row for row in results.rows("06_biometry/measurements") if row["stage"] == "post"]
        rows = [row for row in rows if row["route"] not in GUESSES and not math.isnan(row["reference_mm"])]
        errors = [(row, 100 * (row["predicted_mm"] - row["reference_mm"]) / row["reference_mm"]) for row in rows]
        kinds = ("gross error", "not measured")
        return "quantity", kinds, [_of_error(*each, "quantity", "+.1f", kinds) for each in errors]
    rows = results.rows("05_evaluation/cases")
    if results.study.learns_landmarks:
        kinds, rows = ("gross error", "missed"), [row for row in rows if row["route"] not in GUESSES]
        return "line", kinds, [_of_error(row, row["normalised_error_percent"], "line", ".1f", kinds) for row in rows]
    return "class", KINDS_OF_MASKS, [_of_mask(row) for row in rows if row["stage"] == "post"]


def _of_error(row: Row, error: float, item: str, form: str, kinds: tuple[str, str]) -> Scored:
    name, (gross, missing) = _label(row[item]), kinds
    if math.isnan(error):
        return Scored(row, row[item], error, math.inf, missing, f"{name} {missing}")
    kind = gross if abs(error) > GROSS_PERCENT else ""
    return Scored(row, row[item], error, abs(error), kind, f"{name} {printed.signed(f'{error:{form}}')} %")


def _of_mask(row: Row) -> Scored:
    dice, name = dice_of(row), _label(row["class"])
    if math.isnan(dice):
        return Scored(row, row["class"], dice, NAN, "", f"{name} absent")
    kind = "" if present(row) else "invented"
    kind = kind if drawn(row) else "missed"
    result = f"{name} {kind or f'{dice:.3f}'}"
    return Scored(row, row["class"], dice, 1 - dice, kind or ("low Dice" if dice < LOW_DICE else ""), result)


def _label(name: str) -> str:
    return name.upper() if name in LABELS else name


def counts(step: str) -> Callable[[Results], list[Row]]:
    """Cases of a step by class, line or quantity, with each kind of failure, and of any."""

    def table(results: Results) -> list[Row]:
        item, kinds, rows = scored(results, step)
        if not rows:
            return []
        long = results.rows("06_biometry/measurements" if step == "06_biometry" else "05_evaluation/cases")
        names = [name for (name,) in grouped(long, item)]
        parts = {name: [row for row in rows if row.item == name] for name in names}
        parts |= {"any": rows} if len(names) > 1 else {}
        return [{item: name} | _count(of, kinds) for name, of in parts.items()]

    return table


def _count(rows: list[Scored], kinds: tuple[str, ...]) -> Row:
    subject_of = {each.case: each.row["subject"] for each in rows}
    failed, row = {each.case for each in rows if each.kind}, {"cases": len(subject_of)}
    if kinds == KINDS_OF_MASKS:
        row["in_reference"] = len({each.case for each in rows if present(each.row)})
    for kind in kinds:
        row[kind.lower().replace(" ", "_")] = len({each.case for each in rows if each.kind == kind})
    is_failed = [case in failed for case in subject_of]
    return row | {"failed": len(failed)} | share_of_cases("failed", is_failed, list(subject_of.values()))


def listed(rows: list[Scored]) -> dict[str, Scored]:
    """Cases with a failure, and the worst if fewer than FEWEST failed, with their worst prediction, the worst first."""
    worst: dict[str, Scored] = {}
    scores = [each for each in rows if not math.isnan(each.score)]
    for each in sorted(scores, key=lambda each: (-each.score, each.case, each.item)):
        worst.setdefault(each.case, each)
    share = math.ceil(WORST_SHARE * len({each.case for each in rows}))
    failed = {each.case for each in rows if each.kind}
    count = min(WORST, share) if len(failed) < FEWEST else 0
    return {case: each for place, (case, each) in enumerate(worst.items()) if place < count or case in failed}


def rows_of_listed(results: Results, step: str) -> list[Row]:
    """What failures.csv has of the listed cases."""
    item, _, rows = scored(results, step)
    metric = {"class": "Dice", "line": "endpoint error", "quantity": "measurement error"}[item]
    chosen, whole = listed(rows), item != "class"
    known = known_of(results, list(chosen), whole)
    structures = {(row["case"], row["class"]): row for row in results.rows("05_evaluation/structures")}
    failed = sorted([row for row in rows if row.kind], key=lambda each: (-each.score, each.case, each.item))
    table = []
    for case, worst in chosen.items():
        texts = [each.result for each in failed if each.case == case] or [worst.result]
        row = {name: worst.row[name] for name in ("case", "subject", "fold", "seed")}
        row |= {"item": worst.item, "metric": metric, "value": worst.value, "kind": worst.kind or "worst"}
        row["result"] = ", ".join(dict.fromkeys(texts))
        part, about = structures[case, ALL if whole else worst.item], known[case]
        row |= {name: value for name, value in part.items() if name not in ("case", "class")}
        row |= {name: about[name] for name in ("group", "hc_mm", "spacing_mm")}
        row |= {name: "; ".join(about[name]) for name in ("lacking", "findings")}
        table.append(row)
    return table


def failures(step: str) -> Callable[[Results], list[Row]]:
    """The first listed cases with what is known of them, from failures.csv, without columns that are empty."""

    def table(results: Results) -> list[Row]:
        rows = results.rows(f"{step}/failures")[:WORST]
        names = [name for name in SHOWN if any(row[name] == row[name] and row[name] != "" for row in rows)]
        return [{name: row[name] for name in names} for row in rows]

    return table


def causes(step: str) -> Callable[[Results], list[Row]]:
    """Properties of cases, each tested once for an association with being listed."""

    def table(results: Results) -> list[Row]:
        scores = scored(results, step)[2]
        cases, of_list = list(dict.fromkeys(each.case for each in scores)), listed(scores).keys()
        rows, tested = [], set()
        subject_of = {each.case: each.row["subject"] for each in scores}
        for name, has in properties(results, sorted(cases), results.study.learns_landmarks or step == "06_biometry"):
            group = frozenset(case for case, holds in has.items() if holds)
            other = frozenset(case for case, holds in has.items() if holds is False)
            if group in tested or min(len(group), len(other)) < FEWEST:
                tested.add(group)
                continue
            tested.add(group)
            hits = len(group & of_list), len(other & of_list)
            with_it, without = (
                share_of_cases(kind, [case in of_list for case in each], [subject_of[case] for case in each])
                for kind, each in (("listed", group), ("other", other))
            )
            row = {"property": name, "cases": len(group), "listed": hits[0]} | with_it
            row |= {"other_cases": len(other), "other_listed": hits[1]} | without
            p = stats.fisher_exact([[hits[0], len(group) - hits[0]], [hits[1], len(other) - hits[1]]]).pvalue
            rows.append(row | {"p": float(p)})
        adjusted = [row | {"p_adjusted": min(1.0, row["p"] * len(rows))} for row in rows]
        return sorted(adjusted, key=lambda row: row["p"])

    return table


def properties(results: Results, cases: list[str], whole: bool) -> Iterator[tuple[str, dict[str, bool | None]]]:
    """Names of properties, and by case whether it holds, None where unknown; `whole` for heads and lines."""
    about = known_of(results, cases, whole)
    groups, names = sorted({row["group"] for row in about.values()}), names_of_groups(results)
    for group in groups[: None if len(groups) > 2 else 1]:
        name = names[group] if names[group] != group else f"Group {group}"
        yield name, {case: row["group"] == group for case, row in about.items()}
    for column, name, form, is_low in (
        ("hc_mm", "HC", "{:.0f} mm", True),
        ("share_percent", "Share of the image", "{:.2g} %", True),
        ("contrast", "Contrast", "{:.2f}", True),
        ("spacing_mm", "Pixel size", "{:.3f} mm", False),
    ):
        yield _third(about, column, name, form, is_low)
    gaps = {case: row["gap_percent"] for case, row in about.items()}
    near = {case: None if math.isnan(gap) else gap < NEAR_PERCENT for case, gap in gaps.items()}
    yield f"Within {NEAR_PERCENT:g} % of the frame", near
    yield "A class is absent from the reference", {case: row["lacking"] != [] for case, row in about.items()}
    for check in sorted({check for row in about.values() for check in row["findings"]} - KNOWN_HERE):
        yield f"Finding of verification: {check}", {case: check in row["findings"] for case, row in about.items()}


def _third(about: dict[str, Row], column: str, name: str, form: str, is_low: bool) -> tuple[str, dict]:
    """The third of the cases with the lowest (or highest) values."""
    values = sorted(row[column] for row in about.values() if not math.isnan(row[column]))
    # A third as pandas has it, by way of percent: of 60 steps it is 19.99…
    place = (len(values) - 1) * ((1 / 3 if is_low else 2 / 3) * 100 / 100)
    rank = math.floor(place) if is_low else math.ceil(place)
    limit = values[rank] if values else NAN
    holds = {
        case: None if math.isnan(row[column]) else row[column] <= limit if is_low else row[column] >= limit
        for case, row in about.items()
    }
    end = ("up to", "lowest") if is_low else ("from", "highest")
    return f"{name} {end[0]} {form.format(limit)} ({end[1]} third)", holds


def known_of(results: Results, cases: list[str], whole: bool) -> dict[str, Row]:
    """What is known of each case: of masks the least of its structures, of heads and lines that of all classes."""
    group, structures = group_of_cases(results), grouped(results.rows("05_evaluation/structures"), "case")
    manifest = {row["case"]: row for row in results.rows("01_data_verification/cases")}
    findings = grouped(results.rows("01_data_verification/findings"), "case")
    known = {}
    for case in cases:
        parts = [row for row in structures[(case,)] if (row["class"] == ALL) == whole]
        shown = [row | {"contrast": abs(row["contrast"])} for row in parts if row["share_percent"] > 0]
        row = {name: least([part[name] for part in shown]) for name in ("share_percent", "contrast", "gap_percent")}
        of_case = manifest[case]
        row |= {"group": group[case], "hc_mm": of_case["hc_mm"]}
        row["spacing_mm"] = math.sqrt(of_case["spacing_row_mm"] * of_case["spacing_col_mm"])
        row["lacking"] = [] if whole else [part["class"] for part in parts if part["share_percent"] == 0]
        known[case] = row | {"findings": list(dict.fromkeys(each["check"] for each in findings.get((case,), [])))}
    return known


def tables_of(step: str) -> dict[str, Callable[[Results], list[Row]]]:
    """The tables of a step."""
    return {"failure-counts": counts(step), "failure-causes": causes(step), "failures": failures(step)}
