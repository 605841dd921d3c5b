import hashlib

import numpy as np
import pandas as pd
import pytest

from lib.data import cases, findings
from lib.data.cases import Case
from lib.data.findings import Check, Finding
from lib.study import files

# The manifest


def test_the_manifest_holds_what_a_case_says():
    image, mask = files.ROOT / "data" / "a.png", (files.ROOT / "m.png",)
    row = cases.cases_table([Case("007_HC", "007", image, mask, (0.1, 0.2), "hc1", "train", {"hc": 99})]).iloc[0]
    assert (row["case"], row["subject"], row["image"], row["mask"]) == ("007_HC", "007", "data/a.png", "m.png")
    assert (row["stratum"], row["split"]) == ("hc1", "train")
    assert (row["spacing_row_mm"], row["spacing_col_mm"], row["hc_mm"]) == (0.1, 0.2, 99)
    assert np.isnan(row["bpd_mm"])


def test_a_case_without_pixel_size_has_no_spacing_in_the_manifest(tmp_path):
    table = cases.cases_table([Case("a", "a", tmp_path / "a.png", (tmp_path / "b.png",), None)])
    assert table[["spacing_row_mm", "spacing_col_mm", "hc_mm"]].isna().all(axis=None)


@pytest.mark.parametrize("size", [(0.1, 0.2), None])
def test_a_pixel_size_comes_back_from_the_manifest_or_none_does(tmp_path, size):
    table = cases.cases_table([Case("a", "a", tmp_path / "a.png", (tmp_path / "b.png",), size)])
    assert cases.spacing_mm(table.iloc[0]) == cases.spacing_mm(table.to_dict("records")[0]) == size


@pytest.mark.parametrize("size", [(np.nan, 0.2), (0.1, np.nan)], ids=str)
def test_half_a_pixel_size_is_none(size):
    assert cases.spacing_mm(dict(zip(("spacing_row_mm", "spacing_col_mm"), size))) is None


def test_a_reference_of_several_files_stands_in_one_column(tmp_path):
    masks = (files.ROOT / "data" / "größe (1)_mask.png", files.ROOT / "data" / "größe (1)_mask_1.png")
    row = cases.cases_table([Case("a", "a", files.ROOT / "a.png", masks, None)]).iloc[0]
    assert row["mask"] == "data/größe (1)_mask.png|data/größe (1)_mask_1.png"
    assert cases.split_paths(row["mask"]) == list(masks)


def test_joined_files_come_back_wherever_they_lie(tmp_path):
    paths = [files.ROOT / "data" / "a b.png", tmp_path / "c.png", tmp_path / "d'(é).png"]
    assert cases.split_paths(cases.joined(paths)) == paths
    assert cases.split_paths(cases.joined(paths[:1])) == paths[:1]


def test_a_file_outside_the_project_keeps_its_whole_path(tmp_path):
    assert cases.relative(tmp_path / "a.png") == (tmp_path / "a.png").as_posix()


def test_the_manifest_comes_back_from_disk_as_it_was_written(tmp_path):
    written = cases.cases_table(
        [
            Case(f"{n:03d}_HC", f"{n:03d}", tmp_path / "a.png", (tmp_path / "b.png", tmp_path / "c.png")[:n], spacing)
            for n, spacing in ((1, (0.1, 0.1)), (2, (0.30000000000000004, 0.1)), (3, None))
        ]
    ).assign(fold_group=["001", "001", "003"], height=5, width=6, sha256="ab")
    files.write_csv(tmp_path / "cases.csv", written)
    read = cases.read_cases(tmp_path / "cases.csv")
    pd.testing.assert_frame_equal(read, written, check_exact=True)


def test_a_case_s_hash_is_that_of_its_image_and_then_its_masks(tmp_path):
    image, *masks = (tmp_path / name for name in ("image", "one", "two"))
    for path in (image, *masks):
        path.write_bytes(path.name.encode())
    assert cases.content_hash(image, masks) == hashlib.sha256(b"imageonetwo").hexdigest()
    assert cases.content_hash(image, masks[::-1]) == hashlib.sha256(b"imagetwoone").hexdigest()
    assert cases.content_hash(image, masks[:1]) == hashlib.sha256(b"imageone").hexdigest()


