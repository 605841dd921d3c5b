"""python -m benchmarks: prints a table of ratios; without HC18 its rows are skipped with a message."""

import datetime
import platform

import pandas as pd
import torch

from benchmarks import (
    coverage,
    heatmaps,
    pairs,
    phantom,
    postprocessing,
    precision,
    reading,
    sharing,
    study,
    threads,
    training,
    volumes,
)
from lib.study import files, params


def main() -> None:
    """Runs every benchmark and prints one table."""
    studies = {name: params.read_study(files.study_file(name)) for name in ("demo", "hc18_quick")}
    rows = phantom.rows() + postprocessing.rows() + training.rows(studies["demo"]) + precision.rows(studies["demo"])
    if files.raw_folder("hc18").is_dir():
        rows += training.rows(studies["hc18_quick"]) + reading.rows(studies["hc18_quick"])
    else:
        print("data/raw/hc18 is missing: rows on HC18 skipped")
    rows += heatmaps.rows() + volumes.rows() + pairs.rows() + coverage.rows() + threads.rows() + study.rows()
    rows += sharing.rows(studies["demo"])
    day = datetime.datetime.now(datetime.UTC).date()
    print(f"{day}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    table = pd.DataFrame(rows)
    table["ratio"] = table["ratio"].map("{:.3f}".format)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
