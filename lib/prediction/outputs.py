"""The folder of answers: masks, pictures, tables, written beside and renamed; a folder of others is never replaced."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from lib.evaluation import biometry, intervals
from lib.imaging import mask_files, shapes, volumes
from lib.imaging.head_points import POINT_COLUMNS
from lib.prediction import answers, volume_files
from lib.prediction.answers import Answer
from lib.prediction.ensemble import Ensemble
from lib.prediction.inputs import Refusal
from lib.prediction.picture import Picture
from lib.report.figures import pictures
from lib.study import files, locks, steps

RECORD = "predict.json"
NOT_FOR_CLINICAL_USE = "not a medical device; for research only"
CASE_COLUMNS = ["case", "image", "height", "width", "slices", "spacing_row_mm", "spacing_col_mm", "spacing_slice_mm"]
SUBMISSION_COLUMNS = ["filename", "center_x_mm", "center_y_mm", "semi_axes_a_mm", "semi_axes_b_mm", "angle_rad"]
COLUMNS = {  # of each table; the names of files and columns are those of 06_biometry where it has them
    "cases.csv": [*CASE_COLUMNS, "calibration", "notes"],
    "measurements.csv": ["case", "stage", "route", "quantity", "predicted_mm", *intervals.LIMITS, "flags"],
    "points.csv": [name for name in biometry.LANDMARK_COLUMNS if name not in ("subject", "fold", "seed")],
    "hc18_submission.csv": SUBMISSION_COLUMNS,
    "shapes.csv": ["case", "class", *shapes.COLUMNS],
    "volumes.csv": ["case", "class", "predicted_voxels", "predicted_ml"],
    "refused.csv": ["image", "found"],
}
OF_HEADS = ("measurements.csv", "points.csv", "hc18_submission.csv")
THUMBNAIL_WIDTH, THUMBNAIL_QUALITY = 360, 85
QUALITY = 95  # of an overlay as JPEG: no difference to be seen, and lines keep their colours
LONGEST_JPEG = 65500  # pixels of a side, for OpenCV
LEVELS = 65535  # of a 16-bit map: probability 1


@dataclass(frozen=True)
class Written:
    """One case whose files are written, with what goes into the tables and the page."""

    case: str
    line: str  # result in words
    rows: dict[str, list[dict[str, Any]]]  # by table
    thumbnail: bytes  # JPEG


def require_own(folder: Path) -> None:
    """ValueError if a folder exists and holds anything that `predict` did not write, or that has changed since."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder}: a file; expected a folder, new or written by predict")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    record = files.read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    listed = record.get("files") if isinstance(record, dict) else None
    now = {name: value for name, value in steps.output_hashes(folder).items() if name != RECORD}
    foreign = [name for name in now if not isinstance(listed, dict) or listed.get(name) != now[name]]
    if foreign:
        found = f"{len(foreign)} files are not as predict wrote them, such as {foreign[0]}"
        raise ValueError(f"--out {folder}: {found}; expected a new folder, or one that predict wrote")


@contextmanager
def folder_of_answers(folder: Path) -> Iterator[Path]:
    """An empty folder that replaces `folder` if the block succeeds; raises as `require_own`."""
    folder = folder.resolve()  # of "." the name is that of the folder, and a link is not replaced by one
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        with locks.locked(lock, f"predict into {folder}", wait=False), files.replacing_folder(folder) as new:
            require_own(folder)
            yield new
    finally:
        lock.unlink(missing_ok=True)


def write_case(folder: Path, ensemble: Ensemble, picture: Picture, answer: Answer, with_maps: bool) -> Written:
    """Writes the files of one case; returns its rows."""
    rows = _rows(ensemble, picture, answer)
    line = result_line(rows["measurements.csv"], rows["volumes.csv"], picture)
    image, at = shown_slice(ensemble, picture, answer)
    drawn = _drawn(ensemble, picture, answer, image, at, line)
    _write_picture(folder / "overlays" / f"{picture.case}.jpg", drawn)
    if answer.mask is not None:
        _write_mask(folder / "masks", ensemble, picture, answer.mask)
    if with_maps:
        _write_maps(folder / "probabilities", picture, answer, image, at)
    return Written(picture.case, line, rows, thumbnail(drawn))


