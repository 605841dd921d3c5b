"""Small drawn lesions in BUSI's layout."""

import cv2
import numpy as np

from lib import datasets
from lib.verification.verify import check_dataset
from tests.builders import save_png

BUSI = datasets.DATASETS["busi"]
SHAPE = (60, 80)


def texture(seed, shape=SHAPE):
    """An image with random fine structure: (H, W) uint8; two of them correlate below 0.15."""
    draw = np.random.default_rng(seed)
    fine, coarse = (cv2.GaussianBlur(draw.normal(size=shape), (0, 0), sigma) for sigma in (1.5, 12))
    return np.clip(110 + 35 * fine / fine.std() + 30 * coarse / coarse.std(), 0, 255).astype(np.uint8)


def lesion(top=20, left=30, height=20, width=20, shape=SHAPE):
    """A rectangle: (H, W) uint8, 0 and 255."""
    mask = np.zeros(shape, np.uint8)
    mask[top : top + height, left : left + width] = 255
    return mask


def write_busi(folder, **groups):
    """Writes BUSI's layout from pairs of image and mask per group."""
    for group, pairs in groups.items():
        for number, (image, mask) in enumerate(pairs, start=1):
            save_png(folder / group / f"{group} ({number}).png", image)
            save_png(folder / group / f"{group} ({number})_mask.png", mask)
    return folder


def verify_busi(folder, **how):
    groups = [group for group in BUSI.groups if (folder / group).is_dir()]
    return check_dataset(BUSI, "busi", folder, groups, **how)
