import hashlib

import numpy as np
import pandas as pd
import pytest

from lib.data import cases
from lib.study import files

FOLDER = files.ROOT / "data"


def table_of(*rows, name="a"):
    return cases.cases_table([cases.Case(name, name, FOLDER / "a.png", (FOLDER / "b.png",), *row) for row in rows])


def test_the_manifest_contains_every_field_of_a_case():
    image, masks = FOLDER / "a.png", (FOLDER / "größe (1)_mask.png", FOLDER / "größe (1)_mask_1.png")
    case = cases.Case("007_HC", "007", image, masks, (0.1, 0.2), "hc1", "train", {"hc": 99}, slice_mm=4.5)
    table = cases.cases_table([case])
    assert table.columns.tolist() == cases.CASE_COLUMNS
    row = table.dropna(axis=1).iloc[0].to_dict()
    mask = "data/größe (1)_mask.png|data/größe (1)_mask_1.png"
    assert row == {
        **{"case": "007_HC", "subject": "007", "stratum": "hc1", "split": "train", "image": "data/a.png", "mask": mask},
        **{"spacing_slice_mm": 4.5, "spacing_row_mm": 0.1, "spacing_col_mm": 0.2, "hc_mm": 99},
    }
    assert cases.split_paths(row["mask"]) == list(masks)


def test_a_pixel_size_is_read_from_the_manifest_and_half_of_one_is_none():
    table = table_of([(0.1, 0.2)], [None], [(np.nan, 0.2)], [(0.1, np.nan)])
    for rows in (table.to_dict("records"), [row for _, row in table.iterrows()]):
        assert [cases.spacing_mm(row) for row in rows] == [(0.1, 0.2), None, None, None]
    assert cases.has_pixel_size(table).tolist() == [True, False, False, False]


def test_paths_survive_the_manifest_and_the_separator_in_a_name_is_refused(tmp_path):
    paths = [files.ROOT / "data" / "a b.png", tmp_path / "c.png", tmp_path / "d'(é).png"]
    for some in (paths, paths[:1]):
        assert cases.split_paths(cases.join_paths(some)) == some
    assert cases.join_paths(paths[1:2]) == (tmp_path / "c.png").as_posix()
    with pytest.raises(ValueError, match=r"a\|b\.png: the name contains '\|'"):
        cases.join_paths([FOLDER / "a|b.png"])


def test_the_manifest_is_read_from_disk_exactly_as_written(tmp_path):
    written = pd.concat([table_of([(0.1, 0.1)], [(0.30000000000000004, 0.1)], name="007"), table_of([None])])
    written = written.assign(fold_group=["001", "001", "003"], height=5, width=6, sha256="ab").reset_index(drop=True)
    files.write_csv(tmp_path / "cases.csv", written)
    pd.testing.assert_frame_equal(files.read_csv(tmp_path / "cases.csv", cases.CASE_COLUMNS), written, check_exact=True)


def write_all(folder, contents):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def test_the_hash_of_a_case_covers_its_image_then_its_masks(tmp_path):
    folder = write_all(tmp_path, {name: name.encode() for name in ("image", "one", "two")})
    image, one, two = (folder / name for name in ("image", "one", "two"))
    for masks, content in (([one, two], b"imageonetwo"), ([two, one], b"imagetwoone"), ([one], b"imageone")):
        assert cases.content_hash(image, masks) == hashlib.sha256(content).hexdigest()


def test_the_hash_of_a_folder_covers_its_files_by_name_without_the_system_s(tmp_path):
    contents = {"b": b"two", "a_mask": b"one", "c": b"three"}
    folder = write_all(
        tmp_path / "patient", contents | {".DS_Store": b"window positions", "._a": b"of macOS", "Thumbs.db": b"x"}
    )
    expected = hashlib.sha256(b"onetwothree").hexdigest()
    assert cases.content_hash(folder, (folder,)) == cases.content_hash(folder, ()) == expected
    for name in contents:
        other = write_all(tmp_path / name, contents | {name: b"x"})
        assert cases.content_hash(other, (other,)) != expected, name
    (folder / "@eaDir").mkdir()
    assert cases.content_hash(folder, ()) == expected
    (folder / "inner").mkdir()
    with pytest.raises(ValueError, match=r"patient.inner: cannot be read: "):
        cases.content_hash(folder, (folder,))


def test_the_group_of_a_case_is_the_first_word_of_its_stratum():
    strata = pd.Series(["malignant small", "CS", "", "nan"], dtype=object)
    assert cases.group_of(strata).tolist() == ["malignant", "CS", "all", "nan"]


def test_a_range_of_head_sizes_is_named_by_its_limits_and_another_group_by_its_name():
    strata = ["hc1 csp", "hc0", "hc1", "hc2", "north", "hcx", ""]
    table = pd.DataFrame({"stratum": strata, "hc_mm": [150.4, 99.6, 176.6, np.nan, 200.0, 210.0, 80.0]})
    named = {"hc0": "HC 100–100 mm", "hc1": "HC 150–177 mm", "hc2": "hc2", "hcx": "hcx", "north": "north"}
    assert cases.group_names(table) == named | {"all": "all"}
