"""What no network can be shown; tests/test_preprocessing.py compares what it is shown with the arrays."""

import numpy as np
import pytest

from lib.imaging import preparation
from tests import builders

IMAGES, VOLUMES = builders.of_images(32, 32), builders.of_volumes(32, 32)


@pytest.mark.parametrize(
    ("how", "shape", "dtype"),
    [
        *((IMAGES, (4, 5, 3), np.uint8), (IMAGES, (0, 5), np.uint8), (IMAGES, (4, 5), float)),
        *((VOLUMES, (3, 4, 5), np.uint8), (VOLUMES, (3, 4, 5, 1), np.uint8), (VOLUMES, (3, 4, 5, 3), float)),
    ],
)
def test_what_a_network_cannot_be_shown_is_refused_with_what_it_is(how, shape, dtype):
    with pytest.raises(ValueError, match=r"is not (an image|a volume)") as caught:
        preparation.prepare(np.zeros(shape, dtype), how)
    assert str(shape) in str(caught.value)
