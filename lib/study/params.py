"""What a study file may say: every key, its type, range and unit, once and without defaults.

One strict, frozen model a notebook; `Study` is their union. A key's description is what an error prints as "allowed".
"""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field

from lib.study import param_faults

Fraction = Annotated[float, Field(ge=0, le=1)]
# torch takes seeds of 64 bits, and tables hold them as int64
Seed = Annotated[int, Field(ge=0, le=2**63 - 1, description="a whole number from 0 to 2**63 - 1")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Weights = list[Annotated[float, Field(ge=0)]]
Correction = Literal[
    "largest_component", "fill_holes", "close_outer", "inside_outer", "minimum_area", "largest_parts", "confident_parts"
]
Record = TypeVar("Record")


# Options that several keys hang on, as `param_rules.OPTIONS` names them.
POINTS, REGIONS, VOLUMES = "landmarks other than none", "landmarks = none", "volumes"
RESNET, OTHER_MODELS = "model = resnet_unet", "models other than resnet_unet"
AFFINE, INTENSITY = "affine_probability above 0", "intensity_probability above 0"
PLATEAU, HEAD = "schedule = plateau", "head_classes other than []"
CLOSE_OUTER, INSIDE_OUTER = "close_outer in postprocessing", "inside_outer in postprocessing"
LARGEST, CONFIDENT = "largest_parts in postprocessing", "confident_parts in postprocessing"


def key(allowed: str, **bounds: Any) -> Any:
    """A key of a study file without a default: what is allowed, in words, and the bounds of a number or a list."""
    return Field(description=allowed, **bounds)


def only_with(option: str, allowed: str, nullable: bool = False, **bounds: Any) -> Any:
    """A key that only one option uses: absent (None) elsewhere, needed where the option is chosen.

    The option is named by one of `param_rules.OPTIONS`, or by one of OF_DATASET, of which the data set decides. Null
    in a study file stands for "missing", but of a `nullable` key.
    """
    extra = {"option": option, "nullable": nullable}
    return Field(default=None, description=allowed, json_schema_extra=extra, **bounds)


def pick(model: "Params", record: type[Record]) -> Record:
    """A dataclass of plain values, each field taken from the key of its name; the default where the key is absent."""
    values = {field.name: getattr(model, field.name) for field in fields(record)}  # type: ignore[arg-type]
    return record(**{name: value for name, value in values.items() if value is not None})


class Params(BaseModel):
    """Base of the parameter models: no coercion, no unknown key, no infinity, no change after reading."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class SharedParams(Params):
    """Keys that every notebook reads."""

    study: Name = key("the study file's name without .yaml: a-z, 0-9, _")
    dataset: Name = key("a data set of lib.datasets; read from data/raw/<dataset>")
    classes: list[Name] = key("class names in index order, the first is background", min_length=2, max_length=32)
    palette: list[list[Annotated[int, Field(ge=0, le=255)]]] | None = only_with(
        "custom data sets", "[red, green, blue] of each class in its masks; [] where grey values are class indices"
    )
    landmarks: Literal["none", "multicentre", "role_challenge"] = key(
        "none: the network learns class regions; multicentre or role_challenge: it learns heatmaps of the "
        "BPD and OFD end points of that table in data/raw/landmarks"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = key("auto (CUDA, then MPS, then CPU), cpu, cuda or mps")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = key(
        "of training: auto (what is fast on the device), float32, bfloat16 or float16 (CUDA only)"
    )

    @property
    def learns_landmarks(self) -> bool:
        """The study's kind: heatmaps of end points, not class regions."""
        return self.landmarks != "none"


class VerificationParams(SharedParams):
    """Keys of 01_data_verification."""

    groups: list[str] | None = only_with(
        "data sets of several groups", "which groups (planes, kinds of lesion) of the data set are used", min_length=1
    )
    fold_count: int = key("a whole number from 3 to 50: train, validation, test", ge=3, le=50)
    split_seed: Seed
    validation_subjects: int | None = key(
        "how many subjects of the next fold validate, the rest of it trains; null for all of them", ge=1
    )
    exclude: list[str] = key("names of cases to leave out; each is listed in the report")
    near_duplicate_correlation: float = key(
        "correlation of high-passed thumbnails from which images are near-duplicates, 0.3 to 1", ge=0.3, le=1
    )


class PreprocessingParams(SharedParams):
    """Keys of 02_preprocessing."""

    image_size: list[Annotated[int, Field(ge=32, le=2048)]] = key(
        "[rows, columns] of the network's input, 32 to 2048 each", min_length=2, max_length=2
    )
    end_slices_dropped: int | None = only_with(VOLUMES, "slices left out at each end, 0 to 10", ge=0, le=10)
    crop_level: float | None = only_with(
        VOLUMES, "share of a channel's maximum that is content, 0 to 1; images are cropped to it", ge=0, lt=1
    )
    intensity_percentiles: list[Annotated[float, Field(ge=0, le=100)]] | None = only_with(
        VOLUMES, "[lower, upper] that intensities are clipped to", min_length=2, max_length=2
    )
    heatmap_sigma: float | None = only_with(POINTS, "standard deviation of a heatmap's peak", gt=0, le=50)
    heatmap_sigma_unit: Literal["pixels", "mm"] | None = only_with(POINTS, "pixels (of the network's input) or mm")


class ModelParams(SharedParams):
    """Keys of 03_model."""

    model: Literal["unet", "attention_unet", "segnet", "segnet_skips", "resnet_unet"] = key(
        "unet, attention_unet, segnet, segnet_skips or resnet_unet"
    )
    base_channels: int | None = only_with(OTHER_MODELS, "channels of the first level, 4 to 128", ge=4, le=128)
    depth: int = key("number of poolings, 1 to 6", ge=1, le=6)
    normalisation: Literal["batch", "none"] | None = only_with(OTHER_MODELS, "batch or none (none is U-Net 2015)")
    encoder: Literal["resnet18", "resnet34"] | None = only_with(RESNET, "resnet18 or resnet34")
    encoder_weights: Literal["none", "imagenet"] | None = only_with(
        RESNET, "none (drawn at random) or imagenet (a file that must be there)"
    )
    heatmap_per: Literal["line", "point"] | None = only_with(
        POINTS, "line (both ends in one heatmap) or point (one each: left OFD, upper BPD first)"
    )


class TrainingProtocol(SharedParams):
    """Keys of 04_training in a study file, alike for all of its runs."""

    epochs: int = key("a whole number from 1 to 5000", ge=1, le=5000)
    batch_size: int = key("images a step, 1 to 1024", ge=1, le=1024)
    optimizer: Literal["adam", "adamw"] = key("adam or adamw")
    learning_rate: float = key("above 0, at most 1 (such as 1.0e-3)", gt=0, le=1)
    weight_decay: float = key("0 to 1", ge=0, le=1)
    schedule: Literal["constant", "cosine", "one_cycle", "plateau"] = key("constant, cosine, one_cycle or plateau")
    warm_up_fraction: float | None = only_with(
        "schedule = one_cycle", "share of the steps in which the rate rises, between 0 and 1", gt=0, lt=1
    )
    plateau_factor: float | None = only_with(PLATEAU, "between 0 and 1", gt=0, lt=1)
    plateau_patience: int | None = only_with(PLATEAU, "epochs without improvement, from 0", ge=0)
    early_stopping_patience: int | None = key("epochs without improvement before training stops, or null", ge=1)
    gradient_clip: float | None = key("largest norm of the gradient, or null", gt=0)
    cross_entropy_weight: float | None = only_with(REGIONS, "weight of cross-entropy in the loss, from 0", ge=0)
    focal_weight: float | None = only_with(REGIONS, "weight of focal loss in the loss, from 0", ge=0)
    dice_weight: float | None = only_with(REGIONS, "weight of soft Dice in the loss, from 0", ge=0)
    cross_entropy_class_weights: Weights | None = only_with(
        "cross_entropy_weight or focal_weight above 0",
        "a weight for each class in cross-entropy and focal loss, background included",
    )
    label_smoothing: float | None = only_with(
        "cross_entropy_weight above 0",
        "share of certainty that cross-entropy spreads over all classes, from 0, below 1",
        ge=0,
        lt=1,
    )
    focal_gamma: float | None = only_with(
        "focal_weight above 0", "how fast focal loss forgets what is certain, 0 to 10", ge=0, le=10
    )
    dice_class_weights: Weights | None = only_with(
        "dice_weight above 0", "a weight for each class in the soft Dice loss, background included"
    )
    selection_metric: Literal["dice", "iou"] | None = only_with(REGIONS, "dice or iou, pooled over validation cases")
    selection_class_weights: Weights | None = only_with(
        REGIONS, "a weight for each class in the validation metric that chooses the checkpoint"
    )
    oversample_classes: list[Name] | None = only_with(REGIONS, "images that show one of these are drawn more often")
    oversample_factor: float | None = only_with(
        "oversample_classes other than []", "how much more often, 1 to 100", ge=1, le=100
    )
    area_weight_floor: Fraction | None = only_with(
        VOLUMES,
        "null, or slices of a case are drawn by foreground area, but for this share of draws, 0 to 1",
        nullable=True,
    )
    horizontal_flip: Fraction = key("probability, 0 to 1")
    vertical_flip: Fraction = key("probability, 0 to 1")
    affine_probability: Fraction = key("probability of shift, scale and rotation, 0 to 1")
    shift_fraction: float | None = only_with(AFFINE, "largest shift as a share of the image, 0 to 0.5", ge=0, le=0.5)
    scale_fraction: float | None = only_with(AFFINE, "largest change of scale, 0 to 0.5", ge=0, le=0.5)
    rotation_deg: float | None = only_with(AFFINE, "largest rotation in degrees, 0 to 180", ge=0, le=180)
    brightness_contrast: float | None = only_with(INTENSITY, "largest relative change, 0 to 1", ge=0, le=1)
    intensity_probability: Fraction = key("probability of a change of brightness and contrast, 0 to 1")
    clahe_probability: Fraction | None = only_with(
        "images", "probability of local contrast equalisation (CLAHE), 0 to 1"
    )
    compile: bool = key("true: torch.compile, worth its start on a GPU; or false")
    tensorboard_every: int | None = key(
        "epochs between pictures for TensorBoard, whose curves grow each epoch; null for no TensorBoard", ge=1
    )
    tensorboard_images: int | None = only_with(
        "tensorboard_every other than null", "pictures each time, 1 to 64", ge=1, le=64
    )
    workers: int = key("loader processes, 0 to 64; the result does not depend on it", ge=0, le=64)


class TrainingParams(TrainingProtocol):
    """Keys of 04_training, with the fold and seed of one run; a study file lists `folds` and `seeds` instead."""

    fold: int = key("the fold that is tested, from 0", ge=0)
    seed: Seed


class EvaluationParams(SharedParams):
    """Keys of 05_evaluation."""

    folds: list[Annotated[int, Field(ge=0)]] = key("folds that are tested, one training each", min_length=1)
    seeds: list[Seed] = key("seeds, one training each per fold; whole numbers from 0 to 2**63 - 1", min_length=1)
    flip_average: bool = key("true: average with the prediction of the mirrored image; or false")
    threshold_candidates: list[Annotated[float, Field(gt=0, lt=1)]] | None = only_with(
        "two classes and landmarks = none",
        "foreground probabilities between 0 and 1 to choose from on validation",
        min_length=1,
    )
    postprocessing: list[Correction] | None = only_with(
        REGIONS, f"steps in order: {', '.join(get_args(Correction))}; [] for none"
    )
    closing_pixels: int | None = only_with(CLOSE_OUTER, "side of the kernel in native pixels", ge=1, le=99)
    dilation_pixels: int | None = only_with(INSIDE_OUTER, "side of the kernel in native pixels", ge=1, le=99)
    minimum_area_mm2: float | None = only_with(
        "minimum_area in postprocessing", "smaller parts are dropped where the pixel size is known", ge=0
    )
    parts_kept: int | None = only_with(LARGEST, "parts of a class that are kept", ge=1, le=99)
    minimum_probability: Fraction | None = only_with(
        CONFIDENT, "mean probability below which a part is dropped, 0 to 1"
    )
    minimum_margin: Fraction | None = only_with(
        CONFIDENT, "mean lead over the next class below which a part is dropped, 0 to 1"
    )


class BiometryParams(SharedParams):
    """Keys of 06_biometry."""

    head_classes: list[Name] = key(
        "classes whose union is the head out to the skull's outer border; [] where no head is shown"
    )
    max_axis_ratio: float | None = only_with(HEAD, "OFD/BPD above which a mask is flagged, 1 to 3", gt=1, le=3)
    hc_range_mm: list[Annotated[float, Field(gt=0)]] | None = only_with(
        HEAD, "[least, largest] plausible HC in mm; outside is flagged, kept", min_length=2, max_length=2
    )


class ComparisonParams(SharedParams):
    """Keys of 07_comparison."""

    compare_with: list[Name] = key("studies that have been run and tested the same cases; [] for no comparison")


class ReportParams(SharedParams):
    """Keys of the PDF report."""

    title: str = key("the report's title, as text", min_length=1)
    author: str = key("name or names on the title page, may be empty")


STEPS: dict[str, type[SharedParams]] = {
    "01_data_verification": VerificationParams,
    "02_preprocessing": PreprocessingParams,
    "03_model": ModelParams,
    "04_training": TrainingParams,
    "05_evaluation": EvaluationParams,
    "06_biometry": BiometryParams,
    "07_comparison": ComparisonParams,
    "report": ReportParams,
}


class Study(
    VerificationParams,
    PreprocessingParams,
    ModelParams,
    TrainingProtocol,
    EvaluationParams,
    BiometryParams,
    ComparisonParams,
    ReportParams,
):
    """A whole study file."""


class AnyKey(Study, TrainingParams):
    """Every key of any notebook, to tell what is none."""


def read_study(path: Path) -> Study:
    """A study file, checked whole; ValueError if it is missing, is no YAML mapping, or has faults (all are named)."""
    if not path.is_file():
        studies = sorted(p.stem for p in path.parent.glob("*.yaml"))
        nearest = param_faults.nearest(path.stem, studies)
        raise ValueError(f"{path}: no such study file; there are: {', '.join(studies) or 'none'}{nearest}")
    values = read_yaml(path)
    faults = param_faults.find_faults(values, Study)
    if values.get("study") not in (path.stem, None):
        faults.append(f"study = {values['study']!r}   the file is named {path.name}; expected {path.stem!r}")
    param_faults.refuse(str(path), faults)
    return Study.model_validate(values)


def values_of(study: Study) -> dict[str, Any]:
    """The keys that a study uses, in the order of the models, and their values."""
    return study.model_dump(exclude_unset=True)


def step_params(study: Study, step: str, **run: int) -> SharedParams:
    """The keys of one step, out of a whole study; of a training also its `fold` and `seed`."""
    model = STEPS[step]
    return model.model_validate({k: v for k, v in values_of(study).items() if k in model.model_fields} | run)


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key given twice (plain YAML keeps the last, silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = sorted({str(k) for k in keys if keys.count(k) > 1})
        if twice:
            raise ValueError(f"line {node.start_mark.line + 1}: given twice: {', '.join(twice)}")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A flat YAML mapping; ValueError if it is none, or a key is given twice."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: holds {type(values).__name__}; expected keys and values, one a line")
    unnamed = [name for name in values if not isinstance(name, str)]
    if unnamed:
        raise ValueError(f"{path}: keys {unnamed}; expected names (YAML reads yes, no, on and off as true and false)")
    return values
