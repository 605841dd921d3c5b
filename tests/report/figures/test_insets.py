import numpy as np
import pytest

from lib.datasets.samples import Overlay
from lib.report import figures
from lib.report.figures import insets

CLASSES = ["background", "head"]


def square(shape: tuple[int, int], row: int, col: int, side: int) -> np.ndarray:
    """A mask (H, W) uint8 with a square of ones, by its first row and column."""
    mask = np.zeros(shape, np.uint8)
    mask[row : row + side, col : col + side] = 1
    return mask


def test_the_window_is_around_the_thickest_error_and_is_enlarged_one_and_a_half_to_three_times():
    wrong = square((100, 200), 60, 120, 7) > 0
    wrong[10:90, 20] = True  # longer and larger, but thin
    rows, cols = insets.enlarged_window(wrong)
    assert (rows.start + rows.stop) / 2 == pytest.approx(63, abs=1)
    assert (cols.start + cols.stop) / 2 == pytest.approx(123, abs=1)
    for side, wide in ((1, 12), (7, 24), (9, 24)):  # inset of 36 pixels, enlarged 3 and 1.5 times
        rows, cols = insets.enlarged_window(square((100, 200), 40, 40, side) > 0)
        assert (rows.stop - rows.start, cols.stop - cols.start) == (wide, wide)


def test_an_error_that_is_absent_or_too_thick_to_be_enlarged_has_no_inset():
    assert insets.enlarged_window(np.zeros((100, 200), bool)) is None
    assert insets.enlarged_window(square((100, 200), 10, 10, 30) > 0) is None
    same = square((100, 200), 30, 30, 40)
    for predicted in (same, np.zeros_like(same)):
        (axes,) = figures.overlays([Overlay("a", same, same, predicted, None, "head")], CLASSES).axes
        assert axes.child_axes == []
        assert len(axes.patches) == 0


def test_an_inset_hides_as_little_of_the_structures_as_possible_and_never_the_framed_error():
    structures = square((100, 200), 0, 0, 40) | square((100, 200), 70, 10, 20)
    far = slice(60, 80), slice(90, 110)
    assert insets.emptiest_corner(structures > 0, far) == (slice(0, 36), slice(164, 200))
    upper_right = slice(5, 25), slice(170, 190)
    assert insets.emptiest_corner(structures > 0, upper_right) == (slice(64, 100), slice(0, 36))
    for row in range(0, 77, 4):
        for col in range(0, 77, 4):
            part = slice(row, row + 24), slice(col, col + 24)
            rows, cols = insets.emptiest_corner(np.zeros((100, 100), bool), part)
            covered = np.zeros((100, 100), bool)
            covered[rows, cols] = True
            assert not covered[part].any()


def test_an_inset_shows_the_pixels_and_contours_of_its_frame_in_physical_proportions():
    reference, predicted = square((100, 200), 40, 100, 40), square((100, 200), 40, 104, 40)
    image = np.arange(20000, dtype=np.uint16).reshape(100, 200).astype(np.uint8)
    figure = figures.overlays([Overlay("a", image, reference, predicted, (0.4, 0.5), "head 0.900")], CLASSES)
    (axes,) = figure.axes
    (inset,), (frame,) = axes.child_axes, axes.patches
    (left, right), (low, top) = inset.get_xlim(), inset.get_ylim()
    assert (frame.get_x(), frame.get_y()) == (left, top)
    assert (frame.get_width(), frame.get_height()) == (right - left, low - top)
    rows, cols = slice(round(top + 0.5), round(low + 0.5)), slice(round(left + 0.5), round(right + 0.5))
    assert np.array_equal(np.asarray(inset.images[0].get_array()), image[rows, cols])
    assert (reference != predicted)[rows, cols].any()
    assert inset.get_aspect() == axes.get_aspect() == pytest.approx(0.8)
    assert [len(each.collections) for each in (axes, inset)] == [2, 2]  # contours of reference and prediction
    figure.draw_without_rendering()
    assert inset.get_window_extent().width / inset.get_window_extent().height == pytest.approx(1 / 0.8)
    whole, part = ((each.transData.transform((1, 0)) - each.transData.transform((0, 0)))[0] for each in (axes, inset))
    assert insets.SMALLEST - 0.1 <= part / whole <= insets.LARGEST + 0.1
