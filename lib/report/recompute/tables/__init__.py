"""One function per printed table: long tables in, rows out. A new table needs one, listed in SOURCES of its kind."""

from collections.abc import Callable

from lib.report.recompute.results import Results, Row
from lib.report.recompute.tables import (
    agreement,
    biometry,
    comparison,
    coverage,
    data,
    distances,
    failures,
    flags,
    points,
    regions,
    widths,
)
from lib.study import params

Recompute = Callable[[Results], list[Row]]
# What no table of the study holds; the files are held to the hashes in the record of their step.
HASHED = {
    "01_data_verification/tables/colours": "pixels of the mask files",
    "01_data_verification/tables/identity": "pixels of other data sets",
    "02_preprocessing/tables/ceiling": "masks resized and back",
    "03_model/tables/layers": "one pass of the network",
    "04_training/tables/exposure": "draws of the sampler",
}


def sources(study: params.Study) -> dict[str, Recompute]:
    """The function that recomputes each table, by <step>/tables/<name>; runs of 04 share their names."""
    of_05 = points.TABLES if study.learns_landmarks else regions.TABLES | distances.TABLES
    of_05 = of_05 | failures.tables_of("05_evaluation")
    of_06 = biometry.TABLES | flags.TABLES | agreement.TABLES | coverage.TABLES | widths.TABLES
    of_06 = of_06 | failures.tables_of("06_biometry")
    of_steps = {"05_evaluation": of_05, "06_biometry": of_06, "07_comparison": comparison.TABLES}
    return data.TABLES | {f"{step}/tables/{name}": how for step, of in of_steps.items() for name, how in of.items()}
