import numpy as np
import pytest

from lib.datasets.samples import Overlay
from lib.report import figures
from tests.builders_figures import CLASSES, IMAGE, MASK, samples, texts

POINTS = np.array([[10.0, 5], [30, 50], [8, 30], [33, 25]])


def overlay(reference: np.ndarray, predicted: np.ndarray) -> Overlay:
    return Overlay("a", IMAGE, reference, predicted, (0.2, 0.2), "OFD 1.00 mm, BPD missed")


def ends_of(lines) -> list:
    """Endpoints of drawn lines in (row, col)."""
    return [np.column_stack([line.get_ydata(), line.get_xdata()]).tolist() for line in lines]


def test_contours_of_a_reference_and_a_prediction_run_midway_between_pixels():
    for item in (overlay(MASK, np.zeros_like(MASK)), overlay(np.zeros_like(MASK), MASK)):
        outer = figures.overlays([item], CLASSES).axes[0].collections[0].get_paths()[0].vertices
        assert outer.min(axis=0) == pytest.approx([14.5, 9.5])  # x, y
        assert outer.max(axis=0) == pytest.approx([44.5, 29.5])
    items = samples()
    items.masks[0] = np.ones_like(MASK)  # a region cut by the frame is drawn closed
    axes = figures.samples(items, ["background", "head"]).axes[0]
    assert axes.collections[0].get_paths()[0].vertices.max(axis=0) == pytest.approx([59.5, 39.5])


def test_more_than_twelve_overlays_are_refused():
    for sheet in (lambda items: figures.overlays(items, CLASSES), figures.landmark_overlays):
        with pytest.raises(ValueError, match="13 overlays; a sheet has at most 12"):
            sheet([overlay(POINTS, POINTS)] * 13)


def test_a_case_is_shown_at_native_and_network_size():
    network = samples()
    network.images[0], network.masks[0] = IMAGE[::2, ::2], MASK[::2, ::2]
    figure = figures.preprocessing(samples(), network, CLASSES)
    assert [axes.images[0].get_array().shape for axes in figure.axes] == [(40, 60), (20, 30)]
    assert "a\n40 × 60" in texts(figure)
    assert "network\n20 × 30" in texts(figure)


def test_augmented_landmarks_are_drawn_on_their_own_image():
    images, masks = np.stack([IMAGE] * 2), np.stack([MASK] * 2)
    figure = figures.augmentations(images, masks, CLASSES, np.stack([POINTS, POINTS + 1]))
    for axes, points in zip(figure.axes, (POINTS, POINTS + 1)):
        assert np.array_equal(np.concatenate(ends_of(axes.lines[::2])), points)
    assert [axes.get_title() for axes in figure.axes] == ["original", "draw 1"]
    assert not figures.augmentations(images, masks, CLASSES, None).axes[0].lines


def test_lines_of_landmarks_join_their_endpoints_with_the_reference_below():
    predicted = np.array([[11.0, 6], [31, 51], [np.nan, np.nan], [33, 25]])
    figure = figures.landmark_overlays([overlay(POINTS, predicted)])
    lines = ends_of(figure.axes[0].lines[1:4])  # the first is the scale bar
    assert lines == [[[10, 5], [30, 50]], [[8, 30], [33, 25]], [[11, 6], [31, 51]]]
    assert "OFD 1.00 mm, BPD missed" in texts(figure)
    assert "reference predicted" in texts(figure)
    # an endpoint beyond the frame does not shrink the image
    beyond = np.array([[-40.0, -90], [200, 200], [8, 30], [33, 25]])
    axes = figures.landmark_overlays([overlay(POINTS, beyond)]).axes[0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 59.5), (39.5, -0.5))


def test_maps_are_shown_next_to_their_image_on_one_scale():
    maps = np.zeros((2, 40, 60), np.float32)
    maps[0, 10, 5], maps[1, 8, 30] = 0.5, 1.0
    both, one = figures.heatmaps(IMAGE, maps, "a"), figures.probability(IMAGE, maps[0], "a")
    drawn = [axes.images[0] for axes in (*both.axes[1:3], one.axes[1])]
    assert [np.asarray(each.get_array()).max() for each in drawn] == [0.5, 1.0, 0.5]
    assert {each.get_clim() for each in drawn} == {(0, 1)}
    assert [axes.get_title() for axes in both.axes[:3]] == ["a", "OFD endpoints", "BPD endpoints"]
    assert np.array_equal(one.axes[0].images[0].get_array(), IMAGE)
    assert not [text for figure in (both, one) for axes in figure.axes for text in axes.texts]
    for figure in (
        figures.heatmaps(IMAGE, maps, "a", (0.4, 0.5)),
        figures.probability(IMAGE, maps[0], "a", (0.4, 0.5)),
    ):
        image, *others, _ = figure.axes  # the last is the colour bar
        assert [text.get_text() for text in image.texts] == ["10 mm"]
        assert {axes.get_aspect() for axes in (image, *others)} == {0.8}


def test_a_close_up_does_not_close_a_contour_along_its_edge():
    cut = np.zeros((20, 20), np.uint8)
    cut[:, 12:] = 1  # the structure goes on beyond three edges
    axes = figures.close_ups([overlay(cut, np.ones_like(cut))]).axes[0]
    (drawn,) = axes.collections  # a prediction that fills the close-up has no edge in it
    (line,) = (path.vertices for path in drawn.get_paths())
    assert set(line[:, 0]) == {11.5}
    assert axes.get_xlim() == (-0.5, 19.5)
