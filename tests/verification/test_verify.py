"""Every file opened and every claim recomputed: on heads and lesions whose size, place and faults are drawn."""

import re
import shutil
from collections import Counter

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import datasets
from lib.data import cases, splits
from lib.datasets.landmark_tables import CHALLENGE_FILE
from lib.imaging import head_points, image_files
from lib.study import files, params
from lib.verification import overview
from lib.verification.verify import check_dataset
from tests import builders
from tests.builders import Head, save_png
from tests.builders_busi import SHAPE, lesion, texture, verify_busi, write_busi

HC18, LGG = datasets.DATASETS["hc18"], datasets.DATASETS["lgg"]


@pytest.fixture
def folder(written, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(written, tmp_path / "hc18")


def verify(folder, exclude=(), correlation=0.99):
    return check_dataset(HC18, "hc18", folder, exclude=exclude, correlation=correlation)


def of_check(result, check):
    return result.findings[result.findings["check"] == check]


def copy_case(folder, source, target, change=lambda pixels: pixels):
    """Puts one case's image, and its outline, in the place of another's."""
    for ending in ("", "_Annotation"):
        pixels = image_files.read_pixels(folder / "training_set" / f"{source}{ending}.png")
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
        assert row["border_gap"] > 0


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


def test_a_lesion_in_a_normal_image_stops_with_its_size(tmp_path):
    nothing = np.zeros(SHAPE, np.uint8)
    folder = write_busi(
        tmp_path,
        benign=[(texture(0), nothing), (texture(1), lesion())],
        normal=[(texture(2), nothing), (texture(3), lesion(height=3, width=4))],
    )
    result = verify_busi(folder)
    stops = result.findings[result.findings["severity"] == "stop"]
    assert stops[["case", "check", "found"]].values.tolist() == [
        ["benign (1)", "empty mask", "no pixel of any class"],
        ["normal (2)", "mask of a normal image", "12 pixels of a class"],
    ]
    assert result.cases["case"].tolist() == ["benign (2)", "normal (1)"]


def test_one_s_own_images_may_show_nothing(tmp_path):
    for number, mask in enumerate([np.zeros(SHAPE, np.uint8), lesion()]):
        save_png(tmp_path / "images" / f"{number}.png", texture(number))
        save_png(tmp_path / "masks" / f"{number}.png", mask)
    study = params.Study.model_validate(
        builders.values(dataset="own_cells", classes=["background", "cell"], groups=[], palette=[])
    )
    result = check_dataset(datasets.of(study), "own_cells", tmp_path)
    assert result.cases["case"].tolist() == ["0", "1"]
    assert not result.findings["severity"].eq("stop").any()
    assert overview.facts(result.cases, result.looks).set_index("fact")["value"]["with an empty mask"] == 1


# Files that cannot be read


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def deepen(path):
    Image.fromarray(np.full(SHAPE, 3000, np.uint16)).save(path)


def link_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


def make_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", ["benign (1).png", "benign (1)_mask.png"])
@pytest.mark.parametrize("spoil", [truncate, deepen, link_to_itself, make_a_folder])
def test_a_file_that_cannot_be_read_stops_and_is_named(tmp_path, spoil, name):
    folder = write_busi(tmp_path, benign=[(texture(0), lesion()), (texture(1), lesion())])
    spoil(folder / "benign" / name)
    result = verify_busi(folder)
    stops = result.findings[result.findings["severity"] == "stop"]
    assert stops[["case", "check"]].values.tolist() == [["benign (1)", "unreadable"]]
    assert str(folder / "benign" / name) in stops["found"].item()
    assert result.cases["case"].tolist() == ["benign (2)"]


def test_sixteen_bits_a_channel_are_said(tmp_path):
    folder = write_busi(tmp_path, benign=[(texture(0), lesion()), (texture(1), lesion())])
    deepen(folder / "benign" / "benign (2).png")
    assert "16 bits a channel; expected 8 bits" in of_check(verify_busi(folder), "unreadable")["found"].item()


# The audit of colours


def test_the_audit_counts_every_value_of_every_mask(sound):
    drawn = np.stack([(outline == 255).sum() for outline in map(builders.outline_of, builders.heads())])
    whole = sum(head.shape[0] * head.shape[1] for head in builders.heads())
    assert sound.colours.values.tolist() == [["0", whole - drawn.sum(), 12], ["255", drawn.sum(), 12]]


def test_the_audit_of_colour_masks_is_what_pillow_counts(tmp_path):
    datasets.DATASETS["phantom_brain"].made.write(tmp_path, 3, 1)
    masks = sorted(tmp_path.rglob("SegmentationClass/*.png"))
    expected, holders = Counter(), Counter()
    for path in masks:
        counted = {" ".join(map(str, colour)): count for count, colour in Image.open(path).getcolors()}
        expected.update(counted)
        holders.update(counted.keys())
    dataset = datasets.DATASETS["phantom_brain"]
    found = check_dataset(dataset, "phantom_brain", tmp_path, ["trans-thalamic"]).colours
    assert dict(zip(found["colour"], found["pixels"])) == expected
    assert dict(zip(found["colour"], found["cases"])) == holders
    assert found["pixels"].is_monotonic_decreasing


def test_a_lossy_mask_is_a_warning_with_the_number_of_its_colours(tmp_path):
    folder = write_busi(tmp_path, benign=[(texture(0), lesion()), (texture(1), lesion())])
    mask = folder / "benign" / "benign (1)_mask.png"
    mask.unlink()
    Image.fromarray(lesion(13, 21, 22, 19)).save(mask.with_suffix(".jpg"))
    shades = len(np.unique(np.asarray(Image.open(mask.with_suffix(".jpg")))))
    assert shades > 2
    row = of_check(verify_busi(folder), "lossy mask")
    assert row[["severity", "case", "found"]].values.tolist() == [
        ["warn", "benign (1)", f"benign (1)_mask.jpg: {shades} colours"]
    ]


def test_a_mask_of_0_and_1_is_a_note(tmp_path):
    folder = write_busi(tmp_path, benign=[(texture(0), lesion() // 255), (texture(1), lesion())])
    row = of_check(verify_busi(folder), "0 and 1 instead of 0 and 255")
    assert row[["severity", "case", "found"]].values.tolist() == [["note", "benign (1)", "benign (1)_mask.png"]]
    assert verify_busi(folder).looks["area_fraction"].nunique() == 1


# Duplicates


def test_equal_pixels_across_subjects_are_a_warning_and_join_them(folder):
    copy_case(folder, "001_HC", "005_HC")
    result = verify(folder)
    row = of_check(result, "duplicate across subjects")
    assert row[["severity", "case", "found"]].values.tolist() == [["warn", "001_HC", "005_HC: equal pixels"]]
    groups = result.cases.set_index("case")["fold_group"]
    assert groups["001_HC"] == groups["005_HC"] == "001"
    for seed in range(5):
        folds = splits.assign_folds(result.cases, 3, seed).set_index("case")["fold"]
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


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image[1:-2, 2:-2],
        lambda image: np.clip(image * 0.7 + 50, 0, 255).astype(np.uint8),
        lambda image: np.clip(image[1:, :-2] * 0.8 + 5, 0, 255).astype(np.uint8),
        lambda image: cv2.resize(image, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_LINEAR),
    ],
    ids=["crop", "brightness", "crop and brightness", "size"],
)
def test_a_changed_copy_in_another_subject_is_found_and_joined_and_no_other_image_is(tmp_path, change):
    images = [*map(texture, range(6)), change(texture(2))]
    folder = write_busi(tmp_path, benign=[(image, lesion(shape=image.shape)) for image in images])
    result = verify_busi(folder, correlation=0.3)
    rows = of_check(result, "duplicate across subjects")
    assert rows[["severity", "case"]].values.tolist() == [["warn", "benign (3)"]]
    assert re.fullmatch(r"benign \(7\): correlation [01]\.\d{3}", rows["found"].item())
    groups = result.cases.set_index("case")["fold_group"]
    assert groups["benign (7)"] == "benign (3)"
    assert groups.drop("benign (7)").tolist() == groups.drop("benign (7)").index.tolist()
    for seed in range(5):
        folds = splits.assign_folds(result.cases, 3, seed).set_index("case")["fold"]
        assert folds["benign (3)"] == folds["benign (7)"]


# Volumes


def test_a_row_of_the_manifest_is_a_patient_with_the_number_and_distance_of_slices(seen_patients, patients):
    table = seen_patients.cases
    assert table.columns.tolist() == cases.CASE_COLUMNS
    assert table["case"].tolist() == [patient.name for patient in builders.PATIENTS]
    assert table["slices"].tolist() == [5, 4, 5, 6]
    assert table[["height", "width"]].eq(32).all(axis=None)
    assert table["subject"].tolist() == [patient.name[:12] for patient in builders.PATIENTS]
    assert table["stratum"].tolist() == ["CS", "CS", "DU", "HT"]
    spacing = table[["spacing_slice_mm", "spacing_row_mm", "spacing_col_mm"]]
    assert spacing.dropna().values.tolist() == [[4.5, 0.5, 0.6], [6, 1, 1]]
    assert (table["image"] == table["mask"]).all()


def test_images_are_of_one_slice(sound):
    assert (sound.cases["slices"] == 1).all()
    assert sound.cases["spacing_slice_mm"].isna().all()


def test_what_stands_out_in_patients_is_said_and_stops_nothing(seen_patients):
    said = seen_patients.findings[seen_patients.findings["check"] != "missing pixel size"]
    names = [patient.name for patient in builders.PATIENTS]
    assert said[["severity", "check", "case"]].values.tolist() == [
        ["warn", "lesion in an end slice", names[2]],
        ["note", "no lesion", names[1]],
    ]


def test_a_patient_s_copy_under_another_name_is_found_and_joined(patients, tmp_path):
    folder = shutil.copytree(patients, tmp_path / "lgg") / "kaggle_3m"
    source, copy = builders.PATIENTS[0].name, "TCGA_HT_0009_20000101"
    (folder / copy).mkdir()
    for path in (folder / source).iterdir():
        shutil.copy(path, folder / copy / path.name.replace(source, copy))
    result = check_dataset(LGG, "lgg", folder)
    row = of_check(result, "duplicate across subjects")
    assert row[["severity", "case", "found"]].values.tolist() == [["warn", source, f"{copy}: equal pixels"]]
    groups = result.cases.set_index("case")["fold_group"]
    assert groups[source] == groups[copy] == "TCGA_CS_0001"


def test_a_patient_with_an_unreadable_slice_is_left_out_and_stops_until_it_is_excluded(patients, tmp_path):
    folder = shutil.copytree(patients, tmp_path / "lgg")
    name = builders.PATIENTS[1].name
    (folder / "kaggle_3m" / name / f"{name}_2_mask.tif").write_text("no image")
    result = check_dataset(LGG, "lgg", folder)
    assert name not in set(result.cases["case"])
    assert of_check(result, "unreadable")[["severity", "case"]].values.tolist() == [["stop", name]]
    again = check_dataset(LGG, "lgg", folder, exclude=[name])
    assert not again.findings["severity"].eq("stop").any()


# Landmarks


def marks_of(drawn):
    """Ends of the drawn heads' axes as their publisher would give them: x before y, whole pixels."""
    lines = ["image_name,ofd_1_x,ofd_1_y,ofd_2_x,ofd_2_y,bpd_1_x,bpd_1_y,bpd_2_x,bpd_2_y,px_to_mm_rate,Split"]
    for head in drawn:
        ends = np.rint(head_points.axis_ends(head.centre, head.major, head.minor, head.angle_deg)).astype(int)
        places = ",".join(f"{col},{row}" for row, col in ends)
        lines.append(f"{head.name}.png,{places},{head.spacing_mm:.6f},Train")
    return lines


@pytest.fixture
def landmarks_at(tmp_path, monkeypatch):
    """Writes a table of landmarks where studies look for them."""
    real = files.raw_folder
    monkeypatch.setattr(files, "raw_folder", lambda name: tmp_path / name if name == "landmarks" else real(name))

    def write(lines, name="multicentre/HC18/Head.csv"):
        files.write_text(tmp_path / "landmarks" / name, "\n".join(lines) + "\n")

    return write


def with_landmarks(folder, layout="multicentre", **how):
    return check_dataset(HC18, "hc18", folder, correlation=0.99, layout=layout, **how)


def test_where_landmarks_are_learnt_they_are_held_against_the_outlines(written, landmarks_at, sound):
    landmarks_at(marks_of(builders.heads()))
    result = with_landmarks(written)
    assert not result.findings["severity"].eq("stop").any()
    assert result.audit["case"].tolist() == result.points["case"].tolist() == result.cases["case"].tolist()
    assert (result.audit["fit"] == "as named").all()
    assert result.points.columns.tolist() == ["case", *head_points.POINT_COLUMNS]
    for head, found in zip(builders.heads(), head_points.as_arrays(result.points, result.cases["case"].tolist())):
        expected = head_points.axis_ends(head.centre, head.major, head.minor, head.angle_deg)
        assert np.abs(found - expected).max() <= 0.5
    pd.testing.assert_frame_equal(result.cases, sound.cases)


def test_without_landmarks_there_are_no_points_and_no_audit(sound):
    assert sound.points.empty
    assert sound.points.columns.tolist() == ["case", *head_points.POINT_COLUMNS]
    assert sound.audit.empty


def test_a_case_without_landmarks_is_left_out_with_a_warning(written, landmarks_at):
    head, *rows = marks_of(builders.heads())
    landmarks_at([head, *rows[:3], *rows[4:]])
    lost = builders.heads()[3].name
    result = with_landmarks(written)
    assert lost not in {*result.cases["case"], *result.points["case"], *result.looks["case"], *result.audit["case"]}
    assert len(result.cases) == len(result.looks) == len(result.points) == 11
    row = of_check(result, "no landmarks")
    assert row["severity"].tolist() == ["warn"]
    assert lost in row["found"].item()


def test_landmarks_of_an_excluded_case_are_left_out_with_it(written, landmarks_at):
    landmarks_at(marks_of(builders.heads()))
    result = with_landmarks(written, exclude=["001_HC"])
    assert "001_HC" not in {*result.cases["case"], *result.points["case"]}
    assert not result.findings["severity"].isin(["stop", "warn"]).any()


def test_exchanged_columns_stop_the_study(written, landmarks_at):
    head, *rows = marks_of(builders.heads())
    exchanged = head.replace("ofd", "x").replace("bpd", "ofd").replace("x_1_", "bpd_1_").replace("x_2_", "bpd_2_")
    landmarks_at([exchanged, *rows])
    result = with_landmarks(written)
    stops = result.findings[result.findings["severity"] == "stop"]
    assert {"BPD and OFD swapped", "BPD longer than OFD"} <= set(stops["check"])
    assert (result.audit["fit"] == "exchanged").sum() > 6


def test_the_other_layout_is_read_from_its_own_file(written, landmarks_at):
    landmarks_at([line.rsplit(",", 2)[0] for line in marks_of(builders.heads())], CHALLENGE_FILE)
    assert len(with_landmarks(written, "role_challenge").points) == 12
    with pytest.raises(ValueError, match=r"Head\.csv: missing; the multicentre landmarks are"):
        with_landmarks(written)


def test_landmarks_that_are_not_there_are_refused_with_how_to_get_them(written, landmarks_at):
    expected = r"data/raw/landmarks: no such folder; link your copy with 'make study STUDY=<name> LANDMARKS=<folder>'"
    with pytest.raises(ValueError, match=expected):
        with_landmarks(written)


def test_landmarks_of_none_of_the_images_are_refused_with_what_was_found(written, landmarks_at):
    landmarks_at([line.replace("_HC", "_UCL").replace("_2HC", "_2UCL") for line in marks_of(builders.heads())])
    with pytest.raises(ValueError, match="hc18: no case has landmarks:") as caught:
        with_landmarks(written)
    assert "12 of 12 cases (100%): 000_HC" in str(caught.value)
    assert "12 of 12 cases (100%): 000_UCL" in str(caught.value)


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
