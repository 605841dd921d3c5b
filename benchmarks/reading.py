"""HC18 verified and preprocessed, hashes included, against decoding, filling and resizing alone."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lib import cases, datasets, files, geometry, params, preprocessing, verification

ROUNDS = 3


def rows(study: params.Study) -> list[dict[str, object]]:
    """Images per second of both ways on all cores, timed in turn."""
    dataset = datasets.get(study.dataset, study.classes)
    folder = datasets.prepare(study.dataset)
    found, _ = dataset.find_cases(folder)
    size = (study.image_size[0], study.image_size[1])
    bare, ours = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            read = list(pool.map(lambda case: _read(case, dataset, size), found))
        bare.append(len(found) / (time.perf_counter() - started))
        started = time.perf_counter()
        table = verification.verify(dataset, folder, [], study.near_duplicate_correlation).cases
        name = preprocessing.fingerprint(table, study.classes, study.image_size)
        shutil.rmtree(files.processed_folder(name), ignore_errors=True)
        made = preprocessing.preprocess(table, dataset, study.image_size)
        ours.append(len(found) / (time.perf_counter() - started))
        if not all(np.array_equal(image, made.images[row, 0]) for row, image in enumerate(read)):
            raise ValueError("the two ways give different images")
    ratios = np.array(ours) / np.array(bare)
    return [
        {
            "what": f"verification and preprocessing against reading, filling, resizing, {study.dataset}",
            "bare": f"{np.median(bare):.1f} images/s",
            "ours": f"{np.median(ours):.1f} images/s",
            "ratio": float(np.median(ratios)),
            "spread": f"{ratios.min():.3f} to {ratios.max():.3f}",
            "goal": ">= 40 images/s",
        }
    ]


def _read(case: cases.Case, dataset: datasets.Dataset, size: tuple[int, int]) -> np.ndarray:
    image, mask = cases.read_grey(case.image), dataset.read_mask(case.mask)
    mapping = geometry.fit(image.shape, size)
    geometry.mask_to_network(mask, mapping, len(dataset.classes))
    return geometry.image_to_network(image, mapping)
