"""What keys of a study file must be to each other: pure data, read by `lib.study.params`."""

from collections.abc import Callable

RESNET_DEPTH = 5  # how often an encoder of resnet_unet halves the image


def ends_in_one_pixel(image_size: list[int], depth: int, model: str, normalisation: str) -> bool:
    """Whether batch normalisation gets 1 x 1 pixels: of a batch of one image that is one value, and none to go by.

    A SegNet's last pooling is undone before the next convolution, so it has none.
    """
    normalised = model == "resnet_unet" or (model in ("unet", "attention_unet") and normalisation == "batch")
    return normalised and all(side == 2**depth for side in image_size)


def nearest_multiple(value: int, of: int) -> int:
    """The multiple nearest to a value, never 0."""
    return max(1, round(value / of)) * of


# Rules between keys: (keys that must be sound, key that is blamed, holds, what is allowed).
RULES: list[tuple[tuple[str, ...], str, Callable[..., bool], str | Callable[..., str]]] = [
    (("classes",), "classes", lambda c: c[0] == "background", "the first class is background"),
    (("classes",), "classes", lambda c: len(set(c)) == len(c), "no class twice"),
    (
        ("image_size", "depth"),
        "image_size",
        lambda size, depth: all(side % 2**depth == 0 for side in size),
        lambda size, depth: f"multiples of {2**depth}; nearest: {[nearest_multiple(s, 2**depth) for s in size]}",
    ),
    (
        ("palette", "classes"),
        "palette",
        lambda p, c: not p or (len(p) == len(c) and all(len(x) == 3 for x in p) and len({*map(tuple, p)}) == len(p)),
        "[], or three numbers for each class, no colour twice",
    ),
    (("groups",), "groups", lambda g: len(set(g)) == len(g), "no group twice"),
    (
        ("model", "depth"),
        "depth",
        lambda model, depth: {
            "resnet_unet": depth == RESNET_DEPTH,
            "segnet": depth <= 5,
            "segnet_skips": depth <= 5,
        }.get(model, True),
        "5 with resnet_unet, at most 5 with segnet and segnet_skips",
    ),
    (
        ("batch_size", "image_size", "depth", "model", "normalisation"),
        "batch_size",
        lambda batch, size, depth, model, normalisation: (
            batch > 1 or not ends_in_one_pixel(size, depth, model, normalisation)
        ),
        "at least 2 where image_size / 2**depth is one pixel: batch normalisation has one value to go by",
    ),
    (("dice_class_weights", "classes"), "dice_class_weights", lambda w, c: len(w) == len(c), "one for each class"),
    (
        ("cross_entropy_class_weights", "classes"),
        "cross_entropy_class_weights",
        lambda w, c: len(w) == len(c) and sum(w) > 0,
        "one for each class, not all 0",
    ),
    (
        ("dice_class_weights", "dice_weight"),
        "dice_class_weights",
        lambda w, dice_weight: dice_weight == 0 or sum(w) > 0,
        "not all 0 where dice_weight is above 0",
    ),
    (
        ("selection_class_weights", "classes"),
        "selection_class_weights",
        lambda w, c: len(w) == len(c) and sum(w) > 0,
        "one for each class, not all 0",
    ),
    (
        ("cross_entropy_weight", "focal_weight", "dice_weight"),
        "dice_weight",
        lambda a, b, c: a + b + c > 0,
        "cross_entropy_weight, focal_weight and dice_weight not all 0",
    ),
    (
        ("oversample_classes", "classes"),
        "oversample_classes",
        lambda names, c: set(names) <= set(c[1:]),
        "classes other than background",
    ),
    (
        ("head_classes", "classes"),
        "head_classes",
        lambda names, c: set(names) <= set(c[1:]),
        "classes other than background",
    ),
    (
        ("folds", "fold_count"),
        "folds",
        lambda f, n: max(f) < n and len(set(f)) == len(f),
        "0 to fold_count - 1, once each",
    ),
    (("seeds",), "seeds", lambda s: len(set(s)) == len(s), "no seed twice"),
    (
        ("threshold_candidates", "classes"),
        "threshold_candidates",
        lambda t, c: bool(t) == (len(c) == 2),
        "at least one with two classes, [] with more (the most probable class wins)",
    ),
    (("hc_range_mm",), "hc_range_mm", lambda r: r[0] < r[1], "least before largest"),
    (("closing_pixels",), "closing_pixels", lambda side: side % 2 == 1, "odd: an even kernel has no middle"),
    (("dilation_pixels",), "dilation_pixels", lambda side: side % 2 == 1, "odd: an even kernel has no middle"),
    (
        ("intensity_percentiles",),
        "intensity_percentiles",
        lambda p: p[0] < p[1],
        "lower before upper",
    ),
    (
        ("compare_with", "study"),
        "compare_with",
        lambda names, study: study not in names and len(set(names)) == len(names),
        "other studies, once each",
    ),
]
