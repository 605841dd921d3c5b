"""content.json, from which the sentences of the report take their numbers, rebuilt from tables and study file."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

from lib import datasets
from lib.imaging import head_points, volumes
from lib.report.recompute import estimates, every_case, findings, materials, method, printed
from lib.report.recompute.estimates import quantile
from lib.report.recompute.results import Results, Row, grouped
from lib.report.recompute.tables import agreement, coverage, failures, flags
from lib.report.recompute.tables.biometry import GUESSES
from lib.report.recompute.tables.regions import GAIN, NETWORK, names_of_groups
from lib.study import files, params, steps

Table = tuple[list[str], list[Row]]  # columns and rows; verified, so that printed numbers are true
OF_AGREEMENT = ("limits-mm", "limits-percent", "limits-first-image", "proportional-bias", "limits-at-sizes")
OF_AGREEMENT += ("reliability", "gestational-age", "centiles", "equivalence", "by-size", "coverage")
FEW_SUBJECTS = 30  # below, the report prints the measured coverage of its intervals
SHOWN = {"figures": (".svg", ".png"), "tables": (".typ",)}  # suffixes of the files
LISTED = 25  # warnings that the report shows
LANDMARKS = {
    "multicentre": ("Multicentre Fetal Biometry (Di Vece et al.)", "divece", "CC BY-NC-SA 4.0"),
    "role_challenge": ('the "role challenge" table', None, "no licence stated"),
}


def rebuild(results: Results, verified: dict[str, Table]) -> dict[str, Any]:
    """The whole content as JSON values; `verified` has the recomputed tables by name."""
    study, dataset = results.study, results.dataset
    regions = not study.learns_landmarks
    shown = {"title", "citation", "licence", "subject", "channels", "volumes", "outlines", "names_subjects"}
    content = {
        "study": study.model_dump(),
        "kind": "regions" if regions else "landmarks",
        "parameters": _parameters(study),
        "spline_order": volumes.SPLINE_ORDER,
        "constants": method.CONSTANTS,
        "data": _data(results),
        "parts": [{"fold": fold} | _parts(results, fold) for fold in study.folds],
        "identity": _identity(results, verified),
        "dataset": {name: getattr(dataset, name) for name in shown},
        "made_here": dataset.phantom is not None,
        "software": materials.software(files.ROOT / "CITATION.cff"),
        "landmarks": None if regions else _landmarks(study.landmarks),
        "lost": _lost(results) if dataset.volumes else None,
        **materials.rebuild(results),
        "model": results.json("03_model/model.json"),
        "layers": method.layers(results),
        "runs": [_run(results, step) for step in results.runs],
        "evaluation": _evaluation(results, verified),
        "biometry": _biometry(results, verified) if results.measures_heads else None,
        "volume_limits": _rows(verified, "06_biometry/tables/volume-limits") if dataset.volumes else [],
        "sizes": _rows(verified, "06_biometry/tables/volumes") if dataset.volumes else [],
        "comparison": _comparison(results, verified) if study.compare_with else None,
        "intervals": _intervals(results, verified),
        "group_names": names_of_groups(results),
        "every_case": every_case.every_case(results),
        "shapes": _rows(verified, "06_biometry/tables/shapes") if regions and not dataset.volumes else [],
        "widths": _rows(verified, "06_biometry/tables/widths"),
        "enlarged": _rows(verified, "06_biometry/tables/enlarged"),
        "findings": findings.rebuild(results, verified, [_run(results, step) for step in results.runs]),
        "figures": _files(results, "figures", SHOWN["figures"]),
        "tables": _files(results, "tables", SHOWN["tables"])
        | {name: f"/{path}" for name, path in post_files(results).items()},
    }
    origin = _provenance(results)
    shown = {kind: _files(results, kind, suffixes) for kind, suffixes in SHOWN.items()}
    origin["provenance"]["outputs"] = method.outputs(results, shown)
    return as_json(content | origin)


def as_json(value: Any) -> Any:
    """NaN and infinity as None, dataclasses and tuples as JSON has them."""
    if isinstance(value, dict):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rows(verified: dict[str, Table], name: str, **values: str) -> list[dict[str, str]]:
    """Printed rows of a table, those whose columns have the given values."""
    columns, rows = verified[name]
    kept = [row for row in rows if all(row[key] == value for key, value in values.items())]
    return printed.printed_rows(columns, kept)


def _of_table(results: Results, name: str) -> list[dict[str, str]]:
    """Printed rows of a long table."""
    return printed.printed_rows(list(results.table(name).columns), results.rows(name))


def _files(results: Results, kind: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Figures or tables by step and name; without those that have no rows."""
    found = {}
    for step in steps.study_steps(results.study):
        for path in sorted((results.folder / step.label / kind).glob("[!.]*")):
            table = path.with_suffix(".csv")
            has_rows = not table.is_file() or len(table.read_text(encoding="utf-8").splitlines()) > 1
            if path.suffix in suffixes and has_rows:
                found[f"{step.label}/{path.stem}"] = f"/{path.relative_to(results.folder).as_posix()}"
    return found


