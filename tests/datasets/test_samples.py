import numpy as np
import pandas as pd
import pytest

from lib import datasets
from lib.data import cases
from lib.datasets import samples
from tests import builders


def test_samples_are_as_published_with_their_pixel_size_if_known(tmp_path):
    drawn = builders.heads(3)
    folder = builders.write_hc18(tmp_path, drawn)
    table = builders.hashed(cases.cases_table(datasets.DATASETS["hc18"].find_cases(folder, [])[0]))
    table.loc[1, ["spacing_row_mm", "spacing_col_mm"]] = np.nan
    loaded = samples.load(datasets.DATASETS["hc18"], table, [drawn[2].name, drawn[1].name])
    assert loaded.names == [drawn[2].name, drawn[1].name]
    assert np.array_equal(loaded.images[0], builders.image_of(drawn[2], 2))
    assert [mask.shape for mask in loaded.masks] == [drawn[2].shape, drawn[1].shape]
    assert loaded.spacings_mm[0] == pytest.approx((drawn[2].spacing_mm,) * 2, abs=1e-6)
    assert (loaded.spacings_mm[1], loaded.slices) == (None, [0, 0])


def test_a_volume_is_displayed_by_the_slice_with_the_largest_reference_in_its_display_channel(tmp_path):
    folder, lgg = builders.write_lgg(tmp_path), datasets.DATASETS["lgg"]
    table = builders.hashed(cases.cases_table(lgg.find_cases(folder, [])[0]))
    names = [patient.name for patient in builders.PATIENTS]
    loaded = samples.load(lgg, table, names[::-1])
    assert (loaded.names, loaded.spacings_mm) == (names[::-1], [None] * 4)
    assert loaded.slices == [2, 0, 2, 1]  # the first of equals; the middle one without a lesion
    rows = zip(builders.PATIENTS[::-1], (3, 2, 1, 0), loaded.slices, loaded.images, loaded.masks)
    for patient, seed, at, image, mask in rows:
        assert np.array_equal(image, patient.image(seed)[at, ..., 1])
        assert image.flags.c_contiguous
        assert np.array_equal(mask, patient.mask[at])


@pytest.mark.parametrize(("count", "expected"), [(1, "a"), (2, "ae"), (3, "ace"), (5, "abcde"), (9, "abcde")])
def test_samples_are_evenly_spaced(count, expected):
    assert "".join(samples.evenly_spaced(pd.DataFrame({"case": list("abcde")}), count)) == expected
