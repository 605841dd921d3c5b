"""The sentences of findings, made by the report's rules and by those of the check, on tables drawn by chance."""

import numpy as np
import pandas as pd
import pytest

from lib import datasets
from lib.report import content
from lib.report.recompute import compare, findings
from lib.report.recompute import content as rebuilt
from lib.report.recompute.results import Results
from lib.study import files, params, steps
from tests.report.recompute import forgery
from tests.report.recompute.test_tables import LESIONS, POINTS, REGIONS, VOLUMES, reports_of, study_of

__all__ = ["reports_of", "study_of"]  # fixtures

VERDICTS = {"mean_within_margin": ["yes", "not shown"]}
VERDICTS |= {"single_within_margin": ["yes", "no", "undecided", "depends on size", "not shown"]}
COUNTS = ["missed", "invented", "absent", "no_overlap", "failed", "not_measured", "up_to_one_week", "over_one_week"]
OF_FINDINGS = ("05_evaluation", "06_biometry", "07_comparison")


def drawn(table: pd.DataFrame, draw: np.random.Generator) -> pd.DataFrame:
    """A table whose intervals lie on either side of 0 or contain it, or are missing, with other counts and verdicts."""
    table = table.copy()
    for name in [name for name in table if f"{name}_low" in table]:
        middle = 100 if "covered" in name else 1
        low = draw.uniform(-middle, middle, len(table))
        high = low + draw.uniform(0, middle, len(table))
        has_none = draw.random(len(table)) < 0.2
        table[name], table[f"{name}_low"], table[f"{name}_high"] = (low + high) / 2, low, high
        table.loc[has_none, [f"{name}_low", f"{name}_high"]] = np.nan
        if f"{name}_least" in table:
            table[f"{name}_least"], table[f"{name}_largest"] = low - 1, high + 1
    for name in [name for name in table if name.startswith("percentile_")]:
        table[name] = draw.choice([float("nan"), -3.5, 4.25])
        table["n"] = int(draw.choice([20, 38, 39, 40, 200]))
    for name in [name for name in COUNTS if name in table]:
        table[name] = draw.integers(0, 4, len(table))
    if "p_adjusted" in table:
        table["p_adjusted"] = draw.choice([0.0001, 0.049, 0.05, 0.9], len(table))
    for name in [name for name in VERDICTS if name in table]:
        table[name] = draw.choice(VERDICTS[name], len(table))
    return table


def redraw(study: params.Study, draw: np.random.Generator) -> None:
    """Draws every table of a study's results by chance."""
    for step in OF_FINDINGS:
        for path in sorted((files.study_folder(study.study) / step / "tables").glob("*.csv")):
            if path.stat().st_size > 1:
                files.write_csv(path, drawn(files.read_csv(path, []), draw))


def both(study: params.Study) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Findings by the report and by the check, of the same tables."""
    runs = [step for step in steps.study_steps(study) if step.run]
    own = content.describe_findings(study, runs, datasets.of(study).volumes)
    results, verified = Results(study), {}
    for step in OF_FINDINGS:
        for path in sorted((results.folder / step / "tables").glob("*.csv")):
            name = f"{step}/tables/{path.stem}"
            verified[name] = list(results.table(name).columns), results.rows(name)
    return own, findings.rebuild(results, verified, [rebuilt._run(results, step) for step in results.runs])


@pytest.mark.parametrize("name", [REGIONS, LESIONS, VOLUMES, POINTS])
def test_both_make_the_same_sentences_whatever_the_intervals_say(study_of, name: str) -> None:
    study, draw, found = study_of(name), np.random.default_rng(24), set()
    first, mirror = both(study)
    assert first == mirror
    assert all(first[part] for part in ("training", "failures", "main"))
    number = forgery.changed(first["failures"][0])
    forged = first | {"failures": [number, *first["failures"][1:]]}
    (line,) = compare.differing_values("findings", forged, mirror)
    assert line.startswith(f"findings.failures[0]: printed {number[:70]}")
    for _ in range(6):
        redraw(study, draw)
        own, mirror = both(study)
        assert own == mirror
        found |= {sentence for of in own.values() for sentence in of}
    assert len(found) > 30
    if name == REGIONS:
        assert {"rose", "fell"} <= {word for sentence in found for word in sentence.split()}
