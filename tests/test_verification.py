import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import cases, datasets, verification
from tests import builders
from tests.builders import Head

HC18 = datasets.DATASETS["hc18"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return builders.write_hc18(tmp_path_factory.mktemp("raw"), builders.heads())


@pytest.fixture(scope="module")
def sound(written):
    return verification.verify(HC18, written, [], 0.99)


@pytest.fixture
def folder(written, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(written, tmp_path / "hc18")


def verify(folder, exclude=(), correlation=0.99):
    return verification.verify(HC18, folder, list(exclude), correlation)


def of_check(result, check):
    return result.findings[result.findings["check"] == check]


def copy_case(folder, source, target, change=lambda pixels: pixels):
    """Puts one case's image, and its outline, in the place of another's."""
    for ending in ("", "_Annotation"):
        pixels = cases.read_pixels(folder / "training_set" / f"{source}{ending}.png")
        changed = pixels if ending else change(pixels)
        builders.save_png(folder / "training_set" / f"{target}{ending}.png", changed)


# A sound data set


def test_nothing_is_found_in_a_sound_data_set(sound):
    assert sound.findings.empty


def test_every_case_is_in_the_manifest_with_its_size(sound):
    drawn = {head.name: head.shape for head in builders.heads()}
    found = {name: (h, w) for name, h, w in sound.cases[["case", "height", "width"]].itertuples(index=False)}
    assert found == drawn
    assert sound.cases.columns.tolist() == cases.CASE_COLUMNS


def test_hc_from_the_annotation_is_the_drawn_one(sound):
    # Heads of 40 to 54 pixels: the pixels' rounding moves an axis by up to 0.2 px, HC by about 0.4 px.
    for head, row in zip(builders.heads(), sound.looks.to_dict("records")):
        assert row["mask_hc_mm"] == pytest.approx(head.hc_mm, abs=0.4 * head.spacing_mm), head.name


def test_area_and_contrast_are_those_of_the_drawn_head(sound):
    for seed, (head, row) in enumerate(zip(builders.heads(), sound.looks.to_dict("records"))):
        region, image = builders.region_of(head), builders.image_of(head, seed)
        assert row["area_fraction"] == pytest.approx(region.mean(), rel=1e-2)  # a few pixels at the edge
        assert row["mean_inside"] == pytest.approx(image[region].mean(), rel=1e-2)
        assert row["mean_outside"] == pytest.approx(image[~region].mean(), rel=1e-2)
        assert not row["touches_border"]


def test_two_verifications_give_equal_tables(sound, written):
    again = verify(written)
    pd.testing.assert_frame_equal(again.cases, sound.cases, check_exact=True)
    pd.testing.assert_frame_equal(again.looks, sound.looks, check_exact=True)


# What can be wrong


def test_an_hc_that_disagrees_with_its_annotation_is_a_warning(folder):
    told = {head.name: head.hc_mm for head in builders.heads()}
    told["002_HC"] += 3
    lines = [f"{head.name}.png,{head.spacing_mm},{told[head.name]}" for head in builders.heads()]
    builders.write_hc18_table(folder, lines)
    row = of_check(verify(folder), "HC differs from its annotation")
    assert row[["severity", "case"]].values.tolist() == [["warn", "002_HC"]]
    assert "mm from the annotation, " in row["found"].item()


def test_a_head_cut_by_the_frame_is_a_note(folder):
    cut = Head("001_HC", (12.0, 45.0), 56.0, 44.0, 10.0)
    builders.save_png(folder / "training_set" / "001_HC_Annotation.png", builders.outline_of(cut))
    builders.save_png(folder / "training_set" / "001_HC.png", builders.image_of(cut, 99))
    row = of_check(verify(folder), "touches the frame")
    assert row[["severity", "case"]].values.tolist() == [["note", "001_HC"]]


def test_a_case_that_cannot_be_used_is_not_in_the_manifest(folder):
    (folder / "training_set" / "001_HC.png").write_text("no image")
    result = verify(folder)
    assert "001_HC" not in set(result.cases["case"]) | set(result.looks["case"])
    assert len(result.cases) == 11


def test_a_folder_without_one_usable_case_is_refused_with_what_was_found(tmp_path):
    folder = builders.write_hc18(tmp_path, builders.heads(2))
    for path in (folder / "training_set").glob("*HC.png"):
        path.write_text("no image")
    with pytest.raises(ValueError, match="no case can be used") as caught:
        verify(folder)
    assert "unreadable" in str(caught.value)


def look_at(tmp_path, mask):
    image = builders.save_png(tmp_path / "a.png", np.full((40, 50), 9, np.uint8))
    case = cases.Case("a", "a", image, image, (0.1, 0.1))
    return verification.look(case, replace(HC18, read_mask=lambda _: mask))


def test_a_mask_without_a_class_stops(tmp_path):
    (finding,) = look_at(tmp_path, np.zeros((40, 50), np.uint8)).findings
    assert (finding.severity, finding.check) == ("stop", "empty mask")


def test_a_mask_too_small_to_be_measured_stops(tmp_path):
    mask = np.zeros((40, 50), np.uint8)
    mask[20, 20] = 1
    (finding,) = look_at(tmp_path, mask).findings
    assert (finding.severity, finding.check, finding.case) == ("stop", "unmeasurable mask", "a")


# Duplicates


def test_equal_pixels_across_subjects_are_a_warning_and_join_them(folder):
    copy_case(folder, "001_HC", "005_HC")
    result = verify(folder)
    row = of_check(result, "duplicate across subjects")
    assert row[["severity", "case", "found"]].values.tolist() == [["warn", "001_HC", "005_HC: equal pixels"]]
    groups = result.cases.set_index("case")["fold_group"]
    assert groups["001_HC"] == groups["005_HC"] == "001"
    for seed in range(5):
        folds = cases.assign_folds(result.cases, 3, seed).set_index("case")["fold"]
        assert folds["001_HC"] == folds["005_HC"]


def test_a_nearly_equal_image_across_subjects_is_a_warning_with_its_correlation(folder):
    copy_case(folder, "001_HC", "005_HC", lambda pixels: np.clip(pixels.astype(int) + 3, 0, 255).astype(np.uint8))
    row = of_check(verify(folder), "duplicate across subjects")
    assert row["found"].item().startswith("005_HC: correlation ")


def test_equal_pixels_within_a_subject_are_a_note(folder):
    copy_case(folder, "000_HC", "000_2HC")
    row = of_check(verify(folder), "duplicate within a subject")
    assert row[["severity", "case", "found"]].values.tolist() == [["note", "000_HC", "000_2HC: equal pixels"]]


def test_equal_pixels_are_found_whatever_the_correlation_asked_for(folder):
    copy_case(folder, "001_HC", "005_HC")
    assert len(of_check(verify(folder, correlation=1.0), "duplicate across subjects")) == 1


def test_two_even_grey_images_are_equal_pixels(folder):
    for name in ("001_HC", "005_HC"):
        builders.save_png(folder / "training_set" / f"{name}.png", np.full((60, 90), 9, np.uint8))
        builders.save_png(folder / "training_set" / f"{name}_Annotation.png", builders.outline_of(Head(name)))
    assert len(of_check(verify(folder), "duplicate across subjects")) == 1


def test_a_chain_of_duplicates_is_one_fold_group(folder):
    copy_case(folder, "001_HC", "005_HC")
    copy_case(folder, "001_HC", "003_HC")
    groups = verify(folder).cases.set_index("case")["fold_group"]
    assert set(groups[["001_HC", "003_HC", "005_HC"]]) == {"001"}


def test_a_thumbnail_correlates_with_itself_brighter_and_steeper():
    image = np.random.default_rng(0).integers(0, 100, (60, 90)).astype(np.uint8)
    one, other = verification.thumbnail(image), verification.thumbnail(image * 2 + 20)
    assert float(one @ other) == pytest.approx(1, abs=1e-3)  # rounding of the thumbnail to whole grey values
    assert float(one @ one) == pytest.approx(1, abs=1e-5)


# Excluding


def test_an_excluded_case_with_a_fault_becomes_a_note(folder):
    (folder / "training_set" / "001_HC_Annotation.png").unlink()
    result = verify(folder, exclude=["001_HC"])
    row = of_check(result, "excluded: missing annotation")
    assert row[["severity", "case"]].values.tolist() == [["note", "001_HC"]]
    assert not result.findings["severity"].eq("stop").any()


def test_an_excluded_sound_case_is_listed_and_left_out(written):
    result = verify(written, exclude=["001_HC"])
    assert of_check(result, "excluded")[["severity", "case"]].values.tolist() == [["note", "001_HC"]]
    assert "001_HC" not in set(result.cases["case"])


def test_the_files_of_an_excluded_case_are_not_opened(folder):
    (folder / "training_set" / "001_HC.png").write_text("no image")
    result = verify(folder, exclude=["001_HC"])
    assert result.findings["severity"].tolist() == ["note"]


def test_an_excluded_name_that_is_not_there_is_refused(written):
    with pytest.raises(ValueError, match=r"exclude = \['999_HC'\]   no such cases in"):
        verify(written, exclude=["001_HC", "999_HC"])


# Views


def test_folds_are_summed_up_case_by_case(sound):
    folds = cases.assign_folds(sound.cases, 3, 0)
    summary = verification.summary(sound.cases, folds)
    assert summary["cases"].sum() == summary["with_pixel_size"].sum() == 12
    assert summary["subjects"].sum() == summary["fold_groups"].sum() == sound.cases["subject"].nunique()


def test_the_overview_counts_what_was_drawn(sound):
    facts = verification.overview(sound.cases, sound.looks).set_index("fact")["value"]
    drawn = builders.heads()
    assert facts["cases"] == 12
    assert facts["subjects"] == len({head.name[:3] for head in drawn})
    assert facts["most cases of one subject"] == 2
    assert facts["image sizes"] == 2
    assert facts["largest HC (mm)"] == pytest.approx(max(head.hc_mm for head in drawn), abs=1e-3)
    assert facts["cut by the frame"] == 0


def test_the_claim_names_what_stops_the_study():
    findings = cases.findings_table(
        [cases.Finding("stop", "missing image", "a", "x", "y"), cases.Finding("note", "b", "c", "d", "e")]
    )
    assert verification.stop_claim(findings) == "no finding stops the study\n    a: missing image (found x)"
    assert verification.stop_claim(findings.iloc[1:]) == "no finding stops the study"


def test_findings_are_counted_by_check_the_grave_ones_first():
    findings = cases.findings_table(
        [cases.Finding("note", "b", name, "", "") for name in "xyz"] + [cases.Finding("stop", "z", "x", "", "")]
    )
    assert verification.count_findings(findings).values.tolist() == [["stop", "z", 1], ["note", "b", 3]]
