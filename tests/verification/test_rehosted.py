"""Images under new names: HC18's drawn heads laid out as another data set, and what is recovered of them."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import datasets
from lib.data import cases
from lib.data.splits import assign_folds, check_disjoint
from lib.imaging import image_files
from lib.study import files, provenance
from lib.verification import image_hash, rehosted
from lib.verification.image_hash import Likeness
from lib.verification.verify import check_dataset
from tests import builders
from tests.builders import Head, save_png

AT_HAND = datasets.at_hand  # before conftest.py hides what lies in this copy
TUMOUR = datasets.DATASETS["ultrasound_fetus"]
HEADS = builders.heads()  # 000_HC, 000_2HC, 001_HC, ...: examinations 000, 004 and 008 have two images
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Raw:
    """A data/raw and a data/processed of their own."""

    raw: Path
    processed: Path

    def folder(self, name):
        return self.raw / name

    def hashes(self):
        """Files in which hashes of known images are kept."""
        return sorted(path.name for path in self.processed.glob("hashes-*"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """HC18's heads in data/raw/hc18, and nothing else."""
    made = Raw(tmp_path / "raw", tmp_path / "processed")
    monkeypatch.setattr(files, "raw_folder", lambda name: made.raw / name)
    monkeypatch.setattr(files, "processed_folder", lambda name: made.processed / name)
    monkeypatch.setattr(datasets, "at_hand", AT_HAND)
    builders.write_hc18(made.folder("hc18"), HEADS)
    return made


def place(folder, number, image, outline, split="train", group="malignant"):
    """One image with its outline as ultrasound_fetus names them."""
    save_png(folder / split / group / f"{number}_HC.png", image.astype(np.uint8))
    save_png(folder / split / group / f"{number}_HC_Annotation.png", outline)


def rename(home, change=lambda image: image, heads=HEADS):
    """HC18's images in the layout of ultrasound_fetus, numbered backwards, dealt to the splits by turns."""
    folder = home.folder("ultrasound_fetus")
    for place_in, (seed, head) in enumerate(reversed(list(enumerate(heads)))):
        image, outline = change(builders.image_of(head, seed)), change(builders.outline_of(head))
        place(folder, place_in + 1, image, np.where(outline > 127, 255, 0).astype(np.uint8), SPLITS[place_in % 3])
    return folder


def verify(folder, name="ultrasound_fetus"):
    dataset = datasets.DATASETS[name]
    return check_dataset(dataset, name, folder, [group for group in dataset.groups if group == "malignant"])


def twin_of(result):
    return dict(zip(result.twins["case"], result.twins["twin"]))


def halved(image):
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


# Equal pixels


def test_every_renamed_image_is_found_by_its_pixels(home):
    result = verify(rename(home))
    expected = {f"malignant-{number}_HC": head.name for number, head in enumerate(reversed(HEADS), start=1)}
    assert twin_of(result) == expected
    assert result.twins["equal_pixels"].all()
    assert (result.twins["differing_bits"] == 0).all()
    assert set(result.twins["dataset"]) == {"hc18"}


def test_examination_pixel_size_and_hc_are_those_of_hc18(home):
    table = verify(rename(home)).cases.set_index("case")
    for number, head in enumerate(reversed(HEADS), start=1):
        row = table.loc[f"malignant-{number}_HC"]
        assert row["subject"] == row["fold_group"] == f"hc18-{head.name[:3]}"
        assert row[["spacing_row_mm", "spacing_col_mm"]].tolist() == pytest.approx([head.spacing_mm] * 2, abs=1e-6)
        assert row["hc_mm"] == pytest.approx(head.hc_mm, abs=1e-3)


def test_images_of_one_examination_are_never_in_two_folds(home):
    table = verify(rename(home)).cases
    for seed in range(5):
        folds = assign_folds(table, 3, seed)
        check_disjoint(folds)
        assert folds.groupby("subject")["fold"].nunique().max() == 1


