"""Random changes of a training image, its mask and its points; a draw is a function of (seed, epoch, case, repeat)."""

import os
import random
from dataclasses import dataclass

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # at its import it would ask the network for its newest version

import albumentations
import cv2
import numpy as np

from lib.imaging import display
from lib.imaging.head_points import canonical

CLAHE_LIMIT = (1.0, 2.0)  # of contrast, drawn evenly; above 2 speckle comes to look like structure


@dataclass(frozen=True)
class Augmentation:
    """How training images are changed, in the names and units of a study file's keys."""

    horizontal_flip: float  # probability, 0 to 1
    vertical_flip: float  # probability
    affine_probability: float  # of shift, scale and rotation together
    shift_fraction: float  # the largest, as a share of the image
    scale_fraction: float  # the largest change
    rotation_deg: float  # the largest
    intensity_probability: float  # of a change of brightness and contrast
    brightness_contrast: float  # the largest relative change of each
    clahe_probability: float  # of local contrast equalisation; of uint8 images alone


@dataclass(frozen=True)
class Transform:
    """What `augment` draws from, for images of one type: what albumentations does, and what was asked for."""

    steps: albumentations.Compose
    changes: Augmentation


def pipeline(changes: Augmentation, dtype: np.dtype) -> Transform:
    """The transforms that are asked for, geometry first; for float32 images geometry alone.

    albumentations takes float32 images to lie between 0 and 1 where it changes their values; normalised volumes do
    not, so `augment` does that itself, and CLAHE they do without.
    """
    steps = [*_geometry(changes), *(_intensity(changes) if dtype == np.uint8 else [])]
    # A landmark that leaves the image still has a place, and a line still has two ends.
    places = albumentations.KeypointParams(format="yx", remove_invisible=False)
    return Transform(albumentations.Compose(steps, keypoint_params=places), changes)


def _geometry(changes: Augmentation) -> list[albumentations.BasicTransform]:
    shift, scale = changes.shift_fraction, changes.scale_fraction
    affine = albumentations.Affine(
        translate_percent=(-shift, shift),
        scale=(1 - scale, 1 + scale),
        keep_ratio=True,  # a head keeps its form
        rotate=(-changes.rotation_deg, changes.rotation_deg),
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        p=changes.affine_probability,
    )
    return [
        albumentations.HorizontalFlip(p=changes.horizontal_flip),
        albumentations.VerticalFlip(p=changes.vertical_flip),
        affine,
    ]


def _intensity(changes: Augmentation) -> list[albumentations.BasicTransform]:
    change = changes.brightness_contrast
    return [
        albumentations.RandomBrightnessContrast(
            brightness_limit=change, contrast_limit=change, p=changes.intensity_probability
        ),
        albumentations.CLAHE(clip_limit=CLAHE_LIMIT, p=changes.clahe_probability),
    ]


def augment(
    image: np.ndarray,
    mask: np.ndarray,
    points: np.ndarray | None,
    transform: Transform,
    key: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """One draw.

    albumentations' own seeding gives every transform the same stream and every loader process the same draws, so
    both of its generators are set here for each image.

    Args:
        image: (C, H, W) uint8, or float32 already normalised.
        mask: (H, W) uint8.
        points: (P, 2) of (row, col) in pixels, or None.
        transform: from `pipeline`, for images of this type.
        key: (seed, epoch, case, repeat): equal keys give equal draws.

    Returns:
        Image and mask of the same shapes and types; points (P, 2) float32, some outside the image perhaps, or None.
    """
    sequence = np.random.SeedSequence(key)
    states = sequence.generate_state(2)
    transform.steps.set_random_state(np.random.default_rng(states[0]), random.Random(int(states[1])))
    background = background_of(image)
    shown = image if background is None else image - background
    given = {"image": shown[0] if len(shown) == 1 else np.moveaxis(shown, 0, 2), "mask": mask}
    if points is not None:
        given["keypoints"] = np.asarray(points, np.float32)
    changed = transform.steps(**given)
    moved = changed["image"]
    moved = moved[None] if moved.ndim == 2 else np.moveaxis(moved, 2, 0)
    if background is not None:
        draw, changes = np.random.default_rng(sequence.spawn(1)[0]), transform.changes
        moved = change_contrast(moved + background, changes.brightness_contrast, changes.intensity_probability, draw)
    # One case in many comes back unchanged, as a view of the read-only arrays on disk.
    return (
        np.require(moved, requirements=["C", "W"]),
        np.require(changed["mask"], requirements=["W"]),
        None if points is None else np.asarray(changed["keypoints"], np.float32),
    )


def background_of(image: np.ndarray) -> np.ndarray | None:
    """What a normalised image shows where nothing is, its least value: (C, H, W) -> (C, 1, 1); None for uint8.

    Geometry fills corners with 0, which is black in a uint8 image but average tissue in a normalised one.
    """
    return None if image.dtype == np.uint8 else image.min(axis=(1, 2), keepdims=True)


def change_contrast(image: np.ndarray, limit: float, probability: float, draw: np.random.Generator) -> np.ndarray:
    """Changes contrast and brightness of each channel by itself, or nothing: value * (1 + c) + b.

    Args:
        image: (C, H, W) float32 in standard deviations.
        limit: c and b lie between -limit and limit.
        probability: of a change.
        draw: of this case.
    """
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
    """A case as it is, then some draws of it, to look at.

    Args:
        changes: what is drawn.
        seed: of the draws.
        image: (C, H, W) uint8 or float32.
        mask: (H, W) uint8.
        points: (4, 2) of (row, col) in pixels, or None.
        count: of draws.
        channel: that is shown.

    Returns:
        Images and masks, (count + 1, H, W) uint8 each, and points (count + 1, 4, 2) in canonical order, or None.
    """
    transform = pipeline(changes, image.dtype)
    drawn = [(image, mask, points)] + [
        augment(image, mask, points, transform, (seed, epoch, 0, 0)) for epoch in range(1, count + 1)
    ]
    images, masks, moved = zip(*drawn)
    shown = np.stack([display.displayable(each[channel], image[channel]) for each in images])
    return shown, np.stack(masks), None if points is None else canonical(np.stack(moved))
