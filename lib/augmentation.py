"""Random changes of a training image and its mask; each draw is a function of (seed, epoch, case, repeat)."""

import os
import random

import cv2
import numpy as np

from lib import params

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version
import albumentations

CLAHE_LIMIT = (1.0, 2.0)  # of contrast, drawn evenly; above 2 speckle comes to look like structure


def pipeline(chosen: params.TrainingParams) -> albumentations.Compose:
    """The transforms that a study file names, geometry first."""
    shift, scale = chosen.shift_fraction, chosen.scale_fraction
    affine = albumentations.Affine(
        translate_percent=(-shift, shift),
        scale=(1 - scale, 1 + scale),
        keep_ratio=True,  # a head keeps its form
        rotate=(-chosen.rotation_deg, chosen.rotation_deg),
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        p=chosen.affine_probability,
    )
    change = chosen.brightness_contrast
    intensity = albumentations.RandomBrightnessContrast(
        brightness_limit=change, contrast_limit=change, p=chosen.intensity_probability
    )
    return albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=chosen.horizontal_flip),
            albumentations.VerticalFlip(p=chosen.vertical_flip),
            affine,
            intensity,
            albumentations.CLAHE(clip_limit=CLAHE_LIMIT, p=chosen.clahe_probability),
        ]
    )


def augment(
    transform: albumentations.Compose, image: np.ndarray, mask: np.ndarray, key: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """One draw.

    albumentations' own seeding gives every transform the same stream and every loader process the same draws, so
    both of its generators are set here for each image.

    Args:
        transform: from `pipeline`.
        image: (H, W) uint8.
        mask: (H, W) uint8.
        key: (seed, epoch, case, repeat): equal keys give equal draws.

    Returns:
        Image and mask of the same shapes and types.
    """
    states = np.random.SeedSequence(key).generate_state(2)
    transform.set_random_state(np.random.default_rng(states[0]), random.Random(int(states[1])))
    changed = transform(image=image, mask=mask)
    # One case in many comes back unchanged, as a view of the read-only arrays on disk.
    return np.require(changed["image"], requirements=["W"]), np.require(changed["mask"], requirements=["W"])


def draws(
    chosen: params.TrainingParams, image: np.ndarray, mask: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """A case as it is, then some draws of it, to look at: images and masks, (count + 1, H, W) uint8 each."""
    transform = pipeline(chosen)
    pairs = [(image, mask)] + [
        augment(transform, image, mask, (chosen.seed, epoch, 0, 0)) for epoch in range(1, count + 1)
    ]
    images, masks = zip(*pairs)
    return np.stack(images), np.stack(masks)