def test_examinations_in_several_published_splits_are_counted(home):
    result = verify(rename(home))
    split_of = {head.name: SPLITS[place_in % 3] for place_in, head in enumerate(reversed(HEADS))}
    splits = pd.Series(split_of).groupby(lambda name: name[:3]).nunique()
    assert (splits > 1).sum() == 3  # the two images of 000, 004 and 008 are neighbours, so in two splits
    row = result.identity.iloc[0]
    assert (row["subjects"], row["subjects_in_several_splits"]) == (splits.size, 3)
    (found,) = result.findings[result.findings["check"] == "subject in several published splits"].to_dict("records")
    assert (found["severity"], found["case"]) == ("warn", "hc18")
    assert found["found"] == f"3 of {splits.size} subjects, as hc18 names them"


def test_several_images_of_one_examination_in_one_split_are_no_fault_of_the_split(home):
    folder = home.folder("ultrasound_fetus")
    for number, head in enumerate(HEADS):
        image, outline = builders.image_of(head, number), builders.outline_of(head)
        place(folder, number, image, outline, SPLITS[int(head.name[:3]) % 3])  # whole examinations
    result = verify(folder)
    assert result.identity["subjects_in_several_splits"].tolist() == [0]
    assert "subject in several published splits" not in set(result.findings["check"])


def test_that_subjects_are_unknown_is_said_until_all_of_them_are_recovered(home):
    folder = rename(home)
    assert "subjects unknown" not in set(verify(folder).findings["check"])
    place(folder, 99, np.random.default_rng(99).integers(0, 255, (60, 90)), builders.outline_of(HEADS[1]))
    assert "subjects unknown" in set(verify(folder).findings["check"])


def test_references_of_equal_images_agree_up_to_how_an_outline_is_filled(home):
    row = verify(rename(home)).identity.iloc[0]
    assert row["references_compared"] == len(HEADS)
    # An ellipse is fitted there, a line is filled to its middle here; heads of 40 px differ by a few pixels.
    assert 0.98 < row["reference_dice_median"] <= 1


def test_references_that_show_something_else_do_not_agree(home):
    folder = home.folder("ultrasound_fetus")
    for number, head in enumerate(HEADS):
        other = Head(head.name, (30.0, 20.0), 20.0, 16.0, shape=head.shape)
        place(folder, number + 1, builders.image_of(head, number), builders.outline_of(other))
    assert verify(folder).identity["reference_dice_median"].item() < 0.5


def test_the_finding_names_the_data_set_and_counts(home):
    folder = rename(home)
    for number in (97, 98, 99):
        place(folder, number, np.random.default_rng(number).integers(0, 255, (60, 90)), builders.outline_of(HEADS[1]))
    result = verify(folder)
    (found,) = result.findings[result.findings["check"] == "images of another data set"].to_dict("records")
    assert (found["severity"], found["case"]) == ("warn", "hc18")
    assert found["found"] == (
        "12 of 15 images are those of hc18 (HC18, fetal head circumference), 12 of them pixel by pixel"
    )
    row = result.identity.iloc[0]
    assert row[["cases", "twins", "equal_pixels", "twin_classes"]].tolist() == [15, 12, 12, "head"]
    table = result.cases.set_index("case")
    assert table.loc["malignant-98_HC", "subject"] == "malignant-98_HC"  # its own image: nothing is taken over
    assert np.isnan(table.loc["malignant-98_HC", "spacing_row_mm"])


def test_equal_pixels_are_found_in_another_file_format(home):
    folder = rename(home)
    path = folder / "train" / "malignant" / "1_HC.png"
    pixels = image_files.read_pixels(path)
    path.unlink()
    Image.fromarray(np.dstack([pixels] * 3)).save(path.with_suffix(".bmp"))
    assert verify(folder).twins["equal_pixels"].all()


def test_what_a_case_knows_of_itself_is_kept(home):
    """Of two equal images the one with a pixel size of its own keeps it; its subject is the recovered one."""
    image = home.folder("hc18") / "training_set" / "001_HC.png"
    case = cases.Case("mine", "me", image, (image,), (0.5, 0.5), reference_mm={"hc": 99.0})
    known, _ = rehosted.known_images("own_data")
    twins = rehosted.find_twins([case], [image_hash.describe(image_files.read_grey(image))], known)
    (found,) = rehosted.recover([case], twins, known)
    assert (found.subject, found.spacing_mm, found.reference_mm) == ("hc18-001", (0.5, 0.5), {"hc": 99.0})


# Nearly equal