def _rows(ensemble: Ensemble, picture: Picture, answer: Answer) -> dict[str, list[dict[str, Any]]]:
    """Rows of one case by table."""
    tables = {
        "cases.csv": [_case_row(picture)],
        "measurements.csv": answers.measurements(ensemble, answer),
        "points.csv": [answer.head] if answer.head else [],
        "hc18_submission.csv": submission_rows(picture, answer),
        "shapes.csv": answers.shapes_of(ensemble, answer, picture.spacing_mm),
        "volumes.csv": answers.volumes_of(ensemble, answer, picture.voxel_mm3),
    }
    return {name: [{"case": picture.case} | row for row in rows] for name, rows in tables.items()}


def thumbnail(picture: np.ndarray) -> bytes:
    """A small copy of a picture (h, w, 3) uint8 RGB as JPEG, about THUMBNAIL_WIDTH wide."""
    height, width = picture.shape[:2]
    step = max(1, round(max(width / THUMBNAIL_WIDTH, height / (4 * THUMBNAIL_WIDTH))))
    rows, cols = max(1, height // step), max(1, width // step)  # whole blocks are averaged in a fifth of the time
    small = cv2.resize(picture[: rows * step, : cols * step], (cols, rows), interpolation=cv2.INTER_AREA)
    return jpeg(small, THUMBNAIL_QUALITY)


def jpeg(picture: np.ndarray, quality: int) -> bytes:
    """A picture (h, w, 3) uint8 RGB as JPEG, colours in full resolution: a fifth of the time of PNG, a third the size.

    ValueError beyond LONGEST_JPEG.
    """
    height, width = picture.shape[:2]
    if max(height, width) > LONGEST_JPEG:
        raise ValueError(f"drawn {width} x {height} pixels; expected at most {LONGEST_JPEG} a side (cut the image)")
    how = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), how)[1].tobytes()


def result_line(rows: list[dict[str, Any]], sizes: list[dict[str, Any]], picture: Picture) -> str:
    """Measurements of a case in one line, "BPD 62.1 mm [60.0, 64.2]  OFD 80.3 mm …", with flags."""
    words = [measured(row) for row in rows if math.isfinite(row["predicted_mm"])]
    for row in sizes:
        ml = f" = {row['predicted_ml']:.2f} ml" if math.isfinite(row["predicted_ml"]) else ""
        words.append(f"{row['class']} {row['predicted_voxels']} voxels{ml}")
    flags = "; ".join(dict.fromkeys(row["flags"] for row in rows if row["flags"]))
    flags = flags.replace(biometry.NO_PIXEL_SIZE, f"{biometry.NO_PIXEL_SIZE} ({picture.calibration})")
    return "  ".join([*words, *([f"[{flags}]"] if flags else [])]) or "mask written"


def measured(row: dict[str, Any]) -> str:
    """A measurement with its interval, as far as that is known: "HC 224.5 mm [220.1, 228.9]"."""
    low, high = (row[name] for name in intervals.LIMITS)
    interval = f" [{low:.1f}, {high:.1f}]" if math.isfinite(low) else ""
    return f"{row['quantity'].upper()} {row['predicted_mm']:.1f} mm{interval}"


def shown_slice(ensemble: Ensemble, picture: Picture, answer: Answer) -> tuple[np.ndarray, int | None]:
    """The image that is drawn, (H, W) uint8: of a volume the slice with most of the prediction, and its index."""
    if not ensemble.is_volume:
        return picture.pixels, None
    at = volumes.fullest_slice(answer.mask if answer.mask is not None else np.zeros(picture.pixels.shape[:3]))
    return np.ascontiguousarray(picture.pixels[at, ..., ensemble.about["display_channel"]]), at


def _drawn(
    ensemble: Ensemble, picture: Picture, answer: Answer, image: np.ndarray, at: int | None, line: str
) -> np.ndarray:
    regions = []
    if answer.mask is not None:
        mask = answer.mask if at is None else answer.mask[at]
        regions = [(mask == i, colour) for i, colour in enumerate(ensemble.colours.values(), start=1)]
    ends = np.array([answer.head[name] for name in POINT_COLUMNS]).reshape(4, 2) if answer.head else None
    name = picture.case if at is None else f"{picture.case}, slice {at + 1} of {len(picture.pixels)}"
    is_ellipse = bool(answer.head) and answer.head["route"] == "ellipse" and bool(np.isfinite(ends).all())
    lines = [name, line, NOT_FOR_CLINICAL_USE]
    return pictures.prediction(image, picture.spacing_mm, regions, ends, is_ellipse, lines)


