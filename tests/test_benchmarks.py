"""Every benchmark runs on today's code; what it measures is of no interest here."""

import importlib

import pytest

from lib.study import files, params

DEMO = params.read_study(files.study_file("demo"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("heatmaps", ()),
        ("phantom", ()),
        ("postprocessing", ()),
        ("precision", (DEMO,)),
        ("training", (DEMO,)),
        ("volumes", ()),
    ],
)
def test_a_benchmark_runs_and_says_what_it_measured(monkeypatch, name, arguments):
    module = importlib.import_module(f"benchmarks.{name}")
    for constant, small in (("ROUNDS", 1), ("REPEATS", 1), ("IMAGES", 16), ("PATIENTS", 1)):
        if hasattr(module, constant):
            monkeypatch.setattr(module, constant, small)
    rows = module.rows(*arguments)
    assert rows
    assert all({"what", "ours", "ratio", "goal"} <= row.keys() for row in rows)