def test_a_resized_copy_is_found_but_its_pixel_size_is_not_taken_over(home):
    result = verify(rename(home, halved))
    expected = {f"malignant-{number}_HC": head.name for number, head in enumerate(reversed(HEADS), start=1)}
    assert twin_of(result) == expected
    assert not result.twins["equal_pixels"].any()
    assert (result.twins["differing_bits"] <= rehosted.FARTHEST).all()
    table = result.cases.set_index("case")
    assert table.loc["malignant-1_HC", "subject"] == f"hc18-{HEADS[-1].name[:3]}"
    assert table[["spacing_row_mm", "spacing_col_mm", "hc_mm"]].isna().all().all()
    assert result.identity[["twins", "equal_pixels", "references_compared"]].values.tolist() == [[12, 0, 0]]
    assert np.isnan(result.identity["reference_dice_median"].item())


def test_each_resized_copy_is_a_note_with_the_bits_that_differ(home):
    result = verify(rename(home, halved))
    notes = result.findings[result.findings["check"] == "nearly an image of another data set"]
    assert len(notes) == 12
    row = result.twins.iloc[0]
    assert notes.set_index("case").loc[row["case"], "found"] == (
        f"hc18 {row['twin']}, {row['differing_bits']} of 64 bits differ"
    )


def test_a_hash_one_bit_too_far_is_no_twin():
    case = cases.Case("a", "a", Path("a.png"), (Path("a.png"),), None)
    row = dict.fromkeys(rehosted.KNOWN_COLUMNS, "") | {
        "dataset": "hc18",
        "case": "x",
        "pixel_hash": "0",
        "subject": "s",
    }
    near, far = (int("1" * bits, 2) for bits in (rehosted.FARTHEST, rehosted.FARTHEST + 1))
    known = pd.DataFrame([row | {"perceptual": f"{0:016x}"}])
    assert len(rehosted.find_twins([case], [Likeness("1", near, None)], known)) == 1
    assert len(rehosted.find_twins([case], [Likeness("1", far, None)], known)) == 0


def test_of_several_near_images_the_nearest_is_the_twin():
    case = cases.Case("a", "a", Path("a.png"), (Path("a.png"),), None)
    row = dict.fromkeys(rehosted.KNOWN_COLUMNS, "") | {"dataset": "hc18", "subject": "s", "pixel_hash": "0"}
    bits = {"far": 0b1111, "near": 0b0001, "middle": 0b0011}
    known = pd.DataFrame([row | {"case": name, "perceptual": f"{value:016x}"} for name, value in bits.items()])
    found = rehosted.find_twins([case], [Likeness("1", 0, None)], known)
    assert found[["twin", "differing_bits"]].values.tolist() == [["near", 1]]


# Which of two is the copy


def test_an_original_keeps_its_examinations_although_a_copy_of_it_lies_beside_it(home):
    rename(home)
    result = verify(home.folder("hc18"), "hc18")
    groups = result.cases.set_index("case")["fold_group"]
    assert groups["000_HC"] == groups["000_2HC"]
    assert result.identity.empty


def test_pixels_that_are_not_square_stay_so_when_their_size_is_taken_over(home):
    datasets.DATASETS["phantom_brain_structures"].made.write(home.folder("brain_structures"), 10, 3)
    (image,) = home.folder("brain_structures").rglob("Orginal_train_images_to_959_661/*.png")
    pixels = image_files.read_grey(image)
    place(home.folder("ultrasound_fetus"), 1, pixels, np.where(pixels > 0, 255, 0).astype(np.uint8))
    found, _ = datasets.DATASETS["brain_structures"].find_cases(home.folder("brain_structures"), ["diverse"])
    row = verify(home.folder("ultrasound_fetus")).cases.iloc[0]
    assert row["subject"] == f"brain_structures-{found[0].subject}"
    assert (row["spacing_row_mm"], row["spacing_col_mm"]) == pytest.approx(found[0].spacing_mm)


# Nothing


def test_images_of_another_kind_are_not_found(home):
    folder = home.folder("ultrasound_fetus")
    for number in range(1, 7):
        image = builders.image_of(HEADS[number], 100 + number)[:, ::-1]  # another speckle, and mirrored
        place(folder, number, image, builders.outline_of(HEADS[number])[:, ::-1])
    result = verify(folder)
    assert result.twins.empty
    assert result.identity.empty
    assert not result.findings["check"].str.contains("another data set").any()
    assert result.cases["subject"].tolist() == result.cases["case"].tolist()


