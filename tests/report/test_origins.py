"""Figures and tables are traced to the cells that write them."""

import re

import pytest

from lib.report import origins
from lib.report.recompute import method
from lib.study import files

SOURCE = """
rows = page.read("cases.csv")
page.table(summary(rows), "per_class")
if rows:
    page.show(figures.curves(rows, page.params.classes), "curves", applies=True)
"""


def test_a_cell_writes_the_figures_and_tables_that_it_shows() -> None:
    assert origins.written(SOURCE) == [("tables", "per_class"), ("figures", "curves")]
    assert origins.written("x = 1") == []


@pytest.mark.parametrize("path", sorted((files.ROOT / "notebooks").glob("0[1-7]*.ipynb")), ids=lambda path: path.stem)
def test_every_figure_and_table_of_a_notebook_has_one_cell_by_both_implementations(path) -> None:
    cells = origins.cells_of(path)
    source = "\n".join(
        "".join(cell["source"]) for cell in files.read_json(path)["cells"] if cell["cell_type"] == "code"
    )
    assert len(cells) == len(re.findall(r"page\.(?:show|table)\(", source))
    assert method.cells_of(path) == cells
