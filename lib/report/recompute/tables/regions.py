"""Tables of 05_evaluation from its cases.csv: overlap by class, fold and group, detection, patients."""

import math

from lib.report.recompute.estimates import NAN, by_case, largest, least, mean, mean_over_cases, median_over_cases
from lib.report.recompute.results import HASHED, Results, Row, drawn, grouped, present, summarised

CASES = "05_evaluation/cases"
NETWORK = "network"  # method of the network's own row in the table of methods without one
GAIN = f"{NETWORK} minus "  # start of the method of the row with its differences from another


def outcomes(rows: list[Row]) -> Row:
    """Counts of predictions that a mean over references with the class does not show."""
    return {
        "absent": sum(not present(row) and not drawn(row) for row in rows),
        "missed": sum(present(row) and not drawn(row) for row in rows),
        "no_overlap": sum(present(row) and row["tp"] == 0 for row in rows),
        "invented": sum(not present(row) and drawn(row) for row in rows),
    }


def dice_of(row: Row) -> float:
    """Dice from the counts of a row, 0 for a missed structure; NaN if both masks lack the class."""
    total = 2 * row["tp"] + row["fp"] + row["fn"]
    return 2 * row["tp"] / total if total else NAN


def iou_of(row: Row) -> float:
    """IoU from the counts of a row."""
    total = row["tp"] + row["fp"] + row["fn"]
    return row["tp"] / total if total else NAN


def overlap(rows: list[Row]) -> Row:
    """Overlap of one class and stage over the cases whose reference contains the class."""
    kept = [row for row in rows if present(row)]
    dice, iou = mean_over_cases(kept, dice_of), mean_over_cases(kept, iou_of)
    pooled = dice_of({name: sum(row[name] for row in rows) for name in ("tp", "fp", "fn")})
    median = median_over_cases(kept, dice_of)
    row = {"n": dice.n} | dice.columns("dice") | median.columns("dice_median") | {"dice_min": dice.least}
    return row | iou.columns("iou") | {"pooled_dice": pooled} | outcomes(rows)


def per_class(results: Results) -> list[Row]:
    """Overlap by class and stage; with several seeds also by seed."""
    rows = results.rows(CASES)
    seeds = list(grouped(rows, "seed"))
    if len(seeds) < 2:
        return summarised(rows, ("class", "stage"), overlap)
    table = []
    for (name, stage), group in grouped(rows, "class", "stage").items():
        parts = {"all": group} | {str(seed): [row for row in group if row["seed"] == seed] for (seed,) in seeds}
        table += [{"class": name, "stage": stage, "seeds": part} | overlap(each) for part, each in parts.items()]
    return table


def detection(results: Results) -> list[Row]:
    """Sensitivity, specificity and precision of pixels."""
    table = []
    measures = {"sensitivity": ("tp", "fn"), "specificity": ("tn", "fp"), "precision": ("tp", "fp")}
    for (name, stage), group in grouped(results.rows(CASES), "class", "stage").items():
        for measure, (hit, other) in measures.items():
            hits, others = (sum(row[column] for row in group) for column in (hit, other))
            one = mean_over_cases(group, lambda row, a=hit, b=other: _share(row[a], row[b]))
            row = {"class": name, "stage": stage, "measure": measure, "n": one.n} | one.columns("mean")
            table.append(row | {"pooled": _share(hits, others)})
    return table


def _share(hits: float, others: float) -> float:
    return hits / (hits + others) if hits + others else NAN


def confusion(results: Results) -> list[Row]:
    """Percent of each reference class that is predicted as each class."""
    pixels: dict[str, dict[str, int]] = {}
    for row in results.rows("05_evaluation/confusion"):
        if row["stage"] == "post":
            of_reference = pixels.setdefault(row["reference"], {})
            of_reference[row["predicted"]] = of_reference.get(row["predicted"], 0) + row["pixels"]
    totals = {name: sum(counts.values()) for name, counts in pixels.items()}
    return [
        {"reference": name, "pixels": totals[name]}
        | {f"{other}_percent": 100 * count / totals[name] if totals[name] else NAN for other, count in counts.items()}
        for name, counts in pixels.items()
    ]


def folds(results: Results) -> list[Row]:
    """Dice after post-processing by fold."""
    return _by_part(results, "fold", {row["case"]: row["fold"] for row in results.rows(CASES)})


def groups(results: Results) -> list[Row]:
    """Dice after post-processing by group, the first word of a case's stratum."""
    return _by_part(results, "group", group_of_cases(results))


