"""Hashes and thumbnails of images that differ in size or brightness only, of different images, and their pairs."""

import hashlib
import tracemalloc
from itertools import combinations

import cv2
import numpy as np
import pytest

from lib.verification import image_hash
from tests import builders

NEAR = 4  # bits of a perceptual hash


def frame(seed, shape=(300, 400)):
    """A head of random position, size and rotation in speckle: (H, W) uint8."""
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


def compare(one, other):
    """Number of differing bits and correlation of two images."""
    one, other = image_hash.describe(one), image_hash.describe(other)
    return (one.perceptual ^ other.perceptual).bit_count(), float(one.thumbnail @ other.thumbnail)


SAME = {
    "halved": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "enlarged": lambda image: cv2.resize(image, (800, 600), interpolation=cv2.INTER_CUBIC),
    "brighter": lambda image: np.clip(image * 0.8 + 40, 0, 255).astype(np.uint8),
    "darker": lambda image: (image * 0.5).astype(np.uint8),
    "a JPEG": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0),
}


@pytest.mark.parametrize("change", list(SAME))
def test_a_changed_copy_has_a_similar_perceptual_hash_and_fine_structure(change):
    pairs = [compare(image, SAME[change](image)) for image in map(frame, range(4))]
    assert max(bits for bits, _ in pairs) <= NEAR
    assert pairs[0][1] > 0.9


def test_different_images_differ_in_hash_and_fine_structure_also_within_the_same_sector():
    pairs = [compare(*pair) for pair in combinations([frame(seed) for seed in range(8)], 2)]
    assert min(bits for bits, _ in pairs) > NEAR
    assert max(correlation for _, correlation in pairs) < 0.5
    rows, cols = np.mgrid[:300, :400]
    sector = (np.hypot(rows + 40, cols - 200) < 330) & (abs(cols - 200) < rows * 0.6 + 60)
    assert compare(*(np.where(sector, frame(seed), 0).astype(np.uint8) for seed in (1, 2)))[1] < 0.5


def test_the_pixel_hash_is_sha_256_of_shape_and_bytes_in_any_memory_order():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    expected = hashlib.sha256(b"(2, 3)\x00\x01\x02\x03\x04\x05").hexdigest()
    assert image_hash.pixel_hash(image) == image_hash.pixel_hash(np.asfortranarray(image)) == expected
    assert image_hash.pixel_hash(image.reshape(3, 2)) != expected


def test_the_correlation_of_thumbnails_is_that_of_numpy_and_minus_1_for_the_inverted_image():
    one, other = frame(1), SAME["brighter"](frame(1))[:, ::-1]
    thumbnails = [image_hash.describe(each).thumbnail for each in (one, other)]
    assert [(each.shape, each.dtype) for each in thumbnails] == [((image_hash.SIDE**2,), np.float32)] * 2
    assert compare(one, other)[1] == pytest.approx(np.corrcoef(*thumbnails)[0, 1], abs=1e-5)
    assert compare(one, 255 - one)[1] == pytest.approx(-1, abs=1e-3)
    uniform = np.full((60, 80), 77, np.uint8)
    assert compare(uniform, uniform)[1] == compare(uniform, one)[1] == 0


def test_a_perceptual_hash_has_64_bits_without_the_mean_and_a_wave_sets_that_of_its_frequency():
    for seed in range(4):
        bits = image_hash.describe(frame(seed)).perceptual
        assert 0 <= bits < 2**63  # the first bit, that of the mean, is never set
        assert 28 <= bits.bit_count() <= 32  # about half of the others are above their median
    # A cosine of one period along the rows is coefficient (2, 0) of the transform, bit 2 * 8 from the left.
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


def test_pairs_of_equal_hashes_and_of_correlated_rows_counted_by_hand():
    assert image_hash.equal_pairs(["a", "b", "a", "c", "b", "a"]) == [(0, 2), (0, 5), (2, 5), (1, 4)]
    rows = np.array([[1, 0], [0.6, 0.8], [0, 1], [-1, 0]], np.float32)
    found = list(image_hash.similar_pairs(rows, 0.6))
    assert [pair[:2] for pair in found] == [(0, 1), (1, 2)]
    assert [pair[2] for pair in found] == pytest.approx([0.6, 0.8])


def test_pairs_in_blocks_are_those_of_all_correlations_at_once():
    draw, count = np.random.default_rng(0), 2 * image_hash.ROWS + 88  # two blocks and a part of a third
    rows = draw.normal(size=(count, 64)) + 2 * draw.normal(size=(40, 64))[draw.integers(0, 40, count)]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    whole = rows.astype(float) @ rows.T.astype(float)
    expected = {(i, j): f"{whole[i, j]:.3f}" for i in range(count) for j in range(i + 1, count) if whole[i, j] >= 0.8}
    found = list(image_hash.similar_pairs(rows, 0.8))
    assert len(found) > 1000
    assert {(i, j): f"{value:.3f}" for i, j, value in found} == expected
    assert [pair[:2] for pair in found] == sorted(expected)


def test_the_memory_of_comparing_grows_with_the_number_of_images_and_not_with_its_square():
    rows, peaks = np.random.default_rng(0).normal(size=(4096, 8)).astype(np.float32), []
    for count in (1024, 4096):
        tracemalloc.start()
        assert list(image_hash.similar_pairs(rows[:count], 1e3)) == []
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < min(5 * peaks[0], 4096**2)  # all correlations at once: 16 times, and four bytes for each pair


def test_the_thumbnails_of_all_images_are_not_copied_as_a_whole():
    draw = np.random.default_rng(0)
    thumbnails = [image_hash.thumbnail(draw.integers(0, 256, (128, 128), np.uint8)) for _ in range(4096)]
    tracemalloc.start()
    assert list(image_hash.similar_pairs([*thumbnails, thumbnails[7]], 0.999)) == [(7, 4096, pytest.approx(1))]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < sum(each.nbytes for each in thumbnails)
