import unicodedata

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import datasets, metrics, preprocessing, statistics
from lib.data import cases, splits
from lib.datasets import own, strict_table
from lib.evaluation import segmentation
from lib.imaging import image_files
from lib.report.summaries.dice import by_part, holds_all_cases, per_class
from lib.study import files, params
from lib.verification import verify
from tests import builders

GREY = np.array([[3, 1, 4], [1, 5, 9]], np.uint8)
MASK = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
CLASSES = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
COLOURS = [[0, 0, 0], [255, 0, 0], [0, 0, 255]]
LARGE = np.kron(CLASSES, np.ones((32, 32), np.uint8))  # one class per JPEG block
ZOE = unicodedata.normalize("NFD", "Zoë")
RED = [[255, 255, 255], [255, 0, 0]]
GREYS = [[0, 0, 0], [100, 100, 100], [200, 200, 200]]
CALLED = ("NA", "null", "None", "nan", "N/A", "n/a", "NULL", "#N/A")  # initials, export codes
HARD = "NA"  # the patient with poor predictions: without them the mean is much better


def write(folder, names=("p1", "p2", "p10"), images="images", masks="masks", suffix=""):
    for name in names:
        builders.save_png(folder / images / f"{name}.png", GREY)
        builders.save_png(folder / masks / f"{name}{suffix}.png", MASK)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "raw")


def table(folder, text):
    (folder / "cases.csv").write_text(text, encoding="utf-8")


def find(folder):
    return own.find_cases(folder, [])


def findings(folder):
    """(severity, check, case, found) of all findings except "subjects unknown"."""
    return [(f.severity, f.check.name, f.case, f.found) for f in find(folder)[1] if f.check.name != "subjects unknown"]


def names(folder):
    return [case.name for case in find(folder)[0]]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"images": "train", "masks": "train_masks"},
        {"images": "imgs", "masks": "labels"},
        {"images": "Images", "masks": "MASKS"},
        *({"suffix": suffix} for suffix in ("_mask", "-mask", "_seg", "_label", "_annotation", "_Annotation")),
    ],
)
def test_cases_are_in_natural_order_under_any_names_of_folders_and_masks(tmp_path, changes):
    found, findings = find(write(tmp_path, **changes))
    assert [case.name for case in found] == [case.subject for case in found] == ["p1", "p2", "p10"]
    assert [case.mask[0].stem.removesuffix(changes.get("suffix", "")) for case in found] == ["p1", "p2", "p10"]
    assert {case.foreground for case in found} == {"either"}  # a reference may be empty
    assert [(f.severity, f.check.name) for f in findings] == [("warn", "subjects unknown")]


@pytest.mark.parametrize("name", ["Größe 3", "scan (1)", "a.b", "胎児_7", "x,y;z", "a_mask"])
def test_names_of_every_kind_are_paired(tmp_path, name):
    write(tmp_path, names=[name])
    if not name.endswith("_mask"):  # a mask with the name of an image belongs to it
        decomposed = unicodedata.normalize("NFD", name)
        (tmp_path / "masks" / f"{name}.png").rename(tmp_path / "masks" / f"{decomposed}_mask.PNG")
    (tmp_path / "images" / f"{name}.png").unlink()
    Image.fromarray(GREY).save(tmp_path / "images" / f"{name}.JPG")
    assert names(tmp_path) == [unicodedata.normalize("NFC", name)]
    assert findings(tmp_path) == []


@pytest.mark.parametrize(
    ("removed", "added", "finding"),
    [
        ("masks/p2.png", None, ("stop", "missing mask", "p2", "no file")),
        ("images/p2.png", None, ("stop", "missing image", "p2", "only p2.png")),
        (None, "masks/p2_mask.png", ("stop", "two masks for one image", "p2", "p2.png, p2_mask.png")),
        (None, "masks/.p2_mask.png", None),
        (None, "images/.DS_Store", None),
        (None, "images/notes.txt", ("warn", "unknown file", "images/notes.txt", "ignored")),
        (None, "masks/p1.npy", ("warn", "unknown file", "masks/p1.npy", "ignored")),
    ],
)
def test_half_a_pair_and_two_masks_stop_and_other_files_are_ignored(folder, removed, added, finding):
    if removed:
        (folder / removed).unlink()
    if added:
        (folder / added).touch()
    assert findings(folder) == [finding] * (finding is not None)
    assert names(folder) == ["p1", *["p2"] * (finding is None or finding[0] == "warn"), "p10"]


