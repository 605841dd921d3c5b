import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from lib.imaging import preview

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5) * 10
REFERENCE = np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [2, 0, 0, 0, 0]], np.uint8)
PREDICTED = np.array([[0, 0, 0, 0, 0], [0, 0, 1, 1, 1], [0, 0, 1, 2, 0], [2, 0, 0, 0, 0]], np.uint8)


def layers(text: str) -> dict[str, ET.Element]:
    return {each.get("class"): each for each in ET.fromstring(text)}


def picture(layer: ET.Element) -> Image.Image:
    kind, data = re.fullmatch(r"data:image/(png|webp);base64,(.+)", layer.get("href")).groups()
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == kind.upper()
    return image


def test_outlines_run_through_the_border_pixels_of_each_class():
    found = layers(preview.svg(GREY, 1.0, REFERENCE, PREDICTED))
    paths = {path.get("data-class"): path.get("d") for path in found["reference"]}
    # the corners of 2 x 3 pixels in (x, y), from the upper left one anticlockwise; and one pixel
    assert paths == {"1": "M1 1l0 1 2 0 0 -1z", "2": "M0 3l1 0z"}
    assert found["reference"].get("transform") == "scale(1 1) translate(.5 .5)"
    assert "stroke-dasharray" in found["predicted"].attrib
    assert "stroke-dasharray" not in found["reference"].attrib


def test_each_pixel_is_a_true_positive_false_positive_false_negative_or_of_the_wrong_class():
    found = layers(preview.svg(GREY, 1.0, REFERENCE, PREDICTED))
    outcome = picture(found["outcome"])
    assert np.asarray(outcome).tolist() == [[0, 0, 0, 0, 0], [0, 3, 1, 1, 2], [0, 3, 1, 4, 0], [1, 0, 0, 0, 0]]
    colours = [outcome.convert("RGBA").getpixel(place) for place in ((0, 0), (2, 1), (4, 1), (1, 1), (3, 2))]
    assert colours[0][3] == 0
    assert [f"#{red:02X}{green:02X}{blue:02X}" for red, green, blue, _ in colours[1:]] == [*preview.OUTCOMES.values()]
    assert found["outcome"].get("display") == "none"


def test_pixels_that_are_not_square_are_drawn_in_their_proportions():
    root = ET.fromstring(preview.svg(GREY, 1.5, REFERENCE, PREDICTED))
    assert root.get("viewBox") == "0 0 5 6"
    assert root.get("data-marked") == "8"  # pixels of a structure in either mask
    assert (root[0].get("width"), root[0].get("height")) == ("5", "6")


def test_the_probability_is_kept_as_grey_values_and_an_image_of_landmarks_alone():
    ramp = np.tile(np.linspace(0, 1, 200), (100, 1))
    found = layers(preview.svg(np.zeros((100, 200), np.uint8), 1.0, probability=ramp))
    kept = np.asarray(picture(found["probability"]).convert("L"), float) / 255
    assert np.abs(kept - ramp).max() < 0.05  # WebP is lossy
    assert [*layers(preview.svg(GREY, 1.0))] == ["image"]


@pytest.mark.parametrize(("shape", "size"), [((540, 800), (480, 324)), ((1200, 30), (12, 480)), ((30, 40), (40, 30))])
def test_a_large_image_is_reduced_and_equal_cases_give_equal_text(shape, size):
    draw = np.random.default_rng(0)
    image, mask = draw.integers(0, 256, shape).astype(np.uint8), np.zeros(shape, np.uint8)
    mask[5:20, 5:20] = 1
    text = preview.svg(image, 1.0, mask, mask, mask.astype(np.float32))
    assert picture(layers(text)["image"]).size == size
    assert text == preview.svg(image, 1.0, mask, mask, mask.astype(np.float32))


def test_the_slices_shown_of_a_volume_have_a_structure_in_reference_or_prediction():
    reference, predicted = np.zeros((2, 6, 4, 4), np.uint8)
    assert preview.shown_slices(reference, predicted) == [3]
    reference[1], predicted[4] = 1, 1
    assert preview.shown_slices(reference, predicted) == [1, 4]
