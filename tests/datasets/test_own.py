"""One's own data: pairs by name, cases.csv, masks of grey values, colours and JPEG."""

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
from tests.builders import save_png

GREY = np.array([[3, 1, 4], [1, 5, 9]], np.uint8)
MASK = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
CLASSES = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
COLOURS = [[0, 0, 0], [255, 0, 0], [0, 0, 255]]
LARGE = np.kron(CLASSES, np.ones((32, 32), np.uint8))  # blocks of JPEG hold one class each


def write(folder, names=("p1", "p2", "p10"), images="images", masks="masks", suffix=""):
    for name in names:
        save_png(folder / images / f"{name}.png", GREY)
        save_png(folder / masks / f"{name}{suffix}.png", MASK)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "raw")


def table(folder, text, encoding="utf-8"):
    (folder / "cases.csv").write_text(text, encoding=encoding)


def find(folder):
    return own.find_cases(folder, [])


def checks(folder):
    """All findings but the one that no subject is known."""
    return [(f.severity, f.check.name, f.case) for f in find(folder)[1] if f.check.name != "subjects unknown"]


def one(folder, check):
    (found,) = [f for f in find(folder)[1] if f.check.name == check]
    return found


def names(folder):
    return [case.name for case in find(folder)[0]]


# Pairs


def test_cases_stand_in_natural_order_and_may_be_empty(folder):
    found, _ = find(folder)
    assert [case.name for case in found] == ["p1", "p2", "p10"]
    assert {case.shows for case in found} == {"either"}
    assert checks(folder) == []


@pytest.mark.parametrize(("images", "masks"), [("train", "train_masks"), ("imgs", "labels"), ("Images", "MASKS")])
def test_folders_of_other_names_are_known(tmp_path, images, masks):
    assert len(names(write(tmp_path, images=images, masks=masks))) == 3


@pytest.mark.parametrize("suffix", ["_mask", "-mask", "_seg", "_label", "_annotation", "_MASK", "_Annotation"])
def test_a_mask_s_suffix_does_not_count(tmp_path, suffix):
    found, _ = find(write(tmp_path, suffix=suffix))
    assert [case.mask[0].stem for case in found] == [f"{name}{suffix}" for name in ("p1", "p2", "p10")]


def test_a_mask_named_as_an_image_belongs_to_it_even_with_a_suffix(tmp_path):
    found, _ = find(write(tmp_path, names=["a_mask"]))
    assert [(case.name, case.mask[0].name) for case in found] == [("a_mask", "a_mask.png")]


@pytest.mark.parametrize("name", ["Größe 3", "scan (1)", "a.b", "胎児_7", "x,y;z"])
def test_names_of_every_kind_are_paired(tmp_path, name):
    write(tmp_path, names=[name])
    decomposed = unicodedata.normalize("NFD", name)
    (tmp_path / "masks" / f"{name}.png").rename(tmp_path / "masks" / f"{decomposed}_mask.PNG")
    assert names(tmp_path) == [unicodedata.normalize("NFC", name)]
    assert checks(tmp_path) == []


def test_image_and_mask_may_differ_in_format(folder):
    (folder / "images" / "p1.png").unlink()
    Image.fromarray(GREY).save(folder / "images" / "p1.JPG")
    assert find(folder)[0][0].image.name == "p1.JPG"


@pytest.mark.parametrize(
    ("gone", "check", "found"),
    [
        ("masks/p2.png", "missing mask", "no file"),
        ("images/p2.png", "missing image", "p2.png alone"),
    ],
)
def test_half_a_pair_stops(folder, gone, check, found):
    (folder / gone).unlink()
    finding = one(folder, check)
    assert (finding.severity, finding.case, finding.found) == ("stop", "p2", found)
    assert names(folder) == ["p1", "p10"]


def test_two_masks_for_one_image_stop(folder):
    save_png(folder / "masks" / "p2_mask.png", MASK)
    assert checks(folder) == [("stop", "two masks for one image", "p2")]
    assert one(folder, "two masks for one image").found == "p2.png, p2_mask.png"