def _write_mask(folder: Path, ensemble: Ensemble, picture: Picture, mask: np.ndarray) -> None:
    """The mask at native size: a palette PNG, or for a volume slices or NIfTI like the input."""
    classes = ensemble.about["classes"]
    if isinstance(picture.like, volume_files.NiftiGeometry):
        from lib.prediction import nifti  # nibabel takes half a second to import

        nifti.write_nifti(folder / f"{picture.case}.nii.gz", mask, picture.like)
    elif mask.ndim == 3:
        for name, page in zip(picture.like, mask):
            mask_files.write(folder / picture.case / f"{name}_mask.png", page, classes)
    else:
        mask_files.write(folder / f"{picture.case}.png", mask, classes)


def _write_maps(folder: Path, picture: Picture, answer: Answer, image: np.ndarray, at: int | None) -> None:
    """Probabilities of each class as 16-bit PNG, 65535 for 1, and laid over the image in colours."""
    for name, values in answer.maps.items():
        pages = [(f"{picture.case}_{name}", values)]
        if at is not None:
            pages = [(f"{picture.case}_{name}/slice{n:04d}", page) for n, page in enumerate(values, start=1)]
        for stem, page in pages:
            deep = np.rint(np.clip(page, 0, 1) * LEVELS).astype(np.uint16)
            written, content = cv2.imencode(".png", deep)
            files.write_bytes(folder / f"{stem}.png", content.tobytes() if written else b"")
        what = f"probability of {name}" if answer.mask is not None else f"heatmap of {name.upper()}"
        lines = [f"{picture.case}: {what}", NOT_FOR_CLINICAL_USE]
        drawn = pictures.heat(image, picture.spacing_mm, values if at is None else values[at], lines)
        _write_picture(folder / f"{picture.case}_{name}_heat.jpg", drawn)


def _write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes a picture into the new folder, which becomes visible as a whole: without waiting for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(picture, QUALITY))


def write_tables(folder: Path, ensemble: Ensemble, written: Sequence[Written], refused: Sequence[Refusal]) -> list[str]:
    """Writes the tables that this kind of model has; returns their names."""
    names = ["cases.csv", *(OF_HEADS if ensemble.head else ()), *(["refused.csv"] if refused else [])]
    names += ["volumes.csv"] if ensemble.is_volume else [] if ensemble.is_landmark else ["shapes.csv"]
    for name in names:
        files.write_csv(folder / name, table(name, written, refused))
    return names


def table(name: str, written: Sequence[Written], refused: Sequence[Refusal]) -> pd.DataFrame:
    """A table of the folder of answers by its name; without rows if this kind of model has none."""
    rows = [row for each in written for row in each.rows.get(name, [])]
    rows = [{"image": each.file, "found": each.reason} for each in refused] if name == "refused.csv" else rows
    return pd.DataFrame(rows, columns=COLUMNS[name])


def _case_row(picture: Picture) -> dict[str, Any]:
    volume = picture.pixels.ndim == 4
    height, width = picture.pixels.shape[1:3] if volume else picture.pixels.shape
    row, col = picture.spacing_mm or (math.nan, math.nan)
    return {
        **{"case": picture.case, "image": picture.file, "height": height, "width": width},
        **{"slices": len(picture.pixels) if volume else 1, "spacing_row_mm": row, "spacing_col_mm": col},
        "spacing_slice_mm": math.nan if picture.slice_mm is None else picture.slice_mm,
        **{"calibration": picture.calibration, "notes": "; ".join(picture.notes)},
    }


def submission_rows(picture: Picture, answer: Answer) -> list[dict[str, Any]]:
    """A head as a row of the HC18 challenge, [] without one: centre and semi-axes in mm from the first pixel's centre.

    The angle is that of the long axis, from the columns towards the rows, in radians from 0 to pi.
    """
    ends = np.array([answer.head.get(name) for name in POINT_COLUMNS], float).reshape(4, 2)
    if picture.spacing_mm is None or not np.isfinite(ends).all():
        return []
    mm = ends * np.array(picture.spacing_mm)
    (row, col), (down, across) = mm.mean(axis=0), mm[1] - mm[0]
    ofd, bpd = (float(np.linalg.norm(mm[first + 1] - mm[first])) for first in (0, 2))
    values = (Path(picture.file).name, col, row, ofd / 2, bpd / 2, math.atan2(down, across) % math.pi)
    return [dict(zip(SUBMISSION_COLUMNS, values))]


def write_record(folder: Path, about: dict[str, Any]) -> None:
    """Writes the record by which `require_own` knows the folder, last of all files."""
    files.write_json(folder / RECORD, about | {"files": steps.output_hashes(folder)})
