from pathlib import Path

import pandas as pd
import pytest

from lib import datasets
from lib.data import findings, splits
from lib.report import build
from lib.report.recompute import materials
from lib.report.recompute.content import as_json
from lib.report.recompute.results import Results
from lib.study import files, params
from lib.verification.landmark_audit import NO_LANDMARKS
from tests import builders_report
from tests.builders_report import folder

KINDS = ["demo", "busi", "lgg_quick", "hc18_landmarks_quick", "phantom_lgg", "brain_structures", "fetal_tumour"]
ALL_FOLDS = {"folds": [0, 1], "exclude": ["case98", "case99"]}


def written(name: str, **changes) -> params.Study:
    """A study with the files of 01 and 02, whose cases have sizes and strata drawn by chance."""
    study = params.read_study(files.study_file(name))
    study = study.model_copy(update={"folds": [0], "exclude": []} | changes)
    builders_report.write_data(study)
    path = folder(study, "01_data_verification/cases.csv")
    table = files.read_csv(path, [])
    draw = pd.Series(range(len(table))).sample(frac=1, random_state=len(name)).to_numpy()
    table["height"] = 200 + draw
    table["stratum"] = [f"g{value % 3}" + f" {study.classes[-1]}" * (value % 2) for value in draw]
    if table["hc_mm"].notna().any():
        table["hc_mm"] = (90 + 7.13 * draw).round(2)
        table.loc[draw == 2, ["hc_mm", "spacing_row_mm"]] = float("nan")
    files.write_csv(path, table)
    assigned = splits.assign_folds(table, study.fold_count, 7, study.validation_subjects)
    files.write_csv(folder(study, "01_data_verification/folds.csv"), assigned)
    lost = files.read_csv(folder(study, "02_preprocessing/lost.csv"), [])
    if len(lost):
        files.write_csv(folder(study, "02_preprocessing/lost.csv"), lost.assign(reference_voxels=997 * draw))
    return study


def both(study: params.Study) -> tuple[dict, dict]:
    """As the report and as the check write it."""
    printed = build.plain(build.describe_materials(study, datasets.of(study)))
    return printed, as_json(materials.rebuild(Results(study)))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("changes", [{}, ALL_FOLDS], ids=["one fold", "several folds"])
def test_facts_flow_and_characteristics_are_written_twice_alike(tmp_path: Path, monkeypatch, name, changes) -> None:
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    printed, recomputed = both(written(name, **changes))
    assert recomputed == printed
    assert len(printed["characteristics"]["rows"]) >= 5
    assert [each["cases"] for each in printed["flow"]["excluded"]] == [2] * bool(changes)


def test_cases_without_landmarks_and_many_folds_are_counted_alike(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    study = written("hc18_landmarks_quick", folds=[0, 3], fold_count=materials.MOST_FOLDS + 1)
    text = "12 of 32 cases (38 %): 000_HC, …: left out"
    lacking = findings.Finding("warn", NO_LANDMARKS, "landmarks", text, "a row for each image")
    files.write_csv(folder(study, "01_data_verification/findings.csv"), findings.to_table([lacking]))
    printed, recomputed = both(study)
    assert recomputed == printed
    assert printed["flow"]["excluded"] == [{"reason": "without landmarks", "cases": 12}]
    assert printed["characteristics"]["columns"] == ["Tested", "All"]


def test_own_data_have_neither_facts_nor_published_results_in_either(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    study = written("demo").model_copy(update={"dataset": "own_heads", "palette": []})
    results = Results(study)
    dataset = datasets.custom("heads", study.classes, [])
    results.__dict__["dataset"] = dataset
    assert as_json(materials.rebuild(results)) == build.plain(build.describe_materials(study, dataset))
    assert materials.rebuild(results)["published"] == []


def test_a_changed_size_or_count_differs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    study = written("demo")
    printed, _ = both(study)
    cases = folder(study, "01_data_verification/cases.csv")
    table = files.read_csv(cases, [])
    files.write_csv(cases, table.assign(hc_mm=table["hc_mm"] + 1))
    assert materials.rebuild(Results(study))["characteristics"] != printed["characteristics"]
    files.write_csv(cases, table.head(len(table) - 1))
    assert materials.rebuild(Results(study))["flow"] != printed["flow"]