def test_other_files_are_left_out_with_a_warning_and_hidden_ones_without(folder):
    for name in ("images/notes.txt", "masks/p1.npy", "images/.DS_Store", "masks/._p1.png"):
        (folder / name).touch()
    assert checks(folder) == [
        ("warn", "unknown file", "images/notes.txt"),
        ("warn", "unknown file", "masks/p1.npy"),
    ]


def test_a_name_that_the_manifest_cannot_hold_stops(tmp_path):
    assert checks(write(tmp_path, names=["a|b"])) == [("stop", "unusable name", "a|b")]


def test_a_link_to_itself_is_an_unreadable_mask_and_no_hang(folder):
    path = folder / "masks" / "p1.png"
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(ValueError, match=r"p1\.png: cannot be read as an image"):
        own.read_mask(find(folder)[0][0].mask, [], 2)


# Bad folders


def test_a_folder_of_another_layout_is_refused_with_what_it_holds(tmp_path):
    save_png(tmp_path / "benign" / "benign (1).png", GREY)
    with pytest.raises(ValueError, match=r"found \['benign'\]; expected one folder of images \(images, imgs, train\)"):
        find(tmp_path)


def test_a_folder_without_masks_is_refused(folder):
    (folder / "masks").rename(folder / "other")
    with pytest.raises(
        ValueError, match=r"found \['images', 'other'\]; .* one of masks \(masks, train_masks, labels\)"
    ):
        find(folder)


def test_two_folders_of_images_are_refused(folder):
    write(folder, images="train")
    with pytest.raises(ValueError, match=r"found \['images', 'train'\]; expected one folder of images"):
        find(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="none: found no such folder; expected one folder of images"):
        find(tmp_path / "none")


def test_a_folder_without_images_is_refused(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=r"images: no images; expected files \.bmp, \.jpeg, \.jpg, \.png"):
        find(tmp_path)


def test_two_images_of_one_stem_are_refused(folder):
    Image.fromarray(GREY).save(folder / "images" / "p1.bmp")
    with pytest.raises(ValueError, match=r"p1\.bmp and p1\.png; expected one file of a name"):
        find(folder)


# cases.csv


def test_without_a_table_each_image_is_its_own_subject_and_a_warning_says_so(folder):
    assert [case.subject for case in find(folder)[0]] == ["p1", "p2", "p10"]
    found = one(folder, "subjects unknown")
    assert found.severity == "warn"
    assert "two folds" in found.expected


def test_subject_pixel_size_and_stratum_are_those_of_the_table(folder):
    table(folder, "name,subject,spacing_mm,stratum\np1,anna,0.15,early\np2.png,anna,0.2,early\np10,007,1e-1,\n")
    found, findings = find(folder)
    assert [(c.subject, c.spacing_mm, c.stratum) for c in found] == [
        ("anna", (0.15, 0.15), "early"),
        ("anna", (0.2, 0.2), "early"),
        ("007", (0.1, 0.1), ""),
    ]
    assert findings == []


def test_rows_and_columns_may_have_pixel_sizes_of_their_own(folder):
    table(folder, "spacing_col_mm,name,spacing_row_mm\n0.3,p1,0.1\n0.3,p2,0.1\n0.3,p10,0.1\n")
    assert {case.spacing_mm for case in find(folder)[0]} == {(0.1, 0.3)}


def test_subjects_that_differ_only_in_unicode_form_are_one(folder):
    one_form, other_form = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    table(folder, f"name,subject\np1,{one_form}\np2,{other_form}\np10,b\n")
    assert [case.subject for case in find(folder)[0]] == ["Zoë", "Zoë", "b"]


def test_a_table_without_subjects_warns_as_no_table_does(folder):
    table(folder, "name,spacing_mm\np1,0.1\np2,0.1\np10,0.1\n")
    assert one(folder, "subjects unknown").severity == "warn"
    assert checks(folder) == []


def test_a_row_without_an_image_and_an_image_without_a_row_warn(folder):
    table(folder, "name,subject\np1,a\np2,b\np3,c\n")
    found = one(folder, "row without a file")
    assert (found.severity, found.case, found.found) == ("warn", "p3", "cases.csv, row 4")
    assert ("warn", "image without a row", "p10") in checks(folder)
    assert [case.subject for case in find(folder)[0]] == ["a", "b", "p10"]


