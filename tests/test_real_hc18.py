import numpy as np
import pytest

from lib import datasets
from lib.data import splits
from lib.datasets import hc18
from lib.imaging import image_files
from lib.imaging.ellipse import ellipse_perimeter_mm, fit_ellipse
from lib.study import files
from lib.verification import image_hash, rehosted, verify

FOLDER = files.ROOT.parent / "shared" / "data" / "hc18"
LANDMARKS = FOLDER.with_name("landmarks")
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is missing: HC18 is not part of the project")


@pytest.fixture(scope="module")
def seen():
    """The whole verification, and the hashes of each image by case."""
    hashes = {}
    complete = verify.complete_table

    def keep(usable, found, pairs):
        hashes.update({case.name: found[case.name].hashes for case in usable})
        return complete(usable, found, pairs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "complete_table", keep)
        return verify.check_dataset(datasets.DATASETS["hc18"], "hc18", FOLDER, correlation=0.9), hashes


@pytest.fixture(scope="module")
def verified(seen):
    return seen[0]


@pytest.fixture(scope="module")
def across(seen):
    """Pairs of images of two examinations: (N, N) bool, and the hashes of each image."""
    examination = np.array([name[:3] for name in seen[1]])
    return examination[:, None] != examination[None], list(seen[1].values())


def test_there_are_640_images_of_501_examinations_and_only_equal_ones_within_an_examination(verified):
    findings = verified.findings
    assert len(verified.cases) == 640
    assert verified.cases["subject"].nunique() == 501
    assert not findings["severity"].eq("stop").any()
    rows = findings.query("check == 'duplicate within a subject' and case == '392_HC'")
    assert rows["found"].tolist() == ["392_2HC: equal pixels", "392_3HC: correlation 0.978"]
    assert not findings["check"].isin(["duplicate across subjects", "HC differs from its annotation"]).any()


def test_two_examinations_are_far_less_alike_than_duplicates_and_near_duplicates(across):
    apart, hashed = across
    small = np.stack([each.thumbnail for each in hashed])
    assert 0.5 < (small @ small.T)[apart].max() < 0.65  # correlation of fine structure
    hashes = np.array([each.perceptual for each in hashed], np.uint64)
    assert image_hash.distances(hashes, hashes)[apart].min() >= 8 > rehosted.MAX_DIFFERING_BITS  # bits


def test_hc_from_every_complete_filled_outline_is_within_0_1_mm_of_the_published_one(verified):
    whole = verified.measured[verified.measured["border_gap"] > 0]
    difference = whole["mask_hc_mm"] - whole["published_hc_mm"]
    assert difference.abs().max() < 0.1
    assert abs(difference.mean()) < 0.01  # no bias of half a pixel (0.4 mm)


def test_hc_from_the_outline_is_within_0_05_mm_of_the_published_one_and_axes_are_those_of_heads():
    for case in hc18.find_cases(FOLDER, [])[0][::10]:
        ellipse = fit_ellipse(np.argwhere(image_files.read_grey(case.mask[0])))
        found = ellipse_perimeter_mm(ellipse.major * case.spacing_mm[0], ellipse.minor * case.spacing_mm[0])
        assert found == pytest.approx(case.reference_mm["hc"], abs=0.05), case.name  # the CSV has 1 to 2 decimals
        assert 0.66 < ellipse.minor / ellipse.major < 0.97, case.name  # measured over the whole set


def test_the_heads_with_an_open_outline_are_those_cut_by_the_border(verified):
    touching = set(verified.measured.loc[verified.measured["border_gap"] == 0, "case"])
    assert touching == {"186_HC", "346_HC", "628_2HC", "787_HC"}  # 352_2HC: only its line touches


@pytest.mark.parametrize("fold_count", [5, 6])
def test_folds_are_disjoint_and_similar(verified, fold_count):
    table = verified.cases
    folds = splits.assign_folds(table, fold_count, 2026)
    splits.check_disjoint(folds)
    sizes = folds["fold"].value_counts()
    assert sizes.sum() == 640
    assert sizes.max() - sizes.min() <= 6  # 6 strata, whole examinations of up to 4 images
    means = table.set_index("case")["hc_mm"].groupby(folds.set_index("case")["fold"]).mean()
    assert means.max() - means.min() < 10  # mm, of a mean of 174 and a standard deviation of 65


@pytest.mark.skipif(not LANDMARKS.is_dir(), reason=f"{LANDMARKS} is missing: no data set is part of the project")
def test_published_landmarks_of_every_image_fit_its_outline(verified, monkeypatch):
    monkeypatch.setattr(files, "raw_folder", lambda name: LANDMARKS if name == "landmarks" else FOLDER)
    points, audited, findings = verify.audit_landmarks(datasets.DATASETS["hc18"], "hc18", verified.cases, "multicentre")
    assert points["case"].tolist() == audited["case"].tolist() == verified.cases["case"].tolist()
    assert (audited["fit"] == "as named").all()
    assert [(each.severity, each.case) for each in findings] == [("warn", "186_HC")]  # an open outline
