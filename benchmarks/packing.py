"""What a machine with a GPU and no package registry needs for benchmarks/gpu.sh: python -m benchmarks.packing HC18 LGG.

Writes benchmarks/packed/: wheels for Python 3.12 on Linux x86-64 with the versions of constraints.txt, the images of
HC18 at 256x384 as preprocessed by this project with native masks, and native patients of LGG; all lossless.
"""

import argparse
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from benchmarks import packed
from lib import datasets, preprocessing
from lib.datasets import samples
from lib.study import files, params
from lib.verification import verify

LIMIT_BYTES = 60_000_000
SIZE = [256, 384]
IMAGES = 640  # of HC18 at most, evenly spaced: 22 MB
PATIENTS = 9  # of LGG: its speed needs no more, and all 28 available would take 35 MB
# numpy, scipy, opencv-python-headless and pillow are left out: their wheels take 119 MB, and a Python with torch
# usually has them. pandas is packed because newer versions than 2 are common and not supported.
WHEELS = (
    *("albumentations", "albucore", "simsimd", "stringzilla", "pydantic", "pydantic_core", "annotated-types"),
    *("typing-inspection", "typing_extensions", "PyYAML", "safetensors", "filelock", "psutil", "tqdm"),
    *("pandas", "python-dateutil", "pytz", "tzdata", "six"),
    *("pytest", "pluggy", "iniconfig", "packaging", "Pygments"),
)
# pip takes a tag literally, so every glibc version in use is named.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(5, 29)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]


def main() -> None:
    """Packs everything and checks its size."""
    parser = argparse.ArgumentParser(prog="benchmarks/pack.sh")
    parser.add_argument("hc18", type=Path, help="raw folder of HC18, with training_set/")
    parser.add_argument("lgg", type=Path, help="raw folder of LGG, kaggle_3m or its parent")
    folders = parser.parse_args()
    shutil.rmtree(packed.FOLDER, ignore_errors=True)
    packed.FOLDER.mkdir()
    pack_wheels(packed.FOLDER / "wheels")
    pack_hc18(folders.hc18.resolve(), packed.HC18)
    pack_lgg(folders.lgg.resolve(), packed.LGG)
    for name, size in sizes(packed.FOLDER).items():
        print(f"{size / 1e6:6.1f} MB  {name}")
    check_size(packed.FOLDER, LIMIT_BYTES)


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file, the largest first."""
    found = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def check_size(folder: Path, limit_bytes: int) -> None:
    """ValueError, with the largest files, if a folder is larger than the limit."""
    found = sizes(folder)
    total = sum(found.values())
    if total > limit_bytes:
        largest = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in list(found.items())[:5])
        raise ValueError(
            f"{folder}: {total / 1e6:.1f} MB; at most {limit_bytes / 1e6:.0f} MB can be carried: {largest}"
        )


def requirements(names: tuple[str, ...], constraints: str) -> list[str]:
    """Lines name==version of the named packages; ValueError for one without a version in the constraints."""
    version = {_plain(line.partition("==")[0]): line for line in constraints.splitlines() if "==" in line}
    missing = [name for name in names if _plain(name) not in version]
    if missing:
        raise ValueError(f"constraints.txt contains no version of {', '.join(missing)}")
    return [version[_plain(name)] for name in names]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pack_wheels(folder: Path) -> None:
    """Downloads wheels, without their dependencies."""
    wanted = requirements(WHEELS, (files.ROOT / "constraints.txt").read_text(encoding="utf-8"))
    platforms = [f"--platform={name}" for name in PLATFORMS]
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.12", *platforms, f"--dest={folder}"]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, *wanted], check=True)


def pack_hc18(raw: Path, path: Path) -> None:
    """Network images as WebP, native masks as PNG, and cases.csv (packed.COLUMNS)."""
    study = params.read_study(files.study_file("hc18_unet")).model_copy(update={"image_size": SIZE})
    dataset = datasets.of(study)
    table = verify.check_dataset(dataset, study.dataset, raw).cases
    table = table[table["case"].isin(samples.evenly_spaced(table, IMAGES))]
    chosen = params.step_params(study, "02_preprocessing")
    arrays = preprocessing.preprocess(preprocessing.source_of(chosen, table, dataset, None))
    table = table.assign(spacing_mm=table["spacing_row_mm"])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cases.csv", table[packed.COLUMNS].to_csv(index=False))
        for row in table.to_dict("records"):
            (image,) = arrays.images[arrays.rows([row["case"]])[0]]
            archive.writestr(f"{row['case']}.webp", _lossless(image, ".webp"))
            archive.writestr(f"{row['case']}.png", _lossless(samples.read_mask(dataset, row), ".png"))


def pack_lgg(raw: Path, path: Path) -> None:
    """Native slices as WebP and masks as PNG of patients spread through the data set, and cases.csv (case, slices)."""
    dataset = datasets.DATASETS["lgg"]
    found, _ = datasets.find_cases(dataset, raw, ())
    selected = [found[index] for index in np.linspace(0, len(found) - 1, PATIENTS).round().astype(int)]
    depths = []
    with zipfile.ZipFile(path, "w") as archive:
        for case in selected:
            image, mask = dataset.read_image(case.image), dataset.read_mask(case.mask)
            depths.append(len(image))
            for index, (pixels, reference) in enumerate(zip(image, mask)):
                archive.writestr(f"{case.name}/{index}.webp", _lossless(pixels, ".webp"))
                archive.writestr(f"{case.name}/{index}.png", _lossless(reference, ".png"))
        table = pd.DataFrame({"case": [case.name for case in selected], "slices": depths})
        archive.writestr("cases.csv", table.to_csv(index=False))


def _lossless(pixels: np.ndarray, suffix: str) -> bytes:
    """An image as WebP or PNG; ValueError if it is read back with other pixels."""
    options = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else [cv2.IMWRITE_PNG_COMPRESSION, 9]
    content = cv2.imencode(suffix, np.ascontiguousarray(pixels), options)[1].tobytes()  # above 100 WebP is lossless
    flags = cv2.IMREAD_COLOR if pixels.ndim == 3 else cv2.IMREAD_GRAYSCALE
    if not np.array_equal(packed.decode(content, flags), pixels):
        raise ValueError(f"{suffix} changes the pixels of an image of {pixels.shape}")
    return content


if __name__ == "__main__":
    main()
