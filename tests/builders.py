"""Small test data with a known reference: drawn heads, an HC18 folder, volumes, arrays of discs, a tiny study."""

from collections.abc import Callable, Iterator
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
from lib.study import files, param_faults, params, plain_yaml
from lib.training import loop
from lib.verification import verify

OUTLINE_PX = 2.5  # thickness of outlines as in HC18; the centre line is the reference
NOTHING = np.zeros((32, 32), bool)  # a reference of `image_bench`


@dataclass(frozen=True)
class Head:
    """A head of known size: full axes in pixels, angle of the major axis from the column towards the row axis."""

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
    """Exact perimeter of an ellipse from its full axes, by the complete elliptic integral of the second kind."""
    return 2 * major * ellipe(1 - (minor / major) ** 2)


def ellipse_region(
    shape: tuple[int, int],
    centre: tuple[float, float],
    major: float,
    minor: float,
    angle_deg: float,
    spacing: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """Mask of the pixels with their centre inside an ellipse; centre and axes are in the unit of the spacing."""
    rows, cols = np.mgrid[: shape[0], : shape[1]].astype(float)
    rows, cols = rows * spacing[0] - centre[0], cols * spacing[1] - centre[1]
    angle = np.deg2rad(angle_deg)
    along, across = cols * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - cols * np.sin(angle)
    return (along / major) ** 2 + (across / minor) ** 2 <= 0.25


def region_of(head: Head) -> np.ndarray:
    return ellipse_region(head.shape, head.centre, head.major, head.minor, head.angle_deg)


def outline_of(head: Head) -> np.ndarray:
    """Outline of a head as annotated in HC18: (H, W) uint8, 0 and 255."""
    wide, narrow = (
        ellipse_region(head.shape, head.centre, head.major + d, head.minor + d, head.angle_deg)
        for d in (OUTLINE_PX, -OUTLINE_PX)
    )
    return np.where(wide & ~narrow, 255, 0).astype(np.uint8)


def image_of(head: Head, seed: int) -> np.ndarray:
    """A speckled image with a bright skull: (H, W) uint8, different for each seed."""
    draw = np.random.default_rng(seed)
    grey = draw.integers(0, 90, head.shape) + 60.0 * region_of(head) + 105.0 * (outline_of(head) > 0)
    return np.clip(grey, 0, 255).astype(np.uint8)


def noise(shape: tuple[int, ...] = (4, 30, 20, 3), seed: int = 0) -> np.ndarray:
    """A volume of noise: (slices, rows, columns, channels) uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def typed(text: str) -> np.ndarray:
    """A mask from lines of text: a dot is background, a digit is a class index."""
    return np.array([[0 if sign == "." else int(sign) for sign in line] for line in text.split()], np.uint8)


def save_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def read_or_none(read: Callable[[Path], np.ndarray], path: Path, content: bytes) -> np.ndarray | None:
    """The array read from a file of some bytes; None after a ValueError that names the file, the only one allowed."""
    path.write_bytes(content)
    try:
        return read(path)
    except ValueError as error:
        if str(path) not in str(error):
            raise
        return None


def heads(count: int = 12) -> list[Head]:
    """Heads of varying size, position, angle and image size; every fourth examination has two images."""
    draw = np.random.default_rng(7)
    names = [f"{n:03d}_{repeat}HC" for n in range(count) for repeat in ("", "2") if n % 4 == 0 or not repeat]
    return [
        Head(
            name,
            (30 + draw.uniform(-2, 2), 45 + draw.uniform(-8, 8)),
            major := draw.uniform(38, 54),
            major * draw.uniform(0.7, 0.95),
            draw.uniform(0, 180),
            (60, 90) if index % 3 else (64, 88),
            draw.uniform(0.6, 0.99),
        )
        for index, name in enumerate(names[:count])
    ]


def write_hc18(folder: Path, drawn: list[Head]) -> Path:
    """Writes an HC18 folder: images, outlines and the CSV."""
    for seed, head in enumerate(drawn):
        save_png(folder / "training_set" / f"{head.name}.png", image_of(head, seed))
        save_png(folder / "training_set" / f"{head.name}_Annotation.png", outline_of(head))
    write_hc18_table(folder, [f"{head.name}.png,{head.spacing_mm:.6f},{head.hc_mm:.3f}" for head in drawn])
    return folder


def write_hc18_table(folder: Path, lines: list[str]) -> Path:
    """Writes the CSV of an HC18 folder, one line per image."""
    path = folder / "training_set_pixel_size_and_HC.csv"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["filename,pixel size(mm),head circumference (mm)", *lines]) + "\n", encoding="utf-8")
    return path


def write_own(folder: Path, drawn: list[Head]) -> Path:
    """Writes custom data: images, filled heads as masks of 0 and 255, and cases.csv."""
    for seed, head in enumerate(drawn):
        save_png(folder / "images" / f"{head.name}.png", image_of(head, seed))
        save_png(folder / "masks" / f"{head.name}.png", region_of(head).astype(np.uint8) * 255)
    rows = [f"{head.name},{head.name[:3]},{head.spacing_mm:.6f}" for head in drawn]
    (folder / "cases.csv").write_text("\n".join(["name,subject,spacing_mm", *rows]) + "\n", encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Patient:
    """A volume of 32 x 32 pixels per slice."""

    name: str
    depth: int  # number of slices
    head: tuple[int, int, int, int] = (8, 10, 16, 12)  # (row, col, height, width) of the tissue in every slice
    lesion: tuple[tuple[slice, slice, slice], ...] = ()  # slices, rows and columns of each block

    @property
    def mask(self) -> np.ndarray:
        """(depth, 32, 32) uint8."""
        mask = np.zeros((self.depth, 32, 32), np.uint8)
        for block in self.lesion:
            mask[block] = 1
        return mask

    def image(self, seed: int) -> np.ndarray:
        """(depth, 32, 32, 3) uint8: speckled tissue on black; the lesion is bright in FLAIR only."""
        row, col, height, width = self.head
        image = np.zeros((self.depth, 32, 32, 3), np.uint8)
        inner = image[:, row : row + height, col : col + width]
        inner[:] = np.random.default_rng(seed).integers(80, 120, inner.shape)
        inner[..., 1] = np.where(self.mask[:, row : row + height, col : col + width], 220, inner[..., 1])
        return image


# Preprocessing drops the end slices and doubles the size. The lesions have 48, 0, 48 and 42 voxels; 16 voxels of the
# third lie in a dropped slice, and 2 voxels of the fourth outside the cropped region.
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
    """Writes patients in the layout of kaggle_3m: per slice one TIFF of three channels and one of the mask."""
    for seed, patient in enumerate(patients):
        path = folder / "kaggle_3m" / patient.name
        path.mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(patient.image(seed), patient.mask), start=1):
            Image.fromarray(image).save(path / f"{patient.name}_{number}.tif")
            Image.fromarray(mask * np.uint8(255)).save(path / f"{patient.name}_{number}_mask.tif")
    return folder


def table_of(rows: list[tuple]) -> pd.DataFrame:
    """The long table of segmentation results from rows of (case, fold, tp, fp, fn, tn)."""
    records = []
    for case, fold, *counts in rows:
        overlap = metrics.Overlap(*counts)
        key = {"case": case, "subject": case, "fold": fold, "seed": 0, "class": "head", "stage": "post"}
        records.append(key | vars(overlap) | {"dice": overlap.dice, "iou": overlap.iou})
    return pd.DataFrame(records, columns=segmentation.COLUMNS)


def preprocessed(folder: Path, name: str, table: pd.DataFrame, **changes: object) -> EvaluationSet:
    """Cases of a data set in three folds with preprocessed arrays; the folder of 05_evaluation does not exist yet."""
    dataset, chosen = datasets.DATASETS[name], step_params("02_preprocessing", **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "processed_folder", lambda name: folder / "processed" / name)
        prepared = preprocessing.preprocess(preprocessing.source_of(chosen, table, dataset, None))
    return EvaluationSet(table, splits.assign_folds(table, 3, seed=0), prepared, dataset, folder / "05_evaluation")


def volume_bench(folder: Path) -> EvaluationSet:
    """PATIENTS as preprocessed arrays in three folds."""
    table = verify.check_dataset(datasets.DATASETS["lgg"], "lgg", write_lgg(folder / "raw")).cases
    return preprocessed(folder, "lgg", table, image_size=[32, 32], end_slices_dropped=1, crop_level=0.1)


def image_bench(
    folder: Path,
    foregrounds: list[np.ndarray],
    references: list[np.ndarray],
    spacing_mm: float = float("nan"),
    folds: int = 3,
) -> EvaluationSet:
    """Images and references of 32 x 32 pixels, two per fold in turn; an image is its prediction by `predict_image`."""
    names = [f"c{n}" for n in range(len(foregrounds))]
    images = np.stack([np.rint(255 * each).astype(np.uint8) for each in foregrounds])[:, None]
    masks = np.stack(references).astype(np.uint8)
    for name, image, mask in zip(names, images, masks):
        save_png(folder / f"{name}.png", mask)
        save_png(folder / f"{name}_image.png", image[0])
    paths = {key: [str(folder / f"{n}{end}.png") for n in names] for key, end in (("image", "_image"), ("mask", ""))}
    size = {"spacing_row_mm": spacing_mm, "spacing_col_mm": spacing_mm, "slices": 1, "height": 32, "width": 32}
    size |= dict.fromkeys(cases.REFERENCE_COLUMNS, np.nan)
    table = pd.DataFrame({"case": names, "subject": names} | paths | size)
    fold = [n // 2 % folds for n in range(len(names))]
    assigned = table[["case", "subject"]].assign(fold_group=names, fold=fold, validates=True)
    arrays = arrays_of(names, images, masks, "built")
    dataset = replace(datasets.DATASETS["hc18"], read_mask=lambda paths: image_files.read_pixels(*paths))
    return EvaluationSet(hashed(table), assigned, arrays, dataset, folder / "05_evaluation")


def hashed(table: pd.DataFrame) -> pd.DataFrame:
    """A table of cases with the hashes of their files, as computed by 01."""
    paths = [(files.ROOT / image, cases.split_paths(mask)) for image, mask in zip(table["image"], table["mask"])]
    return table.assign(sha256=[cases.content_hash(*each) for each in paths])


def predict_image(_: object, images: np.ndarray, *how: object) -> np.ndarray:
    """Replacement of `inference.predict`: the probability of the foreground is the image, scaled to 0 to 1."""
    return np.concatenate([255.0 - images, images], axis=1) / np.float32(255)


def last_columns(count: int) -> np.ndarray:
    """A reference of `image_bench`: (32, 32) bool."""
    return np.broadcast_to(np.arange(32) >= 32 - count, (32, 32))


def verified(folder: Path) -> verify.Verification:
    """Verification of an HC18 folder, without a search for duplicates in other available data sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "available", lambda _: {})
        return verify.check_dataset(datasets.DATASETS["hc18"], "hc18", folder)