def test_the_separator_in_a_name_stops_and_a_mask_that_links_to_itself_is_refused(tmp_path):
    folder, path = write(tmp_path, names=["a|b", "p1"]), tmp_path / "masks" / "p1.png"
    assert findings(folder) == [("stop", "unusable name", "a|b", 'contains "|"')]
    path.unlink()
    path.symlink_to(path)
    (case,) = find(folder)[0]  # without a|b
    with pytest.raises(ValueError, match=r"p1\.png: cannot be read as an image"):
        own.read_mask(case.mask, [], 2)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["benign"], r"found \['benign'\]; expected one folder of images \(images, imgs, train\)"),
        (["images", "other"], r"found \['images', 'other'\]; .* one of masks \(masks, train_masks, labels\)"),
        (["images", "masks", "train"], r"found \['images', 'train'\]; expected one folder of images"),
        ([], "new: found no such folder; expected one folder of images"),
        (["images", "masks"], r"images: no images; expected files \.bmp, \.jpeg, \.jpg, \.png"),
        (["images/p1.bmp/", "images/p1.png/", "masks"], r"p1\.bmp and p1\.png; expected one file"),
    ],
)
def test_a_folder_of_another_layout_is_refused_with_its_names(tmp_path, entries, message):
    for name in entries:
        (tmp_path / "new" / name).mkdir(parents=True)
    with pytest.raises(ValueError, match=message):
        find(tmp_path / "new")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "name,subject,spacing_mm,stratum\np1,anna,0.15,early\np2.png,anna,0.2,early\np10,007,1e-1,\n",
            [("anna", (0.15, 0.15), "early"), ("anna", (0.2, 0.2), "early"), ("007", (0.1, 0.1), "")],
        ),
        (
            "spacing_col_mm,name,spacing_row_mm,subject\n0.3,p1,0.1,a\n0.3,p2,0.1,a\n0.3,p10,0.1,a\n",
            [("a", (0.1, 0.3), "")] * 3,
        ),
        (f"name,subject\np1,Zoë\np2,{ZOE}\np10,b\n", [("Zoë", None, ""), ("Zoë", None, ""), ("b", None, "")]),
        ("name,spacing_mm\np1,0.1\np2,0.1\np10,0.1\n", [(name, (0.1, 0.1), "") for name in ("p1", "p2", "p10")]),
    ],
)
def test_subject_pixel_size_and_stratum_are_those_of_the_table(folder, text, expected):
    table(folder, text)
    found, findings = find(folder)
    assert [(case.subject, case.spacing_mm, case.stratum) for case in found] == expected
    assert [f.check.name for f in findings] == ["subjects unknown"] * ("subject" not in text)


@pytest.mark.parametrize(
    ("rows", "expected", "subjects"),
    [
        (
            "name,subject\np1,a\np2,b\np3,c\n",
            [("row without a file", "p3", "cases.csv, row 4"), ("image without a row", "p10", "not in cases.csv")],
            ["a", "b", "p10"],
        ),
        (
            "name,subject,spacing_mm\np1,a,0.1\np2,,0.1\np10,c,\n",
            [
                ("subject unknown", "p2", "cases.csv, row 3"),
                ("missing pixel size", "p10", 'cases.csv, row 4, column "spacing_mm": ""'),
            ],
            ["a", "p2", "c"],
        ),
        (
            "name,subject\np1,a\np2,b\np10,c\np1.png,d\n",
            [("two rows for one image", "p1", "cases.csv, row 2 and row 5")],
            ["a", "b", "c"],
        ),
    ],
)
def test_a_missing_row_or_cell_warns_and_a_second_row_stops(folder, rows, expected, subjects):
    table(folder, rows)
    assert [found[1:] for found in findings(folder)] == expected
    assert {found[0] for found in findings(folder)} == {"stop" if "two rows" in expected[0][0] else "warn"}
    assert [case.subject for case in find(folder)[0]] == subjects


