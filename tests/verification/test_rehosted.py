import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import datasets
from lib.data import cases
from lib.imaging import image_files
from lib.study import files, provenance
from lib.verification import image_hash, rehosted
from lib.verification.image_hash import ImageHashes
from lib.verification.verify import check_dataset
from tests import builders
from tests.builders import Head, save_png

AVAILABLE = datasets.available  # before conftest.py replaces it
HEADS = builders.heads()  # 000_HC, 000_2HC, 001_HC, ...: examinations 000, 004 and 008 have two images
RENAMED = {f"malignant-{number}_HC": head for number, head in enumerate(reversed(HEADS), start=1)}
SPLITS = ("train", "validation", "test")


def make_home(folder, patch):
    """Writes HC18's heads, and nothing else, to data/raw; data/processed is next to it."""
    raw = folder / "raw"
    patch.setattr(files, "raw_folder", lambda name: raw / name)
    patch.setattr(files, "processed_folder", lambda name: folder / "processed" / name)
    patch.setattr(datasets, "available", AVAILABLE)
    builders.write_hc18(raw / "hc18", HEADS)
    return raw


def hashes(home):
    """Cached files with hashes of known images."""
    return list((home.parent / "processed").glob("hashes-*"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    return make_home(tmp_path, monkeypatch)


def write(folder, number, image, outline, split="train"):
    """Writes an image and its outline under the names of ultrasound_fetus."""
    save_png(folder / split / "malignant" / f"{number}_HC.png", image.astype(np.uint8))
    save_png(folder / split / "malignant" / f"{number}_HC_Annotation.png", outline)


def rename(home, change=lambda image: image):
    """HC18's images in the layout of ultrasound_fetus, numbered backwards, assigned to the splits in turn."""
    folder = home / "ultrasound_fetus"
    for number, (seed, head) in enumerate(reversed(list(enumerate(HEADS))), start=1):
        image, outline = change(builders.image_of(head, seed)), change(builders.outline_of(head))
        write(folder, number, image, np.where(outline > 127, 255, 0).astype(np.uint8), SPLITS[(number - 1) % 3])
    return folder


def verify(folder, name="ultrasound_fetus"):
    dataset = datasets.DATASETS[name]
    return check_dataset(dataset, name, folder, [group for group in dataset.groups if group == "malignant"])


def of_check(result, check):
    return result.findings[result.findings["check"] == check].to_dict("records")


@pytest.fixture(scope="module")
def renamed(tmp_path_factory):
    """The verification of the renamed images and three new ones."""
    with pytest.MonkeyPatch.context() as patch:
        folder = rename(make_home(tmp_path_factory.mktemp("home"), patch))
        for number in (97, 98, 99):
            noise = np.random.default_rng(number).integers(0, 255, (60, 90))
            write(folder, number, noise, builders.outline_of(HEADS[1]))
        path = folder / "train" / "malignant" / "1_HC.png"
        pixels = image_files.read_pixels(path)
        path.unlink()
        Image.fromarray(np.dstack([pixels] * 3)).save(path.with_suffix(".bmp"))  # equal pixels in another format
        return verify(folder)


def test_every_renamed_image_is_recognised_by_its_pixels(renamed):
    assert renamed.near_duplicates.set_index("case")["twin"].to_dict() == {n: head.name for n, head in RENAMED.items()}
    assert renamed.near_duplicates["equal_pixels"].all()
    assert (renamed.near_duplicates["differing_bits"] == 0).all()
    assert set(renamed.near_duplicates["dataset"]) == {"hc18"}


def test_examination_pixel_size_and_hc_are_those_of_hc18(renamed):
    table = renamed.cases.set_index("case")
    for name, head in RENAMED.items():
        row = table.loc[name]
        assert row["subject"] == row["fold_group"] == f"hc18-{head.name[:3]}"
        assert row[["spacing_row_mm", "spacing_col_mm"]].tolist() == pytest.approx([head.spacing_mm] * 2, abs=1e-6)
        assert row["hc_mm"] == pytest.approx(head.hc_mm, abs=1e-3)
    new = table.loc["malignant-98_HC"]  # nothing is recovered
    assert new["subject"] == "malignant-98_HC"
    assert np.isnan(new["spacing_row_mm"])


def test_images_of_another_data_set_and_examinations_in_several_published_splits_are_warnings(renamed):
    row = renamed.identity.iloc[0]
    assert row[["cases", "twins", "equal_pixels", "twin_classes"]].tolist() == [15, 12, 12, "head"]
    assert row["references_compared"] == len(HEADS)
    # HC18 fits an ellipse, this data set fills the outline to its centre-line; heads of 40 px differ by a few pixels.
    assert 0.98 < row["reference_dice_median"] <= 1
    # The two images of 000, 004 and 008 are neighbours, so they are in two splits.
    assert row[["subjects", "subjects_in_several_splits"]].tolist() == [9, 3]
    for check, text in (
        ("images of another data set", "12 of 15 images are also in hc18 (HC18, fetal head circumference), 12 of"),
        ("subject in several published splits", "3 of 9 subjects"),
    ):
        (finding,) = of_check(renamed, check)
        assert (finding["severity"], finding["case"], finding["found"][: len(text)]) == ("warn", "hc18", text)
    assert of_check(renamed, "subjects unknown") != []  # three are


def test_different_references_do_not_agree_and_examinations_within_one_split_are_no_finding(home):
    folder = home / "ultrasound_fetus"
    for number, head in enumerate(HEADS):
        other = builders.outline_of(Head(head.name, (30.0, 20.0), 20.0, 16.0, shape=head.shape))
        write(folder, number + 1, builders.image_of(head, number), other, SPLITS[int(head.name[:3]) % 3])
    result = verify(folder)
    assert result.identity["reference_dice_median"].item() < 0.5
    assert result.identity["subjects_in_several_splits"].tolist() == [0]
    assert of_check(result, "subject in several published splits") == []
    assert of_check(result, "subjects unknown") == []  # all were recovered


def test_a_case_with_a_pixel_size_and_hc_keeps_them_and_takes_the_recovered_subject(home):
    image = home / "hc18" / "training_set" / "001_HC.png"
    case = cases.Case("mine", "me", image, (image,), (0.5, 0.5), reference_mm={"hc": 99.0})
    known, _ = rehosted.known_images("own_data")
    duplicates = rehosted.find_duplicates([case], [image_hash.describe(image_files.read_grey(image))], known)
    (recovered,) = rehosted.recover([case], duplicates, known)
    expected = ("hc18-001", (0.5, 0.5), {"hc": 99.0})
    assert (recovered.subject, recovered.spacing_mm, recovered.reference_mm) == expected


def test_a_resized_copy_is_recognised_and_noted_but_its_pixel_size_is_not_recovered(home):
    folder = rename(home, lambda image: cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA))
    result = verify(folder)
    duplicates = result.near_duplicates
    assert duplicates.set_index("case")["twin"].to_dict() == {name: head.name for name, head in RENAMED.items()}
    assert not duplicates["equal_pixels"].any()
    assert (duplicates["differing_bits"] <= rehosted.MAX_DIFFERING_BITS).all()
    table = result.cases.set_index("case")
    assert table.loc["malignant-1_HC", "subject"] == f"hc18-{HEADS[-1].name[:3]}"
    assert table[["spacing_row_mm", "spacing_col_mm", "hc_mm"]].isna().all(axis=None)
    assert result.identity[["twins", "equal_pixels", "references_compared"]].values.tolist() == [[12, 0, 0]]
    assert np.isnan(result.identity["reference_dice_median"].item())
    notes = {each["case"]: each["found"] for each in of_check(result, "near-duplicate in another data set")}
    bits = duplicates[["case", "twin", "differing_bits"]].values
    assert notes == {case: f"hc18 {twin}, {count} of 64 bits differ" for case, twin, count in bits}


@pytest.mark.parametrize(
    ("known_bits", "twin"),
    [
        ({"x": 2**rehosted.MAX_DIFFERING_BITS - 1}, [["x", rehosted.MAX_DIFFERING_BITS]]),
        ({"x": 2 ** (rehosted.MAX_DIFFERING_BITS + 1) - 1}, []),  # one bit too far
        ({"far": 0b1111, "near": 0b0001, "middle": 0b0011}, [["near", 1]]),
    ],
)
def test_the_near_duplicate_has_the_nearest_hash_within_the_limit(known_bits, twin):
    case = cases.Case("a", "a", Path("a.png"), (Path("a.png"),), None)
    row = dict.fromkeys(rehosted.KNOWN_COLUMNS, "") | {"dataset": "hc18", "pixel_hash": "0"}
    known = pd.DataFrame([row | {"case": name, "perceptual": f"{bits:016x}"} for name, bits in known_bits.items()])
    duplicates = rehosted.find_duplicates([case], [ImageHashes("1", 0, None)], known)
    assert duplicates[["twin", "differing_bits"]].values.tolist() == twin


def test_an_original_keeps_its_examinations_although_a_copy_of_it_is_available(home):
    rename(home)
    result = verify(home / "hc18", "hc18")
    assert result.identity.empty
    assert result.near_duplicates.empty  # nor is it searched in itself
    assert result.cases["subject"].tolist() == [head.name[:3] for head in HEADS]


def test_pixels_that_are_not_square_stay_so_when_their_size_is_recovered(home):
    datasets.DATASETS["phantom_brain_structures"].phantom.write(home / "brain_structures", 10, 3)
    (image,) = (home / "brain_structures").rglob("Orginal_train_images_to_959_661/*.png")
    pixels = image_files.read_grey(image)
    write(home / "ultrasound_fetus", 1, pixels, np.where(pixels > 0, 255, 0).astype(np.uint8))
    (original,) = datasets.DATASETS["brain_structures"].find_cases(home / "brain_structures", ["diverse"])[0]
    row = verify(home / "ultrasound_fetus").cases.iloc[0]
    assert row["subject"] == f"brain_structures-{original.subject}"
    assert (row["spacing_row_mm"], row["spacing_col_mm"]) == pytest.approx(original.spacing_mm)


def test_phantoms_are_not_searched_for_and_not_searched_in(home):
    phantom = home / "phantom_hc18"
    shutil.copytree(home / "hc18", phantom)
    truth = pd.DataFrame({"case": [head.name for head in HEADS], "subject": [head.name[:3] for head in HEADS]})
    files.write_csv(phantom / datasets.TRUTH, truth)
    assert check_dataset(datasets.DATASETS["phantom_hc18"], "phantom_hc18", phantom).near_duplicates.empty
    shutil.rmtree(home / "hc18")
    result = verify(rename(home))  # no other data set is available
    assert (len(result.near_duplicates), len(result.identity), hashes(home)) == (0, 0, [])
    assert result.near_duplicates.columns.tolist() == rehosted.DUPLICATE_COLUMNS
    assert result.identity.columns.tolist() == rehosted.IDENTITY_COLUMNS


def test_a_folder_that_cannot_be_searched_is_a_note_and_an_unreadable_image_is_left_out(home):
    (home / "hc18" / "training_set" / "001_HC.png").write_text("no image")
    save_png(home / "brain_structures" / "pictures" / "a.png", np.zeros((4, 4), np.uint8))
    result = verify(rename(home))
    (finding,) = of_check(result, "data set not searched")
    assert (finding["severity"], finding["case"]) == ("note", "brain_structures")
    assert str(home / "brain_structures") in finding["found"]
    assert sorted(result.near_duplicates["twin"]) == sorted(head.name for head in HEADS if head.name != "001_HC")


def test_hashes_are_read_from_the_cache_unless_content_or_code_has_changed(home, monkeypatch):
    first, _ = rehosted.known_images("ultrasound_fetus")
    assert len(first) == len(HEADS)
    path = home / "hc18" / "training_set" / "003_HC.png"
    os.utime(path, ns=(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(rehosted, "_hash", lambda *_: pytest.fail("an image was hashed again"))
        again, _ = rehosted.known_images("busi")
    pd.testing.assert_frame_equal(again, first, check_exact=True)
    assert len(hashes(home)) == 1
    save_png(path, np.random.default_rng(9).integers(0, 255, (60, 90)).astype(np.uint8))
    other, _ = rehosted.known_images("ultrasound_fetus")
    assert len(set(first["pixel_hash"]) ^ set(other["pixel_hash"])) == 2
    path.unlink()
    path.with_name("003_HC_Annotation.png").unlink()
    fewer, _ = rehosted.known_images("ultrasound_fetus")
    assert set(other["case"]) - set(fewer["case"]) == {"003_HC"}
    monkeypatch.setattr(provenance, "module_hashes", lambda _: {"lib.verification.image_hash": "another"})
    rehosted.known_images("ultrasound_fetus")
    assert len(hashes(home)) == 4
