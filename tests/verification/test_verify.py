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
from lib.study import files
from lib.verification.verify import check_dataset
from tests import builders
from tests.builders import Head, save_png
from tests.builders_busi import SHAPE, lesion, texture, verify_busi, write_busi

HC18, LGG = datasets.DATASETS["hc18"], datasets.DATASETS["lgg"]
HEADS, PATIENTS = builders.heads(), [patient.name for patient in builders.PATIENTS]


@pytest.fixture
def folder(written, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(written, tmp_path / "hc18")


def verify(folder, exclude=(), correlation=0.99, **how):
    return check_dataset(HC18, "hc18", folder, exclude=exclude, correlation=correlation, **how)


def of_check(result, check):
    """Severity, case and text of the findings of a check."""
    rows = result.findings[result.findings["check"] == check]
    return rows[["severity", "case", "found"]].values.tolist()


def stops(result):
    return result.findings.loc[result.findings["severity"] == "stop", ["case", "check"]].values.tolist()


def copy_case(folder, source, target, change=lambda pixels: pixels):
    """Replaces the image and outline of a case by those of another."""
    for suffix in ("", "_Annotation"):
        pixels = image_files.read_pixels(folder / "training_set" / f"{source}{suffix}.png")
        save_png(folder / "training_set" / f"{target}{suffix}.png", pixels if suffix else change(pixels))


def write_head(folder, head, image):
    save_png(folder / "training_set" / f"{head.name}.png", image)
    save_png(folder / "training_set" / f"{head.name}_Annotation.png", builders.outline_of(head))


def always_in_one_fold(result, one, other):
    """Whether two cases share their fold with every seed."""
    folds = [splits.assign_folds(result.cases, 3, seed).set_index("case")["fold"] for seed in range(5)]
    return all(each[one] == each[other] for each in folds)


def test_every_case_of_a_sound_data_set_is_in_the_manifest_without_a_finding(sound):
    assert sound.findings.empty
    assert sound.cases.columns.tolist() == cases.CASE_COLUMNS
    assert sound.cases[["case", "height", "width"]].values.tolist() == [[head.name, *head.shape] for head in HEADS]
    assert (sound.cases["slices"] == 1).all()
    assert sound.points.columns.tolist() == ["case", *head_points.POINT_COLUMNS]
    assert (len(sound.points), len(sound.audit)) == (0, 0)  # the study uses no landmarks


def test_hc_area_and_means_are_those_of_the_drawn_head(sound):
    for seed, (head, row) in enumerate(zip(HEADS, sound.measured.to_dict("records"))):
        assert row["mask_hc_mm"] == pytest.approx(head.hc_mm, abs=0.4 * head.spacing_mm), head.name
        region, image = builders.region_of(head), builders.image_of(head, seed)
        expected = [region.mean(), image[region].mean(), image[~region].mean()]
        assert [row[n] for n in ("area_fraction", "mean_inside", "mean_outside")] == pytest.approx(expected, rel=1e-2)
        assert row["border_gap"] > 0


def test_an_hc_that_disagrees_with_its_annotation_is_a_warning_or_a_stop_and_a_cut_head_a_note(folder):
    published = {head.name: head.hc_mm + 3 * (head.name == "002_HC") for head in HEADS}
    builders.write_hc18_table(folder, [f"{h.name}.png,{h.spacing_mm},{published[h.name]}" for h in HEADS])
    cut = Head("001_HC", (12.0, 45.0), 56.0, 44.0, 10.0)
    write_head(folder, cut, builders.image_of(cut, 99))
    result = verify(folder)
    differs = [row[:2] for row in of_check(result, "HC differs from its annotation")]
    assert differs == [["stop", "001_HC"], ["warn", "002_HC"]]
    assert [row[:2] for row in of_check(result, "touches the frame")] == [["note", "001_HC"]]


UNREADABLE = {
    "truncated": (lambda path, content: path.write_bytes(content[: len(content) // 2]), ""),
    "link to itself": (lambda path, _: path.symlink_to(path), ""),
    "folder": (lambda path, _: path.mkdir(), ""),
    "16 bits": (lambda path, _: Image.fromarray(np.full(SHAPE, 3000, np.uint16)).save(path), "16 bits per channel"),
}


@pytest.mark.parametrize("name", ["benign (1).png", "benign (1)_mask.png"])
@pytest.mark.parametrize(("spoil", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_file_stops_the_study_and_is_named(tmp_path, spoil, message, name):
    folder = write_busi(tmp_path, benign=[(texture(0), lesion()), (texture(1), lesion())])
    path = folder / "benign" / name
    content = path.read_bytes()
    path.unlink()
    spoil(path, content)
    result = verify_busi(folder)
    assert stops(result) == [["benign (1)", "unreadable"]]
    found = of_check(result, "unreadable")[0][2]
    assert str(path) in found
    assert message in found
    assert result.cases["case"].tolist() == result.measured["case"].tolist() == ["benign (2)"]


def test_the_colours_of_masks_are_counted_as_by_pillow(tmp_path):
    datasets.DATASETS["phantom_brain"].phantom.write(tmp_path, 3, 1)
    pixels, files_with = Counter(), Counter()
    for path in tmp_path.rglob("SegmentationClass/*.png"):
        counts = {" ".join(map(str, colour)): count for count, colour in Image.open(path).getcolors()}
        pixels.update(counts)
        files_with.update(counts.keys())
    phantom, lines = datasets.DATASETS["phantom_brain"], []
    table = check_dataset(phantom, "phantom_brain", tmp_path, ["trans-thalamic"], live=lines.append).colours
    assert lines[-1] == ""  # progress, cleared at the end
    assert table.set_index("colour").to_dict() == {"pixels": pixels, "cases": files_with}
    assert table["pixels"].is_monotonic_decreasing


def test_a_lossy_mask_is_a_warning_with_its_colours_and_one_of_0_and_1_a_note(tmp_path):
    folder = write_busi(tmp_path, benign=[(texture(0), lesion(13, 21, 22, 19)), (texture(1), lesion() // 255)])
    lossy = folder / "benign" / "benign (1)_mask.jpg"
    Image.open(lossy.with_suffix(".png")).save(lossy)
    lossy.with_suffix(".png").unlink()
    shades = len(np.unique(np.asarray(Image.open(lossy))))
    assert shades > 2
    result = verify_busi(folder)
    assert of_check(result, "lossy mask") == [["warn", "benign (1)", f"{lossy.name}: {shades} colours"]]
    assert of_check(result, "0 and 1 instead of 0 and 255") == [["note", "benign (2)", "benign (2)_mask.png"]]
    assert result.measured["area_fraction"].tolist()[1] == 400 / 4800


@pytest.mark.parametrize("correlation", [0.99, 1.0])
def test_equal_pixels_also_of_uniform_images_join_subjects_and_are_a_note_within_one(folder, correlation):
    copy_case(folder, "000_HC", "000_2HC")
    copy_case(folder, "002_HC", "003_HC")
    for name in ("001_HC", "005_HC"):
        write_head(folder, Head(name), np.full((60, 90), 9, np.uint8))
    result = verify(folder, correlation=correlation)
    pairs = [["warn", "001_HC", "005_HC: equal pixels"], ["warn", "002_HC", "003_HC: equal pixels"]]
    assert of_check(result, "duplicate across subjects") == pairs
    assert of_check(result, "duplicate within a subject") == [["note", "000_HC", "000_2HC: equal pixels"]]
    assert always_in_one_fold(result, "001_HC", "005_HC")


def test_a_chain_of_duplicates_and_near_duplicates_is_one_fold_group(folder):
    copy_case(folder, "001_HC", "005_HC")
    copy_case(folder, "001_HC", "003_HC", lambda pixels: np.clip(pixels.astype(int) + 3, 0, 255).astype(np.uint8))
    result = verify(folder)
    found = sorted(row[2].split()[:2] for row in of_check(result, "duplicate across subjects"))
    assert found == [["003_HC:", "correlation"], ["005_HC:", "correlation"], ["005_HC:", "equal"]]
    assert set(result.cases.set_index("case").loc[["001_HC", "003_HC", "005_HC"], "fold_group"]) == {"001"}


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
def test_a_changed_copy_in_another_subject_is_joined_and_no_other_image_is(tmp_path, change):
    images = [*map(texture, range(6)), change(texture(2))]
    folder = write_busi(tmp_path, benign=[(image, lesion(shape=image.shape)) for image in images])
    result = verify_busi(folder, correlation=0.3)
    ((severity, case, found),) = of_check(result, "duplicate across subjects")
    assert (severity, case) == ("warn", "benign (3)")
    assert re.fullmatch(r"benign \(7\): correlation [01]\.\d{3}", found)
    groups = result.cases.set_index("case")["fold_group"].to_dict()
    assert groups == {name: name for name in groups} | {"benign (7)": "benign (3)"}
    assert always_in_one_fold(result, "benign (3)", "benign (7)")


def test_a_row_of_the_manifest_is_a_patient_with_the_number_and_distance_of_slices(verified_patients):
    table = verified_patients.cases
    assert table.columns.tolist() == cases.CASE_COLUMNS
    assert table["case"].tolist() == PATIENTS
    assert table["slices"].tolist() == [5, 4, 5, 6]
    assert table[["height", "width"]].eq(32).all(axis=None)
    assert table["subject"].tolist() == [name[:12] for name in PATIENTS]
    assert table["stratum"].tolist() == ["CS", "CS", "DU", "HT"]
    spacing = table[["spacing_slice_mm", "spacing_row_mm", "spacing_col_mm"]]
    assert spacing.dropna().values.tolist() == [[4.5, 0.5, 0.6], [6, 1, 1]]
    assert (table["image"] == table["mask"]).all()
    findings = verified_patients.findings[verified_patients.findings["check"] != "missing pixel size"]
    assert findings[["severity", "check", "case"]].values.tolist() == [
        ["warn", "lesion in an end slice", PATIENTS[2]],
        ["note", "no lesion", PATIENTS[1]],
    ]


def test_a_patient_s_copy_under_another_name_is_joined(patients, tmp_path):
    folder = shutil.copytree(patients, tmp_path / "lgg") / "kaggle_3m"
    source, copy = PATIENTS[0], "TCGA_HT_0009_20000101"
    (folder / copy).mkdir()
    for path in (folder / source).iterdir():
        shutil.copy(path, folder / copy / path.name.replace(source, copy))
    result = check_dataset(LGG, "lgg", folder)
    assert of_check(result, "duplicate across subjects") == [["warn", source, f"{copy}: equal pixels"]]
    assert set(result.cases.set_index("case").loc[[source, copy], "fold_group"]) == {"TCGA_CS_0001"}


def endpoints_of(head):
    return head_points.axis_endpoints(head.centre, head.major, head.minor, head.angle_deg)


def landmark_lines(drawn):
    """The published table of the drawn heads' axes: x before y, whole pixels."""
    lines = ["image_name,ofd_1_x,ofd_1_y,ofd_2_x,ofd_2_y,bpd_1_x,bpd_1_y,bpd_2_x,bpd_2_y,px_to_mm_rate,Split"]
    for head in drawn:
        points = ",".join(f"{col:.0f},{row:.0f}" for row, col in np.rint(endpoints_of(head)))
        lines.append(f"{head.name}.png,{points},{head.spacing_mm:.6f},Train")
    return lines


@pytest.fixture
def landmarks_at(tmp_path, monkeypatch):
    """Writes a table of landmarks to data/raw/landmarks."""
    real = files.raw_folder
    monkeypatch.setattr(files, "raw_folder", lambda name: tmp_path / name if name == "landmarks" else real(name))

    def write(lines, name="multicentre/HC18/Head.csv"):
        files.write_text(tmp_path / "landmarks" / name, "\n".join(lines) + "\n")

    return write


def test_the_landmarks_of_a_study_are_audited_against_the_outlines(written, landmarks_at, sound):
    landmarks_at(landmark_lines(HEADS))
    result = verify(written, layout="multicentre")
    assert stops(result) == []
    assert result.audit["case"].tolist() == result.points["case"].tolist() == result.cases["case"].tolist()
    assert (result.audit["fit"] == "as named").all()
    assert result.points.columns.tolist() == ["case", *head_points.POINT_COLUMNS]
    points = head_points.as_arrays(result.points, result.cases["case"].tolist())
    assert np.abs(points - np.array([endpoints_of(head) for head in HEADS])).max() <= 0.5
    pd.testing.assert_frame_equal(result.cases, sound.cases)


def test_a_case_without_landmarks_is_left_out_with_a_warning_and_an_excluded_one_without(written, landmarks_at):
    header, *rows = landmark_lines(HEADS)
    landmarks_at([header, *rows[:3], *rows[4:]])
    missing, kept = HEADS[3].name, [head.name for head in HEADS if head.name not in (HEADS[3].name, "001_HC")]
    result = verify(written, exclude=["001_HC"], layout="multicentre")
    for table in (result.cases, result.measured, result.points, result.audit):
        assert table["case"].tolist() == kept
    ((severity, _, found),) = of_check(result, "no landmarks")
    assert severity == "warn"
    assert missing in found
    assert not result.findings["severity"].eq("stop").any()


def test_missing_landmarks_and_those_of_other_images_are_refused(written, landmarks_at):
    with pytest.raises(ValueError, match=r"data/raw/landmarks: no such folder; .*LANDMARKS=<folder>"):
        verify(written, layout="multicentre")
    landmarks_at([line.rsplit(",", 2)[0] for line in landmark_lines(HEADS)], CHALLENGE_FILE)
    assert len(verify(written, layout="role_challenge").points) == 12
    with pytest.raises(ValueError, match=r"Head\.csv: missing; "):
        verify(written, layout="multicentre")
    landmarks_at([line.replace("_HC", "_UCL").replace("_2HC", "_2UCL") for line in landmark_lines(HEADS)])
    expected = r"hc18: no case has landmarks(.|\n)*12 of 12 cases \(100%\): 000_HC(.|\n)*\(100%\): 000_UCL"
    with pytest.raises(ValueError, match=expected):
        verify(written, layout="multicentre")


def test_an_excluded_case_is_a_note_with_its_finding_and_an_unknown_one_is_refused(folder):
    (folder / "training_set" / "001_HC_Annotation.png").unlink()
    (folder / "training_set" / "002_HC.png").write_text("no image")
    result = verify(folder, exclude=["001_HC", "002_HC", "003_HC"])
    assert result.findings[["severity", "check", "case"]].values.tolist() == [
        ["note", "excluded", "002_HC"],
        ["note", "excluded", "003_HC"],
        ["note", "excluded: missing annotation", "001_HC"],
    ]
    assert result.cases["case"].tolist() == [h.name for h in HEADS if h.name not in ("001_HC", "002_HC", "003_HC")]
    with pytest.raises(ValueError, match=r"exclude = \['999_HC'\]   no such cases in"):
        verify(folder, exclude=["001_HC", "999_HC"])
