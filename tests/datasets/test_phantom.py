import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, special

from lib import biometry, files
from lib.cases import read_grey
from lib.datasets import phantom

SUBJECTS, SEED = 8, 3


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "phantom"
    phantom.write(folder, SUBJECTS, SEED)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(written, tmp_path / "phantom")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def moment_axes(region):
    """Full axes (long, short) of a filled ellipse: four standard deviations of its points."""
    return 4 * np.sqrt(np.linalg.eigvalsh(np.cov(np.argwhere(region).T)))[::-1]


def first(folder):
    return phantom.find_cases(folder)[0][0]


def edit_table(folder, change):
    path = folder / phantom.TABLE
    path.write_bytes(change(path.read_text(encoding="utf-8-sig")).encode("utf-8-sig"))


# Truth


def test_the_head_s_area_is_that_of_its_ellipse_within_pixel_error(written):
    for case in phantom.find_cases(written)[0]:
        area = (phantom.read_mask(case.mask) > 0).sum() * case.spacing_mm[0] ** 2
        exact = np.pi / 4 * case.reference_mm["bpd"] * case.reference_mm["ofd"]
        assert area == pytest.approx(exact, rel=1.5e-3), case.name  # about a tenth of the outline's pixels


def test_moments_of_the_mask_give_bpd_ofd_and_hc_within_half_a_pixel(written):
    for case in phantom.find_cases(written)[0]:
        pixel = case.spacing_mm[0]
        ofd, bpd = moment_axes(phantom.read_mask(case.mask) > 0) * pixel
        assert ofd == pytest.approx(case.reference_mm["ofd"], abs=0.5 * pixel), case.name
        assert bpd == pytest.approx(case.reference_mm["bpd"], abs=0.5 * pixel), case.name
        hc = 2 * ofd * special.ellipe(1 - (bpd / ofd) ** 2)
        assert hc == pytest.approx(case.reference_mm["hc"], abs=0.5 * pixel), case.name


def test_the_project_s_own_biometry_finds_the_truth_in_the_mask(written):
    case = first(written)
    ellipse = biometry.fit_ellipse(biometry.edge_points(phantom.read_mask(case.mask) > 0))
    found = np.array([ellipse.minor, ellipse.major]) * case.spacing_mm[0]
    assert found == pytest.approx([case.reference_mm["bpd"], case.reference_mm["ofd"]], abs=0.5 * case.spacing_mm[0])


def test_areas_of_structures_are_those_of_the_mask_and_0_where_absent():
    truths = []
    for subject in range(1, 13):
        _, mask, truth = phantom.draw_frame(SEED, subject, 1)
        for index, name in ((2, "csp_mm2"), (3, "lv_mm2")):
            assert truth[name] == pytest.approx((mask == index).sum() * truth["spacing_mm"] ** 2, abs=1e-5)
        truths.append((truth["csp_mm2"] > 0, truth["lv_mm2"] > 0))
    assert all(0 < sum(column) < 12 for column in zip(*truths))  # some present, some absent


def test_structures_are_at_least_ten_pixels_across_and_lie_inside_the_head():
    for subject in range(1, 61):
        _, mask, _ = phantom.draw_frame(SEED, subject, 1)
        for index in (2, 3):
            parts, count = ndimage.label(mask == index)
            for part in range(1, count + 1):
                assert moment_axes(parts == part)[1] >= 10
                assert mask[ndimage.binary_dilation(parts == part)].min() > 0


def test_heads_lie_inside_the_frame_mostly_level(written):
    for case in phantom.find_cases(written)[0]:
        head = phantom.read_mask(case.mask) > 0
        frame = np.concatenate([*head[[0, -1]], *head[:, [0, -1]].T])
        assert not frame.any(), case.name
        ellipse = biometry.fit_ellipse(biometry.edge_points(head))
        assert min(ellipse.angle_deg, 180 - ellipse.angle_deg) < 26


# Images


def otsu_dice(image, head):
    """Whole head by Otsu's threshold, filled holes and an ellipse around the largest part."""
    _, bright = cv2.threshold(image, 0, 1, cv2.THRESH_OTSU)
    points = biometry.edge_points(ndimage.binary_fill_holes(bright))
    found = biometry.fill_ellipse(biometry.fit_ellipse(points), head.shape)
    return 2 * (found & head).sum() / (found.sum() + head.sum())


