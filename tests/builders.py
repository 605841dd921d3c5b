"""Small true things to test on: drawn heads, an HC18 folder, volumes, arrays of discs, a whole tiny study."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import ellipe

from lib import datasets, metrics, models, preprocessing
from lib.data import cases, splits
from lib.data.arrays import Arrays
from lib.data.evaluation_set import EvaluationSet
from lib.evaluation import segmentation
from lib.imaging import geometry, image_files, preparation
from lib.models import trained_model
from lib.study import files, param_faults, params
from lib.training import loop
from lib.verification import verify

OUTLINE_PX = 2.5  # thickness of HC18's drawn outlines; their centre-line is the truth


@dataclass(frozen=True)
class Head:
    """A head of known size; axes are full, in pixels, the angle is that of the long axis from column to row."""

    name: str
    centre: tuple[float, float] = (30.0, 45.0)
    major: float = 56.0
    minor: float = 44.0
    angle_deg: float = 20.0
    shape: tuple[int, int] = (60, 90)
    spacing_mm: float = 1.5

    @property
    def hc_mm(self) -> float:
        return perimeter(self.major, self.minor) * self.spacing_mm


def perimeter(major: float, minor: float) -> float:
    """Exact perimeter of an ellipse by full axes: the complete elliptic integral of the second kind."""
    return 2 * major * ellipe(1 - (minor / major) ** 2)


def ellipse_region(
    shape: tuple[int, int],
    centre: tuple[float, float],
    major: float,
    minor: float,
    angle_deg: float,
    spacing: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """Pixels whose centre lies inside an ellipse; with a spacing, centre and axes are in its unit."""
    rows, cols = np.mgrid[: shape[0], : shape[1]].astype(float)
    rows, cols = rows * spacing[0] - centre[0], cols * spacing[1] - centre[1]
    angle = np.deg2rad(angle_deg)
    along, across = cols * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - cols * np.sin(angle)
    return (along / major) ** 2 + (across / minor) ** 2 <= 0.25


def region_of(head: Head) -> np.ndarray:
    return ellipse_region(head.shape, head.centre, head.major, head.minor, head.angle_deg)


def outline_of(head: Head) -> np.ndarray:
    """The head's outline as HC18 draws it: (H, W) uint8, 0 and 255."""
    wide, narrow = (
        ellipse_region(head.shape, head.centre, head.major + d, head.minor + d, head.angle_deg)
        for d in (OUTLINE_PX, -OUTLINE_PX)
    )
    return np.where(wide & ~narrow, 255, 0).astype(np.uint8)


def image_of(head: Head, seed: int) -> np.ndarray:
    """A speckled frame in which the skull is bright: (H, W) uint8, unlike that of any other seed."""
    draw = np.random.default_rng(seed)
    grey = draw.integers(0, 90, head.shape) + 60.0 * region_of(head) + 105.0 * (outline_of(head) > 0)
    return np.clip(grey, 0, 255).astype(np.uint8)