def test_a_table_saved_by_a_spreadsheet_as_unicode_text_with_decimal_commas_is_read_and_noted(folder):
    text = "Name\tSubject\tSpacing mm\np1\tZoë\t0,15\np2\tb\t0,2\np10\tb\t0.1\n\t\t\n"
    (folder / "cases.txt").write_bytes(text.encode("utf-16"))
    assert [(case.subject, case.spacing_mm) for case in find(folder)[0]] == [
        ("Zoë", (0.15, 0.15)), ("b", (0.2, 0.2)), ("b", (0.1, 0.1))
    ]  # fmt: skip
    forms = ("encoded in UTF-16", "separated by tabs", 'heading "Name" for "name"', 'heading "Subject" for "subject"')
    forms += ('heading "Spacing mm" for "spacing_mm"', "blank rows: 1, the first is row 5")
    assert findings(folder) == [
        ("note", "table under another name", "cases.txt", "read"),
        ("note", "form of a table", "cases.txt", "; ".join(forms)),
        ("note", "decimal comma", "cases.txt", 'cells: 2, the first is cases.txt, row 2, column "spacing_mm": "0,15"'),
    ]


@pytest.mark.parametrize(
    ("text", "hint"), [("0.1,5", strict_table.HINT), ("15 px", " (without a unit)"), ("0.0009", ""), ("10.1", "")]
)
def test_an_unreadable_pixel_size_or_one_out_of_range_stops(folder, text, hint):
    table(folder, f"name;spacing_mm\np1;0.1\np2;{text}\np10;0.1\n")
    expected = ("stop", "unreadable number", "p2", f'cases.csv, row 3, column "spacing_mm": "{text}"')
    assert findings(folder) == [("note", "form of a table", "cases.csv", "separated by semicolons"), expected]
    assert find(folder)[1][-1].expected == f"mm, 0.001 to 10{hint}"
    assert find(folder)[0][1].spacing_mm is None


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("name,patient,spacing", r"columns 'patient' \(nearest: subject\), 'spacing' \(nearest: spacing_mm\)"),
        ("name,ID,colour", r"columns 'ID' \(nearest: subject\), 'colour'; expected some of"),
        ("name,subjet,stratum", r"columns 'subjet' \(nearest: subject\); expected some of \['name', 'subject',"),
        ("subject,stratum,spacing_mm", r"columns \['name'\] are missing"),
        ("name,subject,spacing_row_mm", r"columns \['name', .*'\]; expected none of \('spacing_mm', .*, only the"),
        ("name,spacing_mm,spacing_col_mm", r"columns .*; expected none of .*, only the first, or the other two"),
    ],
)
def test_a_wrong_header_is_refused(folder, header, message):
    table(folder, f"{header}\np1,1,1\n")
    with pytest.raises(ValueError, match=rf"cases\.csv: {message}"):
        find(folder)


def decoded(path, palette=(), class_count=2):
    mask = own.read_mask([path], list(palette), class_count)
    assert mask.dtype == np.uint8
    return mask.tolist()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA"])
def test_grey_values_are_class_indices_and_of_two_classes_also_0_and_255_in_every_mode(tmp_path, mode):
    for factor in (1, 255):
        Image.fromarray(MASK > 0 if mode == "1" else MASK * factor).convert(mode).save(tmp_path / "m.png")
        assert decoded(tmp_path / "m.png") == MASK.tolist()
    assert decoded(builders.save_png(tmp_path / "m.png", CLASSES), class_count=3) == CLASSES.tolist()
    for value in (0, 1, 255):
        path = builders.save_png(tmp_path / "m.png", np.full((2, 3), value, np.uint8))
        assert decoded(path) == [[int(value > 0)] * 3] * 2


@pytest.mark.parametrize(
    ("pixels", "palette", "class_count", "message"),
    [
        ([[0, 1, 255]], [], 2, r"0 in 1 pixels, 1 in 1 pixels, 255 in 1 pixels; expected 0 to 1, or 0 and 255, or a"),
        ([[0, 2, 2]], [], 2, r"0 in 1 pixels, 2 in 2 pixels; expected 0 to 1, or 0 and 255"),
        ([[0, 255, 2]], [], 3, r"0 in 1 pixels, 2 in 1 pixels, 255 in 1 pixels; expected 0 to 2, or a palette"),
        ([list(range(40, 60))], [], 4, r"40 in 1 .* 47 in 1 pixels and 12 more; expected 0 to 3.* nearest neighbour"),
        ([[[0, 0, 0], [255, 0, 0]]], [], 2, r"\(0, 0, 0\) in 1 pixels, \(255, 0, 0\) in 1 pixels; expected 0 to 1"),
        ([[[0, 0, 0], [0, 1, 2]]], [], 3, r"\(0, 0, 0\) in 1 pixels, \(0, 1, 2\) in 1 pixels; expected 0 to 2"),
        ([[[0, 0, 0], [255, 0, 0], [254, 0, 0]]], RED, 2, r"\(0, 0, 0\) in 1 pixels, \(254, 0, 0\) in 1 pixels, "),
    ],
)
def test_unknown_values_and_colours_are_refused_with_their_counts(tmp_path, pixels, palette, class_count, message):
    path = builders.save_png(tmp_path / "m.png", np.array(pixels, np.uint8))
    with pytest.raises(ValueError, match=rf"m\.png: values {message}"):
        decoded(path, palette, class_count)


