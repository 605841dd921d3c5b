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
AGAIN, FIRST_X = f"Test\n{FIRST.replace('376', '377')}", [376, 544]


def write(folder, *lines, header=MULTICENTRE, set_name="HC18"):
    """Writes a table in the layout of its header; returns `folder`."""
    path = folder / "multicentre" / set_name / "Head.csv"
    path = folder / landmark_tables.CHALLENGE_FILE if header.startswith(CHALLENGE[:20]) else path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder


def test_a_multicentre_table_of_the_named_set_is_read_as_row_column(tmp_path):
    write(tmp_path, SECOND, set_name="UCL")
    table, findings = landmark_tables.read(write(tmp_path, FIRST, SECOND), "multicentre")
    assert findings == []
    assert list(table.columns) == landmark_tables.TABLE_COLUMNS
    assert table["case"].tolist() == ["009_HC", "010_2HC"]
    assert head_points.as_arrays(table, ["009_HC"])[0].tolist() == [[147, 376], [287, 486], [172, 489], [262, 373]]
    assert table["px_to_mm"].tolist() == pytest.approx([0.1215, np.nan], nan_ok=True)
    assert table["published_split"].tolist() == ["train", "test"]
    assert landmark_tables.read(tmp_path, "multicentre", "UCL")[0]["case"].tolist() == ["010_2HC"]
    for step in (1, -1):  # an index column at the start or the end
        lines = [",".join((str(n), each)[::step]) for n, each in enumerate((MULTICENTRE, FIRST, SECOND))]
        more, findings = landmark_tables.read(write(tmp_path, *lines[1:], header=lines[0]), "multicentre")
        assert findings == []
        pd.testing.assert_frame_equal(more, table)


def test_the_challenge_table_has_neither_pixel_size_nor_split(tmp_path):
    folder = write(tmp_path, "000_HC.png,361,12,339,530,481,16,664,318", header=CHALLENGE)
    table, findings = landmark_tables.read(folder, "role_challenge")
    assert findings == []
    assert head_points.as_arrays(table, ["000_HC"])[0].tolist() == [[12, 361], [530, 339], [16, 481], [318, 664]]
    assert table[["px_to_mm", "published_split"]].fillna("none").values.tolist() == [["none", ""]]


def test_a_missing_table_an_unknown_layout_and_missing_columns_are_refused(tmp_path):
    write(tmp_path, FIRST, set_name="UCL")
    with pytest.raises(ValueError, match=r"HC18.Head\.csv: missing.*available sets: \['UCL'\]"):
        landmark_tables.read(tmp_path, "multicentre")
    with pytest.raises(ValueError, match=r"missing; expected role_challenge_dataset"):
        landmark_tables.read(tmp_path, "role_challenge")
    with pytest.raises(ValueError, match="'challenge'   unknown; allowed: multicentre, role_challenge"):
        landmark_tables.read(tmp_path, "challenge")
    with pytest.raises(
        ValueError, match=r"no table of landmarks; expected multicentre/<set>/Head\.csv or role_challenge"
    ):
        landmark_tables.tables(tmp_path / "multicentre")
    write(tmp_path, header=CHALLENGE.replace(",bpd_2_x,bpd_2_y", ",bpd_2"))
    with pytest.raises(ValueError, match=r"columns \['bpd_2_y', 'bpd_2_x'\] are missing; found \['image_name'.*"):
        landmark_tables.read(tmp_path, "role_challenge")


@pytest.mark.parametrize(
    ("old", "new", "finding", "found", "first_x"),
    [
        ("147.0", "", ("stop", "unreadable number", "009_HC"), 'row 2, column "ofd_1_y": ""', [544]),
        ("147.0", "inf", ("stop", "unreadable number", "009_HC"), 'column "ofd_1_y": "inf"', [544]),
        (
            "147.0",
            '"147,5"',
            ("note", "decimal comma", "Head.csv"),
            'cells: 1, the first is Head.csv, row 2, column "ofd_1_y": "147,5"',
            FIRST_X,
        ),
        ("147.0", "147 px", ("stop", "unreadable number", "009_HC"), 'column "ofd_1_y": "147 px"', [544]),
        ("Test", AGAIN, ("stop", "two rows for one image", "009_HC"), "row 2 and row 4", FIRST_X),
        ("009_HC.png", "", ("stop", "row without a name", "Head.csv"), "row 2", [544]),
        ("0.1215", '"0,1215"', ("note", "decimal comma", "Head.csv"), '"px_to_mm_rate": "0,1215"', FIRST_X),
        ("0.1215", "12.15", ("stop", "unreadable number", "009_HC"), '"px_to_mm_rate": "12.15"', FIRST_X),
        ("Train", "Fold 3", ("warn", "unknown split", "009_HC"), 'row 2: "Fold 3"', FIRST_X),
    ],
)
def test_an_invalid_cell_is_a_finding_and_the_rest_is_read(tmp_path, old, new, finding, found, first_x):
    lines = "\n".join((FIRST, SECOND)).replace(old, new)
    table, (only,) = landmark_tables.read(write(tmp_path, lines), "multicentre")
    assert (only.severity, only.check.name, only.case) == finding
    assert found in only.found
    assert table["ofd_1_col"].tolist() == first_x
    assert "px_to_mm" not in found or np.isnan(table["px_to_mm"][0]) == (finding[0] == "stop")
    assert "split" not in finding[1] or table["published_split"][0] == ""


def test_every_table_that_is_read_is_listed_and_no_other(tmp_path):
    write(write(tmp_path, FIRST), FIRST, set_name="@eaDir")
    for name in ("UCL", "FP"):
        write(tmp_path, SECOND, set_name=name)
    (tmp_path / "multicentre" / "UCL" / "Head.csv").rename(tmp_path / "multicentre" / "UCL" / "head.CSV")
    (tmp_path / "multicentre" / "FP" / "Head.csv").rename(tmp_path / "multicentre" / "FP" / "other.csv")
    write(tmp_path, "000_HC.png,361,12,339,530,481,16,664,318", header=CHALLENGE)
    path = tmp_path / landmark_tables.CHALLENGE_FILE
    path.rename(path.with_stem(f"{path.stem} (1)"))
    assert landmark_tables.tables(tmp_path) == [("multicentre", "HC18"), ("multicentre", "UCL"), ("role_challenge", "")]
    for layout, name in landmark_tables.tables(tmp_path):
        assert len(landmark_tables.read(tmp_path, layout, name)[0]) == 1
