"""What a study file may say: every key, its type, range and unit, once and without defaults.

One strict, frozen model a notebook; `Study` is their union. A key's description is what an error prints as "allowed".
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lib.study import param_rules

Fraction = Annotated[float, Field(ge=0, le=1)]
# torch takes seeds of 64 bits, and tables hold them as int64
Seed = Annotated[int, Field(ge=0, le=2**63 - 1, description="a whole number from 0 to 2**63 - 1")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Record = TypeVar("Record")


class Params(BaseModel):
    """Base of the parameter models: no coercion, no unknown key, no infinity, no change after reading."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class SharedParams(Params):
    """Keys that every notebook reads."""

    study: Name = Field(description="the study file's name without .yaml: a-z, 0-9, _")
    dataset: Name = Field(description="a data set of lib.datasets; read from data/raw/<dataset>")
    classes: list[Name] = Field(
        min_length=2, max_length=32, description="class names in index order, the first is background"
    )
    palette: list[list[Annotated[int, Field(ge=0, le=255)]]] = Field(
        description="for one's own data: [red, green, blue] of each class in its masks; [] where grey values are "
        "class indices, and for published data sets, which know their colours"
    )
    landmarks: Literal["none", "multicentre", "role_challenge"] = Field(
        description="none: the network learns class regions; multicentre or role_challenge: it learns heatmaps of the "
        "BPD and OFD end points of that table in data/raw/landmarks"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        description="auto (CUDA, then MPS, then CPU), cpu, cuda or mps"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        description="of training: auto (what is fast on the device), float32, bfloat16 or float16 (CUDA only)"
    )

    @property
    def learns_landmarks(self) -> bool:
        """The study's kind: heatmaps of end points, not class regions."""
        return self.landmarks != "none"


class VerificationParams(SharedParams):
    """Keys of 01_data_verification."""

    groups: list[str] = Field(
        description="which groups (planes, kinds of lesion) of the data set are used; [] for one without groups"
    )
    fold_count: int = Field(ge=3, le=50, description="a whole number from 3 to 50: train, validation, test")
    split_seed: Seed
    validation_subjects: int | None = Field(
        ge=1,
        description="how many subjects of the next fold validate, the rest of it trains; null for all of them",
    )
    exclude: list[str] = Field(description="names of cases to leave out; each is listed in the report")
    near_duplicate_correlation: float = Field(
        ge=0.3,
        le=1,
        description="correlation of high-passed thumbnails from which images are near-duplicates, 0.3 to 1",
    )


class PreprocessingParams(SharedParams):
    """Keys of 02_preprocessing."""

    image_size: list[Annotated[int, Field(ge=32, le=2048)]] = Field(
        min_length=2, max_length=2, description="[rows, columns] of the network's input, 32 to 2048 each"
    )
    end_slices_dropped: int = Field(ge=0, le=10, description="slices left out at each end, 0 to 10; used by volumes")
    crop_level: float = Field(
        ge=0,
        lt=1,
        description="share of a channel's maximum that is content, 0 to 1; used by volumes, cropped to content",
    )
    intensity_percentiles: list[Annotated[float, Field(ge=0, le=100)]] = Field(
        min_length=2, max_length=2, description="[lower, upper] that intensities are clipped to; used by volumes"
    )
    heatmap_sigma: float = Field(gt=0, le=50, description="standard deviation of a heatmap's peak; used by landmarks")
    heatmap_sigma_unit: Literal["pixels", "mm"] = Field(
        description="pixels (of the network's input) or mm; used by landmarks"
    )


