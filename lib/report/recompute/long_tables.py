"""Long tables against each other: each column that another file determines, and every sum that two of them share."""

import math
from collections.abc import Iterable, Iterator

from lib.report.recompute.compare import same
from lib.report.recompute.estimates import NAN, mean
from lib.report.recompute.results import Results, Row, grouped, present
from lib.report.recompute.tables import biometry, coverage, failures, flags
from lib.report.recompute.tables.distances import size_error
from lib.report.recompute.tables.points import paired_error
from lib.report.recompute.tables.regions import dice_of, iou_of

CASES, FOLDS, OVERLAPS = "01_data_verification/cases", "01_data_verification/folds", "05_evaluation/cases"
MEASURED, BUDGET = "06_biometry/measurements", "06_biometry/error-budget"
Cell = tuple[int, str, object]  # place of a row from 0, column, what it should be
Ends = list[tuple[float, float]]


def differing(results: Results) -> list[str]:
    """Cells of the long tables that do not follow from the files before them."""
    points, volumes = results.study.learns_landmarks, results.dataset.volumes
    checks = [(OVERLAPS, keys_of_cases), (OVERLAPS, errors_of_lines if points else overlaps_of_counts)]
    checks += [] if points else [("05_evaluation/confusion", totals_of_confusion)]
    checks += [("06_biometry/volumes", voxels_of_counts)] if volumes else []
    checks += [("06_biometry/shapes", areas_of_counts)] if not (points or volumes) else []
    checks += [] if points else [(OVERLAPS, diagonals)]
    checks += (
        [(MEASURED, measurements_of_points), (MEASURED, limits_of_bounds), (BUDGET, sums_of_components)]
        if results.measures_heads
        else []
    )
    checks += [("07_comparison/comparison", errors_of_both)] if results.study.compare_with else []
    checks += [("07_comparison/overlaps", dice_of_both)] if results.study.compare_with else []
    lines = [line for name, check in checks if results.rows(name) for line in told(results, name, check(results))]
    return (
        lines
        + other_bounds(results)
        + other_limits(results)
        + incomplete(results)
        + selected_epochs(results)
        + listed_failures(results)
    )


def told(results: Results, name: str, cells: Iterable[Cell]) -> Iterator[str]:
    """One line per cell that is not what it should be."""
    rows = results.rows(name)
    for place, column, value in cells:
        if not same(rows[place][column], value):
            yield f"{name}.csv, row {place + 2}, column {column}: found {rows[place][column]}, recomputed {value}"


def spacing_of(results: Results) -> dict[str, tuple[float, float]]:
    """(row, col) pixel size of each case, mm."""
    return {row["case"]: (row["spacing_row_mm"], row["spacing_col_mm"]) for row in results.rows(CASES)}


# --- 04 and 05


def keys_of_cases(results: Results) -> Iterator[Cell]:
    """Subject and fold of each row, as 01 has them."""
    known = {row["case"]: row for row in results.rows(FOLDS)}
    for place, row in enumerate(results.rows(OVERLAPS)):
        for column in ("subject", "fold"):
            yield place, column, known[row["case"]][column]


def incomplete(results: Results) -> list[str]:
    """Test cases without rows in 05's cases.csv, or with rows of some seeds, classes or stages only."""
    rows, study = results.rows(OVERLAPS), results.study
    tested = {row["case"] for row in results.rows(FOLDS) if row["fold"] in study.folds}
    kinds = ("seed", "route", "line") if study.learns_landmarks else ("seed", "class", "stage")
    expected = len(grouped(rows, *kinds))
    counts = {case: len(of) for (case,), of in grouped(rows, "case").items()}
    wrong = {case for case in tested | counts.keys() if counts.get(case) != expected or case not in tested}
    return [
        f"{OVERLAPS}.csv: {counts.get(case, 0)} rows of case {case}; expected {expected * (case in tested)}"
        for case in sorted(wrong)
    ]


def overlaps_of_counts(results: Results) -> Iterator[Cell]:
    """Dice, IoU and size error from the counts of a row, and TN from the pixels of its image."""
    pixels = {row["case"]: row["slices"] * row["height"] * row["width"] for row in results.rows(CASES)}
    for place, row in enumerate(results.rows(OVERLAPS)):
        yield place, "dice", dice_of(row)
        yield place, "iou", iou_of(row)
        yield place, "tn", pixels[row["case"]] - row["tp"] - row["fp"] - row["fn"]
        yield place, "size_error_percent", size_error(row)