def test_a_mask_of_16_bits_is_refused(tmp_path):
    path = builders.save_png(tmp_path / "m.png", MASK.astype(np.uint16))
    with pytest.raises(ValueError, match=r"m\.png: .*: 16 bits per channel"):
        decoded(path)


@pytest.mark.parametrize(
    ("mode", "palette"),
    [("RGB", COLOURS), ("RGBA", COLOURS), ("P", COLOURS), ("RGB", [[255] * 3, [255, 0, 0], [0] * 3]), ("L", GREYS)],
)
def test_colours_of_the_palette_are_class_indices(tmp_path, mode, palette):
    image = Image.fromarray(np.array(palette, np.uint8)[CLASSES])
    (image.quantize(8) if mode == "P" else image.convert(mode)).save(tmp_path / "m.png")
    assert decoded(tmp_path / "m.png", palette, 3) == CLASSES.tolist()


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_a_jpeg_of_two_classes_is_cut_at_128_and_of_colours_takes_the_nearest(tmp_path, suffix):
    path, disc = tmp_path / f"m{suffix}", builders.ellipse_region((60, 90), (30, 45), 50, 40, 20)
    Image.fromarray(np.where(disc, 255, 0).astype(np.uint8)).save(path, quality=90)
    assert len(np.unique(image_files.read_grey(path))) > 20  # ringing
    assert decoded(path) == disc.tolist()
    Image.fromarray(np.array(COLOURS, np.uint8)[LARGE]).save(path, quality=95, subsampling=0)
    assert decoded(path, COLOURS, 3) == LARGE.tolist()


@pytest.mark.parametrize(("pixels", "class_count"), [(LARGE, 3), ((LARGE > 0).astype(np.uint8), 2)])
def test_class_indices_in_a_jpeg_are_refused_and_a_black_one_is_background(tmp_path, pixels, class_count):
    for quality in (10, 40, 75, 100):  # black is 1 at 40, 0 at 75
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "m.jpg", quality=quality)
        assert not np.any(decoded(tmp_path / "m.jpg"))
    Image.fromarray(pixels).save(tmp_path / "m.jpg", quality=95)
    with pytest.raises(ValueError, match=r"m\.jpg: JPEG with values up to \d; expected black and white, a PNG"):
        decoded(tmp_path / "m.jpg", class_count=class_count)