class ModelParams(SharedParams):
    """Keys of 03_model."""

    model: Literal["unet", "attention_unet", "segnet", "segnet_skips", "resnet_unet"] = Field(
        description="unet, attention_unet, segnet, segnet_skips or resnet_unet"
    )
    base_channels: int = Field(
        ge=4, le=128, description="channels of the first level, 4 to 128; not used by resnet_unet"
    )
    depth: int = Field(ge=1, le=6, description="number of poolings, 1 to 6")
    normalisation: Literal["batch", "none"] = Field(
        description="batch or none (none is U-Net 2015); not used by resnet_unet"
    )
    encoder: Literal["resnet18", "resnet34"] = Field(description="resnet18 or resnet34; used by resnet_unet")
    encoder_weights: Literal["none", "imagenet"] = Field(
        description="none (drawn at random) or imagenet (a file that must be there); used by resnet_unet"
    )
    heatmap_per: Literal["line", "point"] = Field(
        description="line (both ends in one heatmap) or point (one each: left OFD, upper BPD first); for landmarks"
    )


class TrainingParams(SharedParams):
    """Keys of 04_training."""

    fold: int = Field(ge=0, description="the fold that is tested, from 0; the graph sets it")
    seed: Seed = Field(description="a whole number from 0 to 2**63 - 1; the graph sets it")
    epochs: int = Field(ge=1, le=5000, description="a whole number from 1 to 5000")
    batch_size: int = Field(ge=1, le=1024, description="images a step, 1 to 1024")
    optimizer: Literal["adam", "adamw"] = Field(description="adam or adamw")
    learning_rate: float = Field(gt=0, le=1, description="above 0, at most 1 (such as 1.0e-3)")
    weight_decay: float = Field(ge=0, le=1, description="0 to 1")
    schedule: Literal["constant", "cosine", "one_cycle", "plateau"] = Field(
        description="constant, cosine, one_cycle or plateau"
    )
    warm_up_fraction: float = Field(
        gt=0, lt=1, description="share of the steps in which the rate rises, between 0 and 1; used by one_cycle"
    )
    plateau_factor: float = Field(gt=0, lt=1, description="between 0 and 1; used by plateau")
    plateau_patience: int = Field(ge=0, description="epochs without improvement, from 0; used by plateau")
    early_stopping_patience: int | None = Field(
        ge=1, description="epochs without improvement before training stops, or null"
    )
    gradient_clip: float | None = Field(gt=0, description="largest norm of the gradient, or null")
    cross_entropy_weight: float = Field(ge=0, description="weight of cross-entropy in the loss, from 0")
    focal_weight: float = Field(ge=0, description="weight of focal loss in the loss, from 0")
    dice_weight: float = Field(ge=0, description="weight of soft Dice in the loss, from 0")
    cross_entropy_class_weights: list[Annotated[float, Field(ge=0)]] = Field(
        description="a weight for each class in cross-entropy and focal loss, background included"
    )
    label_smoothing: float = Field(
        ge=0, lt=1, description="share of certainty that cross-entropy spreads over all classes, from 0, below 1"
    )
    focal_gamma: float = Field(ge=0, le=10, description="how fast focal loss forgets what is certain, 0 to 10")
    dice_class_weights: list[Annotated[float, Field(ge=0)]] = Field(
        description="a weight for each class in the soft Dice loss, background included"
    )
    selection_metric: Literal["dice", "iou"] = Field(description="dice or iou, pooled over validation cases")
    selection_class_weights: list[Annotated[float, Field(ge=0)]] = Field(
        description="a weight for each class in the validation metric that chooses the checkpoint"
    )
    oversample_classes: list[Name] = Field(description="images that show one of these are drawn more often")
    oversample_factor: float = Field(ge=1, le=100, description="how much more often, 1 to 100")
    area_weight_floor: Fraction | None = Field(
        description="null, or slices of a case are drawn by foreground area, but for this share of draws, 0 to 1"
    )
    horizontal_flip: Fraction = Field(description="probability, 0 to 1")
    vertical_flip: Fraction = Field(description="probability, 0 to 1")
    affine_probability: Fraction = Field(description="probability of shift, scale and rotation, 0 to 1")
    shift_fraction: float = Field(ge=0, le=0.5, description="largest shift as a share of the image, 0 to 0.5")
    scale_fraction: float = Field(ge=0, le=0.5, description="largest change of scale, 0 to 0.5")
    rotation_deg: float = Field(ge=0, le=180, description="largest rotation in degrees, 0 to 180")
    brightness_contrast: float = Field(ge=0, le=1, description="largest relative change, 0 to 1")
    intensity_probability: Fraction = Field(description="probability of a change of brightness and contrast, 0 to 1")
    clahe_probability: Fraction = Field(description="probability of local contrast equalisation (CLAHE), 0 to 1")
    compile: bool = Field(description="true: torch.compile, worth its start on a GPU; or false")
    tensorboard_every: int | None = Field(
        ge=1,
        description="epochs between pictures for TensorBoard, whose curves grow each epoch; null for no TensorBoard",
    )
    tensorboard_images: int = Field(ge=1, le=64, description="pictures each time, 1 to 64; used with TensorBoard")
    workers: int = Field(ge=0, le=64, description="loader processes, 0 to 64; the result does not depend on it")