def diagonals(results: Results) -> Iterator[Cell]:
    """Diagonal of the image or volume, in millimetres if the pixel (voxel) size is known, and no other unit."""
    sizes = {}
    for row in results.rows(CASES):
        shape = {"slice": row["slices"]} if results.dataset.volumes else {}
        shape |= {"row": row["height"], "col": row["width"]}
        mm = math.hypot(*(count * row[f"spacing_{axis}_mm"] for axis, count in shape.items()))
        sizes[row["case"]] = {"mm": mm, "px": math.hypot(*shape.values()) if math.isnan(mm) else NAN}
    for place, row in enumerate(results.rows(OVERLAPS)):
        yield from ((place, f"diagonal_{unit}", size) for unit, size in sizes[row["case"]].items())


def totals_of_confusion(results: Results) -> Iterator[Cell]:
    """The diagonal of the confusion matrix, and with two classes all of it, from the counts of all cases."""
    counts = grouped(results.rows(OVERLAPS), "fold", "seed", "stage", "class")
    background = results.study.classes[0]
    for place, row in enumerate(results.rows("05_evaluation/confusion")):
        key = (row["fold"], row["seed"], row["stage"])
        if row["reference"] == row["predicted"] != background:
            yield place, "pixels", sum(each["tp"] for each in counts[*key, row["reference"]])
        elif len(results.study.classes) == 2:
            (of_class,) = [of for group, of in counts.items() if group[:3] == key]
            wanted = "fn" if row["reference"] != background else "fp" if row["predicted"] != background else "tn"
            yield place, "pixels", sum(each[wanted] for each in of_class)


def errors_of_lines(results: Results) -> Iterator[Cell]:
    """Errors of landmarks from predicted and published endpoints."""
    references = {row["case"]: row for row in results.rows("01_data_verification/points")}
    predicted = {
        tuple(row[name] for name in ("case", "seed", "route")): row for row in results.rows("05_evaluation/points")
    }
    spacing = spacing_of(results)
    for place, row in enumerate(results.rows(OVERLAPS)):
        unit = spacing[row["case"]]
        known = math.isfinite(sum(unit))
        pair = [predicted[row["case"], row["seed"], row["route"]], references[row["case"]]]
        px = paired_error(*(ends_of(each, row["line"], (1.0, 1.0)) for each in pair))
        mm = paired_error(*(ends_of(each, row["line"], unit) for each in pair)) if known else NAN
        ofd = math.dist(*ends_of(references[row["case"]], "ofd", unit if known else (1.0, 1.0)))
        yield place, "error_px", px
        yield place, "error_mm", mm
        yield place, "normalised_error_percent", 100 * (mm if known else px) / ofd


def ends_of(row: Row, line: str, unit: tuple[float, float]) -> Ends:
    """The two endpoints of a line, (row, col) times the unit."""
    return [(row[f"{line}_{end}_row"] * unit[0], row[f"{line}_{end}_col"] * unit[1]) for end in (1, 2)]


def selected_epochs(results: Results) -> list[str]:
    """Runs whose selected epoch is not the last best one of their history."""
    lines = []
    for step in results.runs:
        run, history = results.json(f"{step.label}/run.json"), results.rows(f"{step.label}/history")
        best = [row for row in history if row["best"]][-1]
        for name, value in (("best_epoch", best["epoch"]), ("epochs", len(history))):
            if run[name] != value:
                lines.append(f"{step.label}/run.json, {name}: found {run[name]}, recomputed {value}")
    return lines


def listed_failures(results: Results) -> list[str]:
    """Rows of failures.csv that are not those of the cases that failed, with what is known of them."""
    lines = []
    for step in ("05_evaluation", "06_biometry") if results.measures_heads else ("05_evaluation",):
        name, expected = f"{step}/failures", failures.rows_of_listed(results, step)
        found, wanted = ([row["case"] for row in rows] for rows in (results.rows(name), expected))
        if found != wanted:
            lines.append(f"{name}.csv: cases {', '.join(found)}; recomputed {', '.join(wanted)}")
        else:
            cells = ((place, *cell) for place, row in enumerate(expected) for cell in row.items())
            lines += told(results, name, cells)
    return lines


