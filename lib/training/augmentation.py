"""Augmentation of training images, masks and points; each draw is a function of (seed, epoch, case, repeat)."""

import os
import random
from dataclasses import dataclass

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # without it the import looks up the newest version online

import albumentations
import cv2
import numpy as np

from lib.imaging import display
from lib.imaging.head_points import canonical

CLAHE_LIMIT = (1.0, 2.0)  # contrast limit, drawn uniformly; above 2 speckle resembles structure


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Augmentation settings, with the names and units of a study file's keys."""

    horizontal_flip: float  # probability, 0 to 1
    vertical_flip: float  # probability
    affine_probability: float  # of shift, scaling and rotation together
    shift_fraction: float = 0.0  # maximum, as a fraction of the image
    scale_fraction: float = 0.0  # maximum change
    rotation_deg: float = 0.0  # maximum
    intensity_probability: float  # of a change of brightness and contrast
    brightness_contrast: float = 0.0  # maximum relative change of each
    clahe_probability: float = 0.0  # of local contrast equalisation; uint8 images only


Transform = tuple[albumentations.Compose, Augmentation]  # albumentations' transforms, and their settings


class AffineOnBackground(albumentations.Affine):
    """Affine transform of a normalised image that fills corners with the background, the minimum of each channel.

    0, with which albumentations fills them, is black in a uint8 image, but average tissue in a normalised one.
    """

    def apply(self, img: np.ndarray, matrix: np.ndarray, output_shape: tuple[int, int], **_: object) -> np.ndarray:
        """(H, W) or (H, W, C) float32, moved by a matrix for (col, row)."""
        background = np.atleast_1d(img.min(axis=0).min(axis=0)).tolist()  # at once over rows and columns is slow
        channels, moved = img.reshape(*img.shape[:2], -1), []
        for first in range(0, len(background), 4):  # OpenCV fills at most four channels
            part, fill = channels[..., first : first + 4], background[first : first + 4]
            size, flags = output_shape[::-1], self.interpolation
            moved.append(cv2.warpAffine(part, matrix[:2], size, flags=flags, borderValue=fill))
        return moved[0] if len(moved) == 1 else np.dstack(moved)


def pipeline(changes: Augmentation, dtype: np.dtype) -> Transform:
    """Transforms of these settings, geometry first; for float32 images only geometry.

    albumentations' intensity transforms expect float32 images between 0 and 1, which normalised volumes are not:
    `augment` changes their contrast and brightness itself, and they get no CLAHE.
    """
    shift, scale, change = changes.shift_fraction, changes.scale_fraction, changes.brightness_contrast
    affine = (albumentations.Affine if dtype == np.uint8 else AffineOnBackground)(
        translate_percent=(-shift, shift),
        scale=(1 - scale, 1 + scale),
        keep_ratio=True,  # preserves the shape of a head
        rotate=(-changes.rotation_deg, changes.rotation_deg),
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        p=changes.affine_probability,
    )
    flips = [albumentations.HorizontalFlip(changes.horizontal_flip), albumentations.VerticalFlip(changes.vertical_flip)]
    grey_values = [
        albumentations.RandomBrightnessContrast(change, change, p=changes.intensity_probability),
        albumentations.CLAHE(clip_limit=CLAHE_LIMIT, p=changes.clahe_probability),
    ]
    # Landmarks that leave the image are kept, so that every line keeps both endpoints.
    keypoints = albumentations.KeypointParams(format="yx", remove_invisible=False)
    steps = [*flips, affine, *(grey_values if dtype == np.uint8 else [])]
    return albumentations.Compose(steps, keypoint_params=keypoints), changes


def augment(
    image: np.ndarray, mask: np.ndarray, points: np.ndarray | None, transform: Transform, key: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """One draw: image and mask of unchanged shape and type, and points float32, possibly outside the image.

    The image is (C, H, W) uint8 or normalised float32, the mask (H, W) uint8, points are (P, 2) as (row, col) in pixels
    or None. Equal keys (seed, epoch, case, repeat) give equal draws. Both of albumentations' generators are seeded here
    for each image, because its own seeding gives every transform and every loader process the same random stream.
    """
    steps, changes = transform
    sequence = np.random.SeedSequence(key)
    states = sequence.generate_state(2)
    steps.set_random_state(np.random.default_rng(states[0]), random.Random(int(states[1])))
    case = {"image": image[0] if len(image) == 1 else cv2.merge(tuple(image)), "mask": mask}
    if points is not None:
        case["keypoints"] = np.asarray(points, np.float32)
    changed = steps(**case)
    moved = changed["image"]
    moved = moved[None] if moved.ndim == 2 else np.moveaxis(moved, 2, 0)
    if image.dtype != np.uint8:
        draw = np.random.default_rng(sequence.spawn(1)[0])
        moved = change_contrast(moved, changes.brightness_contrast, changes.intensity_probability, draw)
    # An unchanged case is a view of the read-only arrays on disk.
    return (
        np.require(moved, requirements=["C", "W"]),
        np.require(changed["mask"], requirements=["W"]),
        None if points is None else np.asarray(changed["keypoints"], np.float32),
    )


def change_contrast(image: np.ndarray, limit: float, probability: float, draw: np.random.Generator) -> np.ndarray:
    """value * (1 + c) + b, with some probability; c and b from -limit..limit for each channel of (C, H, W) float32."""
    if draw.random() >= probability:
        return image
    contrast, brightness = draw.uniform(-limit, limit, (2, len(image), 1, 1)).astype(np.float32)
    return image * (1 + contrast) + brightness


def draws(
    changes: Augmentation,
    seed: int,
    image: np.ndarray,
    mask: np.ndarray,
    points: np.ndarray | None,
    count: int,
    channel: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A case followed by `count` draws of it, for display: images and masks (count + 1, H, W), points or None."""
    transform, case = pipeline(changes, image.dtype), (image, mask, points)
    drawn = (augment(*case, transform, (seed, epoch, 0, 0)) for epoch in range(1, count + 1))
    images, masks, moved = zip(case, *drawn)
    displayed = np.stack([display.displayable(each[channel], image[channel]) for each in images])
    return displayed, np.stack(masks), None if points is None else canonical(np.stack(moved))
