import shutil

import numpy as np
import pytest

from lib import datasets
from lib.datasets import hc18
from lib.imaging import connected_parts
from lib.verification import verify
from tests import builders
from tests.builders import Head


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return builders.write_hc18(tmp_path_factory.mktemp("raw"), builders.heads(6))


@pytest.fixture
def folder(written, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(written, tmp_path / "hc18")


def found(folder, check, severity, exclude=()):
    """The one finding of a check after the whole verification."""
    findings = verify.check_dataset(datasets.DATASETS["hc18"], "hc18", folder, exclude=exclude).findings
    rows = findings[findings["check"] == check]
    assert len(rows) == 1, findings.to_string()
    assert rows["severity"].item() == severity
    return rows.iloc[0]


def edit_table(folder, change):
    path = folder / hc18.TABLE
    path.write_text(change(path.read_text()), encoding="utf-8")


def training_set(folder, name):
    return folder / "training_set" / f"{name}.png"


# A sound folder


def test_a_sound_folder_has_no_findings(written):
    _, findings = hc18.find_cases(written, [])
    assert findings == []


def test_cases_stand_in_order_of_examination_and_image(written):
    names = [case.name for case in hc18.find_cases(written, [])[0]]
    assert names == ["000_HC", "000_2HC", "001_HC", "002_HC", "003_HC", "004_HC"]


def test_the_examination_is_the_name_s_number(written):
    assert [case.subject for case in hc18.find_cases(written, [])[0]] == ["000", "000", "001", "002", "003", "004"]


def test_pixel_size_and_hc_are_those_of_the_csv(written):
    for case, head in zip(hc18.find_cases(written, [])[0], builders.heads(6)):
        assert case.spacing_mm == pytest.approx((head.spacing_mm, head.spacing_mm), abs=1e-6)
        assert case.reference_mm["hc"] == pytest.approx(head.hc_mm, abs=1e-3)


@pytest.mark.parametrize(
    ("hc", "stratum"), [(44.3, "hc0"), (100.0, "hc0"), (100.1, "hc1"), (174.0, "hc2"), (346.4, "hc5")]
)
def test_the_stratum_is_the_bin_of_hc(folder, hc, stratum):
    builders.write_hc18_table(folder, [f"{head.name}.png,0.1,{hc}" for head in builders.heads(6)])
    assert {case.stratum for case in hc18.find_cases(folder, [])[0]} == {stratum}


# Outlines


@pytest.mark.parametrize("angle_deg", [0, 35, 90, 140])
def test_an_outline_is_filled_to_the_ellipse_of_its_centre_line(tmp_path, angle_deg):
    head = Head("a", (150.3, 200.6), 220.0, 170.0, angle_deg, (300, 400))
    mask = hc18.read_mask([builders.save_png(tmp_path / "a.png", builders.outline_of(head))])
    assert mask.dtype == np.uint8
    differ = mask.astype(bool) != builders.region_of(head)
    assert differ.sum() < 0.02 * builders.perimeter(220, 170)  # pixel centres within 0.01 px of the edge


@pytest.mark.parametrize("move", [(-90, 0), (0, -150), (95, 0), (0, 145)], ids=["top", "left", "bottom", "right"])
def test_an_open_outline_at_the_frame_is_filled_by_its_ellipse(tmp_path, move):
    head = Head("a", (150 + move[0], 200 + move[1]), 150.0, 120.0, 30.0, (300, 400))
    outline = builders.outline_of(head)
    assert np.array_equal(connected_parts.fill_holes(outline > 0), outline > 0)  # it is open: nothing is enclosed
    mask = hc18.read_mask([builders.save_png(tmp_path / "a.png", outline)]).astype(bool)
    truth = builders.region_of(head)
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.998


def test_an_outline_with_other_values_than_0_and_255_is_refused_by_name(tmp_path):
    pixels = builders.outline_of(Head("a"))
    pixels[0, :2] = (1, 128)
    path = builders.save_png(tmp_path / "a.png", pixels)
    with pytest.raises(
        ValueError, match=r"a\.png: values \[0, 1, 128, 255\]; expected a mask of 0 and 255, or 0 and 1"
    ):
        hc18.read_mask([path])


def test_an_empty_annotation_is_refused_by_name(tmp_path):
    path = builders.save_png(tmp_path / "a.png", np.zeros((60, 90), np.uint8))
    with pytest.raises(ValueError, match=r"a\.png: no head outline: 0 points"):
        hc18.read_mask([path])


def test_a_straight_line_is_no_outline(tmp_path):
    pixels = np.zeros((60, 90), np.uint8)
    pixels[30, 10:80] = 255
    with pytest.raises(ValueError, match=r"a\.png: no head outline: .*on a line"):
        hc18.read_mask([builders.save_png(tmp_path / "a.png", pixels)])


# Bad folders


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no images such as training_set/000_HC\.png; expected HC18's layout"):
        hc18.find_cases(tmp_path, [])


def test_a_folder_of_other_images_is_refused(tmp_path):
    builders.save_png(tmp_path / "training_set" / "benign (1).png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="expected HC18's layout"):
        hc18.find_cases(tmp_path, [])


def test_a_missing_csv_is_refused(folder):
    (folder / hc18.TABLE).unlink()
    with pytest.raises(ValueError, match=rf"{hc18.TABLE}: missing; it holds HC18's pixel sizes"):
        hc18.find_cases(folder, [])


def test_wrong_columns_are_refused(folder):
    edit_table(folder, lambda text: text.replace("pixel size(mm)", "spacing"))
    with pytest.raises(ValueError, match=rf"{hc18.TABLE}: columns \['pixel size\(mm\)'\] are missing"):
        hc18.find_cases(folder, [])


# Bad rows


def test_a_decimal_comma_is_a_finding_with_row_column_and_hint(folder):
    lines = [f"{head.name}.png,{head.spacing_mm},{head.hc_mm}" for head in builders.heads(6)]
    builders.write_hc18_table(folder, [*lines[:2], '001_HC.png,"0,154",174.3', *lines[3:]])
    row = found(folder, "unreadable number", "stop")
    assert row["case"] == "001_HC"
    assert row["found"] == f'{hc18.TABLE}, row 4, column "pixel size(mm)": "0,154"'
    assert row["expected"] == "mm, 0.02 to 1 (a decimal point?)"
    assert not [each for each in hc18.find_cases(folder, [])[1] if each.check.name == "missing pixel size"]


def test_a_file_of_another_name_is_a_warning(folder):
    training_set(folder, "001_HC").with_name("copy of 001_HC.png").write_bytes(b"")
    row = found(folder, "unknown file", "warn")
    assert (row["case"], row["expected"]) == ("copy of 001_HC.png", "such as 000_HC.png")


@pytest.mark.parametrize("text", ["", "0.019", "1.01"])
def test_a_pixel_size_that_is_no_plausible_number_stops(folder, text):
    lines = [f"{head.name}.png,{head.spacing_mm},{head.hc_mm}" for head in builders.heads(6)]
    builders.write_hc18_table(folder, [f"000_HC.png,{text},174.0", *lines[1:]])
    assert found(folder, "unreadable number", "stop")["expected"] == "mm, 0.02 to 1"


@pytest.mark.parametrize("text", ["", "19.9", "450.1"])
def test_an_hc_that_is_no_plausible_number_stops(folder, text):
    lines = [f"{head.name}.png,{head.spacing_mm},{head.hc_mm}" for head in builders.heads(6)]
    builders.write_hc18_table(folder, [f"000_HC.png,0.9,{text}", *lines[1:]])
    row = found(folder, "unreadable number", "stop")
    assert row["expected"] == "mm, 20 to 450"
    assert 'column "head circumference (mm)"' in row["found"]


def test_two_rows_for_one_image_stop(folder):
    edit_table(folder, lambda text: text + "002_HC.png,0.1,174.0\n")
    row = found(folder, "two rows for one image", "stop")
    assert (row["case"], row["found"]) == ("002_HC", f"{hc18.TABLE}, row 5 and row 8")


def test_a_row_without_a_file_is_a_warning(folder):
    edit_table(folder, lambda text: text + "805_HC.png,0.1,174.0\n")
    row = found(folder, "row without a file", "warn")
    assert row["case"] == "805_HC"


def test_a_case_without_a_row_is_a_warning_and_has_no_millimetres(folder):
    edit_table(folder, lambda text: "\n".join(line for line in text.splitlines() if "003_HC" not in line) + "\n")
    row = found(folder, "missing pixel size", "warn")
    assert row["case"] == "003_HC"
    case = next(case for case in hc18.find_cases(folder, [])[0] if case.name == "003_HC")
    assert case.spacing_mm is None
    assert case.reference_mm == {}


# Bad files


def test_a_missing_annotation_stops(folder):
    training_set(folder, "001_HC_Annotation").unlink()
    row = found(folder, "missing annotation", "stop")
    assert (row["case"], row["expected"]) == ("001_HC", "001_HC_Annotation.png")


def test_a_missing_image_stops(folder):
    training_set(folder, "001_HC").unlink()
    findings = verify.check_dataset(datasets.DATASETS["hc18"], "hc18", folder).findings
    row = findings[findings["check"] == "missing image"].iloc[0]
    assert (row["severity"], row["case"], row["expected"]) == ("stop", "001_HC", "001_HC.png")


@pytest.mark.parametrize("name", ["001_HC", "001_HC_Annotation"])
def test_a_truncated_png_stops_and_names_the_file(folder, name):
    path = training_set(folder, name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    row = found(folder, "unreadable", "stop")
    assert row["case"] == "001_HC"
    assert str(path) in row["found"]


@pytest.mark.parametrize("name", ["001_HC", "001_HC_Annotation"])
def test_a_text_file_named_png_stops_and_names_the_file(folder, name):
    training_set(folder, name).write_text("not an image")
    assert f"{name}.png: cannot be read as an image" in found(folder, "unreadable", "stop")["found"]


def test_an_image_and_a_mask_of_different_size_stop(folder):
    builders.save_png(training_set(folder, "001_HC"), np.zeros((60, 80), np.uint8))
    row = found(folder, "size mismatch", "stop")
    assert row["found"] == "image (60, 80), mask (60, 90)"


def test_an_empty_annotation_stops(folder):
    builders.save_png(training_set(folder, "001_HC_Annotation"), np.zeros((60, 90), np.uint8))
    assert "no head outline" in found(folder, "unreadable", "stop")["found"]


def test_other_values_than_0_and_255_stop(folder):
    builders.save_png(training_set(folder, "001_HC_Annotation"), builders.outline_of(Head("a")) // 2)
    assert "values [0, 127]" in found(folder, "unreadable", "stop")["found"]
