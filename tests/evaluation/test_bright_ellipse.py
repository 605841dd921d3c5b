import numpy as np
import pytest

from lib import metrics
from lib.evaluation import bright_ellipse
from lib.evaluation.bright_ellipse import Constants
from lib.imaging import geometry
from lib.imaging.ellipse import Ellipse, fill_ellipse
from tests import builders


def skull(shape, centre, major, minor, angle_deg, seed, thickness=3.0):
    """A speckled image whose skull is a bright ring around an ellipse, with a bright block and a text-like line."""
    wide, narrow = (
        fill_ellipse(Ellipse(centre, major + d, minor + d, angle_deg), shape) for d in (thickness, -thickness)
    )
    image = np.random.default_rng(seed).integers(0, 120, shape)
    image[2:6, 5:40] = image[-4:-2, -30:] = 255
    return np.where(wide & ~narrow, 230, image).astype(np.uint8)


def test_the_middle_of_a_bright_skull_is_found_among_other_bright_things():
    image = skull((100, 150), (52.0, 80.0), 90.0, 66.0, 15.0, seed=1)
    found = bright_ellipse.find_head(image, 0.05)
    assert (*found.centre, found.major, found.minor, found.angle_deg) == pytest.approx((52, 80, 90, 66, 15), abs=1)


@pytest.mark.parametrize("grey", [0, 80])
def test_in_an_image_without_contrast_no_head_is_found(grey):
    image = np.full((40, 60), grey, np.uint8)
    found = bright_ellipse.find_head(image, 0.03)
    mapping = geometry.fit(image.shape, image.shape)
    if grey == 0:
        assert found is None
        assert bright_ellipse.native_head(image, mapping, Constants(0.03, 1.04)) is None
    assert bright_ellipse.grown(None, 1.04, (3, 4)).tolist() == np.zeros((3, 4), bool).tolist()


def drawn_arrays(growth, count=8):
    """Images at network size whose reference is larger than the ring by a factor; the last has no head."""
    draw, images, masks = np.random.default_rng(5), [], []
    for seed in range(count):
        centre, major = tuple(draw.uniform((45, 65), (55, 85))), draw.uniform(70, 90)
        minor, angle = major * draw.uniform(0.75, 0.9), draw.uniform(0, 180)
        images.append(skull((100, 150), centre, major, minor, angle, seed))
        masks.append(fill_ellipse(Ellipse(centre, major * growth, minor * growth, angle), (100, 150)) * 2)
    masks[-1] = np.zeros_like(masks[-1])
    names = [f"c{number}" for number in range(count)]
    return builders.arrays_of(names, np.stack(images)[:, None], np.stack(masks).astype(np.uint8), "drawn")


@pytest.mark.parametrize("growth", [1.0, 1.06])
def test_training_cases_choose_the_growth_that_their_references_were_drawn_with(growth):
    arrays = drawn_arrays(growth)
    (chosen,) = bright_ellipse.choose(arrays, [arrays.names], [2])
    assert chosen.growth == growth
    assert chosen.share in bright_ellipse.SHARES
    for row in range(7):
        found = bright_ellipse.find_head(arrays.images[row, 0], chosen.share)
        region = bright_ellipse.grown(found, chosen.growth, (100, 150))
        assert metrics.overlap(arrays.masks[row] == 2, region, 1).dice > 0.96


def test_without_a_head_in_any_training_case_the_first_constants_are_taken():
    arrays = drawn_arrays(1.0, count=1)
    assert bright_ellipse.choose(arrays, [arrays.names], [2]) == [Constants(0.01, 1.0)]


def test_the_ellipse_is_mapped_to_native_pixels_and_grown():
    native = skull((200, 320), (104.0, 160.0), 180.0, 132.0, 15.0, seed=1, thickness=6.0)
    mapping = geometry.fit(native.shape, (128, 160))  # padded above and below
    found = bright_ellipse.native_head(geometry.image_to_network(native, mapping), mapping, Constants(0.03, 1.05))
    values = (*found.centre, found.major, found.minor, found.angle_deg)
    assert values == pytest.approx((104, 160, 1.05 * 180, 1.05 * 132, 15), abs=2)