def post_files(results: Results) -> dict[str, str]:
    """Tables that the report prints without raw masks, and the files with their rows, relative to the study's."""
    listed = results.json("report/content.json")["tables"]
    found = {name: f"report/{name.replace('/', '-')}.typ" for name in _files(results, "tables", (".typ",))}
    return {name: path for name, path in found.items() if listed.get(name) == f"/{path}"}


def after_post(table: Table) -> Table:
    """The rows of a table after post-processing, without the column that says so."""
    columns, rows = table
    kept = [{key: value for key, value in row.items() if key != "stage"} for row in rows if row["stage"] == "post"]
    return [name for name in columns if name != "stage"], kept


# --- study file


def _parameters(study: params.Study) -> list[dict[str, Any]]:
    """Keys by step with value, allowed values and reason."""
    path, values = files.study_file(study.study), params.values_of(study)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    reasons = {
        line.split(":")[0]: line.split(" #", 1)[1].strip() for line in lines if line[:1].isalpha() and " #" in line
    }
    groups, keys = (
        [],
        {"all": params.SharedParams.model_fields} | {name: params.own_keys(name) for name in params.STEPS},
    )
    for step in [name for name in keys if name != "report"]:
        rows = []
        for key in [key for key in keys[step] if key in values]:
            allowed = params.AnyKey.model_fields[key].description
            reason = "" if reasons.get(key, "") == allowed else reasons.get(key, "")
            rows.append({"key": key, "value": setting(values[key]), "allowed": allowed, "reason": reason})
        groups.append({"step": step, "rows": rows})
    return groups


def setting(value: Any) -> str:
    """A value of a study file as printed, in the words of YAML."""
    if isinstance(value, list):
        return ", ".join(map(setting, value)) if value else "[]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


# --- data


def _data(results: Results) -> Row:
    rows, findings = results.rows("01_data_verification/cases"), results.rows("01_data_verification/findings")
    slices, subjects = [row["slices"] for row in rows], Counter(row["subject"] for row in rows)
    serious = [row for row in findings if row["severity"] != "note"]
    names = ("severity", "check", "case", "found", "expected", "advice")
    listed = printed.printed_rows(list(findings[0]) if findings else list(names), serious[:LISTED])
    sizes = {"total": sum(slices), "least": min(slices), "most": max(slices), "median": quantile(slices, 0.5)}
    return {
        "cases": len(rows),
        "slices": sizes if results.dataset.volumes else None,
        "subjects": len(subjects),
        "largest_subject": max(subjects.values()),
        "with_spacing": sum(not math.isnan(row["spacing_row_mm"]) for row in rows),
        "with_hc": sum(not math.isnan(row["hc_mm"]) for row in rows),
        "findings": len(findings),
        "warnings": len(serious),
        "notes": len(findings) - len(serious),
        "finding_counts": _finding_counts(findings),
        "listed": listed,
        "unlisted": max(0, len(serious) - LISTED),
    }