class EvaluationParams(SharedParams):
    """Keys of 05_evaluation."""

    folds: list[Annotated[int, Field(ge=0)]] = Field(
        min_length=1, description="folds that are tested, one training each"
    )
    seeds: list[Seed] = Field(
        min_length=1, description="seeds, one training each per fold; whole numbers from 0 to 2**63 - 1"
    )
    flip_average: bool = Field(description="true: average with the prediction of the mirrored image; or false")
    threshold_candidates: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        description="foreground probabilities between 0 and 1 to choose from on validation; [] with over two classes"
    )
    postprocessing: list[
        Literal[
            "largest_component",
            "fill_holes",
            "close_outer",
            "inside_outer",
            "minimum_area",
            "largest_parts",
            "confident_parts",
        ]
    ] = Field(
        description="steps in order: largest_component, fill_holes, close_outer, inside_outer, minimum_area, "
        "largest_parts, confident_parts; [] for none"
    )
    closing_pixels: int = Field(ge=1, le=99, description="side of the kernel in native pixels; used by close_outer")
    dilation_pixels: int = Field(ge=1, le=99, description="side of the kernel in native pixels; used by inside_outer")
    minimum_area_mm2: float = Field(
        ge=0, description="smaller parts are dropped where the pixel size is known; used by minimum_area"
    )
    parts_kept: int = Field(ge=1, le=99, description="parts of a class that are kept; used by largest_parts")
    minimum_probability: Fraction = Field(
        description="mean probability below which a part is dropped, 0 to 1; used by confident_parts"
    )
    minimum_margin: Fraction = Field(
        description="mean lead over the next class below which a part is dropped, 0 to 1; used by confident_parts"
    )


class BiometryParams(SharedParams):
    """Keys of 06_biometry."""

    head_classes: list[Name] = Field(
        description="classes whose union is the head out to the skull's outer border; [] where no head is shown"
    )
    max_axis_ratio: float = Field(gt=1, le=3, description="OFD/BPD above which a mask is flagged, 1 to 3")
    hc_range_mm: list[Annotated[float, Field(gt=0)]] = Field(
        min_length=2, max_length=2, description="[least, largest] plausible HC in mm; outside is flagged, kept"
    )


class ComparisonParams(SharedParams):
    """Keys of 07_comparison."""

    compare_with: list[Name] = Field(
        description="studies that have been run and tested the same cases; [] for no comparison"
    )


class ReportParams(SharedParams):
    """Keys of the PDF report."""

    title: str = Field(min_length=1, description="the report's title, as text")
    author: str = Field(description="name or names on the title page, may be empty")


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
    TrainingParams,
    EvaluationParams,
    BiometryParams,
    ComparisonParams,
    ReportParams,
):
    """A whole study file."""


def read_study(path: Path) -> Study:
    """A study file, checked whole.

    Raises:
        ValueError: the file is missing, is no YAML mapping, or has faults; all of them are named at once.
    """
    if not path.is_file():
        studies = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ValueError(
            f"{path}: no such study file; there are: {', '.join(studies) or 'none'}{nearest(path.stem, studies)}"
        )
    values = read_yaml(path)
    faults = find_faults(values, Study) + find_name_fault(values, path.stem)
    if faults:
        raise ValueError(format_faults(str(path), faults))
    return Study.model_validate(values)