def test_an_empty_subject_or_pixel_size_warns(folder):
    table(folder, "name,subject,spacing_mm\np1,a,0.1\np2,,0.1\np10,c,\n")
    assert checks(folder) == [("warn", "subject unknown", "p2"), ("warn", "missing pixel size", "p10")]
    assert [(case.subject, case.spacing_mm) for case in find(folder)[0]][1:] == [("p2", (0.1, 0.1)), ("c", None)]


def test_two_rows_for_one_image_stop(folder):
    table(folder, "name,subject\np1,a\np2,b\np10,c\np1.png,d\n")
    found = one(folder, "two rows for one image")
    assert (found.severity, found.case, found.found) == ("stop", "p1", "cases.csv, row 2 and row 5")


@pytest.mark.parametrize(("text", "hint"), [("0,15", strict_table.HINT), ("15 px", ""), ("0.0009", ""), ("10.1", "")])
def test_a_pixel_size_that_is_no_sound_number_stops(folder, text, hint):
    table(folder, f"name;spacing_mm\np1;0.1\np2;{text}\np10;0.1\n")
    found = one(folder, "unreadable number")
    assert (found.severity, found.case) == ("stop", "p2")
    assert found.found == f'cases.csv, row 3, column "spacing_mm": "{text}"'
    assert found.expected == f"mm, 0.001 to 10{hint}"
    assert find(folder)[0][1].spacing_mm is None


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "name,patient,spacing",
            r"columns 'patient' \(nearest: .*\), 'spacing' \(nearest: spacing_mm\); expected some of \['name',",
        ),
        ("name,subjet,stratum", r"columns 'subjet' \(nearest: subject\); expected some of \['name', 'subject',"),
        ("name,Spacing_mm,subject", r"columns 'Spacing_mm' \(nearest: spacing_mm\)"),
        ("name,subject,subject", r"columns \['subject'\] stand twice"),
        ("subject,stratum,spacing_mm", r"columns \['name'\] are missing"),
        ("name,subject,spacing_row_mm", r"columns \['name', .*'\]; expected of \('spacing_mm', .* none, the first or"),
        ("name,spacing_mm,spacing_col_mm", r"columns .*; expected of .* none, the first or the others"),
    ],
)
def test_a_wrong_header_is_refused(folder, header, message):
    table(folder, f"{header}\np1,1,1\n")
    with pytest.raises(ValueError, match=rf"cases\.csv: {message}"):
        find(folder)


# Masks of grey values


def decoded(path, palette=(), class_count=2):
    mask = own.read_mask([path], list(palette), class_count)
    assert mask.dtype == np.uint8
    return mask.tolist()


@pytest.mark.parametrize("factor", [1, 255])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_two_classes_read_as_0_and_1_or_0_and_255_in_every_mode(tmp_path, factor, mode):
    Image.fromarray(MASK * factor).convert(mode).save(tmp_path / "m.png")
    assert decoded(tmp_path / "m.png") == MASK.tolist()


def test_a_one_bit_mask_is_read(tmp_path):
    Image.fromarray(MASK > 0).save(tmp_path / "m.png")
    assert decoded(tmp_path / "m.png") == MASK.tolist()


def test_grey_values_are_class_indices(tmp_path):
    assert decoded(save_png(tmp_path / "m.png", CLASSES), class_count=3) == CLASSES.tolist()


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_mask_of_one_value_is_read(tmp_path, value):
    path = save_png(tmp_path / "m.png", np.full((2, 3), value, np.uint8))
    assert decoded(path) == [[int(value > 0)] * 3] * 2


