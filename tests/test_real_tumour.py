"""HC18's own images under the names of the "Ultrasound Fetus Dataset": are they recognised for what they are?"""

import pytest

from lib import datasets
from lib.datasets import hc18
from lib.imaging import image_files
from lib.report import folder_check
from lib.study import files
from lib.verification import rehosted, verify

FOLDER = files.ROOT.parent / "shared" / "data" / "hc18"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is not there: HC18 is not part of the project")
AT_HAND = datasets.available  # before conftest.py hides what lies in this copy
EXAMINATIONS = 45  # the first ones at hand; some have several images
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def known():
    """Cases of the first examinations, and of some more that are not renamed."""
    found, _ = hc18.find_cases(FOLDER, [])
    subjects = sorted({case.subject for case in found})
    return [case for case in found if case.subject in subjects[: EXAMINATIONS + 10]], subjects[:EXAMINATIONS]


@pytest.fixture(scope="module")
def renamed(known):
    """The cases under their new names, which hide the examination: name -> case."""
    chosen = [case for case in known[0] if case.subject in known[1]]
    return {f"{number}_HC": case for number, case in enumerate(reversed(chosen), start=1)}


@pytest.fixture(scope="module")
def raw(known, renamed, tmp_path_factory):
    """data/raw with links to real images: part of HC18, and part of that again as ultrasound_fetus."""
    root = tmp_path_factory.mktemp("raw")
    training_set = root / "hc18" / "training_set"
    training_set.mkdir(parents=True)
    (root / "hc18" / hc18.TABLE).symlink_to(FOLDER / hc18.TABLE)
    for case in known[0]:
        for path in (case.image, *case.mask):
            (training_set / path.name).symlink_to(path)
    for place, (name, case) in enumerate(renamed.items()):
        folder = root / "ultrasound_fetus" / SPLITS[place % 3] / "malignant"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").symlink_to(case.image)
        (folder / f"{name}_Annotation.png").symlink_to(case.mask[0])
    return root


@pytest.fixture(scope="module")
def verified(raw, tmp_path_factory):
    """The verification of a project whose data lie there."""
    processed, dataset = tmp_path_factory.mktemp("processed"), datasets.DATASETS["ultrasound_fetus"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "raw_folder", lambda name: raw / name)
        patch.setattr(files, "processed_folder", lambda name: processed / name)
        patch.setattr(datasets, "available", AT_HAND)
        yield verify.check_dataset(dataset, "ultrasound_fetus", raw / "ultrasound_fetus", ["malignant"])


def test_every_image_is_recognised_by_its_pixels_and_examinations_pixel_sizes_and_hc_are_recovered(verified, renamed):
    assert len(renamed) >= 50
    twins = {f"malignant-{name}": case.name for name, case in renamed.items()}
    assert dict(zip(verified.near_duplicates["case"], verified.near_duplicates["twin"])) == twins
    assert verified.near_duplicates["equal_pixels"].all()
    table = verified.cases.set_index("case")
    for name, case in renamed.items():
        row = table.loc[f"malignant-{name}"]
        assert row["subject"] == f"hc18-{case.subject}"
        assert (row["spacing_row_mm"], row["spacing_col_mm"]) == pytest.approx(case.spacing_mm)
        assert row["hc_mm"] == case.reference_mm["hc"]
        assert (row["height"], row["width"]) == image_files.read_grey(case.image).shape


def test_outlines_are_those_of_heads_and_examinations_in_several_published_splits_are_counted(verified, renamed):
    splits = {}
    for place, case in enumerate(renamed.values()):
        splits.setdefault(case.subject, set()).add(SPLITS[place % 3])
    row = verified.identity.iloc[0]
    assert (row["dataset"], row["twin_classes"], row["references_compared"]) == ("hc18", "head", 40)
    assert row["reference_dice_median"] > 0.99  # the line's middle here, an ellipse through it there
    assert row["subjects"] == len(splits) == EXAMINATIONS
    assert row["subjects_in_several_splits"] == sum(len(each) > 1 for each in splits.values()) > 0
    assert "subject in several published splits" in set(verified.findings["check"])


def test_the_command_line_says_whose_images_these_are(verified, raw):
    text, _ = folder_check.report_on(raw / "ultrasound_fetus")
    assert text.splitlines()[0].endswith("(Anitha), read as ultrasound_fetus, groups malignant")
    assert "are also in hc18 (HC18, fetal head circumference)" in text
    assert rehosted.IMAGES_OF_ANOTHER_DATA_SET.advice in text
