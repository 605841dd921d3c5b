import numpy as np
import pandas as pd
import pytest

from lib import datasets
from lib.data import cases
from lib.datasets import samples
from tests import builders


def test_samples_are_as_published_with_their_pixel_size_where_it_is_known(tmp_path):
    drawn = builders.heads(3)
    folder = builders.write_hc18(tmp_path, drawn)
    table = builders.hashed(cases.cases_table(datasets.DATASETS["hc18"].find_cases(folder, [])[0]))
    table.loc[1, ["spacing_row_mm", "spacing_col_mm"]] = np.nan
    shown = samples.load(datasets.DATASETS["hc18"], table, [drawn[2].name, drawn[1].name])
    assert shown.names == [drawn[2].name, drawn[1].name]
    assert np.array_equal(shown.images[0], builders.image_of(drawn[2], 2))
    assert [mask.shape for mask in shown.masks] == [drawn[2].shape, drawn[1].shape]
    assert shown.spacings_mm[0] == pytest.approx((drawn[2].spacing_mm,) * 2, abs=1e-6)
    assert shown.spacings_mm[1] is None
    assert shown.slices == [0, 0]


def test_of_volumes_the_slice_with_most_of_the_reference_is_shown_in_the_channel_that_people_look_at(tmp_path):
    folder, lgg = builders.write_lgg(tmp_path), datasets.DATASETS["lgg"]
    table = builders.hashed(cases.cases_table(lgg.find_cases(folder, [])[0]))
    names = [patient.name for patient in builders.PATIENTS]
    shown = samples.load(lgg, table, names[::-1])
    assert shown.names == names[::-1]
    assert shown.slices == [2, 0, 2, 1]  # the first of equals; the middle one where nothing is shown
    for patient, seed, at, image, mask in zip(
        builders.PATIENTS[::-1], (3, 2, 1, 0), shown.slices, shown.images, shown.masks
    ):
        assert np.array_equal(image, patient.image(seed)[at, ..., 1])
        assert image.flags.c_contiguous
        assert np.array_equal(mask, patient.mask[at])
    assert shown.spacings_mm == [None] * 4


@pytest.mark.parametrize(("count", "expected"), [(1, "a"), (2, "ae"), (3, "ace"), (5, "abcde"), (9, "abcde")])
def test_cases_to_look_at_are_spread_evenly(count, expected):
    assert "".join(samples.spread(pd.DataFrame({"case": list("abcde")}), count)) == expected