def _finding_counts(findings: list[Row]) -> list[dict[str, str]]:
    groups = grouped(findings, "severity", "check").items()
    rows = [{"severity": key[0], "check": key[1], "findings": len(of), "advice": of[0]["advice"]} for key, of in groups]
    return printed.printed_rows(["severity", "check", "findings", "advice"], rows)


def _parts(results: Results, fold: int) -> Row:
    """Cases and subjects that train, validate and test when a fold is tested."""
    rows, count = results.rows("01_data_verification/folds"), results.study.fold_count
    next_fold = (fold + 1) % count
    part_of = [
        "test" if row["fold"] == fold else "validation" if row["fold"] == next_fold and row["validates"] else "train"
        for row in rows
    ]
    parts = {}
    for part in ("train", "validation", "test"):
        of_part = [row for row, name in zip(rows, part_of) if name == part]
        parts[part] = {"cases": len(of_part), "subjects": len({row["subject"] for row in of_part})}
    return parts


def _identity(results: Results, verified: dict[str, Table]) -> list[Row]:
    """Published data sets that hold at least half of the images."""
    if results.dataset.names_subjects:
        return []
    columns, rows = verified["01_data_verification/tables/identity"]
    kept = [row for row in rows if 2 * row["twins"] >= row["cases"]]
    said = printed.printed_rows(columns, kept)
    return [
        row | {"citation": datasets.DATASETS[row["dataset"]].citation, "said": text} for row, text in zip(kept, said)
    ]


def _landmarks(layout: str) -> Row:
    constants = {"level": head_points.PEAK_LEVEL, "reach": head_points.PEAK_REACH, "blank_loss": head_points.BLANK_LOSS}
    return dict(zip(("title", "citation", "licence"), LANDMARKS[layout])) | constants


def _lost(results: Results) -> dict[str, str]:
    rows = results.rows("02_preprocessing/lost")
    where = ("in_dropped_slices", "outside_crop")
    counts = {"cases": len(rows), "cut": sum(row[where[0]] + row[where[1]] > 0 for row in rows)}
    counts["voxels"] = sum(row["reference_voxels"] for row in rows)
    counts |= {name: sum(row[name] for row in rows) for name in where}
    return {name: printed.whole(count) for name, count in counts.items()}


# --- training, evaluation, biometry, comparison


def _run(results: Results, step: steps.Step) -> Row:
    """A training run, and its history at the selected epoch."""
    run, history = results.json(f"{step.label}/run.json"), results.rows(f"{step.label}/history")
    (selected,) = [row for row in history if row["epoch"] == run["best_epoch"]][:1]
    kept = {
        name: printed.number(float(value), name) for name, value in selected.items() if name not in ("epoch", "best")
    }
    fold, seed = step.run or (0, 0)
    single = {name: value for name, value in run.items() if not isinstance(value, dict)}
    return {"label": step.label, "fold": fold, "seed": seed} | single | {"kept": kept}