def test_otsu_s_threshold_does_not_solve_the_phantom():
    frames = [phantom.draw_frame(12, subject, 1) for subject in range(1, 13)]
    assert np.mean([otsu_dice(image, mask > 0) for image, mask, _ in frames]) < 0.80


def test_bone_is_brighter_than_brain_and_brain_brighter_than_the_cavum():
    for subject in range(1, 13):
        image, mask, truth = phantom.draw_frame(SEED, subject, 1)
        depth_px = ndimage.distance_transform_edt(mask > 0)
        middle = ndimage.center_of_mass(mask > 0)[1]
        level = np.abs(np.arange(mask.shape[1]) - middle)[None] < 30  # where the beam meets the bone at right angles
        bone = image[(depth_px > 2) & (depth_px < 2 / truth["spacing_mm"]) & level].mean()
        brain = image[(mask == 1) & (depth_px > 15)].mean()
        assert bone > brain + 20, subject
        if (mask == 2).any():
            assert np.median(image[ndimage.binary_erosion(mask == 2, iterations=3)]) < brain, subject


# Randomness


def test_one_seed_gives_the_same_bytes(written, tmp_path):
    phantom.write(tmp_path / "again", SUBJECTS, SEED)
    assert contents(tmp_path / "again") == contents(written)


def test_another_number_of_subjects_leaves_the_common_images_equal(written, tmp_path):
    phantom.write(tmp_path / "fewer", 3, SEED)
    whole, fewer = contents(written), contents(tmp_path / "fewer")
    images = [path for path in fewer if path.suffix == ".png"]
    assert len(images) >= 6
    assert all(fewer[path] == whole[path] for path in images)