def other_bounds(results: Results) -> list[str]:
    """Rows of intervals.csv that do not follow from validation.csv."""
    name, expected = "05_evaluation/intervals", coverage.bounds(results)
    if len(expected) != len(results.rows(name)):
        return [f"{name}.csv: {len(results.rows(name))} rows; expected {len(expected)}, of validation.csv"]
    cells = ((place, *cell) for place, row in enumerate(expected) for cell in row.items())
    return list(told(results, name, cells)) if expected else []


def other_limits(results: Results) -> list[str]:
    """Limits of flags that do not follow from the validation cases in indicators.csv and validation.csv."""
    name, expected = "05_evaluation/limits", flags.chosen_limits(results)
    rows = [(row["fold"], row["seed"], row["flag"]) for row in results.rows(name)]
    if sorted(rows) != sorted(expected):
        return [f"{name}.csv: {len(rows)} limits; recomputed {len(expected)}, or of other runs and flags"]
    return list(told(results, name, ((place, "limit", expected[key]) for place, key in enumerate(rows))))


# --- 06


def limits_of_bounds(results: Results) -> Iterator[Cell]:
    """Limits of each measurement from the bound of its run."""
    bounds = coverage.known_bounds(results)
    for place, row in enumerate(results.rows(MEASURED)):
        low, high = coverage.limits(row, bounds.get((row["fold"], row["seed"], row["quantity"]), NAN))
        yield place, "low_mm", low
        yield place, "high_mm", high


def sums_of_components(results: Results) -> Iterator[Cell]:
    """Total of each row of the error budget."""
    for place, row in enumerate(results.rows(BUDGET)):
        parts = [value for name, value in row.items() if name.endswith("_mm") and name != "total_mm"]
        yield place, "total_mm", math.fsum(parts)


def counts_of_post(results: Results) -> dict[tuple, Row]:
    """Counts of 05 by case, seed, class and stage."""
    names = ("case", "seed", "class", "stage")
    return {tuple(row[name] for name in names): row for row in results.rows(OVERLAPS)}


def voxels_of_counts(results: Results) -> Iterator[Cell]:
    """Volumes from the counts of 05 and the voxel size."""
    counts, manifest = counts_of_post(results), {row["case"]: row for row in results.rows(CASES)}
    for place, row in enumerate(results.rows("06_biometry/volumes")):
        of_case, case = counts[row["case"], row["seed"], row["class"], row["stage"]], manifest[row["case"]]
        ml = math.prod(case[f"spacing_{axis}_mm"] for axis in ("slice", "row", "col")) / 1000
        for source, other in (("reference", "fn"), ("predicted", "fp")):
            voxels = of_case["tp"] + of_case[other]
            yield place, f"{source}_voxels", voxels
            yield place, f"{source}_ml", voxels * ml


def areas_of_counts(results: Results) -> Iterator[Cell]:
    """Areas of structures from the counts of 05 and the pixel size."""
    counts, spacing = counts_of_post(results), spacing_of(results)
    for place, row in enumerate(results.rows("06_biometry/shapes")):
        of_case = counts[row["case"], row["seed"], row["class"], "post"]
        pixels = of_case["tp"] + of_case["fn" if row["source"] == "reference" else "fp"]
        yield place, "area_mm2", pixels * math.prod(spacing[row["case"]]) if pixels else NAN


def measurements_of_points(results: Results) -> Iterator[Cell]:
    """Lengths from endpoints, HC from its axes, published references, and the flags of a head."""
    points = {(row["case"], row["seed"], row["route"]): row for row in results.rows("06_biometry/points")}
    published = references(results)
    heads = grouped(enumerate_rows(results.rows(MEASURED)), "case", "seed", "stage", "route")
    spacing, by_limits = spacing_of(results), flags.raised(results)
    for (case, seed, stage, route), of_head in heads.items():
        at = {row["quantity"]: row for row in of_head}
        lines = {line: at[line]["predicted_mm"] for line in ("ofd", "bpd")}
        if stage == "post" and (case, seed, route) in points:
            lines = {line: math.dist(*ends_of(points[case, seed, route], line, spacing[case])) for line in lines}
            yield from ((at[line]["place"], "predicted_mm", length) for line, length in lines.items())
        if route not in ("baseline",):
            yield at["hc"]["place"], "predicted_mm", perimeter(**lines)
        for quantity, value in published.get(case, {}).items():
            yield at[quantity]["place"], "reference_mm", value
        if route not in biometry.GUESSES:
            raised = by_limits.get((case, seed), []) if stage == "post" else []
            expected = "; ".join(dict.fromkeys([*flags_of(results, route, **lines), *raised]))
            yield from ((row["place"], "flags", expected) for row in of_head)


