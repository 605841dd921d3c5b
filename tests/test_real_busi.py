import numpy as np
import pandas as pd
import pytest

from lib import datasets
from lib.data import cases, splits
from lib.imaging import image_files
from lib.study import files
from lib.verification import verify

FOLDER = files.ROOT.parent / "shared" / "data" / "busi"
GROUPS = FOLDER / "near-duplicates.csv"  # of all 780 images, checked manually; columns group, image
pytestmark = pytest.mark.skipif(not GROUPS.is_file(), reason=f"{FOLDER} is missing: BUSI is not part of the project")
BUSI = datasets.DATASETS["busi"]
ONE_LESION_MORE = {"malignant (39)", "malignant (40)"}  # two images of one lesion in different listed groups


@pytest.fixture(scope="module")
def verified():
    return verify.check_dataset(BUSI, "busi", FOLDER, BUSI.groups, correlation=0.3)


@pytest.fixture(scope="module")
def listed_groups(verified):
    """Group of each available image, its own name if it is in none."""
    listed = pd.read_csv(GROUPS).set_index("image")["group"]
    return pd.Series({name: listed.get(name, name) for name in verified.cases["case"]})


def test_there_are_135_images_with_136_masks_and_no_finding_stops_the_study(verified):
    assert verified.cases["stratum"].value_counts().to_dict() == {"benign": 35, "malignant": 50, "normal": 50}
    assert verified.cases["mask"].map(lambda paths: len(cases.split_paths(paths))).sum() == 136
    assert not verified.findings["severity"].eq("stop").any()


def test_every_listed_group_of_near_duplicates_is_detected_and_in_one_fold(verified, listed_groups):
    found = verified.cases.set_index("case")["fold_group"]
    sizes = listed_groups.value_counts()
    assert (sizes > 1).sum() == 9
    for group in sizes[sizes > 1].index:
        members = listed_groups[listed_groups == group].index
        assert found[members].nunique() == 1, members.tolist()
    folds = splits.assign_folds(verified.cases, 5, 2026)
    splits.check_disjoint(folds)
    assert folds.groupby("fold_group")["fold"].nunique().max() == 1


def test_only_two_images_of_one_lesion_are_matched_across_listed_groups(verified, listed_groups):
    rows = verified.findings[verified.findings["check"] == "duplicate across subjects"]
    pairs = [{row["case"], row["found"].partition(": ")[0]} for row in rows.to_dict("records")]
    assert len(pairs) > 20
    assert [pair for pair in pairs if listed_groups[list(pair)].nunique() > 1] == [ONE_LESION_MORE]


def test_masks_are_black_and_white_and_empty_only_for_normal_images(verified):
    assert set(verified.colours["colour"]) == {"0", "0 0 0", "255"}
    table = verified.cases.set_index("case")
    sizes = table[["height", "width"]].prod(axis=1)
    assert verified.colours["pixels"].sum() == sizes.sum() + sizes["benign (25)"]  # which has two masks
    empty = verified.measured.set_index("case")["area_fraction"] == 0
    assert empty.groupby(table["stratum"]).mean().to_dict() == {"benign": 0, "malignant": 0, "normal": 1}


def test_both_masks_of_an_image_with_two_lesions_count(verified):
    both = verified.cases.set_index("case").loc["benign (25)", "mask"]
    one, other = (image_files.read_binary(path) for path in cases.split_paths(both))
    assert not (one & other).any()
    area = verified.measured.set_index("case").loc["benign (25)", "area_fraction"]
    assert area == pytest.approx(one.mean() + other.mean())


def test_lesions_are_darker_than_their_surroundings(verified):
    contrast = verified.measured["contrast"].dropna()
    assert len(contrast) == 85
    assert (contrast < 0).mean() > 0.8
    assert np.nanmean(contrast) == pytest.approx(-0.25, abs=0.05)
