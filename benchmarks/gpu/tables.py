"""results.json and results.md of the checks."""

import json
from pathlib import Path
from typing import Any

from lib.study import files

Results = dict[str, Any]  # about the machine, and "parts": {name: {"state", "seconds", "rows", "error"}}


def write(folder: Path, results: Results) -> None:
    """Writes both files."""
    files.write_text(folder / "results.json", json.dumps(results, indent=1) + "\n")
    files.write_text(folder / "results.md", markdown(results))


def markdown(results: Results) -> str:
    """The results as one Markdown table per part."""
    title = "# Checks on a GPU" if results["device type"] == "cuda" else "# Checks, not run on CUDA"
    about = [f"- {name}: {value}" for name, value in results.items() if name != "parts"]
    return "\n\n".join([title, "\n".join(about), *(section(*part) for part in results["parts"].items())]) + "\n"


def section(name: str, part: dict[str, Any]) -> str:
    """Heading, state and table of one part."""
    state = f"{part['state']}, {part['seconds']:.0f} s" + (f": {part['error']}" if part["error"] else "")
    return "\n\n".join([f"## {name}", state, *([table(part["rows"])] if part["rows"] else [])])


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table with the columns of all rows, in the order of their first appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([cell(row.get(name)) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:
    """A value as text: three significant digits at least, an empty cell for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return str(value).replace("|", "\\|")