def noise(shape: tuple[int, ...] = (4, 30, 20, 3), seed: int = 0) -> np.ndarray:
    """A volume of noise: (slices, rows, columns, channels) uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def typed(text: str) -> np.ndarray:
    """A mask of lines of text; a dot is background, a digit its class."""
    return np.array([[0 if sign == "." else int(sign) for sign in line] for line in text.split()], np.uint8)


def save_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def heads(count: int = 12) -> list[Head]:
    """Heads of different size, place, angle and frame; every fourth examination has two images."""
    draw = np.random.default_rng(7)
    names = [f"{n:03d}_{repeat}HC" for n in range(count) for repeat in ("", "2") if n % 4 == 0 or not repeat]
    return [
        Head(
            name,
            (30 + draw.uniform(-2, 2), 45 + draw.uniform(-8, 8)),
            major := draw.uniform(38, 54),
            major * draw.uniform(0.7, 0.95),
            draw.uniform(0, 180),
            (60, 90) if place % 3 else (64, 88),
            draw.uniform(0.6, 0.99),
        )
        for place, name in enumerate(names[:count])
    ]


def write_hc18(folder: Path, drawn: list[Head]) -> Path:
    """An HC18 folder: images, outlines, one CSV."""
    for seed, head in enumerate(drawn):
        save_png(folder / "training_set" / f"{head.name}.png", image_of(head, seed))
        save_png(folder / "training_set" / f"{head.name}_Annotation.png", outline_of(head))
    lines = [f"{head.name}.png,{head.spacing_mm:.6f},{head.hc_mm:.3f}" for head in drawn]
    write_hc18_table(folder, lines)
    return folder


def write_hc18_table(folder: Path, lines: list[str]) -> Path:
    """The CSV of an HC18 folder, a line an image."""
    path = folder / "training_set_pixel_size_and_HC.csv"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["filename,pixel size(mm),head circumference (mm)", *lines]) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class Patient:
    """A volume of 32 x 32 pixels per slice."""

    name: str
    depth: int  # number of slices
    head: tuple[int, int, int, int] = (8, 10, 16, 12)  # (row, col, height, width) of what is not black, in all slices
    lesion: tuple[tuple[slice, slice, slice], ...] = ()  # slices, rows and columns of its blocks

    @property
    def mask(self) -> np.ndarray:
        """(depth, 32, 32) uint8."""
        mask = np.zeros((self.depth, 32, 32), np.uint8)
        for block in self.lesion:
            mask[block] = 1
        return mask

    def image(self, seed: int) -> np.ndarray:
        """(depth, 32, 32, 3) uint8: speckled tissue on black, lesion bright in FLAIR alone."""
        row, col, height, width = self.head
        image = np.zeros((self.depth, 32, 32, 3), np.uint8)
        inner = image[:, row : row + height, col : col + width]
        inner[:] = np.random.default_rng(seed).integers(80, 120, inner.shape)
        inner[..., 1] = np.where(self.mask[:, row : row + height, col : col + width], 220, inner[..., 1])
        return image


# The network sees them at twice the size without end slices. 48, 0, 48 and 42 voxels of lesion, of which 16 lie in a
# dropped slice of the third, and 2 outside what is cropped of the fourth.
PATIENTS = (
    Patient("TCGA_CS_0001_19990101", 5, lesion=((slice(1, 4), slice(10, 14), slice(12, 16)),)),
    Patient("TCGA_CS_0002_19990102", 4),
    Patient("TCGA_DU_0003_19990103", 5, lesion=((slice(0, 3), slice(12, 16), slice(14, 18)),)),
    Patient(
        "TCGA_HT_0004_19990104",
        6,
        (4, 4, 16, 16),
        ((slice(2, 4), slice(8, 12), slice(8, 13)), (slice(2, 3), slice(28, 29), slice(28, 30))),
    ),
)


def write_lgg(folder: Path, patients: tuple[Patient, ...] = PATIENTS) -> Path:
    """Patients in the layout kaggle_3m: a TIFF of three channels and one of the mask a slice."""
    for seed, patient in enumerate(patients):
        place = folder / "kaggle_3m" / patient.name
        place.mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(patient.image(seed), patient.mask), start=1):
            Image.fromarray(image).save(place / f"{patient.name}_{number}.tif")
            Image.fromarray(mask * np.uint8(255)).save(place / f"{patient.name}_{number}_mask.tif")
    return folder


def table_of(rows: list[tuple]) -> pd.DataFrame:
    """The long table from (case, fold, tp, fp, fn, tn)."""
    made = []
    for case, fold, *counts in rows:
        each = metrics.Overlap(*counts)
        key = {"case": case, "subject": case, "fold": fold, "seed": 0, "class": "head", "stage": "post"}
        made.append(key | vars(each) | {"dice": each.dice, "iou": each.iou})
    return pd.DataFrame(made, columns=segmentation.COLUMNS)


def volume_bench(folder: Path) -> EvaluationSet:
    """PATIENTS from raw folder to arrays, dealt to three folds; 05_evaluation's folder is empty."""
    dataset = datasets.DATASETS["lgg"]
    table = verify.check_dataset(dataset, "lgg", write_lgg(folder / "raw")).cases
    chosen = step_params("02_preprocessing", image_size=[32, 32], end_slices_dropped=1, crop_level=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "processed_folder", lambda name: folder / "processed" / name)
        prepared = preprocessing.preprocess(preprocessing.source_of(chosen, table, dataset, None))
    folds = splits.assign_folds(table, 3, seed=0)
    return EvaluationSet(table, folds, prepared, dataset, folder / "05_evaluation")