def _evaluation(results: Results, verified: dict[str, Table]) -> Row:
    study, rows, at = results.study, results.rows("05_evaluation/cases"), "05_evaluation/tables"
    ranked = (
        [row for row in rows if row["stage"] == "post" and not math.isnan(row["dice"])] if "dice" in rows[0] else rows
    )
    counts = {name: len(grouped(rows, name[:-1])) for name in ("cases", "subjects")}
    counts["ranked"] = len(grouped(ranked, "case", "seed"))
    counts["failures"] = _failures(results, verified, "05_evaluation")
    parts = {"precision": _rows(verified, f"{at}/precision")}
    if study.learns_landmarks:
        columns, lines = verified[f"{at}/points"]
        routes = {
            name: [row for row in lines if (row["route"] in GUESSES) == (name == "guesses")]
            for name in ("found", "guesses")
        }
        parts |= {name: printed.printed_rows(columns, of) for name, of in routes.items()}
        return counts | parts | {"losses": _rows(verified, f"{at}/heatmap_loss")}
    whole = {"seeds": "all"} if "seeds" in verified[f"{at}/per_class"][0] else {}
    parts |= {
        "post": _rows(verified, f"{at}/per_class", stage="post", **whole),
        "raw": _rows(verified, f"{at}/per_class", stage="raw", **whole),
        "effect": _rows(verified, f"{at}/effect"),
    }
    parts |= _baselines(verified)
    units = {"mm": "distances", "px": "distances-pixels"}
    parts["distances"] = {unit: _rows(verified, f"{at}/{name}", stage="post") for unit, name in units.items()}
    for name, table in (("size_errors", "size-errors"), ("presence", "presence"), ("parts", "parts")):
        parts[name] = _rows(verified, f"{at}/{table}", stage="post")
    parts |= {"by_group": _rows(verified, f"{at}/groups"), "by_fold": _rows(verified, f"{at}/folds")}
    parts["chosen"] = _of_table(results, "05_evaluation/chosen") if study.threshold_candidates else []
    for name, table in (("patients", "patient-dice"), ("end_slices", "end-slices")):
        parts[name] = _rows(verified, f"{at}/{table}") if results.dataset.volumes else []
    return counts | parts


def _intervals(results: Results, verified: dict[str, Table]) -> Row:
    """How intervals are computed, and for few subjects their coverage as measured in docs/statistics.md."""
    table, column = ("points", "error_px") if results.study.learns_landmarks else ("per_class", "dice")
    subjects = [row[f"{column}_subjects"] for row in verified[f"05_evaluation/tables/{table}"][1]]
    least = min([count for count in subjects if count > 0], default=0)
    rows = files.read_csv(files.ROOT / "lib/statistics/coverage.csv", ["subjects"]).to_dict("records")
    rows = [row for row in rows if row["subjects"] <= max(least, estimates.FEWEST_SUBJECTS)]
    coverage = {
        name: printed.rounded(value, int(name != "subjects")) for row in rows[-1:] for name, value in row.items()
    }
    constants = {"resamples": printed.whole(estimates.RESAMPLES), "fewest": estimates.FEWEST_SUBJECTS}
    constants["least_tail_percent"] = 100 * estimates.LEAST_TAIL
    few = coverage if least < FEW_SUBJECTS else None
    return constants | {"least_subjects": least, "coverage": coverage, "measured": few}


def _failures(results: Results, verified: dict[str, Table], step: str) -> Row:
    """Counts of failed cases, associated properties, and the limits of a failure."""
    counts, causes = (verified[f"{step}/tables/failure-{name}"] for name in ("counts", "causes"))
    limits = {"low_dice": failures.LOW_DICE, "gross_percent": failures.GROSS_PERCENT, "worst": failures.WORST}
    listed = len(results.rows(f"{step}/failures"))
    parts = {"tested": len(causes[1]), "listed": listed}
    whole = printed.printed_rows(counts[0], counts[1][-1:])
    parts["counts"] = printed.printed_rows(*counts)
    parts["associated"] = printed.printed_rows(causes[0], [row for row in causes[1] if row["p_adjusted"] < 0.05])
    parts["rows"] = _rows(verified, f"{step}/tables/failures")
    limits |= {"share_percent": round(100 * failures.WORST_SHARE), "fewest": failures.FEWEST}
    return parts | limits | {"whole": whole[0] if whole else {}}


def _baselines(verified: dict[str, Table]) -> Row:
    """Methods without a network, the strongest of each class, and the network's whole head and gain."""
    columns, rows = verified["05_evaluation/tables/baselines"]
    others = [row for row in rows if not row["method"].startswith(NETWORK) and not math.isnan(row["dice"])]
    strongest = [max(of, key=lambda row: row["dice"]) for of in grouped(others, "class").values()]
    kinds = {"baselines": rows, "strongest": strongest}
    kinds["whole_head"] = [row for row in rows if row["method"] == NETWORK]
    kinds["gain"] = [row for row in rows if row["method"].startswith(GAIN)]
    return {name: printed.printed_rows(columns, of) for name, of in kinds.items()}