def find_name_fault(values: dict[str, Any], stem: str) -> list[str]:
    """A study is named as its file."""
    if values.get("study") in (stem, None):
        return []
    return [f"study = {values['study']!r}   the file is named {stem}.yaml; expected {stem!r}"]


def step_params(study: Study, step: str) -> SharedParams:
    """The keys of one step, out of a whole study."""
    model = STEPS[step]
    return model.model_validate({name: getattr(study, name) for name in model.model_fields})


def find_faults(values: dict[str, Any], model: type[Params], partial: bool = False) -> list[str]:
    """Every fault of some values, a line each: key, value, what is wrong, what is allowed, nearest key.

    Where `partial` is true, missing keys are no fault.
    """
    wrong: dict[str, str] = {}
    try:
        model.model_validate(values)
    except ValidationError as error:
        for fault in error.errors():
            key = str(fault["loc"][0])
            if partial and fault["type"] == "missing":
                continue
            wrong.setdefault(key, describe_fault(key, fault, values, model))
    for keys, blamed, holds, allowed in param_rules.RULES:
        if all(k in values and k not in wrong for k in keys) and not holds(*(values[k] for k in keys)):
            said = allowed if isinstance(allowed, str) else allowed(*(values[k] for k in keys))
            wrong[blamed] = f"{blamed} = {values[blamed]!r}   not allowed; {said}"
    return list(wrong.values())


def describe_fault(key: str, fault: dict[str, Any], values: dict[str, Any], model: type[Params]) -> str:
    """One line for one fault that pydantic found."""
    if fault["type"] == "extra_forbidden":
        return f"{key} = {values[key]!r}   no such key{nearest(key, model.model_fields)}"
    description = model.model_fields[key].description
    if fault["type"] == "missing":
        return f"{key}   missing; {description}"
    value = values[key]
    for place in fault["loc"][1:]:  # the entry of a list that is at fault
        value = value[place]
    return f"{key} = {values[key]!r}   not allowed; {description}{nearest_value(value, model, key)}"


def nearest(name: str, known: Any) -> str:
    """'; nearest: x' where a known name is alike, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; nearest: {close[0]}" if close else ""


def nearest_value(value: Any, model: type[Params], key: str) -> str:
    """A hint on a wrong value or entry: the nearest allowed word, or how YAML wants numbers written."""
    if not isinstance(value, str):
        return ""
    kinds = innermost(model.model_fields[key].annotation)
    try:
        number = float(value)
    except ValueError:
        return nearest(value, [word for word in kinds if isinstance(word, str)])
    if int in kinds and number.is_integer():
        return f"; this is text to YAML: write {int(number)} without quotes"
    if float in kinds:
        return f"; this is text to YAML: write {number!r} without quotes, with a point (1.0e-4, not 1e-4)"
    return ""


def innermost(annotation: Any) -> set[Any]:
    """Plain types and allowed words inside an annotation: list[Annotated[float, ...]] -> {float, ...}."""
    inner = get_args(annotation)
    return set().union(*(innermost(each) for each in inner)) if inner else {annotation}


def format_faults(where: str, faults: list[str]) -> str:
    """The message of an error: where, how many, a line each."""
    count = f"{len(faults)} fault" + ("s" if len(faults) > 1 else "")
    return "\n".join([f"{where}: {count}", *(f"  {fault}" for fault in faults)])


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key given twice (plain YAML keeps the last, silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = sorted({str(k) for k in keys if keys.count(k) > 1})
        if twice:
            raise ValueError(f"line {node.start_mark.line + 1}: given twice: {', '.join(twice)}")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A flat YAML mapping.

    Raises:
        ValueError: no YAML, no mapping, or a key given twice.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: holds {type(values).__name__}; expected keys and values, one a line")
    unnamed = [key for key in values if not isinstance(key, str)]
    if unnamed:
        raise ValueError(f"{path}: keys {unnamed}; expected names (YAML reads yes, no, on and off as true and false)")
    return values
