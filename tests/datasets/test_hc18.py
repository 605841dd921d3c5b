import shutil

import numpy as np
import pytest

from lib import datasets
from lib.datasets import hc18
from lib.imaging import connected_parts
from lib.verification import verify
from tests.builders import Head, heads, outline_of, perimeter, region_of, save_png, write_hc18, write_hc18_table

HEADS = heads(6)
LINES = {head.name: f"{head.name}.png,{head.spacing_mm},{head.hc_mm}" for head in HEADS}
EMPTY = np.zeros((60, 90), np.uint8)
LINE = np.pad(np.full((1, 70), 255, np.uint8), ((30, 29), (10, 10)))
TABLE = hc18.TABLE
SIZE, HC = "pixel size(mm)", "head circumference (mm)"
UNREADABLE = ("stop", "unreadable number", "000_HC")
SOUND = outline_of(Head("a"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_hc18(tmp_path_factory.mktemp("raw"), HEADS)


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "hc18")


def test_a_sound_folder_gives_cases_in_order_with_pixel_size_and_hc_of_the_csv(written):
    cases, findings = hc18.find_cases(written, [])
    assert findings == []
    assert [case.name for case in cases] == ["000_HC", "000_2HC", "001_HC", "002_HC", "003_HC", "004_HC"]
    assert [case.subject for case in cases] == ["000", "000", "001", "002", "003", "004"]
    for case, head in zip(cases, HEADS):
        assert case.spacing_mm == pytest.approx((head.spacing_mm, head.spacing_mm), abs=1e-6)
        assert case.reference_mm["hc"] == pytest.approx(head.hc_mm, abs=1e-3)


@pytest.mark.parametrize(
    ("hc", "stratum"), [(44.3, "hc0"), (100.0, "hc0"), (100.1, "hc1"), (174.0, "hc2"), (346.4, "hc5")]
)
def test_the_stratum_is_the_bin_of_hc(folder, hc, stratum):
    write_hc18_table(folder, [f"{name}.png,0.1,{hc}" for name in LINES])
    assert {case.stratum for case in hc18.find_cases(folder, [])[0]} == {stratum}


@pytest.mark.parametrize("angle_deg", [0, 35, 90, 140])
def test_an_outline_is_filled_to_the_ellipse_of_its_centre_line(tmp_path, angle_deg):
    head = Head("a", (150.3, 200.6), 220.0, 170.0, angle_deg, (300, 400))
    mask = hc18.read_mask([save_png(tmp_path / "a.png", outline_of(head))])
    assert mask.dtype == np.uint8
    differ = mask.astype(bool) != region_of(head)
    assert differ.sum() < 0.02 * perimeter(220, 170)  # pixel centres within 0.01 px of the edge


@pytest.mark.parametrize("move", [(-90, 0), (0, -150), (95, 0), (0, 145)], ids=["top", "left", "bottom", "right"])
def test_an_open_outline_at_the_frame_is_filled_by_its_ellipse(tmp_path, move):
    head = Head("a", (150 + move[0], 200 + move[1]), 150.0, 120.0, 30.0, (300, 400))
    outline = outline_of(head)
    assert np.array_equal(connected_parts.fill_holes(outline > 0), outline > 0)  # it is open: nothing is enclosed
    mask = hc18.read_mask([save_png(tmp_path / "a.png", outline)]).astype(bool)
    truth = region_of(head)
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.998


def test_the_folder_of_the_images_may_be_written_in_any_letter_case_but_once(folder):
    before = hc18.find_cases(folder, [])
    moved = (folder / "training_set").rename(folder / "Training_Set")
    cases, findings = hc18.find_cases(folder, [])
    assert ([case.name for case in cases], findings) == ([case.name for case in before[0]], before[1])
    assert cases[0].image.parent == moved
    (folder / "TRAINING_SET").mkdir()
    with pytest.raises(ValueError, match="found TRAINING_SET and Training_Set; expected one folder training_set"):
        hc18.find_cases(folder, [])


@pytest.mark.parametrize(
    ("pixels", "message"), [(EMPTY, "no head outline: the annotation is empty$"), (LINE, ".*on a line")]
)
def test_a_mask_without_an_outline_is_refused(tmp_path, pixels, message):
    with pytest.raises(ValueError, match=rf"a\.png: {message}"):
        hc18.read_mask([save_png(tmp_path / "a.png", pixels)])


def test_a_folder_of_other_images_a_missing_csv_and_wrong_columns_are_refused(folder, tmp_path):
    for name in ("a/training_set/benign (1).png", "b/000_HC.png"):
        save_png(tmp_path / name, EMPTY)
        with pytest.raises(ValueError, match=r"no images such as training_set/000_HC\.png; expected HC18's layout"):
            hc18.find_cases(tmp_path / name[0], [])
    path = folder / hc18.TABLE
    path.write_text(path.read_text().replace("pixel size(mm)", "spacing"))
    with pytest.raises(ValueError, match=rf"{hc18.TABLE}: columns \['pixel size\(mm\)'\] are missing"):
        hc18.find_cases(folder, [])
    path.unlink()
    with pytest.raises(ValueError, match=rf"{hc18.TABLE}: missing"):
        hc18.find_cases(folder, [])


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        (
            {"001_HC": '001_HC.png,"0,154",174.3'},
            ("note", "decimal comma", TABLE, f'cells: 1, the first is {TABLE}, row 4, column "{SIZE}"'),
        ),
        ({"more": ",,"}, ("note", "form of a table", TABLE, "blank rows: 1, the first is row 8")),
        ({"more": ",0.1,174"}, ("stop", "row without a name", TABLE, "row 8")),
        *(({"000_HC": f"000_HC.png,{t},174"}, (*UNREADABLE, f'"{SIZE}": "{t}"')) for t in ("", "0.019", "1.01")),
        *(({"000_HC": f"000_HC.png,0.9,{t}"}, (*UNREADABLE, f'"{HC}": "{t}"')) for t in ("", "19.9", "450.1")),
        ({"more": "002_HC.png,0.1,174"}, ("stop", "two rows for one image", "002_HC", "row 5 and row 8")),
        ({"more": "805_HC.png,0.1,174"}, ("warn", "row without a file", "805_HC", "row 8")),
        ({"003_HC": ""}, ("warn", "missing pixel size", "003_HC", "no row")),
    ],
)
def test_a_bad_row_is_one_finding(folder, changes, finding):
    write_hc18_table(folder, [line for line in (LINES | changes).values() if line])
    cases, (found,) = hc18.find_cases(folder, [])
    assert (found.severity, found.check.name, found.case) == finding[:3]
    assert finding[3] in found.found
    if found.check.name == "missing pixel size":
        case = next(case for case in cases if case.name == "003_HC")
        assert (case.spacing_mm, case.reference_mm, case.stratum) == (None, {}, "")
    if "column" in found.found:
        low_high = "0.02 to 1" if SIZE in found.found else "20 to 450"
        assert found.expected == ("a decimal point; read as one" if found.severity == "note" else f"mm, {low_high}")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "change", "finding"),
    [
        ("001_HC_Annotation", lambda path: path.unlink(), ("stop", "missing annotation", "001_HC", "no file")),
        ("001_HC", lambda path: path.unlink(), ("stop", "missing image", "001_HC", "only 001_HC_Annotation.png")),
        ("copy of 001_HC", lambda path: path.touch(), ("warn", "unknown file", "copy of 001_HC.png", "ignored")),
        ("001_HC", cut, ("stop", "unreadable", "001_HC", "001_HC.png: cannot be read as an image")),
        ("001_HC_Annotation", cut, ("stop", "unreadable", "001_HC", "001_HC_Annotation.png: cannot be read")),
        ("001_HC", lambda path: path.write_text("x"), ("stop", "unreadable", "001_HC", "001_HC.png: cannot be read")),
        ("001_HC", lambda path: save_png(path, EMPTY[:, :80]), ("stop", "size mismatch", "001_HC", "image (60, 80), ")),
        ("001_HC_Annotation", lambda path: save_png(path, EMPTY), ("stop", "unreadable", "001_HC", "no head outline")),
        ("001_HC_Annotation", lambda path: save_png(path, SOUND // 2), ("stop", "unreadable", "001_HC", "[0, 127]")),
    ],
)
def test_verification_reports_a_bad_file_by_name(folder, name, change, finding):
    change(folder / "training_set" / f"{name}.png")
    findings = verify.check_dataset(datasets.DATASETS["hc18"], "hc18", folder).findings
    rows = findings[findings["check"] == finding[1]]
    assert rows[["severity", "check", "case"]].to_numpy().tolist() == [list(finding[:3])], findings.to_string()
    assert finding[3] in rows["found"].item()
