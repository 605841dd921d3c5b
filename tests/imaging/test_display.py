import numpy as np

from lib.imaging import display


def test_a_constant_channel_is_black():
    flat = np.full((4, 4), 0.7, np.float32)
    assert not display.displayable(flat, flat).any()
