"""The sentences of findings and conclusions, from verified tables, by code of its own."""

from lib.report.recompute import printed
from lib.report.recompute.findings import conclusions, heads, masks
from lib.report.recompute.findings.lines import Table, Tables, listed
from lib.report.recompute.results import Results, Row


def rebuild(results: Results, verified: dict[str, Table], runs: list[Row]) -> dict[str, list[str]]:
    """Every finding by section, and the conclusions."""
    tables, volumes = Tables(verified), results.dataset.volumes
    unit = "patient" if volumes else "image"
    found = {"training": masks.training(results, runs)}
    if results.study.learns_landmarks:
        lines = tables.lines("05_evaluation/tables/points")
        found |= {"landmarks": masks.of_points(lines), "main": conclusions.main_of_points(lines), "rivals": []}
    else:
        found |= of_masks(results, tables, unit)
    if volumes:
        limits = tables.lines("06_biometry/tables/volume-limits")
        found["volumes"] = masks.of_volumes(tables.lines("06_biometry/tables/volumes"), limits)
        found["main"] = found["main"] + conclusions.main_of_volumes(limits, len(results.study.seeds))
    found["failures"] = masks.failed(tables, "05_evaluation", unit) + masks.causes(results, tables, unit)
    if results.measures_heads:
        found |= heads.of_heads(results, tables, unit)
        found["rivals"] = found["rivals"] + heads.rivals(tables)
        found["main"] = found["main"] + conclusions.main_of_heads(tables)
    if results.study.compare_with:
        found["comparison"] = heads.compared(tables, results.study.study)
    return found | {"weak": conclusions.weak(tables), "unshown": conclusions.unshown(tables, results.study.study)}


def of_masks(results: Results, tables: Tables, unit: str) -> dict[str, list[str]]:
    """Overlap, boundaries and presence, and the first conclusion."""
    by_seed = "seeds" in tables.columns("05_evaluation/tables/per_class")
    lines = tables.lines("05_evaluation/tables/per_class")
    lines = [line for line in lines if line.v["n"] and line.v.get("seeds", "all") == "all"]
    found = {"segmentation": masks.overlap(lines, by_seed, unit), "boundaries": []}
    found["rivals"] = masks.rivals(lines, tables)
    for name, word, key in (("distances", "mm", "mm"), ("distances-pixels", "pixels", "px")):
        rows = [each for each in tables.lines(f"05_evaluation/tables/{name}") if each.v["n"] and not each.v["penalty"]]
        hd95 = listed([f"{each.with_unit(f'median_hd95_{key}', word)} for the {each.t['class']}" for each in rows])
        tolerance = getattr(results.study, f"nsd_tolerance_{key}")
        share = listed([each.with_unit("nsd") for each in rows])
        if rows:
            limit = f"{tolerance:g}{printed.SPACE}{word}" if tolerance is not None else "the tolerance"
            text = f"Median HD95 was {hd95}; the mean share of the boundary within {limit} was {share}."
            found["boundaries"].append(text)
    found["presence"] = [masks.present_text(line, unit) for line in tables.lines("05_evaluation/tables/presence")]
    return found | {"main": conclusions.main_of_masks(lines, by_seed, unit)}