def discs(count: int = 24, size: int = 32, seed: int = 0) -> Arrays:
    """Preprocessed arrays of bright discs on dark noise with their masks."""
    draw = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    images, masks = np.zeros((count, 1, size, size), np.uint8), np.zeros((count, size, size), np.uint8)
    for image, mask in zip(images[:, 0], masks):
        row, col = draw.uniform(size * 0.35, size * 0.65, 2)
        mask[:] = (rows - row) ** 2 + (cols - col) ** 2 <= (size * draw.uniform(0.15, 0.3)) ** 2
        image[:] = draw.integers(0, 80, (size, size)) + 150 * mask
    return arrays_of([f"disc{n}" for n in range(count)], images, masks, f"discs-{count}-{size}-{seed}")


def arrays_of(names: list[str], images: np.ndarray, masks: np.ndarray, fingerprint: str, **changes: object) -> Arrays:
    """Arrays of images (N, C, H, W) preprocessed at their native size, with some fields changed."""
    size, count = masks.shape[1:], len(names)
    same, slices = [geometry.fit(size, size)] * count, np.zeros(count, np.int64)
    arrays = Arrays(names, images, masks, same, slices, None, None, fingerprint, fingerprint, of_images(*size))
    return replace(arrays, **changes)


def of_images(rows: int, cols: int) -> dict[str, object]:
    """Preparation of greyscale images."""
    return {"image_size": [rows, cols], "volumes": False, "channels": 1, "grey": preparation.GREY}


