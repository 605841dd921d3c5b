"""Every key of a study file with its type, range and unit; none has a default.

One strict, frozen model per notebook; `Study` is their union. Errors and the report print a key's description. A model
called `…Protocol` holds the keys in a study file; its notebook has further ones, for one run or a manual one.
"""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field

from lib.study import param_faults, plain_yaml

Fraction = Annotated[float, Field(ge=0, le=1)]
# torch accepts 64-bit seeds, and tables store them as int64
Seed = Annotated[int, Field(ge=0, le=2**63 - 1, description="a whole number from 0 to 2**63 - 1")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=64)]
Text = Annotated[str, Field(max_length=255)]  # as long as a file's name may be
Weights = list[Annotated[float, Field(ge=0, le=1e6)]]
Correction = Literal[
    "largest_component", "fill_holes", "close_outer", "inside_outer", "minimum_area", "largest_parts", "confident_parts"
]
Record = TypeVar("Record")
RUN = ("fold", "seed")  # in no study file: set by the workflow, by default the study's first
MANUAL = ("case_limit", "profile")  # in no study file: of manual runs only, by default None and false


# Options that several keys depend on, as named in `param_rules.OPTIONS`.
POINTS, REGIONS, VOLUMES = "landmarks other than none", "landmarks = none", "volumes"
RESNET, OTHER_MODELS = "model = resnet_unet", "models other than resnet_unet"
AFFINE, INTENSITY = "affine_probability above 0", "intensity_probability above 0"
PLATEAU, HEAD = "schedule = plateau", "head_classes other than []"
CLOSE_OUTER, INSIDE_OUTER = "close_outer in postprocessing", "inside_outer in postprocessing"
LARGEST, CONFIDENT = "largest_parts in postprocessing", "confident_parts in postprocessing"


def key(allowed: str, **bounds: Any) -> Any:
    """A required key: a description of its allowed values, and the bounds of a number or a list."""
    return Field(description=allowed, **bounds)


def only_with(option: str, allowed: str, nullable: bool = False, **bounds: Any) -> Any:
    """A key that only one option uses: required if the option is selected, otherwise absent (None).

    The option is a name in `param_rules.OPTIONS` or, if the data set decides, in `param_rules.OF_DATASET`. Null in a
    study file counts as missing unless the key is `nullable`.
    """
    extra = {"option": option, "nullable": nullable}
    return Field(default=None, description=allowed, json_schema_extra=extra, **bounds)


def pick(model: "Params", record: type[Record]) -> Record:
    """A dataclass whose fields are taken from the keys of the same name; absent keys keep the field's default."""
    values = {field.name: getattr(model, field.name) for field in fields(record)}  # type: ignore[arg-type]
    return record(**{name: value for name, value in values.items() if value is not None})


