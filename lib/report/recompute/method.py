"""What the methods and the provenance of the report state: constants, blocks of the network, origins of the figures."""

import re
from itertools import groupby
from pathlib import Path
from typing import Any

from lib.report.recompute import printed
from lib.report.recompute.results import Results, Row
from lib.study import files, steps

# As read in the code and in the documentation of torch and albumentations.
CONSTANTS = {
    "betas": [0.9, 0.999],
    "adam_epsilon": 0.00000001,
    "one_cycle_start": 25,
    "one_cycle_end": 10000,
    "plateau_threshold": 0.0001,
    "batch_norm_epsilon": 0.00001,
    "batch_norm_momentum": 0.1,
    "clahe_tiles": [8, 8],
    "grey_levels": 255,
    "grey": [127.5, 63.75],
    "dice_smoothing": 1.0,
    "clahe_limit": [1.0, 2.0],
    "segnet_convolutions": [2, 2, 3, 3, 3],
    "segnet_multiples": [1, 2, 4, 8, 8],
    "resnet_decoder": [256, 128, 64, 32, 16],
    "least_reach_px": 3.0,
    "peak_level": 0.02,
    "peak_reach": 3.0,
    "half_dice": 0.5,
    "sections": 200,
    "widest_sections": 20,
    "unseen": 1.5,
    "large_mm": 5.0,
    "referred_percent": 10,
    "flag_level_percent": 5,
    "fewest_flag_cases": 20,
    "interval_percent": 90,
}
WRITES = re.compile(r'page\.(show|table)\(.*?"([\w-]+)"(?:, applies=[^\n]*)?\)$', re.MULTILINE)


def layers(results: Results) -> list[dict[str, str]]:
    """Neighbouring convolutions that share the first two parts of their name, as one printed row."""
    rows = results.rows("03_model/tables/layers")
    blocks = []
    for name, of_block in groupby(rows, key=lambda row: ".".join(row["layer"].split(".")[:2])):
        members = list(of_block)
        sizes = {key: members[-1][key] for key in ("channels", "rows", "cols")}
        total = sum(row["parameters"] for row in members)
        blocks.append({"layer": name, "convolutions": len(members)} | sizes | {"parameters": total})
    return printed.printed_rows(["layer", "convolutions", "channels", "rows", "cols", "parameters"], blocks)


def outputs(results: Results, shown: dict[str, dict[str, str]]) -> list[Row]:
    """Cell, file and the start of the hash of every figure and table (`shown`, by kind and name)."""
    rows: list[Row] = []
    for step in [step for step in steps.study_steps(results.study) if step.name != "report"]:
        cells = cells_of(steps.notebook_file(step.name, results.study))
        for kind in ("figures", "tables"):
            for name, path in shown[kind].items():
                if name.split("/")[:-1] == step.label.split("/"):
                    stem = name.split("/")[-1]
                    suffix = ".csv" if kind == "tables" else Path(path).suffix
                    file = f"{step.label}/{kind}/{stem}{suffix}"
                    digest = files.sha256(results.folder / file)[:12]
                    cell = cells.get((kind, stem), "")
                    rows.append({"kind": kind, "name": name, "cell": cell, "file": file, "sha256": digest})
    return rows


def cells_of(notebook: Path) -> dict[tuple[str, str], str]:
    """Cells by the kind and name of what they write, found in the text of a notebook."""
    cells: dict[tuple[str, str], str] = {}
    for cell in _code(files.read_json(notebook)):
        for method, name in WRITES.findall("".join(cell["source"])):
            cells["figures" if method == "show" else "tables", name] = cell["id"]
    return cells


def _code(notebook: Any) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