def write_called(folder):
    """Two noisy images per patient, four of them in files named like missing values."""
    rows, at = ["name,subject,spacing_mm,stratum"], np.mgrid[:36, :48]
    for index in range(2 * len(CALLED)):
        draw, subject = np.random.default_rng(index), CALLED[index // 2]
        name = CALLED[index] if index < 4 else f"c{index}"
        mask = ((at[0] - draw.uniform(14, 22)) / 9) ** 2 + ((at[1] - draw.uniform(18, 30)) / 12) ** 2 <= 1
        image = np.kron(draw.uniform(0, 120, (6, 8)), np.ones((6, 6))) + 90 * mask
        builders.save_png(folder / "images" / f"{name}.png", image.astype(np.uint8))
        builders.save_png(folder / "masks" / f"{name}.png", mask.astype(np.uint8) * 255)
        rows.append(f"{name},{subject},0.5,{CALLED[index % 2]}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_patients_images_classes_and_strata_named_like_missing_values_are_never_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "processed_folder", lambda name: tmp_path / "processed" / name)
    classes = ["background", "nan"]
    keys = builders.values(dataset="own_called", classes=classes, palette=[])
    dataset = datasets.of(params.Study.model_construct(**keys))
    verified = verify.check_dataset(dataset, "own_called", write_called(tmp_path / "raw"))
    serious = verified.findings[verified.findings["severity"] != "note"]
    assert serious["found"].tolist() == ['"NULL", "null"', '"N/A", "n/a"']  # may be one patient each
    assigned = splits.assign_folds(verified.cases, 4, seed=0)
    files.write_csv(tmp_path / "cases.csv", verified.cases)
    files.write_csv(tmp_path / "folds.csv", assigned)
    manifest, folds = (files.read_csv(tmp_path / f"{name}.csv", []) for name in ("cases", "folds"))
    pd.testing.assert_frame_equal(folds, assigned)
    assert set(manifest["subject"]) == set(folds["subject"]) == set(CALLED)
    assert sorted(name for fold in range(4) for name in splits.parts(folds, fold)["test"]) == sorted(manifest["case"])

    config = builders.step_params("02_preprocessing", image_size=[32, 48])
    prepared = preprocessing.preprocess(preprocessing.source_of(config, manifest, dataset, None))
    assert prepared.rows(manifest["case"].tolist()).tolist() == list(range(16))

    rows = []
    for case in manifest.to_dict("records"):
        reference = dataset.read_mask(cases.split_paths(case["mask"]))
        predicted = np.roll(reference, 20 if case["subject"] == HARD else 1, axis=1)
        (counts,) = segmentation.class_rows(metrics.confusion(reference, predicted, 2), classes).values()
        rows += [{**case, "fold": 0, "seed": 0, "class": "nan", "stage": stage} | counts for stage in ("raw", "post")]
    files.write_csv(tmp_path / "long.csv", pd.DataFrame(rows).reindex(columns=segmentation.COLUMNS))
    long = files.read_csv(tmp_path / "long.csv", segmentation.COLUMNS)
    table = per_class(long)
    assert holds_all_cases(table, long)
    row = table.iloc[0]
    dice, subjects = (np.array([each[key] for each in rows[::2]]) for key in ("dice", "subject"))
    expected = statistics.mean_interval(dice, np.unique(subjects, return_inverse=True)[1])
    assert dice.mean() < 0.9 < dice[subjects != HARD].mean()
    assert (row["class"], row["n"], row["dice"]) == ("nan", 16, pytest.approx(dice.mean()))
    assert (row["dice_low"], row["dice_high"]) == pytest.approx((expected.low, expected.high))
    group = cases.group_of(manifest.set_index("case")["stratum"])
    of_parts = by_part(long.join(group, on="case"), "group")
    assert of_parts[["group", "cases", "n"]].values.tolist() == [["NA", 8, 8], ["null", 8, 8]]


def test_rows_in_other_letter_case_belong_to_the_only_image_of_that_name_and_one_note_counts_them(folder):
    table(folder, "name,subject\nP1.PNG,anna\nP2,bea\np10.png,cleo\n")
    assert [case.subject for case in find(folder)[0]] == ["anna", "bea", "cleo"]
    found = '2 rows, the first is cases.csv, row 2: "P1.PNG" for p1.png'
    assert findings(folder) == [("note", "names in other letter case", "cases.csv", found)]
    for part in ("images", "masks"):
        builders.save_png(folder / part / "P1.png", GREY if part == "images" else MASK)
    table(folder, "name,subject\nP1.png,a\nP2,bea\np1,c\np10,d\n")
    assert {case.name: case.subject for case in find(folder)[0]} == {"P1": "a", "p1": "c", "p2": "bea", "p10": "d"}
    table(folder, "name,subject\nP1.PNG,a\np2,b\np1,c\np10,d\n")  # of two images: neither
    assert ("warn", "row without a file", "P1.PNG", "cases.csv, row 2") in findings(folder)


def test_a_table_of_other_names_stops_and_one_of_more_images_than_are_there_does_not(folder):
    table(folder, "name,subject\nscan 1,a\nscan 2,b\np1,c\n")
    found = '2 of 3 rows, such as cases.csv, row 2: "scan 1"'
    assert ("stop", "most rows without a file", "cases.csv", found) in findings(folder)
    table(folder, "name,subject\n" + "\n".join(f"p{n},{n}" for n in range(1, 31)))
    assert {found[:2] for found in findings(folder)} == {("warn", "row without a file")}


def test_an_index_column_is_not_read_and_another_table_beside_the_images_is_named(folder):
    table(folder, ",name,subject\n0,p1,a\n1,p2,b\n2,p10,c\n")
    (folder / "subjects.csv").write_text("name\n")
    (folder / "notes.txt").write_text("")
    assert [case.subject for case in find(folder)[0]] == ["a", "b", "c"]
    assert findings(folder) == [
        ("note", "form of a table", "cases.csv", "columns without a heading: 1, not read"),
        ("warn", "another table", "subjects.csv", "not read"),
    ]
