from itertools import combinations

import numpy as np
import pytest
from PIL import ImageColor

from lib.imaging.class_colours import CLASS_COLOURS, OTHER_COLOURS, PREDICTED, REFERENCE
from lib.imaging.preview import OUTCOMES

# Machado, Oliveira and Fernandes 2009, severity 1.0: on linear RGB
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
SEEN_AS = {"grey": np.eye(3), "deuteranopia": np.array(DEUTERANOPIA), "protanopia": np.array(PROTANOPIA)}


def lightness(colour: str, seen: str) -> float:
    """CIE L*, 0 to 100, which is all that is left of a colour in grey."""
    values = np.array(ImageColor.getrgb(colour)) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    luminance = np.clip(SEEN_AS[seen] @ linear, 0, 1) @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(luminance) - 16


def test_lightness_of_known_colours():
    assert lightness("#FFFFFF", "grey") == pytest.approx(100, abs=0.01)
    assert lightness("#808080", "grey") == pytest.approx(53.59, abs=0.01)
    # a red looks dark without the cones for red, and hardly changes a grey
    assert lightness("#FF0000", "protanopia") < lightness("#FF0000", "grey") - 10
    assert lightness("#808080", "protanopia") == pytest.approx(53.59, abs=0.1)


@pytest.mark.parametrize("seen", SEEN_AS)
def test_a_prediction_differs_from_the_white_reference_in_lightness(seen):
    assert lightness(REFERENCE, seen) - lightness(PREDICTED, seen) > 40
    for colour in {*CLASS_COLOURS.values(), *OTHER_COLOURS}:  # of predictions of several classes
        assert lightness(REFERENCE, seen) - lightness(colour, seen) > 25


@pytest.mark.parametrize("seen", SEEN_AS)
def test_all_outcomes_of_the_gallery_differ_in_lightness(seen):
    for one, other in combinations(OUTCOMES.values(), 2):
        assert abs(lightness(one, seen) - lightness(other, seen)) > 9


@pytest.mark.parametrize("seen", SEEN_AS)
def test_colours_on_paper_are_darker_than_it(seen):
    assert max(lightness(colour, seen) for colour in {*CLASS_COLOURS.values(), *OTHER_COLOURS, PREDICTED}) < 75