class Params(BaseModel):
    """Base of the parameter models: no type coercion, no unknown keys, no infinite values, frozen."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class SharedParams(Params):
    """Keys that every notebook reads."""

    study: Name = key("name of the study file without .yaml: a-z, 0-9, _")
    dataset: Name = key("name of a data set in lib.datasets, read from data/raw/<dataset>")
    classes: list[Name] = key(
        "2 to 32 class names of a-z, 0-9, _ by index, background first", min_length=2, max_length=32
    )
    palette: list[list[Annotated[int, Field(ge=0, le=255)]]] | None = only_with(
        "custom data sets", "mask colour of each class as [red, green, blue]; [] if grey values are class indices"
    )
    landmarks: Literal["none", "multicentre", "role_challenge"] = key(
        "none: the network predicts class regions; multicentre or role_challenge: it predicts heatmaps of the "
        "BPD and OFD endpoints in that table of data/raw/landmarks"
    )
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")] = key(
        "auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:<index> or mps"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = key(
        "training precision: auto (chosen for the device), float32, bfloat16 or float16 (CUDA only)"
    )

    @property
    def learns_landmarks(self) -> bool:
        """Whether the network predicts heatmaps of endpoints instead of class regions."""
        return self.landmarks != "none"


class VerificationParams(SharedParams):
    """Keys of 01_data_verification."""

    groups: list[Text] | None = only_with(
        "data sets of several groups", "groups of the data set to use, such as planes or kinds of lesion", min_length=1
    )
    fold_count: int = key("number of folds, a whole number from 3 to 50", ge=3, le=50)
    split_seed: Seed
    validation_subjects: int | None = key(
        "subjects of the next fold used for validation, the rest for training; null to validate on all of it",
        ge=1,
        le=100_000,
    )
    exclude: list[Text] = key("names of cases to exclude; the report lists them")
    near_duplicate_correlation: float = key(
        "correlation of high-pass filtered thumbnails at which images count as near-duplicates, 0.3 to 1", ge=0.3, le=1
    )


class PreprocessingParams(SharedParams):
    """Keys of 02_preprocessing."""

    image_size: list[Annotated[int, Field(ge=32, le=2048)]] = key(
        "network size as [rows, columns], 32 to 2048 each", min_length=2, max_length=2
    )
    end_slices_dropped: int | None = only_with(VOLUMES, "slices dropped at each end, 0 to 10", ge=0, le=10)
    crop_level: float | None = only_with(
        VOLUMES, "share of a channel's maximum that counts as content, 0 to 1; images are cropped to it", ge=0, lt=1
    )
    intensity_percentiles: list[Annotated[float, Field(ge=0, le=100)]] | None = only_with(
        VOLUMES, "[lower, upper] percentiles to which intensities are clipped, 0 to 100", min_length=2, max_length=2
    )
    heatmap_sigma: float | None = only_with(POINTS, "standard deviation of a heatmap peak, to 50", gt=0, le=50)
    heatmap_sigma_unit: Literal["pixels", "mm"] | None = only_with(POINTS, "pixels (at network size) or mm")


class ManualLimit(Params):
    """The key of a quick pass over a few cases, in 04, 05 and 06."""

    case_limit: int | None = Field(
        default=None,
        ge=2,
        le=1_000_000,
        description="cases per part of a quick pass, a whole number from 2; null for all cases",
    )


class ModelProtocol(SharedParams):
    """Keys of 03_model in a study file."""

    model: Literal["unet", "attention_unet", "segnet", "segnet_skips", "resnet_unet"] = key(
        "unet, attention_unet, segnet, segnet_skips or resnet_unet"
    )
    base_channels: int | None = only_with(OTHER_MODELS, "number of channels at the first level, 4 to 128", ge=4, le=128)
    depth: int = key("number of downsampling steps, 1 to 6", ge=1, le=6)
    normalisation: Literal["batch", "none"] | None = only_with(OTHER_MODELS, "batch or none (as in the U-Net of 2015)")
    encoder: Literal["resnet18", "resnet34"] | None = only_with(RESNET, "resnet18 or resnet34")
    encoder_weights: Literal["none", "imagenet"] | None = only_with(
        RESNET, "none (random initialisation) or imagenet (requires the weight file)"
    )
    heatmap_per: Literal["line", "point"] | None = only_with(
        POINTS, "line (both endpoints in one heatmap) or point (one heatmap each: left OFD, upper BPD first)"
    )


class ModelParams(ModelProtocol):
    """Keys of 03_model."""

    profile: bool = Field(default=False, description="true (one epoch is timed by its parts) or false")


class TrainingProtocol(SharedParams):
    """Keys of 04_training in a study file, common to all its runs."""

    epochs: int = key("number of epochs, a whole number from 1 to 5000", ge=1, le=5000)
    batch_size: int = key("images per step, 1 to 1024", ge=1, le=1024)
    optimizer: Literal["adam", "adamw"] = key("adam or adamw")
    learning_rate: float = key("above 0, at most 1 (for example 1.0e-3)", gt=0, le=1)
    weight_decay: float = key("0 to 1", ge=0, le=1)
    schedule: Literal["constant", "cosine", "one_cycle", "plateau"] = key("constant, cosine, one_cycle or plateau")
    warm_up_fraction: float | None = only_with(
        "schedule = one_cycle", "fraction of the steps in which the learning rate rises, between 0 and 1", gt=0, lt=1
    )
    plateau_factor: float | None = only_with(PLATEAU, "factor on the learning rate, between 0 and 1", gt=0, lt=1)
    plateau_patience: int | None = only_with(
        PLATEAU, "epochs without improvement that are tolerated before a reduction, 0 to 5000", ge=0, le=5000
    )
    early_stopping_patience: int | None = key(
        "epochs without improvement before training stops, 1 to 5000, or null", ge=1, le=5000
    )
    gradient_clip: float | None = key("largest gradient norm, above 0, at most 1000000; or null", gt=0, le=1e6)
    cross_entropy_weight: float | None = only_with(
        REGIONS, "weight of cross-entropy in the loss, 0 to 1000000", ge=0, le=1e6
    )
    focal_weight: float | None = only_with(REGIONS, "weight of focal loss in the loss, 0 to 1000000", ge=0, le=1e6)
    dice_weight: float | None = only_with(REGIONS, "weight of soft Dice in the loss, 0 to 1000000", ge=0, le=1e6)
    cross_entropy_class_weights: Weights | None = only_with(
        "cross_entropy_weight or focal_weight above 0",
        "one weight per class, including background, for cross-entropy and focal loss",
    )
    label_smoothing: float | None = only_with(
        "cross_entropy_weight above 0",
        "fraction of the target probability that is spread over all classes, from 0, below 1",
        ge=0,
        lt=1,
    )
    focal_gamma: float | None = only_with(
        "focal_weight above 0", "focusing exponent of the focal loss, 0 to 10", ge=0, le=10
    )
    dice_class_weights: Weights | None = only_with(
        "dice_weight above 0", "one weight per class, including background, for the soft Dice loss"
    )
    selection_metric: Literal["dice", "iou"] | None = only_with(REGIONS, "dice or iou, pooled over validation cases")
    selection_class_weights: Weights | None = only_with(
        REGIONS, "one weight per class in the validation metric that selects the checkpoint"
    )
    oversample_classes: list[Name] | None = only_with(REGIONS, "classes whose images are sampled more often")
    oversample_factor: float | None = only_with(
        "oversample_classes other than []", "how many times as often, 1 to 100", ge=1, le=100
    )
    area_weight_floor: Fraction | None = only_with(
        VOLUMES,
        "share of draws spread evenly over a case's slices, the rest by foreground area, 0 to 1; null for no weights",
        nullable=True,
    )
    horizontal_flip: Fraction = key("probability of a horizontal flip, 0 to 1")
    vertical_flip: Fraction = key("probability of a vertical flip, 0 to 1")
    affine_probability: Fraction = key("probability of a random shift, scaling and rotation, 0 to 1")
    shift_fraction: float | None = only_with(AFFINE, "largest shift as a fraction of the image, 0 to 0.5", ge=0, le=0.5)
    scale_fraction: float | None = only_with(AFFINE, "largest relative change of scale, 0 to 0.5", ge=0, le=0.5)
    rotation_deg: float | None = only_with(AFFINE, "largest rotation in degrees, 0 to 180", ge=0, le=180)
    brightness_contrast: float | None = only_with(INTENSITY, "largest relative change of either, 0 to 1", ge=0, le=1)
    intensity_probability: Fraction = key("probability of a change of brightness and contrast, 0 to 1")
    clahe_probability: Fraction | None = only_with(
        "images", "probability of local contrast equalisation (CLAHE), 0 to 1"
    )
    compile: bool = key("true (torch.compile; worth its start-up time on a GPU) or false")
    deterministic: bool = key(
        "true (runs on one device with one number of threads and processes have equal bytes) or false (on a GPU "
        "faster; batches that do not fit into its memory are processed in portions)"
    )
    tensorboard_every: int | None = key(
        "epochs between images for TensorBoard (curves are written every epoch); null for no TensorBoard", ge=1, le=5000
    )
    tensorboard_images: int | None = only_with(
        "tensorboard_every other than null", "number of images each time, 1 to 64", ge=1, le=64
    )
    processes: int = key(
        "GPUs, or CPU processes, that share one training, 1 to 64; each takes its share of a batch", ge=1, le=64
    )
    workers: int = key("number of data loader processes of each, 0 to 64; results do not depend on it", ge=0, le=64)


class TrainingParams(TrainingProtocol, ManualLimit):
    """Keys of 04_training with the fold and seed of one run; a study file has `folds` and `seeds` instead."""

    fold: int = key("index of the test fold, from 0", ge=0, le=49)
    seed: Seed


class HeadKeys(Params):
    """Keys of 06_biometry that 05_evaluation writes into the model file too, which is used without its study."""

    head_classes: list[Name] = key(
        "classes whose union is the head up to the outer skull border, as in `classes`; [] if no head is visible"
    )
    max_axis_ratio: float | None = only_with(HEAD, "OFD/BPD ratio above which a mask is flagged, 1 to 3", gt=1, le=3)
    hc_range_mm: list[Annotated[float, Field(gt=0, le=10_000)]] | None = only_with(
        HEAD, "[smallest, largest] plausible HC in mm; values outside are flagged but kept", min_length=2, max_length=2
    )


class EvaluationProtocol(HeadKeys, SharedParams):
    """Keys of 05_evaluation in a study file."""

    folds: list[Annotated[int, Field(ge=0, le=49)]] = key(
        "test folds, one training run per fold and seed", min_length=1
    )
    seeds: list[Seed] = key("whole numbers from 0 to 2**63 - 1, one training run per fold and seed", min_length=1)
    flip_average: bool = key("true (average with the prediction for the mirrored image) or false")
    threshold_candidates: list[Annotated[float, Field(gt=0, lt=1)]] | None = only_with(
        "two classes and landmarks = none",
        "foreground probabilities between 0 and 1; the validation cases decide which is used",
        min_length=1,
    )
    postprocessing: list[Correction] | None = only_with(
        REGIONS, f"corrections in order: {', '.join(get_args(Correction))}; [] for none"
    )
    closing_pixels: int | None = only_with(CLOSE_OUTER, "kernel side in native pixels, 1 to 99", ge=1, le=99)
    dilation_pixels: int | None = only_with(INSIDE_OUTER, "kernel side in native pixels, 1 to 99", ge=1, le=99)
    minimum_area_mm2: float | None = only_with(
        "minimum_area in postprocessing", "area below which a part is removed if the pixel size is known", ge=0, le=1e6
    )
    parts_kept: int | None = only_with(LARGEST, "number of parts per class to keep, 1 to 99", ge=1, le=99)
    minimum_probability: Fraction | None = only_with(
        CONFIDENT, "mean probability below which a part is removed, 0 to 1"
    )
    minimum_margin: Fraction | None = only_with(
        CONFIDENT, "mean margin over the next class below which a part is removed, 0 to 1"
    )
    nsd_tolerance_mm: float | None = only_with(
        "class regions with pixel sizes", "boundary distance that NSD tolerates, in mm, 0 to 100", ge=0, le=100
    )
    nsd_tolerance_px: float | None = only_with(
        "class regions without pixel sizes", "boundary distance that NSD tolerates, in pixels, 0 to 100", ge=0, le=100
    )


class EvaluationParams(EvaluationProtocol, ManualLimit):
    """Keys of 05_evaluation."""


class BiometryProtocol(HeadKeys, SharedParams):
    """Keys of 06_biometry in a study file."""

    equivalence_margin_percent: float | None = only_with(
        HEAD, "difference from the reference, in percent, up to which a measurement is equivalent, to 50", gt=0, le=50
    )


class BiometryParams(BiometryProtocol, ManualLimit):
    """Keys of 06_biometry."""


class ComparisonParams(SharedParams):
    """Keys of 07_comparison."""

    compare_with: list[Name] = key("other studies that have been run on the same test cases; [] for no comparison")


class ReportParams(SharedParams):
    """Keys of the PDF report."""

    title: str = key("title of the report, 1 to 300 characters", min_length=1, max_length=300)
    author: str = key("author names on the title page, at most 300 characters, may be empty", max_length=300)
    degree: str = key("degree sought, for the title page, at most 300 characters, may be empty", max_length=300)
    institution: str = key("institution on the title page, at most 300 characters, may be empty", max_length=300)
    supervisors: list[Annotated[str, Field(min_length=1, max_length=300)]] = key(
        "names of the supervisors on the title page, each 1 to 300 characters; [] for none", max_length=20
    )


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


def own_keys(step: str) -> list[str]:
    """Keys listed under a step: not those of every notebook, nor in 05_evaluation those that it shares with 06."""
    elsewhere = {*SharedParams.model_fields, *(HeadKeys.model_fields if step == "05_evaluation" else ())}
    return [name for name in STEPS[step].model_fields if name not in elsewhere]


class Study(
    VerificationParams,
    PreprocessingParams,
    ModelProtocol,
    TrainingProtocol,
    EvaluationProtocol,
    BiometryProtocol,
    ComparisonParams,
    ReportParams,
):
    """A complete study file."""


class AnyKey(Study, ModelParams, TrainingParams):
    """Every key of every notebook, to recognise unknown keys."""


def measuring(config: EvaluationProtocol) -> dict[str, Any]:
    """The keys of 06_biometry that a model file holds; of a study without a head only that."""
    return {name: value for name in HeadKeys.model_fields if (value := getattr(config, name)) is not None}


def read_study(path: Path) -> Study:
    """Reads and checks a study file; ValueError if it is missing, no YAML mapping, or has errors (all are listed)."""
    if not path.is_file():
        studies = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ValueError(f"{path}: no such study file{param_faults.nearest_studies(path.stem, studies)}")
    values = plain_yaml.read(path)
    faults = param_faults.find_faults(values, Study)
    if values.get("study") not in (path.stem, None):
        named = param_faults.shown(values["study"])
        faults.append(f"study = {named}   does not match the file name {path.name}; expected {path.stem!r}")
    param_faults.refuse(str(path), faults)
    return Study.model_validate(values)


def values_of(study: Study) -> dict[str, Any]:
    """The keys that a study uses and their values, in the order of the models."""
    return study.model_dump(exclude_unset=True)


def step_params(study: Study, step: str, **run: int | bool) -> SharedParams:
    """The keys of one step of a study; `run` holds the keys of RUN and MANUAL."""
    model = STEPS[step]
    return model.model_validate({k: v for k, v in values_of(study).items() if k in model.model_fields} | run)