def group_of_cases(results: Results) -> dict[str, str]:
    """Group of each case."""
    return {row["case"]: row["stratum"].split(" ")[0] or "all" for row in results.rows("01_data_verification/cases")}


def names_of_groups(results: Results) -> dict[str, str]:
    """Printed names of groups: ranges of HC are named by their ends."""
    group, names = group_of_cases(results), {}
    heads = {row["case"]: row["hc_mm"] for row in results.rows("01_data_verification/cases")}
    for name in sorted(set(group.values())):
        sizes = [hc for case, hc in heads.items() if group[case] == name and not math.isnan(hc)]
        is_range = name[:2] == "hc" and name[2:].isdigit() and sizes
        names[name] = f"HC {min(sizes):.0f}–{max(sizes):.0f} mm" if is_range else name
    return names


def _by_part(results: Results, name: str, part_of: dict) -> list[Row]:
    post = [row | {name: part_of[row["case"]]} for row in results.rows(CASES) if row["stage"] == "post"]
    left_out = ("dice_min", "iou", "pooled_dice")

    def describe(rows: list[Row]) -> Row:
        whole = overlap(rows)
        return {"cases": len(grouped(rows, "case"))} | {
            column: value for column, value in whole.items() if not column.startswith(left_out)
        }

    return summarised(sorted(post, key=lambda row: row[name]), (name, "class"), describe)


def effect(results: Results) -> list[Row]:
    """Change of Dice by post-processing, and outcomes before and after it; no rows without post-processing."""
    table = []
    for (name,), group in grouped(results.rows(CASES), "class").items():
        raw = {(row["case"], row["seed"]): row for row in group if row["stage"] == "raw"}
        post = {(row["case"], row["seed"]): row for row in group if row["stage"] == "post"}
        if not raw:
            continue
        pairs = [raw[key] | {"change": dice_of(post[key]) - dice_of(raw[key])} for key in raw if present(raw[key])]
        one = mean_over_cases(pairs, lambda row: row["change"])
        row = {"class": name, "n": one.n} | one.columns("change")
        row |= {"better": sum(each["change"] > 0 for each in pairs), "worse": sum(each["change"] < 0 for each in pairs)}
        before, after = outcomes(list(raw.values())), outcomes([post[key] for key in raw])
        counts = {
            f"{kind}_{stage}": of[kind]
            for kind in ("missed", "invented")
            for stage, of in (("raw", before), ("post", after))
        }
        table.append(row | counts)
    return table


def precision(results: Results) -> list[Row]:
    """Effect of the precision of training on masks."""

    def describe(rows: list[Row]) -> Row:
        dice, change, probability = (
            [row[name] for row in rows] for name in ("dice", "area_change_percent", "probability_change")
        )
        return {
            "n": sum(not math.isnan(each) for each in dice),
            "dice_mean": mean(dice),
            "dice_least": least(dice),
            "area_change_percent": mean(change),
            "largest_area_change_percent": largest([abs(each) for each in change]),
            "largest_probability_change": largest(probability),
        }

    return summarised(results.rows("05_evaluation/precision"), ("class", "training_precision"), describe)


def baselines(results: Results) -> list[Row]:
    """Methods without a network, whose predictions are not saved: only the numbers of references are counted.

    The network's own row has the Dice of a union of classes, which no table holds, and an error of HC, which 06 has.
    The mean difference from the rival, paired by case, is that of their means; its interval needs every case.
    """
    n = {
        name: sum(present(row) for row in _once(group))
        for (name,), group in grouped(results.rows(CASES), "class").items()
    }
    table, rows = [], results.rows("05_evaluation/tables/baselines")
    of_head = {row["method"]: row for row in rows if row["class"] == "head"}
    for row in rows:
        known = {"class": row["class"], "n": n.get(row["class"], HASHED)}
        known |= _network_hc(results) if row["method"] == NETWORK else {}
        if row["method"].startswith(GAIN):
            own, rival = of_head[NETWORK], of_head[row["method"].removeprefix(GAIN)]
            known |= {name: own[name] - rival[name] for name in ("dice", "hc_error_mm")}
        table.append(dict.fromkeys(row, HASHED) | {"method": row["method"]} | known)
    return table


