"""Where each figure and table of a report comes from: cell of a notebook, file, hash."""

import ast
from pathlib import Path
from typing import Any

from lib.study import files, params, steps

SHOWN = {"show": "figures", "table": "tables"}  # methods of a notebook's page, and the folders of their files
SHORT = 12  # characters of a hash in print


def describe(study: params.Study, printed: dict[str, dict[str, str]], records: dict[str, dict]) -> list[dict[str, Any]]:
    """One row per figure and table: kind, name (<step>/<name>), id of its cell, file and the start of its SHA-256.

    `printed` has the figures and tables by name, `records` those of the steps by label. A table's file is its CSV.
    """
    rows = []
    for step in [step for step in steps.study_steps(study) if step.label in records]:
        cells = cells_of(steps.notebook_file(step.name, study))
        for kind, paths in printed.items():
            for name in [name for name in paths if name.rpartition("/")[0] == step.label]:
                stem = name.rpartition("/")[2]
                file = f"{kind}/{stem}{'.csv' if kind == 'tables' else Path(paths[name]).suffix}"
                digest = records[step.label]["outputs"].get(file, "")
                row = {"kind": kind, "name": name, "cell": cells.get((kind, stem), "")}
                rows.append(row | {"file": f"{step.label}/{file}", "sha256": digest[:SHORT]})
    return rows


def cells_of(notebook: Path) -> dict[tuple[str, str], str]:
    """Id of the cell that writes each figure and table: ("figures" or "tables", name) -> id."""
    cells = {}
    for cell in files.read_json(notebook)["cells"]:
        if cell["cell_type"] == "code":
            cells |= dict.fromkeys(written("".join(cell["source"])), cell["id"])
    return cells


def written(source: str) -> list[tuple[str, str]]:
    """Figures and tables that the code of a cell writes, by kind and name: page.show(figure, name) and page.table."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    of_page = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in SHOWN]
    return [
        (SHOWN[call.func.attr], call.args[1].value)
        for call in of_page
        if len(call.args) > 1 and isinstance(call.args[1], ast.Constant)
    ]