def test_with_nothing_at_hand_nothing_is_found(home):
    folder = rename(home)
    shutil.rmtree(home.folder("hc18"))
    result = verify(folder)
    assert (len(result.twins), len(result.identity)) == (0, 0)
    assert result.twins.columns.tolist() == rehosted.TWIN_COLUMNS
    assert result.identity.columns.tolist() == rehosted.IDENTITY_COLUMNS
    assert home.hashes() == []


def test_a_data_set_is_not_searched_in_itself(home):
    result = verify(home.folder("hc18"), "hc18")
    assert result.twins.empty
    assert result.cases["subject"].tolist() == [head.name[:3] for head in HEADS]


def test_phantoms_are_never_searched_and_never_searched_in(home):
    phantom = home.folder("phantom_hc18")
    shutil.copytree(home.folder("hc18"), phantom)
    truth = pd.DataFrame({"case": [head.name for head in HEADS], "subject": [head.name[:3] for head in HEADS]})
    files.write_csv(phantom / datasets.TRUTH, truth)
    result = check_dataset(datasets.DATASETS["phantom_hc18"], "phantom_hc18", phantom)
    assert result.twins.empty
    assert home.hashes() == []
    shutil.rmtree(home.folder("hc18"))
    assert verify(rename(home)).twins.empty


def test_a_folder_that_cannot_be_searched_is_a_note_and_stops_nothing(home):
    save_png(home.folder("brain_structures") / "pictures" / "a.png", np.zeros((4, 4), np.uint8))
    result = verify(rename(home))
    (found,) = result.findings[result.findings["check"] == "data set not searched"].to_dict("records")
    assert (found["severity"], found["case"]) == ("note", "brain_structures")
    assert str(home.folder("brain_structures")) in found["found"]
    assert len(result.twins) == len(HEADS)


def test_an_image_that_cannot_be_read_is_left_out_of_the_known_ones(home):
    (home.folder("hc18") / "training_set" / "001_HC.png").write_text("no image")
    known, findings = rehosted.known_images("ultrasound_fetus")
    assert findings == []
    assert known["case"].tolist() == [head.name for head in HEADS if head.name != "001_HC"]


# Kept hashes


def test_hashes_are_computed_once(home, monkeypatch):
    first, _ = rehosted.known_images("ultrasound_fetus")
    assert len(home.hashes()) == 1
    monkeypatch.setattr(rehosted, "_likeness", lambda *_: pytest.fail("an image was hashed again"))
    again, _ = rehosted.known_images("busi")
    pd.testing.assert_frame_equal(again, first, check_exact=True, check_dtype=False)


@pytest.mark.parametrize("change", ["pixels", "time", "gone"])
def test_hashes_are_renewed_when_content_changes_and_not_with_times_alone(home, change):
    first, _ = rehosted.known_images("ultrasound_fetus")
    path = home.folder("hc18") / "training_set" / "003_HC.png"
    if change == "pixels":
        save_png(path, np.random.default_rng(9).integers(0, 255, (60, 90)).astype(np.uint8))
    elif change == "time":
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
        path.with_name("003_HC_Annotation.png").unlink()
    now, _ = rehosted.known_images("ultrasound_fetus")
    assert len(home.hashes()) == {"pixels": 2, "time": 1, "gone": 2}[change]
    changed = set(first["pixel_hash"]) ^ set(now["pixel_hash"])
    assert len(changed) == {"pixels": 2, "time": 0, "gone": 1}[change]


def test_hashes_of_other_code_are_not_taken(home, monkeypatch):
    rehosted.known_images("ultrasound_fetus")
    monkeypatch.setattr(provenance, "module_hashes", lambda _: {"lib.verification.image_hash": "another"})
    rehosted.known_images("ultrasound_fetus")
    assert len(home.hashes()) == 2


def test_what_is_kept_comes_back_as_it_was(home):
    first, _ = rehosted.known_images("ultrasound_fetus")
    again, _ = rehosted.known_images("ultrasound_fetus")
    assert again["subject"].tolist() == first["subject"].tolist() == [head.name[:3] for head in HEADS]
    assert again["perceptual"].tolist() == first["perceptual"].tolist()
    assert again["spacing_row_mm"].tolist() == pytest.approx([head.spacing_mm for head in HEADS], abs=1e-6)
