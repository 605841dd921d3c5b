import numpy as np
import pytest

from lib import metrics
from lib.evaluation import boundaries
from tests.builders import typed

REFERENCE, PREDICTED = (typed(text) > 0 for text in ("11..... 11...1. .......", "11..... 11..... ......."))


def test_lengths_are_in_mm_with_a_pixel_size_and_in_pixels_without():
    in_mm = boundaries.describe(REFERENCE, PREDICTED, (0.5, 0.25), {"mm": 0.5, "px": 3.0})
    in_px = boundaries.describe(REFERENCE, PREDICTED, None, {"mm": 0.5, "px": 3.0})
    for row, unit, spacing in ((in_mm, "mm", (0.5, 0.25)), (in_px, "px", (1, 1))):
        expected = metrics.distances(REFERENCE, PREDICTED, spacing, {"mm": 0.5, "px": 3.0}[unit])
        assert [row[f"{name}_{unit}"] for name in boundaries.LENGTHS] == [
            expected.hausdorff,
            expected.hd95,
            expected.assd,
        ]
        assert row["nsd"] == expected.nsd == 8 / 9  # the separate pixel is 4 columns off
        assert row[f"diagonal_{unit}"] == pytest.approx(np.hypot(3 * spacing[0], 7 * spacing[1]))
        assert set(row) < set(boundaries.COLUMNS)
        assert not [name for name in row if name.endswith({"mm": "_px", "px": "_mm"}[unit])]
    assert np.isnan(boundaries.describe(REFERENCE, PREDICTED, None, {"mm": 0.5, "px": None})["nsd"])


@pytest.mark.parametrize(
    ("reference", "predicted", "counts"),
    [
        ("11... 11..1 ....1", "1.... ..... 1..1.", [2, 1, 3, 1]),
        ("11.11", "11111", [2, 2, 1, 1]),  # one predicted part finds both
        ("11111", "1.1.1", [1, 1, 3, 3]),
        ("1.. .1. ..1", "... ... ...", [1, 0, 0, 0]),  # corners join
        (".....", "1.1..", [0, 0, 2, 0]),
        (".....", ".....", [0, 0, 0, 0]),
    ],
)
def test_parts_that_overlap_counted_by_hand_in_an_image_and_a_volume(reference, predicted, counts):
    masks = [typed(text) > 0 for text in (reference, predicted)]
    for regions in (masks, [np.stack([mask, mask]) for mask in masks]):
        row = boundaries.describe(*regions, None, {})
        assert [row[name] for name in boundaries.PART_COLUMNS] == counts