def of_volumes(rows: int, cols: int, **changes: object) -> dict[str, object]:
    """Preparation of LGG volumes."""
    return {"image_size": [rows, cols], "volumes": True, "channels": 3} | PREPARED | changes


PREPARED = {"end_slices_dropped": 1, "crop_level": 0.1, "intensity_percentiles": [10.0, 99.0]}
QUICK = {"epochs": 3, "batch_size": 4, "learning_rate": 0.01, "workers": 0, "device": "cpu", "precision": "float32"}
QUICK |= {"brightness_contrast": 0.1}
NETWORK = {
    "model": "unet",
    "arguments": {"in_channels": 1, "out_channels": 1, "base_channels": 4, "depth": 2, "normalisation": "batch"},
    "encoder_weights": "none",
}

# A value for each key that is used only with some options or data sets.
OF_OPTIONS = {
    **{"heatmap_sigma": 3.0, "heatmap_sigma_unit": "pixels", "heatmap_per": "line"},
    **{"encoder": "resnet34", "encoder_weights": "none"},
    **{"warm_up_fraction": 0.3, "plateau_factor": 0.5, "plateau_patience": 5, "focal_gamma": 2.0},
    **{"cross_entropy_weight": 1.0, "focal_weight": 0.0, "dice_weight": 1.0, "label_smoothing": 0.0},
    **{"cross_entropy_class_weights": [1.0, 1.0], "dice_class_weights": [0.0, 1.0], "oversample_factor": 1.0},
    **{"shift_fraction": 0.06, "scale_fraction": 0.1, "rotation_deg": 10.0, "brightness_contrast": 0.2},
    **{"tensorboard_images": 4, "threshold_candidates": [0.5], "minimum_probability": 0.5, "minimum_margin": 0.0},
    **{"closing_pixels": 7, "dilation_pixels": 11, "minimum_area_mm2": 5.0, "parts_kept": 2},
    **{"max_axis_ratio": 1.7, "hc_range_mm": [40.0, 400.0], "equivalence_margin_percent": 3.0},
    **{"nsd_tolerance_mm": 1.0, "nsd_tolerance_px": 3.0},
}
OF_VOLUMES = PREPARED | {"area_weight_floor": None}


