import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lib import arrays, cases, datasets, files, preprocessing
from tests import builders

HC18 = datasets.DATASETS["hc18"]
SIZE = [32, 48]
PREPROCESS_AND_HOLD = """
import sys
from pathlib import Path
from lib import cases, datasets, files, preprocessing
folder = Path(sys.argv[1])
files.processed_folder = lambda name: folder / name
real = files.write_csv
def hold(path, table):
    real(path, table)
    print("half", flush=True)
    sys.stdin.read()
files.write_csv = hold
preprocessing.preprocess(cases.read_cases(folder / "cases.csv"), datasets.DATASETS["hc18"], [32, 48])
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return builders.write_hc18(tmp_path_factory.mktemp("raw"), builders.heads(6))


@pytest.fixture
def processed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "processed_folder", lambda name: tmp_path / "processed" / name)
    return tmp_path / "processed"


def manifest(folder):
    return builders.verified(folder).cases


def state(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_arrays_hold_each_case_in_the_manifest_s_order(written, processed):
    table = manifest(written)
    made = preprocessing.preprocess(table, HC18, SIZE)
    assert made.names == table["case"].tolist()
    assert made.images.shape == (6, 1, 32, 48)
    assert made.masks.shape == (6, 32, 48)
    assert made.images.dtype == made.masks.dtype == np.uint8


def test_a_head_lies_in_the_network_s_input_where_its_geometry_says(written, processed):
    made = preprocessing.preprocess(manifest(written), HC18, SIZE)
    for head, mask, mapping in zip(builders.heads(6), made.masks, made.geometries):
        centre = np.argwhere(mask).mean(axis=0)
        native = (centre - [mapping.pad_row, mapping.pad_col] + 0.5) / [mapping.scale_row, mapping.scale_col] - 0.5
        assert native == pytest.approx(head.centre, abs=0.2), head.name  # a tenth of a network pixel
        area = mask.sum() / (mapping.scale_row * mapping.scale_col)
        assert area == pytest.approx(np.pi / 4 * head.major * head.minor, rel=0.06), head.name  # some 300 pixels


def test_a_second_call_opens_equal_arrays_and_writes_nothing(written, processed):
    table = manifest(written)
    first = preprocessing.preprocess(table, HC18, SIZE)
    before = state(processed)
    second = preprocessing.preprocess(table, HC18, SIZE)
    assert state(processed) == before
    assert np.array_equal(first.images, second.images)
    assert first.geometries == second.geometries


def test_arrays_made_twice_are_equal_bytes(written, processed):
    table = manifest(written)
    made = preprocessing.preprocess(table, HC18, SIZE)
    before = {path.name: content for path, (content, _) in state(processed).items()}
    shutil.rmtree(processed / made.fingerprint)
    preprocessing.preprocess(table, HC18, SIZE)
    assert {path.name: content for path, (content, _) in state(processed).items()} == before


def test_another_byte_of_an_image_changes_the_fingerprint(written, processed, tmp_path):
    copy = shutil.copytree(written, tmp_path / "copy")
    before = preprocessing.preprocess(manifest(copy), HC18, SIZE)
    path = copy / "training_set" / "000_HC.png"
    pixels = builders.image_of(builders.heads(6)[0], 0)
    pixels[0, 0] ^= 1
    builders.save_png(path, pixels)
    after = preprocessing.preprocess(manifest(copy), HC18, SIZE)
    assert after.fingerprint != before.fingerprint
    assert np.array_equal(after.images[1:], before.images[1:])


def test_size_and_classes_change_the_fingerprint(written):
    table = manifest(written)
    marks = {
        preprocessing.fingerprint(table, HC18, [32, 48]),
        preprocessing.fingerprint(table, HC18, [48, 32]),
        preprocessing.fingerprint(table, replace(HC18, classes=("background", "head", "csp")), [32, 48]),
        preprocessing.fingerprint(table.iloc[::-1], HC18, [32, 48]),
        preprocessing.fingerprint(table.iloc[1:], HC18, [32, 48]),
    }
    assert len(marks) == 5


@pytest.mark.parametrize("name", ["001_HC.png", "001_HC_Annotation.png"])
def test_a_file_changed_since_the_manifest_is_refused(written, processed, tmp_path, name):
    copy = shutil.copytree(written, tmp_path / "copy")
    table = manifest(copy)
    shutil.copy(copy / "training_set" / name.replace("001", "000"), copy / "training_set" / name)
    with pytest.raises(ValueError, match=r"001_HC\.png or its mask has changed since 01_data_verification"):
        preprocessing.preprocess(table, HC18, SIZE)
    assert state(processed) == {}


def test_references_of_several_files_are_read_together_and_each_is_watched(processed, tmp_path):
    image = builders.save_png(tmp_path / "a b (1).png", np.full((32, 48), 90, np.uint8))
    parts = np.zeros((2, 32, 48), np.uint8)
    parts[0, 4:10, 5:20], parts[1, 15:30, 25:40] = 255, 255
    masks = [builders.save_png(tmp_path / f"m{place}.png", part) for place, part in enumerate(parts)]
    table = cases.cases_table([cases.Case("a", "s", image, tuple(masks), None)])
    table = table.assign(height=32, width=48, sha256=cases.content_hash(image, masks))
    union = replace(HC18, read_mask=lambda paths: np.any([cases.read_binary(p) for p in paths], axis=0).view(np.uint8))
    made = preprocessing.preprocess(table, union, SIZE)
    assert np.array_equal(made.masks[0], (parts > 0).any(axis=0))
    shutil.rmtree(processed)
    builders.save_png(masks[1], parts[0])
    with pytest.raises(ValueError, match="has changed since 01_data_verification"):
        preprocessing.preprocess(table, union, SIZE)


def test_an_exception_in_the_middle_leaves_nothing(written, processed, monkeypatch):
    table = manifest(written)
    monkeypatch.setattr(preprocessing.geometry, "mask_to_network", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        preprocessing.preprocess(table, HC18, SIZE)
    assert [path for path in processed.iterdir() if path.suffix != ".lock"] == []


def test_a_process_killed_in_the_middle_leaves_nothing_taken_for_whole(written, processed):
    table = manifest(written)
    files.write_csv(processed / "cases.csv", table)
    child = subprocess.Popen(
        [sys.executable, "-c", PREPROCESS_AND_HOLD, str(processed)],
        cwd=files.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "half\n"
    child.kill()
    child.communicate()
    mark = preprocessing.fingerprint(table, HC18, SIZE)
    with pytest.raises(ValueError, match="no arrays; run 02_preprocessing"):
        arrays.open_arrays(mark)
    assert preprocessing.preprocess(table, HC18, SIZE).images.any()


def test_a_folder_left_half_is_made_again(written, processed):
    table = manifest(written)
    made = preprocessing.preprocess(table, HC18, SIZE)
    images = np.array(made.images)  # a copy: the mapped file is spoilt below
    (processed / made.fingerprint / "dataset.json").unlink()
    (processed / made.fingerprint / "images.npy").write_bytes(b"half")
    again = preprocessing.preprocess(table, HC18, SIZE)
    assert np.array_equal(again.images, images)


def test_a_deleted_folder_says_what_to_run(written, processed, tmp_path):
    made = preprocessing.preprocess(manifest(written), HC18, SIZE)
    files.write_json(tmp_path / "02" / "dataset.json", {"fingerprint": made.fingerprint})
    shutil.rmtree(processed)
    with pytest.raises(ValueError, match=f"{made.fingerprint}: no arrays; run 02_preprocessing"):
        arrays.read_arrays(tmp_path / "02")


# What the way to network size costs


@pytest.fixture
def prepared(written, processed):
    table = manifest(written)
    return table, preprocessing.preprocess(table, HC18, SIZE)


def test_masks_lose_little_on_the_way_and_more_at_a_coarser_size(prepared):
    table, made = prepared
    fine = preprocessing.round_trip(table, HC18, made, made.names)
    coarse_arrays = preprocessing.preprocess(table, HC18, [16, 24])
    coarse = preprocessing.round_trip(table, HC18, coarse_arrays, made.names)
    assert fine["case"].tolist() == made.names
    assert (fine["dice"] > 0.95).all()
    assert coarse["dice"].mean() < fine["dice"].mean() < 1


def test_nothing_is_lost_at_native_size(prepared):
    table, _ = prepared
    same = table[(table["height"] == 60) & (table["width"] == 90)]
    made = preprocessing.preprocess(same, HC18, [60, 90])
    assert (preprocessing.round_trip(same, HC18, made, made.names)["dice"] == 1).all()


def test_losses_are_summed_up_in_a_row_a_class():
    losses = preprocessing.pd.DataFrame({"case": "abc", "class": "head", "dice": [0.9, 0.8, 1.0]}, index=range(3))
    row = preprocessing.ceiling_table(losses).iloc[0]
    assert (row["class"], row["cases"], row["dice_min"]) == ("head", 3, 0.8)
    assert row["dice_mean"] == pytest.approx(0.9)


def test_points_come_back_and_aspect_is_kept(prepared):
    _, made = prepared
    assert preprocessing.point_error(made) < 1e-9
    assert preprocessing.aspect_error(made) <= 1
