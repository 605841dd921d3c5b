"""Pictures that are the same under another size or brightness, and pictures that are not."""

import hashlib
from itertools import combinations

import cv2
import numpy as np
import pytest

from lib.verification import image_hash
from tests import builders

NEAR = 4  # bits of a perceptual hash


def picture(seed, shape=(300, 400)):
    """A head of its own place, size and turn, in speckle: (H, W) uint8."""
    draw = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + draw.uniform(-40, 40, 2)
    drawn = np.full(shape, 40.0)
    for grey, size in ((150, 1.0), (60, 0.93)):
        head = builders.ellipse_region(shape, centre, 230 * size, draw.uniform(140, 200) * size, draw.uniform(0, 180))
        drawn[head] = grey
    for _ in range(6):
        spot = builders.ellipse_region(shape, draw.uniform((60, 80), (240, 320)), 60, 25, draw.uniform(0, 180))
        drawn[spot] = draw.uniform(0, 220)
    speckle = cv2.GaussianBlur(draw.normal(size=shape), (0, 0), 2) * 60
    return np.clip(drawn + speckle, 0, 255).astype(np.uint8)


def bits_apart(one, other):
    return (image_hash.describe(one).perceptual ^ image_hash.describe(other).perceptual).bit_count()


def correlation(one, other):
    return float(image_hash.describe(one).thumbnail @ image_hash.describe(other).thumbnail)


SAME = {
    "halved": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "enlarged": lambda image: cv2.resize(image, (800, 600), interpolation=cv2.INTER_CUBIC),
    "brighter": lambda image: np.clip(image * 0.8 + 40, 0, 255).astype(np.uint8),
    "darker": lambda image: (image * 0.5).astype(np.uint8),
    "a JPEG": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0),
}


@pytest.mark.parametrize("change", list(SAME))
def test_the_same_picture_keeps_its_perceptual_hash_within_a_few_bits_and_its_fine_structure(change):
    for seed in range(4):
        image = picture(seed)
        assert bits_apart(image, SAME[change](image)) <= NEAR
    assert correlation(picture(0), SAME[change](picture(0))) > 0.9


def test_other_pictures_have_other_hashes_and_other_fine_structure_even_in_one_sector():
    pairs = list(combinations([picture(seed) for seed in range(8)], 2))
    assert min(bits_apart(*pair) for pair in pairs) > NEAR
    assert max(correlation(*pair) for pair in pairs) < 0.5
    rows, cols = np.mgrid[:300, :400]
    sector = (np.hypot(rows + 40, cols - 200) < 330) & (abs(cols - 200) < rows * 0.6 + 60)
    one, other = (np.where(sector, picture(seed), 0).astype(np.uint8) for seed in (1, 2))
    assert correlation(one, other) < 0.5


def test_the_pixel_hash_is_sha_256_of_shape_and_bytes_in_any_memory_order():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    expected = hashlib.sha256(b"(2, 3)\x00\x01\x02\x03\x04\x05").hexdigest()
    assert image_hash.pixel_hash(image) == image_hash.pixel_hash(np.asfortranarray(image)) == expected
    assert image_hash.pixel_hash(image.reshape(3, 2)) != expected


def test_the_correlation_of_thumbnails_is_that_of_numpy_and_turns_with_the_picture():
    one, other = picture(1), SAME["brighter"](picture(1))[:, ::-1]
    thumbnails = [image_hash.describe(each).thumbnail for each in (one, other)]
    assert [(each.shape, each.dtype) for each in thumbnails] == [((image_hash.SIDE**2,), np.float32)] * 2
    assert correlation(one, other) == pytest.approx(np.corrcoef(*thumbnails)[0, 1], abs=1e-5)
    assert correlation(one, 255 - one) == pytest.approx(-1, abs=1e-3)
    even = np.full((60, 80), 77, np.uint8)
    assert correlation(even, even) == correlation(even, one) == 0  # like nothing, not even itself


def test_a_perceptual_hash_is_64_bits_without_the_mean_of_which_one_wave_sets_its_own():
    for seed in range(4):
        found = image_hash.describe(picture(seed)).perceptual
        assert 0 <= found < 2**63  # the first bit, that of the mean, is never set
        assert 28 <= found.bit_count() <= 32  # about half of the others lie above their median
    # A cosine of one period along the rows: coefficient (2, 0) of the transform, bit 2 * 8 from the left.
    wave = np.cos(2 * np.pi * (np.arange(2 * image_hash.SIDE) + 0.5) / (2 * image_hash.SIDE))
    image = np.rint(128 + 100 * np.repeat(wave[:, None], 2 * image_hash.SIDE, axis=1)).astype(np.uint8)
    assert image_hash.perceptual_hash(image) >> (63 - 16) & 1 == 1
    assert image_hash.perceptual_hash(255 - image) >> (63 - 16) & 1 == 0


def test_distances_counted_by_hand():
    one = np.array([0b0000, 0b1111], np.uint64)
    other = np.array([0b0001, 0b1111, 2**63, 2**64 - 1], np.uint64)
    assert image_hash.distances(one, other).tolist() == [[1, 4, 1, 64], [3, 0, 5, 60]]
    assert image_hash.distances(one, other[:0]).shape == (2, 0)
    assert image_hash.distances(one[:0], other).shape == (0, 4)