def values(**changes: object) -> dict[str, object]:
    """Keys and values of the quick HC18 study with changes, and the keys that the changed options require."""
    of_volumes = OF_VOLUMES if str(changes.get("dataset")).endswith("lgg") or OF_VOLUMES.keys() & changes else {}
    given = OF_OPTIONS | plain_yaml.read(files.study_file("hc18_quick")) | of_volumes | changes
    used = param_faults.uses(given, params.Study) | dict.fromkeys(["clahe_probability"] if of_volumes else [], False)
    dataset, is_regions = datasets.DATASETS.get(str(given["dataset"])), given["landmarks"] == "none"
    known = dataset.pixel_sizes if dataset else "some"
    used |= {"nsd_tolerance_mm": is_regions and known != "none", "nsd_tolerance_px": is_regions and known != "all"}
    return {key: value for key, value in given.items() if used.get(key, True) or key in changes}


def step_params(step: str, **changes: object) -> params.SharedParams:
    """Parameters of one step of the quick HC18 study with changes."""
    model = params.STEPS[step]
    of_any_data = OF_OPTIONS | OF_VOLUMES if step == "02_preprocessing" else {}  # tests set dataset and landmarks there
    given = {"fold": 0, "seed": 0} | of_any_data | values(**changes)
    return model.model_validate({name: given[name] for name in model.model_fields if name in given})


# Augmentations: none, all, and flips with affine transforms.
PROBABILITIES = ("horizontal_flip", "vertical_flip", "affine_probability", "intensity_probability", "clahe_probability")
STILL = dict.fromkeys(PROBABILITIES, 0.0)
LIVELY = dict.fromkeys(PROBABILITIES, 0.5) | {"affine_probability": 0.7, "brightness_contrast": 0.3}
MOVING = STILL | {"horizontal_flip": 0.5, "vertical_flip": 0.5, "affine_probability": 1.0}
MOVING |= {"shift_fraction": 0.1, "scale_fraction": 0.1, "rotation_deg": 30.0}


def training_params(**changes: object) -> params.TrainingParams:
    """Parameters of a training that takes about a second."""
    return step_params("04_training", **(QUICK | changes))  # type: ignore[return-value]


@dataclass(frozen=True)
class TinyStudy:
    """A study of drawn heads, from the raw folder to evaluated folds."""

    drawn: list[Head]
    table: pd.DataFrame
    folds: pd.DataFrame
    bench: EvaluationSet
    trainings: Path
    measured: segmentation.Evaluation


def tiny_study(folder: Path) -> TinyStudy:
    """Verifies, preprocesses, trains and evaluates folds 0 and 1 of 12 drawn heads."""
    drawn, trainings = heads(), folder / "trainings"
    table = verified(write_hc18(folder / "raw", drawn)).cases
    bench = preprocessed(folder, "hc18", table, image_size=[32, 48])
    for fold in (0, 1):
        run, parts = trainings / files.run_name(fold, 0), splits.parts(bench.folds, fold)
        loop.fit(training_params(fold=fold, epochs=8), NETWORK, bench.arrays, parts, run, print)
    chosen = step_params("05_evaluation", folds=[0, 1], device="cpu", precision="float32")
    measured = segmentation.evaluate_all(chosen, bench, trainings)
    return TinyStudy(drawn, table, bench.folds, bench, trainings, measured)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small networks are faster on one thread, especially if other processes use the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(seed: int = 0, **changes: object) -> torch.nn.Module:
    """A small U-Net in evaluation mode."""
    torch.manual_seed(seed)
    return models.build("unet", NETWORK["arguments"] | changes).eval()


def write_weights(path: Path, prepared: dict[str, object], precision: str = "float32", **changes: object) -> Path:
    """Writes a file of weights as 04_training does, of a small untrained U-Net."""
    about = {"study": "tiny", "dataset": "any", "classes": ["background", "head"], "landmarks": "none"}
    about |= {"preparation": prepared, "training_precision": precision}
    path.parent.mkdir(parents=True, exist_ok=True)
    models.save(path, "unet", NETWORK["arguments"] | changes, network(**changes).state_dict(), about)
    return path


def model(prepared: dict[str, object], flip_average: bool = False, **changes: object) -> trained_model.Model:
    """A small untrained U-Net for images at native size."""
    about = {"preparation": prepared, "training_precision": "float32"}
    return trained_model.Model(network(**changes), about, flip_average, torch.device("cpu"))
