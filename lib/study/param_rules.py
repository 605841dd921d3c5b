"""Rules that relate keys of a study file to each other, as plain data for `lib.study.param_faults`."""

from collections.abc import Callable, Sequence

RESNET_DEPTH = 5  # how often the encoder of resnet_unet halves the image
ONE_VALUE = "must be at least 2 if image_size / 2**depth is one pixel, because batch normalisation needs several values"


def ends_in_one_pixel(image_size: list[int], depth: int, model: str, normalisation: str) -> bool:
    """Whether batch normalisation receives feature maps of 1 x 1 pixels, a single value for a batch of one image.

    SegNet undoes its last pooling before the next convolution and is not affected.
    """
    normalised = model == "resnet_unet" or (model in ("unet", "attention_unet") and normalisation == "batch")
    return normalised and all(side == 2**depth for side in image_size)


def nearest_multiple(value: int, of: int) -> int:
    """The positive multiple of `of` nearest to `value`."""
    return max(1, round(value / of)) * of


def _are_distinct(values: Sequence) -> bool:
    return len(set(values)) == len(values)


def _increase(limits: list[float]) -> bool:
    return limits[0] < limits[1]


def _is_odd(side_px: int) -> bool:
    return side_px % 2 == 1


def _weigh_classes(weights: list[float], classes: list[str]) -> bool:
    return len(weights) == len(classes) and sum(weights) > 0


def _are_foreground(names: list[str], classes: list[str]) -> bool:
    return set(names) <= set(classes[1:])


def _colour_classes(palette: list[list[int]], classes: list[str]) -> bool:
    each = [tuple(colour) for colour in palette]
    return not each or (len(each) == len(classes) and all(len(c) == 3 for c in each) and _are_distinct(each))


def _fits_model(depth: int, model: str) -> bool:
    return depth == RESNET_DEPTH if model == "resnet_unet" else depth <= 5 or not model.startswith("segnet")


# Options that a key may require: the keys that decide, and the condition on their values.
OPTIONS: dict[str, tuple[tuple[str, ...], Callable[..., bool]]] = {
    "landmarks = none": (("landmarks",), lambda landmarks: landmarks == "none"),
    "landmarks other than none": (("landmarks",), lambda landmarks: landmarks != "none"),
    "model = resnet_unet": (("model",), lambda model: model == "resnet_unet"),
    "models other than resnet_unet": (("model",), lambda model: model != "resnet_unet"),
    "schedule = one_cycle": (("schedule",), lambda schedule: schedule == "one_cycle"),
    "schedule = plateau": (("schedule",), lambda schedule: schedule == "plateau"),
    "cross_entropy_weight or focal_weight above 0": (
        ("cross_entropy_weight", "focal_weight"),
        lambda cross_entropy, focal: cross_entropy + focal > 0,
    ),
    "oversample_classes other than []": (("oversample_classes",), bool),
    "tensorboard_every other than null": (("tensorboard_every",), lambda every: every is not None),
    "two classes and landmarks = none": (
        ("classes", "landmarks"),
        lambda classes, landmarks: len(classes) == 2 and landmarks == "none",
    ),
    "head_classes other than []": (("head_classes",), bool),
}
for _name in ("cross_entropy_weight", "focal_weight", "dice_weight", "affine_probability", "intensity_probability"):
    OPTIONS[f"{_name} above 0"] = ((_name,), lambda value: value > 0)
for _step in ("close_outer", "inside_outer", "minimum_area", "largest_parts", "confident_parts"):
    OPTIONS[f"{_step} in postprocessing"] = (("postprocessing",), lambda steps, step=_step: step in steps)
OF_DATASET = ("custom data sets", "data sets of several groups", "volumes", "images")  # decided by lib.datasets
OF_DATASET += ("class regions with pixel sizes", "class regions without pixel sizes")


# (keys, which must be valid and of which the first is reported; the condition; the error message).
RULES: list[tuple[tuple[str, ...], Callable[..., bool], str | Callable[..., str]]] = [
    (("classes",), lambda classes: classes[0] == "background", "the first class must be background"),
    (("classes",), _are_distinct, "class names must be unique"),
    (
        ("image_size", "depth"),
        lambda size, depth: all(side % 2**depth == 0 for side in size),
        lambda size, depth: (
            f"must be multiples of {2**depth}; nearest: {[nearest_multiple(s, 2**depth) for s in size]}"
        ),
    ),
    (("palette", "classes"), _colour_classes, "must be [] or one colour of three numbers per class, all different"),
    (("groups",), _are_distinct, "groups must be unique"),
    (("depth", "model"), _fits_model, "must be 5 with resnet_unet, at most 5 with segnet and segnet_skips"),
    (
        ("batch_size", "image_size", "depth", "model", "normalisation"),
        lambda batch_size, *network: batch_size > 1 or not ends_in_one_pixel(*network),
        ONE_VALUE,
    ),
    (
        ("batch_size", "image_size", "depth", "model", "encoder"),  # resnet_unet always uses batch normalisation
        lambda batch_size, size, depth, model, _: batch_size > 1 or not ends_in_one_pixel(size, depth, model, "batch"),
        ONE_VALUE,
    ),
    (
        ("processes", "batch_size"),
        lambda processes, batch_size: processes <= batch_size,
        "must be at most batch_size, because each takes a share of a batch",
    ),
    (("dice_class_weights", "classes"), _weigh_classes, "must be one weight per class, not all 0"),
    (("cross_entropy_class_weights", "classes"), _weigh_classes, "must be one weight per class, not all 0"),
    (("selection_class_weights", "classes"), _weigh_classes, "must be one weight per class, not all 0"),
    (
        ("dice_weight", "cross_entropy_weight", "focal_weight"),
        lambda *weights: sum(weights) > 0,
        "cross_entropy_weight, focal_weight and dice_weight must not all be 0",
    ),
    (("oversample_classes", "classes"), _are_foreground, "must be names of foreground classes"),
    (("head_classes", "classes"), _are_foreground, "must be names of foreground classes"),
    (
        ("folds", "fold_count"),
        lambda folds, count: max(folds) < count and _are_distinct(folds),
        "must be different numbers from 0 to fold_count - 1",
    ),
    (("seeds",), _are_distinct, "seeds must be unique"),
    (("hc_range_mm",), _increase, "the smallest value must come first"),
    (("closing_pixels",), _is_odd, "must be odd, since an even kernel has no centre"),
    (("dilation_pixels",), _is_odd, "must be odd, since an even kernel has no centre"),
    (("intensity_percentiles",), _increase, "the lower percentile must come first"),
    (
        ("compare_with", "study"),
        lambda names, study: study not in names and _are_distinct(names),
        "must name other studies, each once",
    ),
]
