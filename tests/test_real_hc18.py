"""Known answers on HC18 as published; skipped where the data set is not at hand."""

import numpy as np
import pytest

from lib import biometry, cases, datasets, files, verification
from lib.datasets import hc18

FOLDER = files.ROOT.parent / "shared" / "data" / "hc18"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is not there: HC18 is not part of the project")


@pytest.fixture(scope="module")
def verified():
    return verification.verify(datasets.DATASETS["hc18"], FOLDER, [], 0.99)


@pytest.fixture(scope="module")
def every_tenth():
    return hc18.find_cases(FOLDER, [])[0][::10]


def circumference(ellipse, spacing_mm):
    return biometry.ellipse_perimeter_mm(ellipse.major * spacing_mm, ellipse.minor * spacing_mm)


def test_there_are_640_images_of_501_examinations_and_nothing_stops_the_study(verified):
    assert len(verified.cases) == 640
    assert verified.cases["subject"].nunique() == 501
    assert not verified.findings["severity"].eq("stop").any()


def test_the_equal_pixels_of_392_are_found(verified):
    rows = verified.findings.query("check == 'duplicate within a subject' and case == '392_HC'")
    assert rows["found"].tolist() == ["392_2HC: equal pixels"]


def test_no_image_is_duplicated_across_examinations(verified):
    assert not verified.findings["check"].eq("duplicate across subjects").any()


def test_no_published_hc_differs_from_its_annotation(verified):
    assert not verified.findings["check"].eq("HC differs from its annotation").any()


def test_hc_from_every_filled_outline_is_within_0_15_mm_of_the_published_one(verified):
    looks = verified.looks
    assert (looks["mask_hc_mm"] - looks["published_hc_mm"]).abs().max() < 0.15
    assert abs((looks["mask_hc_mm"] - looks["published_hc_mm"]).mean()) < 0.01  # no bias of half a pixel (0.4 mm)


def test_hc_from_the_outline_is_within_0_05_mm_of_the_published_one(every_tenth):
    for case in every_tenth:
        ellipse = biometry.fit_ellipse(np.argwhere(cases.read_grey(case.mask[0])))
        found = circumference(ellipse, case.spacing_mm[0])
        assert found == pytest.approx(case.reference_mm["hc"], abs=0.05), case.name  # the CSV has 1 to 2 decimals


def test_the_heads_with_an_open_outline_are_those_that_the_frame_cuts(verified):
    touching = set(verified.looks.loc[verified.looks["touches_border"], "case"])
    assert touching == {"186_HC", "346_HC", "628_2HC", "787_HC"}  # 352_2HC's line touches it, its centre-line does not


@pytest.mark.parametrize("fold_count", [5, 6])
def test_folds_are_disjoint_and_alike(verified, fold_count):
    table = verified.cases
    folds = cases.assign_folds(table, fold_count, 2026)
    cases.check_disjoint(folds)
    sizes = folds["fold"].value_counts()
    assert sizes.sum() == 640
    assert sizes.max() - sizes.min() <= 6  # 6 strata, whole examinations of up to 4 images
    means = table.set_index("case")["hc_mm"].groupby(folds.set_index("case")["fold"]).mean()
    assert means.max() - means.min() < 10  # mm, of a mean of 174 and a standard deviation of 65


def test_axis_ratios_lie_between_those_measured_over_the_whole_set(every_tenth):
    for case in every_tenth:
        ellipse = biometry.fit_ellipse(np.argwhere(cases.read_grey(case.mask[0])))
        assert 0.66 < ellipse.minor / ellipse.major < 0.97, case.name
