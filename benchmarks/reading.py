"""Verification of HC18, including checksums and hashes, relative to decoding the same PNGs by Pillow alone."""

import time

import numpy as np
from PIL import Image

from benchmarks import table
from lib import datasets
from lib.data import cases
from lib.study import parallel, params
from lib.verification import verify

ROUNDS = 5


def rows(study: params.Study) -> list[dict[str, object]]:
    """Cases per second of both on all cores, timed alternately."""
    dataset = datasets.of(study)
    folder = datasets.prepare(study.dataset)
    found, _ = datasets.find_cases(dataset, folder, study.groups or ())
    bare, ours = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        parallel.in_parallel(_decode, found)
        bare.append(len(found) / (time.perf_counter() - started))
        started = time.perf_counter()
        verified = verify.check_dataset(dataset, study.dataset, folder, study.groups or (), study.exclude)
        ours.append(len(verified.cases) / (time.perf_counter() - started))
    ratios = np.array(ours) / np.array(bare)
    return [
        table.row(
            f"verification with hashes / decoding the same PNGs, {study.dataset}",
            f"{np.median(bare):.1f} cases/s",
            f"{np.median(ours):.1f} cases/s",
            ratios,
            ">= 0.6",
        )
    ]


def _decode(case: cases.Case) -> list[np.ndarray]:
    decoded = []
    for path in (case.image, *case.mask):
        with Image.open(path) as image:
            decoded.append(np.asarray(image))
    return decoded