def image_bench(
    folder: Path,
    foregrounds: list[np.ndarray],
    references: list[np.ndarray],
    spacing_mm: float = float("nan"),
    folds: int = 3,
) -> EvaluationSet:
    """Images and references of 32 x 32 pixels at network and native size, two in turn to each of some folds.

    An image holds the probability that `says_its_image` predicts for it, 0 to 255.
    """
    names = [f"c{n}" for n in range(len(foregrounds))]
    images = np.stack([np.rint(255 * each).astype(np.uint8) for each in foregrounds])[:, None]
    masks = np.stack(references).astype(np.uint8)
    for name, image, mask in zip(names, images, masks):
        save_png(folder / f"{name}.png", mask)
        save_png(folder / f"{name}_image.png", image[0])
    table = pd.DataFrame({"case": names, "subject": names, "spacing_row_mm": spacing_mm}).assign(
        image=[str(folder / f"{name}_image.png") for name in names],
        mask=[str(folder / f"{name}.png") for name in names],
        spacing_col_mm=spacing_mm,
        slices=1,
        height=32,
        width=32,
    )
    fold = [n // 2 % folds for n in range(len(names))]
    dealt = table[["case", "subject"]].assign(fold_group=names, fold=fold, validates=True)
    arrays, table = arrays_of(names, images, masks, "built"), hashed(table)
    dataset = replace(datasets.DATASETS["hc18"], read_mask=lambda paths: image_files.read_pixels(*paths))
    return EvaluationSet(table, dealt, arrays, dataset, folder / "05_evaluation")


def hashed(table: pd.DataFrame) -> pd.DataFrame:
    """A manifest with the hashes that 01 gives to the files which it names."""
    paths = [(files.ROOT / image, cases.split_paths(mask)) for image, mask in zip(table["image"], table["mask"])]
    return table.assign(sha256=[cases.content_hash(*each) for each in paths])


def says_its_image(_: object, images: np.ndarray, *how: object) -> np.ndarray:
    """In place of `inference.predict`: the foreground's probability is the image itself."""
    return np.concatenate([255.0 - images, images], axis=1) / np.float32(255)


NOTHING = np.zeros((32, 32), bool)  # a reference of `image_bench`


def last_columns(count: int) -> np.ndarray:
    """A reference of `image_bench`: (32, 32) bool."""
    return np.broadcast_to(np.arange(32) >= 32 - count, (32, 32))


def verified(folder: Path) -> verify.Verification:
    """What 01_data_verification finds in an HC18 folder; it is not searched against the data sets at hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "available", lambda _: {})
        return verify.check_dataset(datasets.DATASETS["hc18"], "hc18", folder)


def discs(count: int = 24, size: int = 32, seed: int = 0) -> Arrays:
    """Bright discs on dark noise, and their masks, as preprocessed arrays."""
    draw = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    images, masks = np.zeros((count, 1, size, size), np.uint8), np.zeros((count, size, size), np.uint8)
    for place in range(count):
        row, col = draw.uniform(size * 0.35, size * 0.65, 2)
        masks[place] = (rows - row) ** 2 + (cols - col) ** 2 <= (size * draw.uniform(0.15, 0.3)) ** 2
        images[place, 0] = draw.integers(0, 80, (size, size)) + 150 * masks[place]
    return arrays_of([f"disc{n}" for n in range(count)], images, masks, f"discs-{count}-{size}-{seed}")


def arrays_of(names: list[str], images: np.ndarray, masks: np.ndarray, fingerprint: str, **changes: object) -> Arrays:
    """Images (N, C, H, W) that were preprocessed at their own size, or what else some changed fields make of them."""
    size, count = masks.shape[1:], len(names)
    same, slices = [geometry.fit(size, size)] * count, np.zeros(count, np.int64)
    made = Arrays(names, images, masks, same, slices, None, None, fingerprint, of_images(*size))
    return replace(made, **changes)


def of_images(rows: int, cols: int) -> dict[str, object]:
    """The preparation of grey images."""
    return {"image_size": [rows, cols], "volumes": False, "channels": 1, "grey": preparation.GREY}


def of_volumes(rows: int, cols: int, **changes: object) -> dict[str, object]:
    """The preparation of LGG's volumes."""
    about = {"end_slices_dropped": 1, "crop_level": 0.1, "intensity_percentiles": [10.0, 99.0]}
    return {"image_size": [rows, cols], "volumes": True, "channels": 3} | about | changes


def disc_parts(arrays: Arrays) -> dict[str, list[str]]:
    """Two thirds train, a third validates, none is tested."""
    cut = len(arrays.names) * 2 // 3
    return {"train": arrays.names[:cut], "validation": arrays.names[cut:], "test": []}


QUICK = {"epochs": 3, "batch_size": 4, "learning_rate": 0.01, "workers": 0, "device": "cpu", "precision": "float32"}
QUICK |= {"brightness_contrast": 0.1}
NETWORK = {
    "model": "unet",
    "arguments": {"in_channels": 1, "out_channels": 1, "base_channels": 4, "depth": 2, "normalisation": "batch"},
    "encoder_weights": "none",
}


# A value for each key that only some options, or data sets, use.
OF_OPTIONS = {
    **{"heatmap_sigma": 3.0, "heatmap_sigma_unit": "pixels", "heatmap_per": "line"},
    **{"encoder": "resnet34", "encoder_weights": "none"},
    **{"warm_up_fraction": 0.3, "plateau_factor": 0.5, "plateau_patience": 5, "focal_gamma": 2.0},
    **{"cross_entropy_weight": 1.0, "focal_weight": 0.0, "dice_weight": 1.0, "label_smoothing": 0.0},
    **{"cross_entropy_class_weights": [1.0, 1.0], "dice_class_weights": [0.0, 1.0], "oversample_factor": 1.0},
    **{"shift_fraction": 0.06, "scale_fraction": 0.1, "rotation_deg": 10.0, "brightness_contrast": 0.2},
    **{"tensorboard_images": 4, "threshold_candidates": [0.5], "minimum_probability": 0.5, "minimum_margin": 0.0},
    **{"closing_pixels": 7, "dilation_pixels": 11, "minimum_area_mm2": 5.0, "parts_kept": 2},
    **{"max_axis_ratio": 1.7, "hc_range_mm": [40.0, 400.0]},
}
OF_VOLUMES = {"end_slices_dropped": 1, "crop_level": 0.1, "intensity_percentiles": [10.0, 99.0]}
OF_VOLUMES |= {"area_weight_floor": None}


def values(**changes: object) -> dict[str, object]:
    """Keys and values of the quick HC18 study, some of them changed, with those that the changed options use."""
    of_volumes = OF_VOLUMES if str(changes.get("dataset")).endswith("lgg") or OF_VOLUMES.keys() & changes else {}
    given = OF_OPTIONS | params.read_yaml(files.study_file("hc18_quick")) | of_volumes | changes
    used = param_faults.uses(given, params.Study) | dict.fromkeys(["clahe_probability"] if of_volumes else [], False)
    return {key: value for key, value in given.items() if used.get(key, True) or key in changes}


def step_params(step: str, **changes: object) -> params.SharedParams:
    """Parameters of one step of the quick HC18 study, some of them changed."""
    model = params.STEPS[step]
    of_any_data = OF_OPTIONS | OF_VOLUMES if step == "02_preprocessing" else {}  # tests choose data and points there
    given = {"fold": 0, "seed": 0} | of_any_data | values(**changes)
    return model.model_validate({name: given[name] for name in model.model_fields if name in given})


# Augmentations: none at all, all of them, and flips with moves.
PROBABILITIES = ("horizontal_flip", "vertical_flip", "affine_probability", "intensity_probability", "clahe_probability")
STILL = dict.fromkeys(PROBABILITIES, 0.0)
LIVELY = dict.fromkeys(PROBABILITIES, 0.5) | {"affine_probability": 0.7, "brightness_contrast": 0.3}
MOVING = STILL | {"horizontal_flip": 0.5, "vertical_flip": 0.5, "affine_probability": 1.0}
MOVING |= {"shift_fraction": 0.1, "scale_fraction": 0.1, "rotation_deg": 30.0}


def training_params(**changes: object) -> params.TrainingParams:
    """Parameters of a training of a second."""
    return step_params("04_training", **(QUICK | changes))  # type: ignore[return-value]


@dataclass(frozen=True)
class TinyStudy:
    """A study from raw folder to evaluated folds, on drawn heads."""

    drawn: list[Head]
    found: verify.Verification
    table: pd.DataFrame
    folds: pd.DataFrame
    bench: EvaluationSet
    trainings: Path
    measured: segmentation.Evaluation


def tiny_study(folder: Path) -> TinyStudy:
    """Verifies, preprocesses, trains and evaluates folds 0 and 1 of 12 drawn heads."""
    drawn = heads()
    raw = write_hc18(folder / "raw", drawn)
    dataset = datasets.DATASETS["hc18"]
    found = verified(raw)
    table = found.cases
    folds = splits.assign_folds(table, 3, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "processed_folder", lambda name: folder / "processed" / name)
        chosen = step_params("02_preprocessing", image_size=[32, 48])
        prepared = preprocessing.preprocess(preprocessing.source_of(chosen, table, dataset, None))
    for fold in (0, 1):
        run = folder / "trainings" / files.run_name(fold, 0)
        loop.fit(training_params(fold=fold, epochs=8), NETWORK, prepared, splits.parts(folds, fold), run, print)
    bench = EvaluationSet(table, folds, prepared, dataset, folder / "05_evaluation")
    chosen = step_params("05_evaluation", folds=[0, 1], device="cpu", precision="float32")
    measured = segmentation.evaluate_all(chosen, bench, folder / "trainings")
    return TinyStudy(drawn, found, table, folds, bench, folder / "trainings", measured)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks of a few channels are quicker on one thread, above all where other processes want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(seed: int = 0, **changes: object) -> torch.nn.Module:
    """A small U-Net in evaluation mode."""
    torch.manual_seed(seed)
    return models.build("unet", NETWORK["arguments"] | changes).eval()


def write_weights(path: Path, prepared: dict[str, object], precision: str = "float32", **changes: object) -> Path:
    """A file of weights as 04_training leaves it, of a small U-Net with fresh weights."""
    about = {"study": "tiny", "dataset": "any", "classes": ["background", "head"], "landmarks": "none"}
    about |= {"preparation": prepared, "training_precision": precision}
    path.parent.mkdir(parents=True, exist_ok=True)
    models.save(path, "unet", NETWORK["arguments"] | changes, network(**changes).state_dict(), about)
    return path


def model(prepared: dict[str, object], flip_average: bool = False, **changes: object) -> trained_model.Model:
    """A small U-Net with fresh weights, to be used on native images."""
    about = {"preparation": prepared, "training_precision": "float32"}
    return trained_model.Model(network(**changes), about, flip_average, torch.device("cpu"))