@pytest.mark.parametrize(
    ("pixels", "class_count", "message"),
    [
        (
            [[0, 1, 255]],
            2,
            r"values 0 in 1 pixels, 1 in 1 pixels, 255 in 1 pixels; expected 0 to 1, or 0 and 255, or a",
        ),
        ([[0, 2, 2]], 2, r"values 0 in 1 pixels, 2 in 2 pixels; expected 0 to 1, or 0 and 255"),
        ([[0, 255, 2]], 3, r"values 0 in 1 pixels, 2 in 1 pixels, 255 in 1 pixels; expected 0 to 2, or a palette"),
        ([list(range(40, 60))], 4, r"40 in 1 pixels, .* 47 in 1 pixels and 12 more; expected 0 to 3, or a palette"),
        ([[[0, 0, 0], [255, 0, 0]]], 2, r"values \(0, 0, 0\) in 1 pixels, \(255, 0, 0\) in 1 pixels; expected 0 to 1"),
        ([[[0, 0, 0], [0, 1, 2]]], 3, r"values \(0, 0, 0\) in 1 pixels, \(0, 1, 2\) in 1 pixels; expected 0 to 2"),
    ],
)
def test_unknown_grey_values_are_refused_with_their_counts(tmp_path, pixels, class_count, message):
    path = save_png(tmp_path / "m.png", np.array(pixels, np.uint8))
    with pytest.raises(ValueError, match=rf"m\.png: .*{message}"):
        decoded(path, class_count=class_count)


# Masks of colours


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_of_the_palette_are_class_indices(tmp_path, mode):
    image = Image.fromarray(np.array(COLOURS, np.uint8)[CLASSES])
    (image.quantize(8) if mode == "P" else image.convert(mode)).save(tmp_path / "m.png")
    assert decoded(tmp_path / "m.png", COLOURS, 3) == CLASSES.tolist()


def test_a_palette_of_greys_reads_a_grey_mask(tmp_path):
    path = save_png(tmp_path / "m.png", np.array([0, 100, 200], np.uint8)[CLASSES])
    assert decoded(path, [[0, 0, 0], [100, 100, 100], [200, 200, 200]], 3) == CLASSES.tolist()


def test_background_need_not_be_black(tmp_path):
    palette = [[255, 255, 255], [255, 0, 0], [0, 0, 0]]
    path = save_png(tmp_path / "m.png", np.array(palette, np.uint8)[CLASSES])
    assert decoded(path, palette, 3) == CLASSES.tolist()


def test_colours_outside_the_palette_are_refused_with_their_counts_black_too(tmp_path):
    path = save_png(tmp_path / "m.png", np.array([[[0, 0, 0], [255, 0, 0], [254, 0, 0]]], np.uint8))
    with pytest.raises(
        ValueError, match=r"m\.png: values \(0, 0, 0\) in 1 pixels, \(254, 0, 0\) in 1 pixels, \(255, 0"
    ):
        decoded(path, [[255, 255, 255], [255, 0, 0]])


# JPEG


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_a_jpeg_of_two_classes_is_cut_at_128(tmp_path, suffix):
    path, disc = tmp_path / f"m{suffix}", builders.ellipse_region((60, 90), (30, 45), 50, 40, 20)
    Image.fromarray(np.where(disc, 255, 0).astype(np.uint8)).save(path, quality=90)
    assert len(np.unique(image_files.read_grey(path))) > 20  # ringing
    assert decoded(path) == disc.tolist()


def test_a_jpeg_of_colours_takes_the_nearest(tmp_path):
    Image.fromarray(np.array(COLOURS, np.uint8)[LARGE]).save(tmp_path / "m.jpg", quality=95, subsampling=0)
    assert decoded(tmp_path / "m.jpg", COLOURS, 3) == LARGE.tolist()


@pytest.mark.parametrize("quality", [10, 40, 75, 100])
def test_an_empty_jpeg_is_all_background(tmp_path, quality):
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "m.jpg", quality=quality)  # 1 at 40, 0 at 75
    assert not np.any(decoded(tmp_path / "m.jpg"))


@pytest.mark.parametrize(("pixels", "class_count"), [(LARGE, 3), ((LARGE > 0).astype(np.uint8), 2)])
def test_class_indices_in_a_jpeg_are_refused(tmp_path, pixels, class_count):
    Image.fromarray(pixels).save(tmp_path / "m.jpg", quality=95)
    with pytest.raises(ValueError, match=r"m\.jpg: JPEG with values up to \d; expected black and white, PNG with over"):
        decoded(tmp_path / "m.jpg", class_count=class_count)


def test_a_16_bit_mask_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"m\.png: 16 bits a channel"):
        decoded(save_png(tmp_path / "m.png", MASK.astype(np.uint16)))


