"""benchmarks/gpu.sh: its tables, time limits, what it packs, and every part at the smallest size on a CPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import packed, packing
from benchmarks.gpu import __main__ as driver
from benchmarks.gpu import part, tables
from benchmarks.gpu.scale import SCALES
from lib import datasets, preprocessing
from lib.datasets.phantoms import write_images, write_volumes
from lib.study import params

SMALLEST = replace(SCALES["cpu"], round_seconds=0.05, rounds=1, images=24, growth=(8, 16))
NOT_ON_CPU = [{"training": "float16", "error": "float16 is trained on CUDA alone"}]


def test_a_part_becomes_a_table_with_the_columns_of_all_its_rows():
    rows = [
        {"study": "a", "images/s": 1234.5, "ratio": 0.98765},
        {"study": "b", "GPU GiB": None, "error": "no | memory"},
    ]
    section = tables.section("speed", {"state": "failed", "seconds": 12.4, "rows": rows, "error": "killed"})
    assert section.split("\n") == [
        "## speed",
        "",
        "failed, 12 s: killed",
        "",
        "| study | images/s | ratio | GPU GiB | error |",
        "| --- | --- | --- | --- | --- |",
        "| a | 1234 | 0.988 |  |  |",
        "| b |  |  |  | no \\| memory |",
    ]


def test_the_title_says_whether_cuda_was_used():
    titles = [tables.markdown({"device type": name, "parts": {}}).split("\n")[0] for name in ("cuda", "cpu")]
    assert titles == ["# Checks on a GPU", "# Checks, not run on CUDA"]


def test_the_files_with_tests_for_a_gpu_are_found_however_these_are_marked():
    assert sorted(Path(path).name for path in part.marked()) == [
        "test_cuda.py",
        "test_epoch_profile.py",
        "test_launch.py",
    ]


def test_more_than_can_be_carried_is_refused_with_the_largest_files(tmp_path):
    (tmp_path / "wheels").mkdir()
    for name, size in (("wheels/a.whl", 700_000), ("b.zip", 400_000)):
        (tmp_path / name).write_bytes(bytes(size))
    packing.check_size(tmp_path, 1_100_000)
    with pytest.raises(
        ValueError, match=r"1\.1 MB; at most 1 MB can be carried: wheels/a\.whl 0\.7 MB, b\.zip 0\.4 MB"
    ):
        packing.check_size(tmp_path, 1_000_000)


def test_packed_wheels_have_the_versions_of_the_constraints():
    constraints = "typing_extensions==4.16.0\nPyYAML==6.0.3\n"
    assert packing.requirements(("typing-extensions", "pyyaml"), constraints) == constraints.split()
    with pytest.raises(ValueError, match=r"constraints\.txt contains no version of six"):
        packing.requirements(("pyyaml", "six"), constraints)


def test_packed_heads_are_read_back_as_preprocessing_made_them(processed, tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    raw.mkdir()
    write_images.write_hc18(raw, subjects=3, seed=1)
    monkeypatch.setattr(packed, "HC18", tmp_path / "hc18.zip")
    packing.pack_hc18(raw, packed.HC18)
    study = SCALES["cuda"].study("hc18_unet", image_size=packing.SIZE)
    heads, dataset = packed.hc18(study, 0, tmp_path), datasets.of(study)
    chosen = params.step_params(study, "02_preprocessing")
    table = packing.verify.check_dataset(dataset, study.dataset, raw).cases
    made = preprocessing.preprocess(preprocessing.source_of(chosen, table, dataset, None))
    assert (heads.source, heads.arrays.names) == ("HC18", made.names)
    assert np.array_equal(heads.arrays.images, made.images)
    assert np.array_equal(heads.arrays.masks, made.masks)
    assert heads.arrays.geometries == made.geometries
    assert heads.table["hc_mm"].tolist() == table["hc_mm"].tolist()


def test_packed_volumes_are_read_back_with_their_lesions(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    raw.mkdir()
    write_volumes.write_lgg(raw, 2, seed=1)
    monkeypatch.setattr(packed, "LGG", tmp_path / "lgg.zip")
    monkeypatch.setattr(packing, "PATIENTS", 2)
    packing.pack_lgg(raw, packed.LGG)
    arrays = packed.lgg(SCALES["cuda"].study("lgg"), 40, tmp_path)
    assert (arrays.images.shape, arrays.images.dtype) == ((40, 3, 256, 256), np.float32)
    assert arrays.masks.max() == 1


@pytest.mark.parametrize(
    ("device", "limit_s", "state", "error"),
    [
        ("cpu", -1, "not begun", "no time left"),
        ("cpu", 0.2, "stopped at its time limit", ""),
        ("no", 99, "failed", "KeyError: 'no'"),
    ],
)
def test_a_part_without_time_and_one_that_fails_are_recorded(tmp_path, monkeypatch, device, limit_s, state, error):
    monkeypatch.setattr(driver, "LEAST_S", 0)
    with (tmp_path / "log.txt").open("w") as log:
        done = driver.run_part("precision", device, tmp_path / "rows.json", limit_s, log)
    assert (done["state"], done["rows"], done["error"]) == (state, [], error)


@pytest.mark.slow
@pytest.mark.parametrize("name", part.PARTS)
def test_every_part_runs_on_a_cpu(name, tmp_path):
    rows = list(part.PARTS[name][0](SMALLEST, tmp_path))
    assert rows
    assert [row for row in rows if "error" in row] == (NOT_ON_CPU if name == "precision" else [])
    assert all(row.get("equal bytes", True) for row in rows)
    assert all(row.get("exit status", 0) == 0 for row in rows)
