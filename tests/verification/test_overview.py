import numpy as np
import pytest

from lib import datasets
from lib.data import splits
from lib.data.findings import Check, Finding, to_table
from lib.verification import case_checks, overview
from lib.verification.verify import check_dataset
from tests import builders
from tests.builders import save_png
from tests.builders_busi import SHAPE, lesion, texture, verify_busi, write_busi


def test_cases_subjects_and_pixel_sizes_are_counted_by_fold(sound):
    table = sound.cases.copy()
    table.loc[0, "spacing_col_mm"] = np.nan
    summary = overview.of_folds(table, splits.assign_folds(table, 3, 0))
    assert summary["cases"].sum() == 12 == summary["with_pixel_size"].sum() + 1
    assert summary["subjects"].sum() == summary["fold_groups"].sum() == table["subject"].nunique()


def test_the_overview_counts_the_drawn_cases(sound, verified_patients):
    drawn = builders.heads()
    facts = dict(overview.facts(sound.cases, sound.measured).values)
    names = ("cases", "subjects", "most cases of one subject", "image sizes", "with pixel size", "cut by the frame")
    assert [facts[name] for name in names] == [12, len({head.name[:3] for head in drawn}), 2, 2, 12, 0]
    assert facts["largest HC (mm)"] == pytest.approx(max(head.hc_mm for head in drawn), abs=1e-3)
    assert "slices" not in facts
    facts = dict(overview.facts(verified_patients.cases, verified_patients.measured).values)
    assert (facts["cases"], facts["slices"], facts["with an empty mask"], facts["with pixel size"]) == (4, 20, 1, 2)


def test_groups_are_counted_by_published_split(tmp_path):
    drawn = {"1_HC": lesion(20, 30, 20, 20), "2_HC": lesion(0, 30, 20, 40), "3_HC": lesion(1, 30, 20, 20)}
    for seed, (name, mask) in enumerate(drawn.items()):
        folder = tmp_path / ("test" if name == "3_HC" else "train") / "malignant"
        save_png(folder / f"{name}.png", np.where(mask > 0, 150, 50 + seed).astype(np.uint8))
        save_png(folder / f"{name}_Annotation.png", mask)
    dataset = datasets.DATASETS["ultrasound_fetus"]
    result = check_dataset(dataset, "ultrasound_fetus", tmp_path, ["malignant"])
    groups = overview.by_group(result.cases, result.measured).set_index(["split", "group"])
    train, test = groups.loc[("train", "malignant")], groups.loc[("test", "malignant")]
    counts = ["cases", "empty_masks", "cut_by_the_frame", "near_the_frame"]
    assert [train[counts].tolist(), test[counts].tolist()] == [[2, 0, 1, 0], [1, 0, 0, 1]]
    assert train["mean_area_percent"] == pytest.approx((400 + 800) / 2 / 4800 * 100)
    assert train["mean_contrast"] == pytest.approx((100 / 200 + 99 / 201) / 2)
    assert test["mean_contrast"] == pytest.approx(98 / 202)


def test_the_mean_area_of_a_group_is_over_references_that_are_not_empty(tmp_path, verified_patients):
    folder = write_busi(tmp_path, benign=[(texture(0), lesion())], normal=[(texture(1), np.zeros(SHAPE, np.uint8))])
    result = verify_busi(folder)
    groups = overview.by_group(result.cases, result.measured).set_index("group")
    assert "split" not in groups.columns  # none is published
    assert groups["empty_masks"].to_dict() == {"benign": 0, "normal": 1}
    assert groups["mean_area_percent"].tolist() == pytest.approx([400 / 4800 * 100, np.nan], nan_ok=True)
    groups = overview.by_group(verified_patients.cases, verified_patients.measured).set_index("group")  # institutions
    assert groups["cases"].to_dict() == {"CS": 2, "DU": 1, "HT": 1}
    assert groups.loc["CS", "empty_masks"] == 1
    assert groups.loc["CS", "mean_area_percent"] == pytest.approx(100 * 48 / (5 * 32 * 32))


def test_findings_are_counted_by_check_the_most_severe_first_and_those_that_stop_the_study_are_listed():
    notes = [Finding("note", Check("b"), name, "", "") for name in "xyz"]
    findings = to_table([*notes, Finding("stop", Check("z", "fix it"), "a", "x", "y")])
    assert overview.count_findings(findings).values.tolist() == [["stop", "z", 1, "fix it"], ["note", "b", 3, ""]]
    assert overview.stop_claim(findings) == "no finding stops the study\n    1 x z: fix it\n        a: x"
    assert overview.stop_claim(findings.iloc[1:]) == "no finding stops the study"


def test_colours_beyond_the_most_frequent_forty_are_combined():
    counts = {"a": {(value,): 100 - value for value in range(42)}, "b": {(41,): 1}}
    table = overview.colour_table({name: case_checks.CheckedCase({}, [], each) for name, each in counts.items()})
    assert len(table) == 41
    assert table.iloc[0].tolist() == ["0", 100, 1]
    # Values 40 and 41 have 60 pixels each; of equal counts the lower value is listed.
    assert table.iloc[-1].tolist() == ["2 others", 60 + 60, 2]
