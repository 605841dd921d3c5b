import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from skimage.transform import resize

from lib import datasets, preprocessing
from lib.data import arrays, cases
from lib.datasets import samples
from lib.imaging import geometry, head_points, image_files, preparation
from lib.study import files, provenance
from lib.verification import verify
from tests import builders

HC18, LGG = datasets.DATASETS["hc18"], datasets.DATASETS["lgg"]
SIZE = [32, 48]
OTHER_KEYS = {  # another value of each key that only one kind of study uses
    "end_slices_dropped": 0,
    "crop_level": 0.2,
    "intensity_percentiles": [5.0, 99.0],
    "heatmap_sigma": 4.0,
    "heatmap_sigma_unit": "mm",
}
PREPROCESS_AND_HOLD = """
import sys
from pathlib import Path
from lib import datasets, preprocessing
from lib.data import cases
from lib.study import files
from tests import builders
folder = Path(sys.argv[1])
files.processed_folder = lambda name: folder / name
real = files.write_csv
def hold(path, table):
    real(path, table)
    print("half", flush=True)
    sys.stdin.read()
files.write_csv = hold
chosen = builders.step_params("02_preprocessing", image_size=[32, 48])
table = cases.read_cases(folder / "cases.csv")
preprocessing.preprocess(preprocessing.source_of(chosen, table, datasets.DATASETS["hc18"], None))
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


def source_of(table, dataset=HC18, size=SIZE, marks=None, **keys):
    """What arrays of a table are made of; the size may be smaller than a study may ask for."""
    chosen = builders.step_params("02_preprocessing", **keys).model_copy(update={"image_size": list(size)})
    return preprocessing.source_of(chosen, table, dataset, marks)


def preprocess(table, dataset=HC18, size=SIZE, marks=None, **keys):
    return preprocessing.preprocess(source_of(table, dataset, size, marks, **keys))


def fingerprint(table, dataset=HC18, size=SIZE, marks=None, **keys):
    return preprocessing.fingerprint(source_of(table, dataset, size, marks, **keys))


def state(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_arrays_hold_each_case_in_the_manifest_s_order(written, processed):
    table = manifest(written)
    made = preprocess(table)
    assert made.names == table["case"].tolist()
    assert made.images.shape == (6, 1, 32, 48)
    assert made.masks.shape == (6, 32, 48)
    assert made.images.dtype == made.masks.dtype == np.uint8


def test_a_head_lies_in_the_network_s_input_where_its_geometry_says(written, processed):
    made = preprocess(manifest(written))
    for head, mask, mapping in zip(builders.heads(6), made.masks, made.geometries):
        centre = np.argwhere(mask).mean(axis=0)
        native = (centre - [mapping.pad_row, mapping.pad_col] + 0.5) / [mapping.scale_row, mapping.scale_col] - 0.5
        assert native == pytest.approx(head.centre, abs=0.2), head.name  # a tenth of a network pixel
        area = mask.sum() / (mapping.scale_row * mapping.scale_col)
        assert area == pytest.approx(np.pi / 4 * head.major * head.minor, rel=0.06), head.name  # some 300 pixels


def test_a_second_call_opens_equal_arrays_and_writes_nothing(written, processed):
    table = manifest(written)
    first = preprocess(table)
    before = state(processed)
    second = preprocess(table)
    assert state(processed) == before
    assert np.array_equal(first.images, second.images)
    assert first.geometries == second.geometries


def test_arrays_made_twice_are_equal_bytes(written, processed):
    table = manifest(written)
    made = preprocess(table)
    before = {path.name: content for path, (content, _) in state(processed).items()}
    shutil.rmtree(processed / made.fingerprint)
    preprocess(table)
    assert {path.name: content for path, (content, _) in state(processed).items()} == before


def test_another_byte_of_an_image_changes_the_fingerprint(written, processed, tmp_path):
    copy = shutil.copytree(written, tmp_path / "copy")
    before = preprocess(manifest(copy))
    path = copy / "training_set" / "000_HC.png"
    pixels = builders.image_of(builders.heads(6)[0], 0)
    pixels[0, 0] ^= 1
    builders.save_png(path, pixels)
    after = preprocess(manifest(copy))
    assert after.fingerprint != before.fingerprint
    assert np.array_equal(after.images[1:], before.images[1:])


def test_size_and_classes_change_the_fingerprint(written):
    table = manifest(written)
    marks = {
        fingerprint(table),
        fingerprint(table, size=[48, 32]),
        fingerprint(table, replace(HC18, classes=("background", "head", "csp"))),
        fingerprint(table.iloc[::-1]),
        fingerprint(table.iloc[1:]),
    }
    assert len(marks) == 5


@pytest.mark.parametrize("name", ["001_HC.png", "001_HC_Annotation.png"])
def test_a_file_changed_since_the_manifest_is_refused(written, processed, tmp_path, name):
    copy = shutil.copytree(written, tmp_path / "copy")
    table = manifest(copy)
    shutil.copy(copy / "training_set" / name.replace("001", "000"), copy / "training_set" / name)
    with pytest.raises(ValueError, match=r"001_HC\.png or its mask has changed since 01_data_verification"):
        preprocess(table)
    assert state(processed) == {}


def test_references_of_several_files_are_read_together_and_each_is_watched(processed, tmp_path):
    image = builders.save_png(tmp_path / "a b (1).png", np.full((32, 48), 90, np.uint8))
    parts = np.zeros((2, 32, 48), np.uint8)
    parts[0, 4:10, 5:20], parts[1, 15:30, 25:40] = 255, 255
    masks = [builders.save_png(tmp_path / f"m{place}.png", part) for place, part in enumerate(parts)]
    table = cases.cases_table([cases.Case("a", "s", image, tuple(masks), None)])
    table = table.assign(slices=1, height=32, width=48, sha256=cases.content_hash(image, masks))
    union = replace(
        HC18, read_mask=lambda paths: np.any([image_files.read_binary(p) for p in paths], axis=0).view(np.uint8)
    )
    made = preprocess(table, union)
    assert np.array_equal(made.masks[0], (parts > 0).any(axis=0))
    shutil.rmtree(processed)
    builders.save_png(masks[1], parts[0])
    with pytest.raises(ValueError, match="has changed since 01_data_verification"):
        preprocess(table, union)


def test_an_exception_in_the_middle_leaves_nothing(written, processed, monkeypatch):
    table = manifest(written)
    monkeypatch.setattr(geometry, "mask_to_network", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        preprocess(table)
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
    mark = fingerprint(table)
    with pytest.raises(ValueError, match="no arrays; make study, or notebook 02"):
        arrays.open_arrays(mark)
    assert preprocess(table).images.any()


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "geometry.csv", "dataset.json"])
def test_arrays_that_are_not_as_they_were_made_are_made_again_to_the_byte_and_a_line_says_so(
    written, processed, capsys, name
):
    table = manifest(written)
    folder = processed / preprocess(table).fingerprint
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert capsys.readouterr().out == ""
    (folder / name).write_bytes(before[name][: len(before[name]) // 2])
    preprocess(table)
    said = capsys.readouterr().out
    assert said.startswith(f"data/processed/{folder.name}: {name} ")
    assert said.endswith("; the arrays are made again\n")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_left_half_is_made_again(written, processed):
    table = manifest(written)
    made = preprocess(table)
    images = np.array(made.images)  # a copy: the mapped file is spoilt below
    (processed / made.fingerprint / "dataset.json").unlink()
    (processed / made.fingerprint / "images.npy").write_bytes(b"half")
    again = preprocess(table)
    assert np.array_equal(again.images, images)


def test_a_deleted_folder_says_what_to_run(written, processed):
    made = preprocess(manifest(written))
    shutil.rmtree(processed)
    with pytest.raises(ValueError, match=f"{made.fingerprint}: no arrays; make study"):
        arrays.open_arrays(made.fingerprint)


# What arrays depend on


@pytest.fixture(scope="module")
def hc18_table(written):
    return manifest(written)


@pytest.fixture(scope="module")
def marks(hc18_table):
    """Landmarks of the drawn heads, anywhere."""
    places = np.random.default_rng(0).uniform(5, 55, (len(hc18_table), 8)).round(1)
    table = pd.DataFrame(places, columns=head_points.POINT_COLUMNS)
    table.insert(0, "case", hc18_table["case"])
    return table.sample(frac=1, random_state=1)  # in another order than the manifest


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return builders.volume_bench(tmp_path_factory.mktemp("volumes"))


@pytest.mark.parametrize(("key", "value"), OTHER_KEYS.items())
def test_a_key_changes_the_arrays_of_the_studies_that_use_it_and_of_no_other(hc18_table, bench, marks, key, value):
    kinds = {
        "regions": (hc18_table, HC18, SIZE, None),
        "landmarks": (hc18_table, HC18, SIZE, marks),
        "volumes": (bench.cases, LGG, SIZE, None),
    }
    user = "landmarks" if key in preparation.LANDMARK_KEYS else "volumes"
    changed = {name for name, given in kinds.items() if fingerprint(*given) != fingerprint(*given, **{key: value})}
    assert changed == {user}


@pytest.mark.parametrize("key", ["study", "device", "precision"])
def test_keys_that_do_not_make_arrays_do_not_change_the_fingerprint(hc18_table, key):
    other = {"study": "another", "device": "cpu", "precision": "float16"}[key]
    assert fingerprint(hc18_table) == fingerprint(hc18_table, **{key: other})


def test_landmarks_change_the_fingerprint_with_every_point(hc18_table, marks):
    moved = marks.copy()
    moved.loc[0, "bpd_2_col"] += 0.1
    assert len({fingerprint(hc18_table), *(fingerprint(hc18_table, marks=each) for each in (marks, moved))}) == 3


@pytest.mark.parametrize(
    ("module", "kinds"),
    [
        ("lib.preprocessing", {"regions", "landmarks", "volumes"}),
        ("lib.imaging.preparation", {"regions", "landmarks", "volumes"}),
        ("lib.imaging.geometry", {"regions", "landmarks", "volumes"}),
        ("lib.data.cases", {"regions", "landmarks", "volumes"}),
        ("lib.datasets.hc18", {"regions", "landmarks"}),
        ("lib.datasets.lgg", {"volumes"}),
        ("lib.imaging.volumes", {"volumes"}),
        ("lib.training.augmentation", set()),
        ("lib.datasets", set()),
        ("lib.study.params", set()),
    ],
)
def test_code_changes_the_arrays_that_go_through_it(hc18_table, bench, marks, monkeypatch, module, kinds):
    given = {
        "regions": (hc18_table, HC18, SIZE, None),
        "landmarks": (hc18_table, HC18, SIZE, marks),
        "volumes": (bench.cases, LGG, SIZE, None),
    }
    before = {name: fingerprint(*each) for name, each in given.items()}
    real = provenance.module_hash
    monkeypatch.setattr(provenance, "module_hash", lambda name: "other" if name == module else real(name))
    assert {name for name, each in given.items() if fingerprint(*each) != before[name]} == kinds


# Landmarks


def test_landmarks_lie_in_the_network_s_input_where_their_geometry_says(hc18_table, marks, processed):
    made = preprocess(hc18_table, marks=marks)
    assert made.points.shape == (6, 4, 2)
    assert made.points.dtype == np.float32
    by_case = marks.set_index("case")
    for name, found, mapping in zip(made.names, made.points, made.geometries):
        native = by_case.loc[name].to_numpy(float).reshape(4, 2)
        scale = np.array([mapping.scale_row, mapping.scale_col])
        expected = (native + 0.5) * scale - 0.5 + [mapping.pad_row, mapping.pad_col]
        assert found == pytest.approx(expected, abs=1e-5)


def test_a_width_in_pixels_is_the_same_for_every_case(hc18_table, marks, processed):
    assert preprocess(hc18_table, marks=marks, heatmap_sigma=2.5).sigmas.tolist() == [2.5] * 6


def test_a_width_in_mm_is_wider_where_pixels_are_smaller(hc18_table, marks, processed):
    made = preprocess(hc18_table, marks=marks, heatmap_sigma=3.0, heatmap_sigma_unit="mm")
    drawn = {head.name: head for head in builders.heads(6)}
    for name, sigma in zip(made.names, made.sigmas):
        scale = min(32 / drawn[name].shape[0], 48 / drawn[name].shape[1])  # network pixels a native one
        assert sigma == pytest.approx(3.0 / drawn[name].spacing_mm * scale, rel=0.02), name  # sizes are whole pixels
    assert made.sigmas.std() > 0.1


def test_a_width_in_mm_of_pixels_that_are_not_square_is_that_of_a_square_of_equal_area(hc18_table, marks, processed):
    square = preprocess(hc18_table, marks=marks, heatmap_sigma_unit="mm").sigmas
    table = hc18_table.assign(spacing_row_mm=hc18_table["spacing_row_mm"] * 4)
    assert preprocess(table, marks=marks, heatmap_sigma_unit="mm").sigmas == pytest.approx(square / 2, rel=1e-6)


def test_a_mended_pixel_size_changes_the_arrays_that_use_millimetres_and_no_other(hc18_table, marks):
    mended = hc18_table.assign(spacing_row_mm=hc18_table["spacing_row_mm"] * 1.1)
    keys = [{}, {"marks": marks}, {"marks": marks, "heatmap_sigma_unit": "mm"}]
    assert [fingerprint(hc18_table, **each) != fingerprint(mended, **each) for each in keys] == [False, False, True]


def test_a_width_in_mm_of_a_case_without_pixel_size_is_refused_by_name(hc18_table, marks, processed):
    table = hc18_table.copy()
    table.loc[[1, 4], "spacing_row_mm"] = np.nan
    lost = table["case"].iloc[[1, 4]].tolist()
    with pytest.raises(ValueError, match="heatmap_sigma_unit = 'mm'   2 cases have no pixel size") as caught:
        preprocess(table, marks=marks, heatmap_sigma_unit="mm")
    assert str(lost) in str(caught.value)
    assert [path for path in processed.iterdir() if path.suffix != ".lock"] == []


def test_a_case_without_landmarks_is_refused_by_name(hc18_table, marks, processed):
    with pytest.raises(ValueError, match=r"1 cases without one row of landmarks: \['002_HC'\]"):
        preprocess(hc18_table, marks=marks[marks["case"] != "002_HC"])


# Volumes


def test_every_kept_slice_is_a_row_in_order(bench):
    made = bench.arrays
    depths = {patient.name: patient.depth for patient in builders.PATIENTS}
    assert list(zip(made.names, made.slices)) == [(n, at) for n, depth in depths.items() for at in range(1, depth - 1)]
    assert made.images.shape == (12, 3, 32, 32)
    assert (made.images.dtype, made.masks.dtype) == (np.float32, np.uint8)
    assert (made.points, made.sigmas) == (None, None)


def test_all_slices_of_a_patient_share_the_crop_that_holds_the_head(bench):
    for patient in builders.PATIENTS:
        expected = geometry.fit((32, 32), (32, 32), patient.head)
        assert {bench.arrays.geometries[row] for row in bench.arrays.rows([patient.name])} == {expected}


def normalised(patient, seed, mapping):
    """Kept slices of a patient, cropped, clipped and standardised; and what black becomes, a number a channel."""
    cropped = patient.image(seed)[1:-1, *mapping.crop].astype(float)
    low, high = np.percentile(cropped, [10, 99], axis=(0, 1, 2))
    scaled = (np.clip(cropped, low, high) - low) / (high - low)
    mean, std = scaled.mean(axis=(0, 1, 2)), scaled.std(axis=(0, 1, 2))
    return (scaled - mean) / std, -mean / std


def test_slices_are_normalised_by_figures_of_the_kept_and_cropped_volume(bench):
    for seed, patient in enumerate(builders.PATIENTS):
        mapping = bench.arrays.geometry_of(patient.name)
        volume, _ = normalised(patient, seed, mapping)
        shown = bench.arrays.images[bench.arrays.rows([patient.name])]
        for each, expected in zip(shown, volume, strict=True):
            inner = resize(expected, mapping.inner_shape, order=2, mode="edge", anti_aliasing=False)
            assert each[(slice(None), *mapping.inner)] == pytest.approx(np.moveaxis(inner, -1, 0), abs=1e-4)


def test_what_lies_around_a_patient_s_slices_is_as_dark_as_black(bench):
    patient = builders.PATIENTS[0]
    mapping = bench.arrays.geometry_of(patient.name)
    _, black = normalised(patient, 0, mapping)
    shown = bench.arrays.images[bench.arrays.rows([patient.name])]
    padding = np.concatenate([shown[..., : mapping.pad_col], shown[..., -mapping.pad_col :]], axis=-1)
    assert padding.shape == (3, 3, 32, 8)
    assert np.abs(padding - black[:, None, None]).max() < 1e-5


def test_masks_of_kept_slices_are_those_of_the_lesion_at_twice_the_size(bench):
    for patient in builders.PATIENTS:
        mapping = bench.arrays.geometry_of(patient.name)
        inner = patient.mask[1:-1, *mapping.crop]
        found = bench.arrays.masks[bench.arrays.rows([patient.name])]
        assert np.array_equal(found[(slice(None), *mapping.inner)], inner.repeat(2, axis=1).repeat(2, axis=2))
        assert found.sum() == 4 * inner.sum()


def test_without_dropped_slices_all_are_rows(bench, processed):
    made = preprocess(bench.cases, LGG, [32, 32], end_slices_dropped=0)
    assert len(made.names) == 5 + 4 + 5 + 6
    assert made.slices[:5].tolist() == [0, 1, 2, 3, 4]


def test_more_dropped_slices_than_there_are_is_refused_and_leaves_nothing(bench, processed):
    with pytest.raises(ValueError, match="end_slices_dropped = 2   not allowed with 4 slices"):
        preprocess(bench.cases, LGG, [32, 32], end_slices_dropped=2)
    assert [path for path in processed.iterdir() if path.suffix != ".lock"] == []


def test_a_slice_changed_since_the_manifest_is_refused(processed, tmp_path):
    folder = builders.write_lgg(tmp_path / "raw")
    table = verify.check_dataset(LGG, "lgg", folder).cases
    before = fingerprint(table, LGG)
    name = builders.PATIENTS[1].name
    mask = folder / "kaggle_3m" / name / f"{name}_3_mask.tif"
    mask.write_bytes((mask.parent / f"{builders.PATIENTS[1].name}_1.tif").read_bytes())
    with pytest.raises(ValueError, match=rf"{name} or its mask has changed since 01_data_verification"):
        preprocess(table, LGG)
    table.loc[1, "sha256"] = cases.content_hash(mask.parent, (mask.parent,))
    assert fingerprint(table, LGG) != before


# The same preparation for whoever uses a model


def test_arrays_hold_what_a_model_is_fed_with_from_the_files(bench, hc18_table, processed):
    of_images = preprocess(hc18_table)
    for table, dataset, made in ((hc18_table, HC18, of_images), (bench.cases, LGG, bench.arrays)):
        for row in table.to_dict("records"):
            native, _ = samples.read_case(dataset, row)
            prepared, rows = preparation.prepare(native, made.preparation), made.rows([row["case"]])
            assert np.array_equal(prepared.images, made.images[rows]), row["case"]
            assert prepared.mapping == made.geometry_of(row["case"])
            assert np.array_equal(prepared.slices, made.slices[rows])
            assert prepared.depth == row["slices"]


def test_the_preparation_beside_the_arrays_says_what_was_done_and_no_more(bench, hc18_table, marks, processed):
    grey = {"image_size": SIZE, "volumes": False, "channels": 1, "grey": [127.5, 63.75]}
    assert preprocess(hc18_table).preparation == grey
    points = {"heatmap_sigma": 3.0, "heatmap_sigma_unit": "mm"}
    made = preprocess(hc18_table, marks=marks, **points)
    assert made.preparation == grey | points
    assert bench.arrays.preparation == {
        "image_size": [32, 32],
        "volumes": True,
        "channels": 3,
        "end_slices_dropped": 1,
        "crop_level": 0.1,
        "intensity_percentiles": [10.0, 99.0],
    }
    spacing = hc18_table.set_index("case")["spacing_row_mm"]
    for name, mapping, sigma in zip(made.names, made.geometries, made.sigmas):
        found = preparation.heatmap_sigma(made.preparation, mapping, (spacing[name], spacing[name]))
        assert found == pytest.approx(sigma, rel=1e-6)


@pytest.mark.parametrize(
    ("array", "how"),
    [
        (np.zeros((4, 5, 3), np.uint8), builders.of_images(32, 32)),
        (np.zeros((4, 5)), builders.of_images(32, 32)),
        (np.zeros((0, 5), np.uint8), builders.of_images(32, 32)),
        (np.zeros((3, 4, 5), np.uint8), builders.of_volumes(32, 32)),
        (np.zeros((3, 4, 5, 1), np.uint8), builders.of_volumes(32, 32)),
        (np.zeros((3, 4, 5, 3)), builders.of_volumes(32, 32)),
    ],
    ids=["colours", "float", "empty", "no channels", "one channel", "float volume"],
)
def test_what_a_network_cannot_be_shown_is_refused_with_what_it_is(array, how):
    with pytest.raises(ValueError, match=r"is no (image|volume)") as caught:
        preparation.prepare(array, how)
    assert str(array.shape) in str(caught.value)


# What the way to network size costs


@pytest.fixture
def prepared(hc18_table, processed):
    return source_of(hc18_table), preprocess(hc18_table)


def test_masks_lose_little_on_the_way_and_more_at_a_coarser_size(prepared):
    source, made = prepared
    fine = preprocessing.round_trip(source, made, made.names)
    coarse = preprocessing.round_trip(source, preprocess(source.table, size=[16, 24]), made.names)
    assert fine["case"].tolist() == made.names
    assert (fine["dice"] > 0.95).all()
    assert coarse["dice"].mean() < fine["dice"].mean() < 1


def test_nothing_is_lost_at_native_size(prepared):
    table = prepared[0].table
    same = table[(table["height"] == 60) & (table["width"] == 90)]
    made = preprocess(same, size=[60, 90])
    assert (preprocessing.round_trip(source_of(same, size=[60, 90]), made, made.names)["dice"] == 1).all()


def test_a_volume_loses_what_lies_in_dropped_slices_and_outside_the_crop(bench):
    source = source_of(bench.cases, LGG, [32, 32])
    found = preprocessing.round_trip(source, bench.arrays, bench.cases["case"].tolist())
    first, _, third, fourth = (patient.name for patient in builders.PATIENTS)
    assert dict(zip(found["case"], found["dice"])) == {first: 1, third: 2 * 32 / (32 + 48), fourth: 2 * 40 / (40 + 42)}
    assert set(found["class"]) == {"lesion"}


def test_losses_are_summed_up_in_a_row_a_class():
    losses = pd.DataFrame({"case": ["a", "b", "c"], "class": "head", "dice": [0.9, 0.8, 1.0]})
    row = preprocessing.ceiling_table(losses).iloc[0]
    assert (row["class"], row["cases"], row["dice_min"]) == ("head", 3, 0.8)
    assert row["dice_mean"] == pytest.approx(0.9)


def test_reference_voxels_that_no_network_can_find_are_counted_by_cause(bench):
    found = preprocessing.lost(source_of(bench.cases, LGG, [32, 32]), bench.arrays)
    assert found.columns.tolist() == ["case", "reference_voxels", "in_dropped_slices", "outside_crop"]
    assert found.values.tolist() == [
        [builders.PATIENTS[0].name, 48, 0, 0],
        [builders.PATIENTS[1].name, 0, 0, 0],
        [builders.PATIENTS[2].name, 48, 16, 0],
        [builders.PATIENTS[3].name, 42, 0, 2],
    ]


def test_of_images_nothing_is_out_of_reach(prepared):
    found = preprocessing.lost(*prepared)
    assert found.empty
    assert found.columns.tolist() == ["case", "reference_voxels", "in_dropped_slices", "outside_crop"]


# Claims of the notebook, and what it shows


def test_points_come_back_and_aspect_is_kept(prepared, bench):
    for made in (prepared[1], bench.arrays):
        assert preprocessing.point_error(made) < 1e-9
        assert preprocessing.aspect_error(made) <= 1


def test_a_stretched_image_is_found():
    stretched = replace(geometry.fit((60, 90), (32, 48)), scale_col=48 / 80)
    made = replace(builders.discs(1), geometries=[stretched])
    assert preprocessing.aspect_error(made) > 1


def test_every_image_has_a_row_and_every_volume_one_a_kept_slice(prepared, bench):
    assert preprocessing.rows_are_whole(*prepared)
    assert preprocessing.rows_are_whole(source_of(bench.cases, LGG, [32, 32]), bench.arrays)


def test_a_slice_too_few_or_too_many_is_found(bench):
    source = source_of(bench.cases, LGG, [32, 32])
    names = bench.arrays.names
    without = [name for name in names if name != builders.PATIENTS[1].name]
    for wrong in (names[:-1], [*names, names[-1]], [names[0], *names], without):
        assert not preprocessing.rows_are_whole(source, replace(bench.arrays, names=wrong)), wrong
    assert not preprocessing.rows_are_whole(source_of(bench.cases, LGG, [32, 32], end_slices_dropped=0), bench.arrays)


def test_an_image_with_two_rows_is_found(prepared):
    source, made = prepared
    assert not preprocessing.rows_are_whole(source, replace(made, names=[*made.names, made.names[0]]))


def test_the_network_s_view_of_an_image_is_its_row_as_it_is(prepared):
    source, made = prepared
    names = [made.names[3], made.names[0]]
    seen = preprocessing.network_views(made, samples.load(HC18, source.table, names), 0)
    assert seen.names == names
    for name, image, mask in zip(names, seen.images, seen.masks):
        row = int(made.rows([name])[0])
        assert np.array_equal(image, made.images[row, 0])
        assert np.array_equal(mask, made.masks[row])


def test_the_network_s_view_of_a_volume_is_the_slice_that_is_shown_in_grey_values(bench):
    name = builders.PATIENTS[0].name
    shown = samples.load(LGG, bench.cases, [name])
    seen = preprocessing.network_views(bench.arrays, shown, LGG.shown_channel)
    (image,), (mask,) = seen.images, seen.masks
    assert seen.slices == shown.slices
    row = bench.arrays.rows([name])[shown.slices[0] - 1]  # the first slice was dropped
    assert (image.dtype, image.shape) == (np.uint8, (32, 32))
    assert (image.min(), image.max()) == (0, 255)
    order = np.argsort(bench.arrays.images[row, 1], axis=None)
    assert (np.diff(image.ravel()[order].astype(int)) >= 0).all()  # as FLAIR: the brighter the brighter
    assert np.array_equal(mask, bench.arrays.masks[row])


def test_instead_of_a_dropped_slice_the_nearest_kept_one_is_shown(bench):
    name = builders.PATIENTS[3].name  # six slices, of which 1 to 4 are kept
    shown = samples.load(LGG, bench.cases, [name] * 3)
    seen = preprocessing.network_views(bench.arrays, replace(shown, slices=[0, 5, 2]), 1)
    assert seen.slices == [1, 4, 2]
    expected = [bench.arrays.masks[bench.arrays.rows([name])[place]] for place in (0, 3, 1)]
    assert all(np.array_equal(*pair) for pair in zip(seen.masks, expected))