def enumerate_rows(rows: list[Row]) -> list[Row]:
    """Rows with their place."""
    return [row | {"place": place} for place, row in enumerate(rows)]


def perimeter(ofd: float, bpd: float) -> float:
    """Perimeter of the ellipse with these axes. Source: Ramanujan 1914, second approximation."""
    if math.isnan(ofd + bpd) or min(ofd, bpd) <= 0:
        return NAN if math.isnan(ofd + bpd) else 2 * max(ofd, bpd)
    h = (ofd - bpd) ** 2 / (ofd + bpd) ** 2
    return math.pi / 2 * (ofd + bpd) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))


def references(results: Results) -> dict[str, dict[str, float]]:
    """Reference lengths by case: as published, or between the reference points; those measured on a mask are absent."""
    known = {row["case"]: {q: row[f"{q}_mm"] for q in ("bpd", "ofd", "hc")} for row in results.rows(CASES)}
    if results.study.learns_landmarks:
        spacing = spacing_of(results)
        for row in results.rows("01_data_verification/points"):
            lines = {line: math.dist(*ends_of(row, line, spacing[row["case"]])) for line in ("ofd", "bpd")}
            hc = known[row["case"]]["hc"]
            known[row["case"]] = lines | {"hc": perimeter(**lines) if math.isnan(hc) else hc}
    return {case: {q: mm for q, mm in of.items() if not math.isnan(mm)} for case, of in known.items()}


def flags_of(results: Results, route: str, ofd: float, bpd: float) -> list[str]:
    """Flags of a head with these axes, whatever its indicators."""
    if math.isnan(ofd + bpd):
        return ["no ellipse" if route == "ellipse" else "no peak"]
    least, most = results.study.hc_range_mm
    raised = {
        "BPD longer than OFD": bpd > ofd,
        "elongated": max(ofd, bpd) > results.study.max_axis_ratio * min(ofd, bpd),
        "HC out of range": not least <= perimeter(ofd, bpd) <= most,
    }
    return [name for name, is_raised in raised.items() if is_raised]


# --- 07


def errors_of_both(results: Results) -> Iterator[Cell]:
    """Absolute errors of two studies from the measurements of both."""
    errors = {name: errors_of_study(results, name) for name in (results.study.study, *results.study.compare_with)}
    for place, row in enumerate(results.rows("07_comparison/comparison")):
        pair = []
        for side in ("a", "b"):
            of_case = errors[row[f"study_{side}"]][row["quantity"], row[f"route_{side}"], row["case"]]
            pair.append(mean([biometry.error_mm(each) for each in of_case]))
            yield place, f"error_{side}_mm", pair[-1]
            yield place, f"reference_{side}_mm", of_case[0]["reference_mm"]
            yield place, f"not_measured_{side}", sum(math.isnan(each["predicted_mm"]) for each in of_case)
        yield place, "difference_mm", pair[0] - pair[1]


def errors_of_study(results: Results, name: str) -> dict[tuple, list[Row]]:
    """Measurements of a study after post-processing, by quantity, route and case."""
    own = results.of(name).rows(MEASURED)
    return grouped([row for row in own if row["stage"] == "post"], "quantity", "route", "case")


def dice_of_both(results: Results) -> Iterator[Cell]:
    """Dice of two studies from the overlaps of both."""
    for place, row in enumerate(results.rows("07_comparison/overlaps")):
        pair = []
        for side in ("a", "b"):
            rows = results.of(row[f"study_{side}"]).rows(OVERLAPS)
            key = (row["case"], row["class"], "post")
            of_case = [each for each in rows if (each["case"], each["class"], each["stage"]) == key and present(each)]
            pair.append(mean([dice_of(each) for each in of_case]))
            yield place, f"dice_{side}", pair[-1]
        yield place, "difference", pair[0] - pair[1]