def test_another_seed_gives_other_images():
    one, other = (phantom.draw_frame(seed, 1, 1)[0] for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_frames_of_one_subject_show_one_head_in_another_place():
    frames = [phantom.draw_frame(SEED, 5, frame) for frame in (1, 2)]
    sizes = [{name: truth[name] for name in ("ga_weeks", "bpd_mm", "ofd_mm", "hc_mm")} for _, _, truth in frames]
    assert sizes[0] == sizes[1]
    assert not np.array_equal(frames[0][1], frames[1][1])


# Layout


def test_the_folder_has_the_published_layout(written):
    name = f"{first(written).name}.png"
    assert np.asarray(read_grey(written / "Trans-thalamic/Trans-thalamic" / name)).shape == (270, 400)
    segmentation = written / "Trans-thalamic/Trans-thalamic-Segmentation"
    assert (segmentation / "SegmentationClass" / name).is_file()
    assert "Brain:255,0,0::\nCSP:0,255,0::\nLV:0,0,255::" in (segmentation / "labelmap.txt").read_text()
    table = (written / "Trans-thalamic/Trans-Thalamic-Pixel-Size.csv").read_bytes()
    assert table.startswith(b"\xef\xbb\xbfLabel,Pixel  in mm\n" + name.encode())


def test_cases_come_back_as_they_were_written(written):
    found, findings = phantom.find_cases(written)
    truth = pd.read_csv(written / "truth.csv", dtype={"subject": str}).set_index("case")
    assert findings == []
    assert [case.name for case in found] == list(truth.index)
    assert sorted({case.subject for case in found}) == [f"{number:05d}" for number in range(1, SUBJECTS + 1)]
    for case in found:
        row = truth.loc[case.name]
        assert case.reference_mm == {"bpd": row.bpd_mm, "ofd": row.ofd_mm, "hc": row.hc_mm}
        assert case.stratum.endswith("csp") or case.stratum.endswith("lv") or row.csp_mm2 + row.lv_mm2 == 0
    _, mask, drawn = phantom.draw_frame(SEED, 1, 1)
    assert found[0].spacing_mm == (drawn["spacing_mm"], drawn["spacing_mm"])
    assert np.array_equal(phantom.read_mask(found[0].mask), mask)


def test_strata_are_a_size_bin_and_the_structures_shown():
    small = {"hc_mm": 150.0, "csp_mm2": 3.0, "lv_mm2": 9.0}
    assert phantom._stratum(small) == "hc0 csp lv"
    assert phantom._stratum(small | {"hc_mm": 300.0, "csp_mm2": 0.0}) == "hc2 lv"


def test_a_colour_without_a_class_is_refused_by_file_and_colour(folder):
    path = first(folder).mask
    pixels = cv2.imread(str(path))
    pixels[5, 6] = (3, 2, 1)  # blue, green, red
    cv2.imwrite(str(path), pixels)
    with pytest.raises(ValueError, match=rf"{path.name}: unknown colours: \(1, 2, 3\) in 1 pixels"):
        phantom.read_mask(path)


# Faults


def test_an_image_without_a_mask_stops_and_is_no_case(folder):
    case = first(folder)
    case.mask.unlink()
    found, findings = phantom.find_cases(folder)
    assert [(f.severity, f.check, f.case) for f in findings] == [("stop", "missing mask", case.name)]
    assert case.name not in [other.name for other in found]


def test_a_mask_without_an_image_stops(folder):
    case = first(folder)
    case.image.unlink()
    _, findings = phantom.find_cases(folder)
    assert [(f.severity, f.check, f.case) for f in findings] == [("stop", "missing image", case.name)]


def test_a_missing_pixel_size_is_a_warning_and_the_case_has_no_millimetres(folder):
    name = first(folder).name
    edit_table(folder, lambda text: "\n".join(line for line in text.split("\n") if name not in line))
    found, findings = phantom.find_cases(folder)
    assert [(f.severity, f.check, f.case) for f in findings] == [("warn", "missing pixel size", name)]
    assert found[0].name == name
    assert found[0].spacing_mm is None


def test_a_row_without_a_file_is_a_warning(folder):
    edit_table(folder, lambda text: text + "Patient00077_Plane3_1_of_1.png,0.2\n")
    found, findings = phantom.find_cases(folder)
    expected = [("warn", "row without a file", "Patient00077_Plane3_1_of_1")]
    assert [(f.severity, f.check, f.case) for f in findings] == expected
    assert "Patient00077_Plane3_1_of_1" not in [case.name for case in found]


def test_two_rows_for_one_image_stop_and_it_is_no_case(folder):
    case = first(folder)
    edit_table(folder, lambda text: text + f"{case.name}.png,0.2\n")
    found, findings = phantom.find_cases(folder)
    assert [(f.severity, f.check, f.case) for f in findings] == [("stop", "two rows for one image", case.name)]
    assert case.name not in [other.name for other in found]


@pytest.mark.parametrize("text", ["", "nan", "0.01", "1.5", "-0.2", "0.2 mm"])
def test_a_pixel_size_that_is_no_number_or_out_of_range_stops(folder, text):
    case = first(folder)
    edit_table(folder, lambda table: table.replace(f"{case.name}.png,{case.spacing_mm[0]}", f"{case.name}.png,{text}"))
    found, findings = phantom.find_cases(folder)
    assert [(f.severity, f.check, f.case) for f in findings] == [("stop", "unreadable number", case.name)]
    assert findings[0].found == f'Trans-Thalamic-Pixel-Size.csv, row 2, column "Pixel  in mm": "{text}"'
    assert findings[0].expected == "mm, 0.02 to 1"
    assert case.name not in [other.name for other in found]


def test_a_decimal_comma_is_named_in_the_finding(folder):
    case = first(folder)
    edit_table(folder, lambda table: table.replace(f"png,{case.spacing_mm[0]}", 'png,"0,2"', 1))
    assert phantom.find_cases(folder)[1][0].expected == "mm, 0.02 to 1 (a decimal point?)"


def test_a_name_without_a_patient_stops(folder):
    case = first(folder)
    for path in (case.image, case.mask):
        path.rename(path.with_name("copy.png"))
    _, findings = phantom.find_cases(folder)
    assert ("stop", "unreadable name", "copy") in [(f.severity, f.check, f.case) for f in findings]


def test_an_image_without_truth_stops(folder):
    truth = pd.read_csv(folder / "truth.csv", dtype=str)
    truth.iloc[1:].to_csv(folder / "truth.csv", index=False)
    _, findings = phantom.find_cases(folder)
    assert [(f.severity, f.check, f.case) for f in findings] == [("stop", "missing truth", truth["case"][0])]


def test_a_missing_an_empty_and_a_foreign_folder_are_refused_with_what_was_found(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "training_set").mkdir(parents=True)
    for name, held in (("missing", "no such folder"), ("empty", r"\[\]"), ("other", r"\['training_set'\]")):
        message = rf"{name}: found {held}; expected PNG files such as Trans-thalamic/Trans-thalamic/Patient00001_Plane3"
        with pytest.raises(ValueError, match=message):
            phantom.find_cases(tmp_path / name)


def test_a_missing_table_of_pixel_sizes_and_other_columns_are_refused(folder):
    edit_table(folder, lambda text: text.replace("Pixel  in mm", "mm"))
    with pytest.raises(
        ValueError, match=r"Pixel-Size.csv: columns \['Label', 'mm'\]; expected \['Label', 'Pixel  in mm'\]"
    ):
        phantom.find_cases(folder)
    (folder / phantom.TABLE).unlink()
    with pytest.raises(ValueError, match=r"Pixel-Size.csv: missing; expected a CSV with columns"):
        phantom.find_cases(folder)


def test_two_rows_of_truth_for_one_image_are_refused(folder):
    truth = pd.read_csv(folder / "truth.csv", dtype=str)
    pd.concat([truth, truth[:1]]).to_csv(folder / "truth.csv", index=False)
    with pytest.raises(ValueError, match=r"truth.csv: two rows for \['Patient00001_Plane3_1_of_\d'\]"):
        phantom.find_cases(folder)


# Writing


def test_an_interrupted_write_leaves_no_folder_and_nothing_beside_it(tmp_path, monkeypatch):
    draw = phantom.draw_frame

    def interrupted(seed, subject, frame):
        if subject == 3:
            raise KeyboardInterrupt
        return draw(seed, subject, frame)

    monkeypatch.setattr(phantom, "draw_frame", interrupted)
    with pytest.raises(KeyboardInterrupt):
        phantom.write(tmp_path / "phantom", 5, 1)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_an_interrupted_write_leaves_the_old_folder_as_it_was(folder, monkeypatch):
    before = contents(folder)
    monkeypatch.setattr(phantom, "draw_frame", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        phantom.write(folder, 5, 1)
    assert contents(folder) == before
    assert [path for path in folder.parent.iterdir() if path.suffix != ".lock"] == [folder]


def test_after_a_kill_the_folder_is_absent_and_the_next_write_is_whole(tmp_path):
    target = tmp_path / "phantom"
    code = f"from pathlib import Path; from lib.datasets import phantom; phantom.write(Path({str(target)!r}), 5000, 1)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=files.ROOT)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.png")) and time.monotonic() < deadline:
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.rglob("*.png"))
    assert not target.exists()
    phantom.write(target, 1, 1)
    assert phantom.find_cases(target)[1] == []


