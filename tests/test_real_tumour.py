"""HC18's images under the names of the "Ultrasound Fetus Dataset" are recognised as HC18."""

import pytest

from lib import datasets
from lib.datasets import hc18
from lib.imaging import image_files
from lib.report import folder_check
from lib.study import files
from lib.verification import rehosted, verify

FOLDER = files.ROOT.parent / "shared" / "data" / "hc18"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is missing: HC18 is not part of the project")
AVAILABLE = datasets.available  # before conftest.py hides the data in this copy
EXAMINATIONS = 45  # the first available ones; some have several images
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def known():
    """Cases of the first examinations, and of ten more that are not renamed."""
    found, _ = hc18.find_cases(FOLDER, [])
    subjects = sorted({case.subject for case in found})
    return [case for case in found if case.subject in subjects[: EXAMINATIONS + 10]], subjects[:EXAMINATIONS]


@pytest.fixture(scope="module")
def renamed(known):
    """Cases by new names that hide the examination."""
    selected = [case for case in known[0] if case.subject in known[1]]
    return {f"{number}_HC": case for number, case in enumerate(reversed(selected), start=1)}


@pytest.fixture(scope="module")
def raw(known, renamed, tmp_path_factory):
    """data/raw with links to a part of HC18, some of it also as ultrasound_fetus."""
    root = tmp_path_factory.mktemp("raw")
    training_set = root / "hc18" / "training_set"
    training_set.mkdir(parents=True)
    (root / "hc18" / hc18.TABLE).symlink_to(FOLDER / hc18.TABLE)
    for case in known[0]:
        for path in (case.image, *case.mask):
            (training_set / path.name).symlink_to(path)
    for index, (name, case) in enumerate(renamed.items()):
        folder = root / "ultrasound_fetus" / SPLITS[index % 3] / "malignant"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").symlink_to(case.image)
        (folder / f"{name}_Annotation.png").symlink_to(case.mask[0])
    return root


@pytest.fixture(scope="module")
def verified(raw, tmp_path_factory):
    """The verification of ultrasound_fetus with `raw` as data/raw."""
    processed, dataset = tmp_path_factory.mktemp("processed"), datasets.DATASETS["ultrasound_fetus"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "raw_folder", lambda name: raw / name)
        patch.setattr(files, "processed_folder", lambda name: processed / name)
        patch.setattr(datasets, "available", AVAILABLE)
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
    for index, case in enumerate(renamed.values()):
        splits.setdefault(case.subject, set()).add(SPLITS[index % 3])
    row = verified.identity.iloc[0]
    assert (row["dataset"], row["twin_classes"], row["references_compared"]) == ("hc18", "head", 40)
    assert row["reference_dice_median"] > 0.99  # the centre line against an ellipse fitted to it
    assert row["subjects"] == len(splits) == EXAMINATIONS
    assert row["subjects_in_several_splits"] == sum(len(each) > 1 for each in splits.values()) > 0
    assert "subject in several published splits" in set(verified.findings["check"])


def test_the_command_line_reports_the_source_of_the_images(verified, raw):
    text, _ = folder_check.report_on(raw / "ultrasound_fetus")
    assert text.splitlines()[0].endswith("(Anitha), read as ultrasound_fetus, groups malignant")
    assert "are also in hc18 (HC18, fetal head circumference)" in text
    assert rehosted.IMAGES_OF_ANOTHER_DATA_SET.advice in text