def _network_hc(results: Results) -> Row:
    """Mean absolute error of HC; a head that is not measured counts with its whole HC."""
    of_heads = [row for row in results.rows(CASES) if row["class"] in results.study.head_classes]
    cases, wanted = {row["case"] for row in of_heads if present(row)}, ("hc", "post", "ellipse")
    measured = [row for row in results.rows("06_biometry/measurements") if row["case"] in cases]
    heads = [row for row in measured if (row["quantity"], row["stage"], row["route"]) == wanted]

    def error(row: Row) -> float:
        missed = math.isnan(row["predicted_mm"])
        return row["reference_mm"] if missed else abs(row["predicted_mm"] - row["reference_mm"])

    return mean_over_cases(heads, error).columns("hc_error_mm")


def _once(rows: list[Row]) -> list[Row]:
    """One row per case."""
    return [of_case[0] for of_case in grouped(rows, "case").values()]


# --- volumes


def volumes_only(results: Results) -> list[Row]:
    """Rows of cases.csv that are of volumes, with their score: Dice, or 1 if neither mask contains the class."""
    volumes = {row["case"] for row in results.rows("01_data_verification/cases") if row["slices"] > 1}
    rows = [row for row in results.rows(CASES) if row["case"] in volumes]
    return [row | {"score": dice_of(row) if present(row) or drawn(row) else 1.0} for row in rows]


def patients(results: Results) -> list[Row]:
    """Each volume, the worst first."""
    manifest, rows = {row["case"]: row for row in results.rows("01_data_verification/cases")}, volumes_only(results)
    first = "raw" if any(row["stage"] == "raw" for row in rows) else "post"
    table, of_stage, group = [], grouped(rows, "stage", "case", "class"), group_of_cases(results)
    for (stage, case, name), each in of_stage.items():
        if stage == "post":
            row = {"case": case, "group": group[case], "class": name, "slices": manifest[case]["slices"]}
            row["reference_voxels"] = round(mean([one["tp"] + one["fn"] for one in each]))
            row["predicted_voxels"] = round(mean([one["tp"] + one["fp"] for one in each]))
            row["dice_raw"] = mean([dice_of(one) if present(one) else NAN for one in of_stage[first, case, name]])
            row["dice"] = mean([dice_of(one) if present(one) else NAN for one in each])
            table.append(row | {"score": mean([one["score"] for one in each])})
    ordered = sorted(table, key=lambda row: (row["score"], row["case"]))
    return [{name: value for name, value in row.items() if name != "score"} for row in ordered]


def patient_dice(results: Results) -> list[Row]:
    """Score of all volumes by class and stage."""

    def describe(rows: list[Row]) -> Row:
        one = mean_over_cases(rows, lambda row: row["score"])
        median = median_over_cases(rows, lambda row: row["score"])
        row = {"n": one.n} | one.columns("dice_per_patient") | median.columns("median_per_patient")
        return row | {"min_per_patient": one.least, "absent": outcomes(rows)["absent"]}

    return summarised(volumes_only(results), ("class", "stage"), describe)


def end_slices(results: Results) -> list[Row]:
    """Dice with and without the reference voxels of excluded end slices, all of which are false negatives."""
    lost = {row["case"]: row["in_dropped_slices"] for row in results.rows("02_preprocessing/lost")}
    rows = [row for row in results.rows(CASES) if row["stage"] == "post" and row["case"] in lost]

    def without(row: Row) -> float:
        rest = row | {"fn": row["fn"] - lost[row["case"]]}
        return dice_of(rest) if rest["tp"] + rest["fp"] + rest["fn"] > 0 else 1.0

    def describe(of_class: list[Row]) -> Row:
        kept = [row for row in of_class if present(row)]
        once = [lost[case] for (case,) in grouped(kept, "case")]
        whole = sum(row["tp"] + row["fn"] for row in kept)
        percent = 100 * sum(lost[row["case"]] for row in kept) / whole if whole else NAN
        dice, rest = (mean(by_case(kept, how)[0]) for how in (dice_of, without))
        row = {"n": len(once), "cut_patients": sum(count > 0 for count in once), "lost_voxels": sum(once)}
        return row | {"lost_percent": percent, "dice": dice, "dice_without": rest, "cost": rest - dice}

    return summarised(rows, ("class",), describe)


TABLES = {
    "per_class": per_class,
    "detection": detection,
    "confusion": confusion,
    "folds": folds,
    "groups": groups,
    "effect": effect,
    "precision": precision,
    "baselines": baselines,
    "patients": patients,
    "patient-dice": patient_dice,
    "end-slices": end_slices,
}