def test_a_folder_that_the_phantom_did_not_write_is_never_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    for act in (lambda: phantom.write(tmp_path, 1, 1), lambda: phantom.write_demo(tmp_path)):
        with pytest.raises(ValueError, match=r"without phantom.json, so the phantom did not write it; move it away"):
            act()
    assert contents(tmp_path) == {(tmp_path / "thesis.txt").relative_to(tmp_path): b"three years of work"}


@pytest.mark.parametrize("subjects", [0, -1, 100000])
def test_a_number_of_subjects_that_names_cannot_hold_is_refused(tmp_path, subjects):
    with pytest.raises(ValueError, match=f"subjects = {subjects}   not allowed; 1 to 99999"):
        phantom.write(tmp_path / "phantom", subjects, 1)


def test_the_demo_is_written_once_and_left_alone(folder, monkeypatch):
    monkeypatch.setattr(phantom, "write", lambda *_: pytest.fail("written again"))
    phantom.write_demo(folder)


def test_the_demo_of_other_code_is_written_again_with_its_own_size_and_seed(folder, written):
    record = json.loads((folder / "phantom.json").read_text())
    assert (record["subjects"], record["seed"]) == (SUBJECTS, SEED)
    record["code"]["lib.ultrasound"] = "0" * 64
    (folder / "phantom.json").write_text(json.dumps(record))
    first(folder).image.write_bytes(b"an image of other code")
    phantom.write_demo(folder)
    assert contents(folder) == contents(written)


def test_an_absent_demo_is_written_in_its_own_size(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(phantom, "write", lambda *arguments: asked.append(arguments))
    phantom.write_demo(tmp_path / "phantom")
    assert asked == [(tmp_path / "phantom", 150, 12)]
    shares = np.array(phantom.FRAME_SHARES)
    assert 150 * shares @ [1, 2, 3] == pytest.approx(240)


def test_a_link_is_not_replaced(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder)
    phantom.write_demo(link)  # up to date: nothing to do
    with pytest.raises(ValueError, match="is a link"):
        phantom.write(link, 1, 1)
