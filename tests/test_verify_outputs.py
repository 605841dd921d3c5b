"""docs/faults.md shows what `make verify` prints; `python -m tests.test_verify_outputs` writes that section anew."""

import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from lib.__main__ import given_folder
from lib.datasets import hc18
from lib.report import folder_check
from lib.study import files
from tests.builders import save_png

DATA = files.ROOT.parent / "shared" / "data"
PAGE, HEADING = files.ROOT / "docs" / "faults.md", "## Output of make verify\n"
MAX_LINES = 8  # of a block of lines; the rest is counted
OWN_CASES = 30


def write_own(folder: Path) -> None:
    """Custom data from HC18: every twenty-first image, filled heads as masks, and cases.csv."""
    cases = hc18.find_cases(DATA / "hc18", [])[0]
    rows = ["name,subject,spacing_mm"]
    for case in cases[:: len(cases) // OWN_CASES][:OWN_CASES]:
        save_png(folder / "masks" / case.image.name, hc18.read_mask(case.mask) * np.uint8(255))
        (folder / "images").mkdir(exist_ok=True)
        shutil.copyfile(case.image, folder / "images" / case.image.name)
        rows.append(f"{case.name},{case.subject},{case.spacing_mm[0]}")
    (folder / "cases.csv").write_text("\n".join(rows))


def printed(folder: str) -> str:
    """Output of verify for a folder, shortened, and its exit status."""
    try:
        text, sound = folder_check.report_on(given_folder(folder, "make verify DATA=<folder>"))
        status = int(not sound)
    except ValueError as error:
        text, status = str(error), 2
    blocks = [block.splitlines() for block in text.split("\n\n")]
    longer = [[*block[: MAX_LINES - 1], f"… {len(block) - MAX_LINES + 1} more lines"] for block in blocks]
    shown = [short if len(block) > MAX_LINES else block for block, short in zip(blocks, longer)]
    return "\n\n".join("\n".join(block) for block in shown) + f"\n(exit status {status})"


def section() -> str:
    """The section of docs/faults.md, with <data> for the folder of the real data and <temporary> for the others."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder)
        write_own(temporary / "heads")
        (temporary / "empty").mkdir()
        names = sorted(path for path in DATA.iterdir() if path.is_dir())
        shown = [*names, DATA, *(temporary / name for name in ("heads", "empty", "absent")), ""]
        parts = [f"$ python -m lib verify {str(path) or repr('')}\n{printed(str(path))}\n" for path in shown]
    text = "\n".join(f"```\n{part}```\n" for part in parts).replace(folder, "<temporary>").replace(str(DATA), "<data>")
    about = f"Blocks are shortened to {MAX_LINES} lines. `heads` holds own data made from {OWN_CASES} images of HC18."
    about += " `make verify DATA=<folder>` prints the same, and without DATA how to call it."
    return f"{HEADING}\n{about}\n\n{text}"


def split_page() -> tuple[str, str, str]:
    """The page before, in and after the section."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(HEADING)
    after = re.search(r"(?m)^## ", rest)
    return before, rest[: after.start() if after else None], rest[after.start() :] if after else ""


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "hc18").is_dir(), reason=f"{DATA} is missing: the data are not part of the project")
def test_the_page_shows_what_verify_prints():
    assert HEADING + split_page()[1].rstrip() == section().rstrip()


if __name__ == "__main__":
    before, _, after = split_page()
    files.write_text(PAGE, before.rstrip() + "\n\n" + section() + (f"\n{after}" if after else ""))