def _biometry(results: Results, verified: dict[str, Table]) -> Row:
    measured, (columns, rows) = results.rows("06_biometry/measurements"), verified["06_biometry/tables/agreement"]
    kinds: dict[str, list[Row]] = {"post": [], "baseline": [], "guesses": []}
    kinds["raw"] = [row for row in rows if row["stage"] == "raw" and row["route"] not in GUESSES]
    for row in rows:
        if row["stage"] == "post":
            kind = "baseline" if row["route"] == "baseline" else "guesses" if row["route"] in GUESSES else "post"
            kinds[kind].append(row)
    counts = {name: len(grouped(measured, name[:-1])) for name in ("cases", "subjects")}
    counts["routes"] = sorted({row["route"] for row in rows} - set(GUESSES))
    counts["failures"] = _failures(results, verified, "06_biometry")
    counts["chart_weeks"] = list(agreement.WEEKS)
    counts |= {name: _rows(verified, f"06_biometry/tables/{name}") for name in OF_AGREEMENT}
    counts["calibration"] = _calibration(coverage.bounds(results))
    counts["budget"] = _rows(verified, "06_biometry/tables/error-budget")
    counts["flags"] = flags.finding(results, *verified["06_biometry/tables/flag-worth"])
    return counts | {kind: printed.printed_rows(columns, of) for kind, of in kinds.items()}


def _calibration(bounds: list[Row]) -> Row:
    """Level of the intervals, and least and most validation subjects and images of a run."""
    fixed = {"level_percent": round(100 * coverage.LEVEL), "fewest": coverage.FEWEST}
    counts = {name: [row[name] for row in bounds] or [0] for name in ("subjects", "images")}
    return {name: [min(each), max(each)] for name, each in counts.items()} | fixed


def _comparison(results: Results, verified: dict[str, Table]) -> Row:
    columns, rows = verified["07_comparison/tables/comparison"]
    own = [row for row in rows if row["study_b"] == results.study.study]
    others = [row for row in rows if row["study_b"] != results.study.study]
    parts = {"pairs": printed.printed_rows(columns, others), "guess": printed.printed_rows(columns, own)}
    parts |= {name: _rows(verified, f"07_comparison/tables/{name}") for name in ("references", "overlaps")}
    return parts | {"others": list(results.study.compare_with)}


# --- provenance


def _provenance(results: Results) -> Row:
    """Checks, commit, versions, time and memory, from the records and timings of the steps."""
    before = [step for step in steps.study_steps(results.study) if step.name != "report"]
    records = [results.json(f"{step.label}/record.json") for step in before]
    timings = [results.json(f"{step.label}/timing.json") for step in before]
    rows = [
        {
            "step": step.label,
            "date": timing["date"],
            "time": printed.duration(timing["seconds"]),
            "peak": printed.rounded(timing["peak_bytes"] / 2**30, 1),
            "device": record["device"],
            "commit": record["commit"],
        }
        for step, record, timing in zip(before, records, timings)
    ]
    versions = [record["versions"] for record in records]
    provenance = {
        "versions": versions[-1],
        "same_versions": all(each == versions[0] for each in versions),
        "date": max(row["date"] for row in rows),
        "steps": rows,
        "seconds": printed.duration(math.fsum(timing["seconds"] for timing in timings)),
        "commits": sorted({row["commit"] for row in rows}),
        "data_sha256": files.sha256(Path(results.folder, "01_data_verification/cases.csv")),
    }
    checks = [{"step": step.label, "checks": record["checks"]} for step, record in zip(before, records)]
    return {"checks": checks, "provenance": provenance}