# Names that tables take for missing values

CALLED = ("NA", "null", "None", "nan", "N/A", "n/a", "NULL", "#N/A")  # initials, codes of exports
HARD = "NA"  # the patient whose images go wrong: without them the mean is much better


def write_called(folder):
    """Two images of each of eight patients, four of them in files called as missing values; heads in noise."""
    rows, at = ["name,subject,spacing_mm,stratum"], np.mgrid[:36, :48]
    for place in range(2 * len(CALLED)):
        draw, subject = np.random.default_rng(place), CALLED[place // 2]
        name = CALLED[place] if place < 4 else f"c{place}"
        mask = ((at[0] - draw.uniform(14, 22)) / 9) ** 2 + ((at[1] - draw.uniform(18, 30)) / 12) ** 2 <= 1
        image = np.kron(draw.uniform(0, 120, (6, 8)), np.ones((6, 6))) + 90 * mask
        save_png(folder / "images" / f"{name}.png", image.astype(np.uint8))
        save_png(folder / "masks" / f"{name}.png", mask.astype(np.uint8) * 255)
        rows.append(f"{name},{subject},0.5,{CALLED[place % 2]}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_patients_images_classes_and_strata_called_as_missing_values_are_lost_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "processed_folder", lambda name: tmp_path / "processed" / name)
    classes, demo = ["background", "nan"], params.read_study(files.study_file("demo"))
    study = demo.model_copy(update={"dataset": "own_called", "classes": classes, "groups": []})
    dataset = datasets.of(study)
    verified = verify.check_dataset(dataset, "own_called", write_called(tmp_path / "raw"))
    assert not verified.findings["severity"].isin(["stop", "warn"]).any()
    written = {"cases": verified.cases, "folds": splits.assign_folds(verified.cases, 4, seed=0)}
    for name, table in written.items():
        files.write_csv(tmp_path / f"{name}.csv", table)
    manifest, folds = cases.read_cases(tmp_path / "cases.csv"), files.read_csv(tmp_path / "folds.csv", [])
    pd.testing.assert_frame_equal(folds, written["folds"])
    assert set(manifest["subject"]) == set(folds["subject"]) == set(CALLED)
    tested = [name for fold in range(4) for name in splits.parts(folds, fold)["test"]]
    assert sorted(tested) == sorted(manifest["case"])

    chosen = builders.step_params("02_preprocessing", image_size=[32, 48])
    prepared = preprocessing.preprocess(preprocessing.source_of(chosen, manifest, dataset, None))
    assert prepared.rows(manifest["case"].tolist()).tolist() == list(range(16))

    rows = []
    for case in manifest.to_dict("records"):
        reference = dataset.read_mask(cases.split_paths(case["mask"]))
        predicted = np.roll(reference, 20 if case["subject"] == HARD else 1, axis=1)
        (counts,) = segmentation.class_rows(metrics.confusion(reference, predicted, 2), classes).values()
        rows += [{**case, "fold": 0, "seed": 0, "class": "nan", "stage": stage} | counts for stage in ("raw", "post")]
    files.write_csv(tmp_path / "long.csv", pd.DataFrame(rows)[segmentation.COLUMNS])
    long = files.read_csv(tmp_path / "long.csv", segmentation.COLUMNS)
    table = per_class(long)
    assert holds_all_cases(table, long)
    row = table.iloc[0]
    dice, subjects = (np.array([each[key] for each in rows[::2]]) for key in ("dice", "subject"))
    expected = statistics.bootstrap(dice, np.unique(subjects, return_inverse=True)[1])
    assert dice.mean() < 0.9 < dice[subjects != HARD].mean()
    assert (row["class"], row["n"], row["dice"]) == ("nan", 16, pytest.approx(dice.mean()))
    assert (row["dice_low"], row["dice_high"]) == pytest.approx((expected.low, expected.high))
    group = cases.group_of(manifest.set_index("case")["stratum"])
    of_parts = by_part(long.join(group, on="case"), "group")
    assert of_parts[["group", "cases", "n"]].values.tolist() == [["NA", 8, 8], ["null", 8, 8]]
