"""Tables of 01_data_verification and 02_preprocessing from cases.csv, folds.csv, findings.csv and lost.csv."""

import math
from collections import Counter

from lib.report.recompute.estimates import known, largest, least, mean, quantile
from lib.report.recompute.results import HASHED, Results, Row, grouped
from lib.report.recompute.tables.regions import group_of_cases, names_of_groups

CASES, FOLDS = "01_data_verification/cases", "01_data_verification/folds"
FITS = ("as named", "exchanged", "neither")


def has_pixel_size(row: Row) -> bool:
    """Whether both pixel sizes of a case are known."""
    return math.isfinite(row["spacing_row_mm"]) and math.isfinite(row["spacing_col_mm"])


def overview(results: Results) -> list[Row]:
    """Facts of the data; those that need the pixels are held to the hash."""
    rows = results.rows(CASES)
    spacing, hc = known([row["spacing_row_mm"] for row in rows]), known([row["hc_mm"] for row in rows])
    subjects = Counter(row["subject"] for row in rows)
    facts = {
        "cases": len(rows),
        "subjects": len(subjects),
        "fold groups": len({row["fold_group"] for row in rows}),
        "most cases of one subject": max(subjects.values()),
        "slices": sum(row["slices"] for row in rows) if any(row["slices"] > 1 for row in rows) else math.nan,
        "image sizes": len(grouped(rows, "height", "width")),
        "with pixel size": sum(map(has_pixel_size, rows)),
        "least pixel size (mm)": least(spacing),
        "largest pixel size (mm)": largest(spacing),
        "with published HC": len(hc) or math.nan,
        "least HC (mm)": least(hc),
        "largest HC (mm)": largest(hc),
        "with an empty mask": HASHED,
        "cut by the frame": HASHED,
    }
    return _facts(facts)


def _facts(facts: Row) -> list[Row]:
    return [{"fact": name, "value": value} for name, value in facts.items() if value is HASHED or value == value]


def groups(results: Results) -> list[Row]:
    """Number of cases by published split and group; what needs the pixels is held to the hash."""
    group, names, counts = group_of_cases(results), names_of_groups(results), Counter[tuple[str, str]]()
    counts.update((row["split"], group[row["case"]]) for row in results.rows(CASES))
    table = []
    for (split, name), count in sorted(counts.items()):
        row = ({"split": split} if any(split for split, _ in counts) else {}) | {"group": names[name]}
        hashed = ("empty_masks", "cut_by_the_frame", "near_the_frame", "mean_area_percent", "mean_contrast")
        table.append(row | {"cases": count} | dict.fromkeys(hashed, HASHED))
    return table


def folds(results: Results) -> list[Row]:
    """Cases, subjects and fold groups of each fold."""
    sized = {row["case"]: has_pixel_size(row) for row in results.rows(CASES)}
    table = []
    for (fold,), rows in sorted(grouped(results.rows(FOLDS), "fold").items()):
        row = {"fold": fold, "cases": len(rows)}
        row |= {f"{name}s": len({each[name] for each in rows}) for name in ("subject", "fold_group")}
        table.append(row | {"with_pixel_size": sum(sized[each["case"]] for each in rows)})
    return table


def finding_counts(results: Results) -> list[Row]:
    """Number of findings by check."""
    findings = grouped(results.rows("01_data_verification/findings"), "severity", "check")
    return [{"severity": key[0], "check": key[1], "findings": len(rows)} for key, rows in findings.items()]


def landmark_audit(results: Results) -> list[Row]:
    """Summary of landmark-audit.csv."""
    rows = results.rows("01_data_verification/landmark-audit")
    if not rows:
        return []
    px, mm = ([row[name] for row in rows for name in row if name.endswith(f"_off_{unit}")] for unit in ("px", "mm"))
    px, mm = ([each for each in offs if math.isfinite(each)] for offs in (px, mm))
    facts = {
        "cases with landmarks": len(rows),
        "BPD longer than OFD": sum(row["bpd_over_ofd"] > 1 for row in rows),
        "BPD/OFD, median": quantile([row["bpd_over_ofd"] for row in rows], 0.5),
        "least angle between the lines (°)": least([row["angle_deg"] for row in rows]),
        "cases with a point outside the image": sum(row["outside_percent"] > 0 for row in rows),
    }
    if px:
        facts |= {f"lines fit the ellipse: {fit}": sum(row["fit"] == fit for row in rows) for fit in FITS}
        facts["ends more than 10 px off (%)"] = 100 * mean([float(each > 10) for each in px])
    for off, unit in ((px, "px"), (mm, "mm")):
        if off:
            facts[f"ends off the outline, median ({unit})"] = quantile(off, 0.5)
            facts[f"ends off the outline, 90 % within ({unit})"] = quantile(off, 0.9)
    return _facts(facts)


def lost(results: Results) -> list[Row]:
    """Volumes that lose reference voxels before the network."""
    rows = results.rows("02_preprocessing/lost")
    return [row for row in rows if row["in_dropped_slices"] + row["outside_crop"] > 0]


TABLES = {
    "01_data_verification/tables/overview": overview,
    "01_data_verification/tables/groups": groups,
    "01_data_verification/tables/folds": folds,
    "01_data_verification/tables/finding-counts": finding_counts,
    "01_data_verification/tables/landmark-audit": landmark_audit,
    "02_preprocessing/tables/lost": lost,
}
