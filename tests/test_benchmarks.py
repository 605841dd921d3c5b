"""Every benchmark runs with the current code; the measured values are not checked."""

import importlib

import pytest

from benchmarks import agreement_coverage, conformal_coverage
from lib.study import files, params

DEMO = params.read_study(files.study_file("demo"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["coverage", "heatmaps", "pairs", "phantom", "postprocessing", "precision", "training", "volumes"]
)
def test_a_benchmark_returns_a_row_for_each_measurement(monkeypatch, name):
    module = importlib.import_module(f"benchmarks.{name}")
    for constant, small in (("ROUNDS", 1), ("REPEATS", 1), ("IMAGES", 16), ("PATIENTS", 1)):
        if hasattr(module, constant):
            monkeypatch.setattr(module, constant, small)
    rows = module.rows(*[DEMO] if name in ("precision", "training") else [])
    assert rows
    assert all({"what", "ours", "ratio", "goal"} <= row.keys() for row in rows)


def test_the_simulated_coverage_of_agreement_has_a_percentage_and_a_width_of_limits_and_slope():
    *covered, limit, at_largest = agreement_coverage.coverage(agreement_coverage.KINDS["normal"], 10, 40)
    assert len(covered) == 3
    assert 80 <= min(covered) <= max(covered) <= 100  # 40 draws
    assert 0 < limit < at_largest


def test_the_simulated_coverage_of_intervals_of_measurements_is_at_least_what_is_promised():
    for design in conformal_coverage.DESIGNS:
        found = conformal_coverage.coverage(design, 20, 150)
        one, every, bound = found["subjects weigh the same"]
        # A calibration covers 90.5 % of subjects with a standard deviation of 6.4 %: 0.55 % over 150, here four times.
        assert one > 90 - 2.2
        assert every <= one
        assert bound <= found["largest of each subject"][2] + 1e-9
    # Subjects with few images are the difficult ones here, and images counted one by one hide them.
    assert found["images as if independent"][0] < 85
