"""Two published layouts of landmarks, as tables are written by hand: what is read, what stops, what is refused."""

import numpy as np
import pandas as pd
import pytest

from lib.datasets import landmark_tables
from lib.imaging import head_points

MULTICENTRE = (
    "image_name,scale,center_w,center_h,ofd_1_x,ofd_1_y,ofd_2_x,ofd_2_y,bpd_1_x,bpd_1_y,bpd_2_x,bpd_2_y,"
    "SubjectID,px_to_mm_rate,Algo,Split"
)
CHALLENGE = "image_name,ofd_1_x,ofd_1_y,ofd_2_x,ofd_2_y,bpd_1_x,bpd_1_y,bpd_2_x,bpd_2_y"
FIRST = "009_HC.png,1.8,400.0,270.0,376.0,147.0,486.0,287.0,489,172,373,262,,0.1215,,Train"
SECOND = "010_2HC.png,1.8,400,270,544,113,448,472,646,333,346,252,77,,AlokaFit,Test"


def write(folder, *lines, header=MULTICENTRE, set_name="HC18"):
    """A table in the layout that its header is of."""
    path = folder / "multicentre" / set_name / "Head.csv"
    path = folder / landmark_tables.CHALLENGE_FILE if header == CHALLENGE else path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder


def severities(findings):
    return [(finding.severity, finding.check.name, finding.case) for finding in findings]


def test_a_multicentre_table_is_read_with_rows_before_columns(tmp_path):
    table, findings = landmark_tables.read(write(tmp_path, FIRST, SECOND), "multicentre")
    assert findings == []
    assert list(table.columns) == landmark_tables.TABLE_COLUMNS
    assert table["case"].tolist() == ["009_HC", "010_2HC"]
    assert head_points.as_arrays(table, ["009_HC"])[0].tolist() == [[147, 376], [287, 486], [172, 489], [262, 373]]
    assert table["px_to_mm"].tolist() == pytest.approx([0.1215, np.nan], nan_ok=True)
    assert table["published_split"].tolist() == ["train", "test"]


def test_the_challenge_s_table_has_neither_pixel_size_nor_split(tmp_path):
    folder = write(tmp_path, "000_HC.png,361,12,339,530,481,16,664,318", header=CHALLENGE)
    table, findings = landmark_tables.read(folder, "role_challenge")
    assert findings == []
    assert head_points.as_arrays(table, ["000_HC"])[0].tolist() == [[12, 361], [530, 339], [16, 481], [318, 664]]
    assert np.isnan(table["px_to_mm"][0])
    assert table["published_split"][0] == ""


@pytest.mark.parametrize("place", ["front", "end"])
def test_a_column_index_in_front_or_at_the_end_does_not_matter(tmp_path, place):
    plain, _ = landmark_tables.read(write(tmp_path / "plain", FIRST, SECOND), "multicentre")
    front = place == "front"
    lines = [f"{n},{line}" if front else f"{line},{n}" for n, line in enumerate((FIRST, SECOND))]
    header = f"index,{MULTICENTRE}" if front else f"{MULTICENTRE},index"
    table, findings = landmark_tables.read(write(tmp_path / "more", *lines, header=header), "multicentre")
    assert findings == []
    pd.testing.assert_frame_equal(table, plain)


def test_the_set_is_chosen_by_name(tmp_path):
    write(tmp_path, FIRST)
    write(tmp_path, SECOND, set_name="UCL")
    assert landmark_tables.read(tmp_path, "multicentre", "UCL")[0]["case"].tolist() == ["010_2HC"]


def test_a_missing_table_is_named_with_the_sets_that_are_there(tmp_path):
    write(tmp_path, FIRST, set_name="UCL")
    with pytest.raises(
        ValueError, match=r"HC18.Head\.csv: missing.*multicentre/<set>/Head\.csv; sets there: \['UCL'\]"
    ):
        landmark_tables.read(tmp_path, "multicentre")
    with pytest.raises(ValueError, match=r"missing; the role_challenge landmarks are role_challenge_dataset"):
        landmark_tables.read(tmp_path, "role_challenge")


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'challenge'   not known; allowed: multicentre, role_challenge"):
        landmark_tables.read(tmp_path, "challenge")


def test_missing_columns_are_named_with_those_found_and_expected(tmp_path):
    header = CHALLENGE.replace(",bpd_2_x,bpd_2_y", ",bpd_2")
    path = write(tmp_path, "000_HC.png,1,2,3,4,5,6,7", header=CHALLENGE) / landmark_tables.CHALLENGE_FILE
    path.write_text(f"{header}\n", encoding="utf-8")
    said = r"columns \['bpd_2_y', 'bpd_2_x'\] are missing; found \['image_name'.*'bpd_2'\], expected \['image_name'"
    with pytest.raises(ValueError, match=said):
        landmark_tables.read(tmp_path, "role_challenge")


@pytest.mark.parametrize("text", ["", "inf", "left", '"147,5"'])
def test_a_coordinate_that_is_no_number_stops_with_its_row_and_column_and_the_rest_is_read(tmp_path, text):
    faulty = FIRST.replace("147.0", text)
    table, findings = landmark_tables.read(write(tmp_path, faulty, SECOND), "multicentre")
    assert severities(findings) == [("stop", "unreadable number", "009_HC")]
    bare = text.strip('"')
    assert findings[0].found == f'Head.csv, row 2, column "ofd_1_y": "{bare}"'
    assert ("a decimal point?" in findings[0].expected) == ("," in text)
    assert table["case"].tolist() == ["010_2HC"]


def test_two_rows_for_one_image_stop_and_the_first_is_kept(tmp_path):
    table, findings = landmark_tables.read(write(tmp_path, FIRST, SECOND, FIRST.replace("376", "377")), "multicentre")
    assert severities(findings) == [("stop", "two rows for one image", "009_HC")]
    assert findings[0].found == "Head.csv, row 2 and row 4"
    assert table["ofd_1_col"].tolist() == [376, 544]


def test_a_row_without_a_name_stops(tmp_path):
    _, findings = landmark_tables.read(write(tmp_path, FIRST.replace("009_HC.png", "")), "multicentre")
    assert severities(findings) == [("stop", "row without a name", "Head.csv")]


@pytest.mark.parametrize("text", ["0,1215", "12.15", "mm"])
def test_a_pixel_size_that_is_none_stops_and_the_row_is_kept(tmp_path, text):
    table, findings = landmark_tables.read(write(tmp_path, FIRST.replace("0.1215", f'"{text}"')), "multicentre")
    assert severities(findings) == [("stop", "unreadable number", "009_HC")]
    assert 'column "px_to_mm_rate"' in findings[0].found
    assert np.isnan(table["px_to_mm"][0])


def test_an_unknown_split_is_a_warning(tmp_path):
    table, findings = landmark_tables.read(write(tmp_path, FIRST.replace("Train", "Fold 3")), "multicentre")
    assert severities(findings) == [("warn", "unknown split", "009_HC")]
    assert table["published_split"][0] == ""
