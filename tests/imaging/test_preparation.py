import numpy as np
import pytest

from lib.imaging import preparation
from tests import builders

IMAGES, VOLUMES = builders.of_images(32, 32), builders.of_volumes(32, 32)


@pytest.mark.parametrize(
    ("preparation_of", "shape", "dtype"),
    [
        *((IMAGES, (4, 5, 3), np.uint8), (IMAGES, (0, 5), np.uint8), (IMAGES, (4, 5), float)),
        *((VOLUMES, (3, 4, 5), np.uint8), (VOLUMES, (3, 4, 5, 1), np.uint8), (VOLUMES, (3, 4, 5, 3), float)),
    ],
)
def test_arrays_that_are_no_image_or_volume_are_refused_with_their_shape(preparation_of, shape, dtype):
    with pytest.raises(ValueError, match=r"is not (an image|a volume)") as caught:
        preparation.prepare(np.zeros(shape, dtype), preparation_of)
    assert str(shape) in str(caught.value)