def test_a_case_s_hash_changes_with_a_byte_of_image_or_any_mask(tmp_path):
    image, *masks = (tmp_path / name for name in ("image", "one", "two"))
    hashes = set()
    for contents in ((b"a", b"b", b"c"), (b"x", b"b", b"c"), (b"a", b"x", b"c"), (b"a", b"b", b"x")):
        for path, content in zip((image, *masks), contents):
            path.write_bytes(content)
        hashes.add(cases.content_hash(image, masks))
    assert len(hashes) == 4


def write_all(folder, contents):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_folder_s_hash_is_that_of_its_files_in_order_of_their_names(tmp_path):
    folder = write_all(tmp_path / "patient", {"b": b"two", "a_mask": b"one", "c": b"three"})
    assert cases.content_hash(folder, (folder,)) == hashlib.sha256(b"onetwothree").hexdigest()


def test_a_folder_s_hash_changes_with_a_byte_of_any_file_and_not_with_the_folder_s_name(tmp_path):
    contents = {"1.tif": b"a", "2.tif": b"b", "2_mask.tif": b"c"}
    folder, other = (write_all(tmp_path / name, contents) for name in ("one", "two"))
    before = cases.content_hash(folder, (folder,))
    assert cases.content_hash(other, (other,)) == before
    for name in contents:
        write_all(other, contents | {name: b"x"})
        assert cases.content_hash(other, (other,)) != before, name


def test_files_that_a_system_leaves_in_a_folder_do_not_change_its_hash(tmp_path):
    folder = write_all(tmp_path / "patient", {"a": b"one", "b": b"two"})
    before = cases.content_hash(folder, (folder,))
    write_all(folder, {".DS_Store": b"places of windows", "._a": b"of macOS"})
    assert cases.content_hash(folder, (folder,)) == before


def test_a_folder_that_is_image_and_mask_counts_once(tmp_path):
    folder = write_all(tmp_path / "patient", {"a": b"one"})
    assert cases.content_hash(folder, ()) == cases.content_hash(folder, (folder, folder))


def test_a_folder_in_a_volume_s_folder_is_refused_by_name(tmp_path):
    folder = write_all(tmp_path / "patient", {"a": b"one"})
    (folder / "b").mkdir()
    with pytest.raises(ValueError, match=r"patient.b: cannot be read: "):
        cases.content_hash(folder, (folder,))


def test_the_distance_of_slices_stands_in_the_manifest_where_it_is_known(tmp_path):
    known = Case("a", "a", tmp_path, (tmp_path,), (0.5, 0.6), slice_mm=4.5)
    table = cases.cases_table([known, Case("b", "b", tmp_path, (tmp_path,), None)])
    columns = ["spacing_slice_mm", "spacing_row_mm", "spacing_col_mm"]
    assert table.loc[0, columns].tolist() == [4.5, 0.5, 0.6]
    assert table.loc[1, columns].isna().all()
    assert table.columns.tolist() == cases.CASE_COLUMNS


@pytest.mark.parametrize(
    ("stratum", "group"), [("malignant small", "malignant"), ("CS", "CS"), ("", "all"), ("nan", "nan")]
)
def test_the_group_of_a_case_is_the_first_word_of_its_stratum(stratum, group):
    assert cases.group_of(pd.Series([stratum], dtype=object)).tolist() == [group]


def test_findings_are_ordered_by_gravity_then_check_then_case():
    found = [
        Finding("note", Check("a"), "1", "", ""),
        Finding("stop", Check("z"), "2", "", ""),
        Finding("warn", Check("b"), "9", "", ""),
        Finding("stop", Check("z"), "1", "", ""),
    ]
    assert findings.to_table(found)[["severity", "case"]].values.tolist() == [
        ["stop", "1"],
        ["stop", "2"],
        ["warn", "9"],
        ["note", "1"],
    ]


def test_no_findings_are_an_empty_table_with_columns():
    assert findings.to_table([]).columns.tolist() == findings.FINDING_COLUMNS
