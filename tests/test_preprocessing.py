import shutil
import signal
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
from lib.imaging import geometry, head_points, preparation
from lib.study import files, provenance
from tests import builders

HC18, LGG = datasets.DATASETS["hc18"], datasets.DATASETS["lgg"]
HEADS, PATIENTS = builders.heads(6), builders.PATIENTS
SIZE = [32, 48]
DIE_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from lib.data import cases
from lib.study import files
from tests import test_preprocessing
folder = Path(sys.argv[1])
files.processed_folder = lambda name: folder / name
files.write_csv = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # the arrays are written, their geometry is not
test_preprocessing.preprocess(files.read_csv(folder / "cases.csv", cases.CASE_COLUMNS))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return builders.write_hc18(tmp_path_factory.mktemp("raw"), HEADS)


@pytest.fixture
def processed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "processed_folder", lambda name: tmp_path / "processed" / name)
    return tmp_path / "processed"


@pytest.fixture(scope="module")
def hc18_table(written):
    return builders.verified(written).cases


@pytest.fixture(scope="module")
def points(hc18_table):
    """Landmarks of the drawn heads, anywhere, in another order than the manifest."""
    places = np.random.default_rng(0).uniform(5, 55, (len(hc18_table), 8)).round(1)
    table = pd.DataFrame(places, columns=head_points.POINT_COLUMNS)
    table.insert(0, "case", hc18_table["case"])
    return table.sample(frac=1, random_state=1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return builders.volume_bench(tmp_path_factory.mktemp("volumes"))


@pytest.fixture(scope="module")
def kinds(hc18_table, points, bench):
    """Of each kind of study what its arrays are made of."""
    sources = {"regions": (hc18_table, HC18, SIZE, None), "landmarks": (hc18_table, HC18, SIZE, points)}
    return sources | {"volumes": (bench.cases, LGG, SIZE, None)}


@pytest.fixture
def prepared(hc18_table, processed):
    return source_of(hc18_table), preprocess(hc18_table)


def source_of(table, dataset=HC18, size=SIZE, points=None, **keys):
    """What arrays of a table are made of; the size may be smaller than a study may ask for."""
    every = builders.OF_VOLUMES | {"heatmap_sigma": 3.0, "heatmap_sigma_unit": "pixels"} | keys
    config = builders.step_params("02_preprocessing", **every).model_copy(update={"image_size": list(size)})
    return preprocessing.source_of(config, table, dataset, points)


def preprocess(*given, **keys):
    return preprocessing.preprocess(source_of(*given, **keys))


def fingerprint(*given, **keys):
    return preprocessing.fingerprint(source_of(*given, **keys))


def state(folder):
    """Bytes and time of each file of arrays."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def test_a_head_lies_in_the_network_s_input_where_its_geometry_says(prepared, hc18_table):
    made = prepared[1]
    assert made.names == hc18_table["case"].tolist()
    assert (made.images.shape, made.masks.shape) == ((6, 1, 32, 48), (6, 32, 48))
    assert made.images.dtype == made.masks.dtype == np.uint8
    for head, mask, mapping in zip(HEADS, made.masks, made.geometries):
        centre = np.argwhere(mask).mean(axis=0)
        native = (centre - [mapping.pad_row, mapping.pad_col] + 0.5) / [mapping.scale_row, mapping.scale_col] - 0.5
        assert native == pytest.approx(head.centre, abs=0.2), head.name  # a tenth of a network pixel
        area = mask.sum() / (mapping.scale_row * mapping.scale_col)
        assert area == pytest.approx(np.pi / 4 * head.major * head.minor, rel=0.06), head.name  # some 300 pixels


@pytest.mark.parametrize("name", ["001_HC.png", "001_HC_Annotation.png"])
def test_a_file_changed_since_the_manifest_is_refused(written, processed, tmp_path, name):
    copy = shutil.copytree(written, tmp_path / "copy")
    table = builders.verified(copy).cases
    shutil.copy(copy / "training_set" / name.replace("001", "000"), copy / "training_set" / name)
    with pytest.raises(ValueError, match=r"001_HC\.png or its mask has changed since 01_data_verification"):
        preprocess(table)
    assert state(processed) == {}


def test_a_process_killed_in_the_middle_leaves_nothing_taken_for_whole(hc18_table, processed):
    files.write_csv(processed / "cases.csv", hc18_table)
    command = [sys.executable, "-c", DIE_IN_THE_MIDDLE, str(processed)]
    assert subprocess.run(command, cwd=files.ROOT).returncode == -signal.SIGKILL
    assert list(processed.rglob("images.npy"))
    with pytest.raises(ValueError, match="no such arrays; rerun"):
        arrays.open_arrays(fingerprint(hc18_table))
    assert preprocess(hc18_table).images.any()


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "geometry.csv", "dataset.json", None])
def test_arrays_that_are_not_as_they_were_made_are_made_again_to_the_byte_and_a_line_says_so(
    hc18_table, processed, capsys, name
):
    folder = processed / preprocess(hc18_table).fingerprint
    before, made = state(folder), {path.name: path.read_bytes() for path in folder.iterdir()}
    preprocess(hc18_table)
    assert state(folder) == before  # a second call writes nothing
    assert capsys.readouterr().out == ""
    if name is None:  # a folder left half
        (folder / "images.npy").write_bytes(b"half")
        (folder / "dataset.json").unlink()
    else:
        (folder / name).write_bytes(made[name][: len(made[name]) // 2])
    preprocess(hc18_table)
    line = capsys.readouterr().out
    assert line.startswith(f"data/processed/{folder.name}: {name or ''}")
    assert line.endswith("; the arrays are made again\n")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made


def test_cases_bytes_size_classes_and_every_landmark_change_the_fingerprint(hc18_table, points):
    moved = points.copy()
    moved.loc[0, "bpd_2_col"] += 0.1
    fingerprints = {
        fingerprint(hc18_table),
        fingerprint(hc18_table, size=[48, 32]),
        fingerprint(hc18_table, replace(HC18, classes=("background", "head", "csp"))),
        fingerprint(hc18_table.iloc[::-1]),
        fingerprint(hc18_table.iloc[1:]),
        fingerprint(hc18_table.replace({"sha256": {hc18_table["sha256"][0]: "other"}})),  # a byte of a file
        fingerprint(hc18_table, points=points),
        fingerprint(hc18_table, points=moved),
    }
    assert len(fingerprints) == 8


def test_a_key_and_a_mended_pixel_size_change_the_arrays_of_the_studies_that_use_them_and_of_no_other(kinds):
    of_volumes = {"end_slices_dropped": 0, "crop_level": 0.2, "intensity_percentiles": [5.0, 99.0]}
    of_landmarks = {"heatmap_sigma": 4.0, "heatmap_sigma_unit": "mm"}
    of_none = {"study": "another", "device": "cpu", "precision": "float16"}
    before = {kind: fingerprint(*given) for kind, given in kinds.items()}
    for users, keys in (({"volumes"}, of_volumes), ({"landmarks"}, of_landmarks), (set(), of_none)):
        for key, value in keys.items():
            changed = {kind for kind, given in kinds.items() if fingerprint(*given, **{key: value}) != before[kind]}
            assert changed == users, key
    table, points = kinds["landmarks"][0], kinds["landmarks"][-1]
    mended = table.assign(spacing_row_mm=table["spacing_row_mm"] * 1.1)
    keys = [{}, {"points": points}, {"points": points, "heatmap_sigma_unit": "mm"}]
    assert [fingerprint(table, **each) != fingerprint(mended, **each) for each in keys] == [False, False, True]


@pytest.mark.parametrize(
    ("users", "modules"),
    [
        ("regions landmarks volumes", "lib.preprocessing lib.imaging.preparation lib.imaging.geometry lib.data.cases"),
        ("regions landmarks", "lib.datasets.hc18"),
        ("volumes", "lib.datasets.lgg lib.imaging.volumes"),
        ("", "lib.training.augmentation lib.datasets lib.study.params"),
    ],
)
def test_code_changes_the_arrays_that_go_through_it(kinds, monkeypatch, users, modules):
    before, real = {name: fingerprint(*given) for name, given in kinds.items()}, provenance.module_hash
    for module in modules.split():
        monkeypatch.setattr(provenance, "module_hash", lambda name, m=module: "other" if name == m else real(name))
        changed = {name for name, given in kinds.items() if fingerprint(*given) != before[name]}
        assert changed == {*users.split()}, module


def test_landmarks_lie_in_the_network_s_input_where_their_geometry_says(hc18_table, points, processed):
    made = preprocess(hc18_table, points=points, heatmap_sigma=2.5)
    assert (made.points.shape, made.points.dtype) == ((6, 4, 2), np.float32)
    natives = points.set_index("case").loc[made.names].to_numpy(float).reshape(-1, 4, 2)
    for native, found, mapping in zip(natives, made.points, made.geometries):
        expected = (native + 0.5) * [mapping.scale_row, mapping.scale_col] - 0.5 + [mapping.pad_row, mapping.pad_col]
        assert found == pytest.approx(expected, abs=1e-5)
    assert made.sigmas.tolist() == [2.5] * 6  # in pixels, so the same for every case


def test_a_width_in_mm_is_wider_where_pixels_are_smaller_and_goes_by_their_area(hc18_table, points, processed):
    made = preprocess(hc18_table, points=points, heatmap_sigma=3.0, heatmap_sigma_unit="mm")
    for head, sigma in zip(HEADS, made.sigmas, strict=True):
        scale = min(32 / head.shape[0], 48 / head.shape[1])  # network pixels a native one
        assert sigma == pytest.approx(3.0 / head.spacing_mm * scale, rel=0.02), head.name  # sizes are whole pixels
    assert made.sigmas.std() > 0.1
    oblong = hc18_table.assign(spacing_row_mm=hc18_table["spacing_row_mm"] * 4)
    sigmas = preprocess(oblong, points=points, heatmap_sigma=3.0, heatmap_sigma_unit="mm").sigmas
    assert sigmas == pytest.approx(made.sigmas / 2, rel=1e-6)


def test_a_case_without_landmarks_or_a_width_in_mm_without_pixel_size_is_refused(hc18_table, points, processed):
    table = hc18_table.copy()
    table.loc[[1, 4], "spacing_row_mm"] = np.nan
    lost = ", ".join(f"'{name}'" for name in table["case"].iloc[[1, 4]])
    with pytest.raises(ValueError, match=rf"heatmap_sigma_unit = 'mm'   2 cases have no pixel size: \[{lost}\]"):
        preprocess(table, points=points, heatmap_sigma_unit="mm")
    with pytest.raises(ValueError, match=r"1 cases without one row of landmarks: \['002_HC'\]"):
        preprocess(hc18_table, points=points[points["case"] != "002_HC"])
    assert state(processed) == {}


def normalised(patient, seed, mapping):
    """Kept slices of a patient, cropped, clipped and standardised; and what black becomes, a number a channel."""
    cropped = patient.image(seed)[1:-1, *mapping.crop].astype(float)
    low, high = np.percentile(cropped, [10, 99], axis=(0, 1, 2))
    scaled = (np.clip(cropped, low, high) - low) / (high - low)
    mean, std = scaled.mean(axis=(0, 1, 2)), scaled.std(axis=(0, 1, 2))
    return (scaled - mean) / std, -mean / std


def test_every_kept_slice_is_a_row_in_order_normalised_by_figures_of_the_kept_and_cropped_volume(bench):
    made = bench.arrays
    depths = {patient.name: patient.depth for patient in PATIENTS}
    assert list(zip(made.names, made.slices)) == [(n, at) for n, depth in depths.items() for at in range(1, depth - 1)]
    assert (made.images.shape, made.images.dtype, made.masks.dtype) == ((12, 3, 32, 32), np.float32, np.uint8)
    assert (made.points, made.sigmas) == (None, None)
    for seed, patient in enumerate(PATIENTS):
        rows, mapping = made.rows([patient.name]), made.geometry_of(patient.name)
        assert {made.geometries[row] for row in rows} == {geometry.fit((32, 32), (32, 32), patient.head)}
        volume, black = normalised(patient, seed, mapping)
        for image, expected in zip(made.images[rows], volume, strict=True):
            inner = resize(expected, mapping.inner_shape, order=2, mode="edge", anti_aliasing=False)
            assert image[(slice(None), *mapping.inner)] == pytest.approx(np.moveaxis(inner, -1, 0), abs=1e-4)
            around = np.ones((32, 32), bool)
            around[mapping.inner] = False
            assert np.abs(image[:, around] - black[:, None]).max(initial=0) < 1e-5  # as dark as black
        inner = patient.mask[1:-1, *mapping.crop].repeat(2, axis=1).repeat(2, axis=2)  # at twice the size
        assert np.array_equal(made.masks[rows][(slice(None), *mapping.inner)], inner)
        assert made.masks[rows].sum() == inner.sum()


def test_without_dropped_slices_all_are_rows_and_more_than_there_are_is_refused(bench, processed):
    with pytest.raises(ValueError, match="end_slices_dropped = 2   not allowed with 4 slices"):
        preprocess(bench.cases, LGG, [32, 32], end_slices_dropped=2)
    assert state(processed) == {}
    made = preprocess(bench.cases, LGG, [32, 32], end_slices_dropped=0)
    assert len(made.names) == 5 + 4 + 5 + 6
    assert made.slices[:5].tolist() == [0, 1, 2, 3, 4]


def test_arrays_hold_what_a_model_is_fed_with_from_the_files(bench, hc18_table, points, processed):
    of_heads = preprocess(hc18_table, points=points, heatmap_sigma_unit="mm")
    for table, dataset, made in ((hc18_table, HC18, of_heads), (bench.cases, LGG, bench.arrays)):
        for row in table.to_dict("records"):
            native, _ = samples.read_case(dataset, row)
            found, rows = preparation.prepare(native, made.preparation), made.rows([row["case"]])
            assert np.array_equal(found.images, made.images[rows]), row["case"]
            assert np.array_equal(found.slices, made.slices[rows])
            assert (found.mapping, found.depth) == (made.geometry_of(row["case"]), row["slices"])
    for row, mapping, sigma in zip(hc18_table.to_dict("records"), of_heads.geometries, of_heads.sigmas):
        found = preparation.heatmap_sigma(of_heads.preparation, mapping, cases.spacing_mm(row))
        assert found == pytest.approx(sigma, rel=1e-6)


def test_masks_lose_little_on_the_way_more_at_a_coarser_size_and_nothing_at_native_size(prepared):
    source, made = prepared
    fine = preprocessing.round_trip(source, made, made.names)
    coarse = preprocessing.round_trip(source, preprocess(source.table, size=[16, 24]), made.names)
    assert fine["case"].tolist() == made.names
    assert (fine["dice"] > 0.95).all()
    assert coarse["dice"].mean() < fine["dice"].mean() < 1
    row = preprocessing.ceiling_table(fine).iloc[0]
    assert row.tolist() == ["head", 6, fine["dice"].mean(), fine["dice"].min()]
    same = source.table[(source.table["height"] == 60) & (source.table["width"] == 90)]
    whole = preprocess(same, size=[60, 90])
    assert (preprocessing.round_trip(source_of(same, size=[60, 90]), whole, whole.names)["dice"] == 1).all()


def test_a_volume_loses_what_lies_in_dropped_slices_and_outside_the_crop_and_an_image_nothing(bench, prepared):
    source = source_of(bench.cases, LGG, [32, 32])
    found = preprocessing.round_trip(source, bench.arrays, bench.cases["case"].tolist())
    first, second, third, fourth = (patient.name for patient in PATIENTS)
    assert dict(zip(found["case"], found["dice"])) == {first: 1, third: 2 * 32 / (32 + 48), fourth: 2 * 40 / (40 + 42)}
    assert set(found["class"]) == {"lesion"}
    lost, columns = preprocessing.lost(source, bench.arrays), ["reference_voxels", "in_dropped_slices", "outside_crop"]
    expected = [[first, 48, 0, 0], [second, 0, 0, 0], [third, 48, 16, 0], [fourth, 42, 0, 2]]
    assert lost[["case", *columns]].values.tolist() == expected
    pd.testing.assert_frame_equal(preprocessing.lost(*prepared), lost[:0], check_dtype=False)


def test_points_come_back_aspect_is_kept_and_a_stretched_image_is_found(prepared, bench):
    for made in (prepared[1], bench.arrays):
        assert preprocessing.point_error(made) < 1e-9
        assert preprocessing.aspect_error(made) <= 1
    stretched = replace(geometry.fit((60, 90), (32, 48)), scale_col=48 / 80)
    assert preprocessing.aspect_error(replace(builders.discs(1), geometries=[stretched])) > 1


def test_a_row_too_few_or_too_many_is_found(prepared, bench):
    source, names = source_of(bench.cases, LGG, [32, 32]), bench.arrays.names
    assert preprocessing.rows_are_whole(*prepared)
    assert preprocessing.rows_are_whole(source, bench.arrays)
    without = [name for name in names if name != PATIENTS[1].name]
    for wrong in (names[:-1], [*names, names[-1]], [names[0], *names], without):
        assert not preprocessing.rows_are_whole(source, replace(bench.arrays, names=wrong)), wrong
    assert not preprocessing.rows_are_whole(source_of(bench.cases, LGG, [32, 32], end_slices_dropped=0), bench.arrays)
    source, made = prepared
    assert not preprocessing.rows_are_whole(source, replace(made, names=[*made.names, made.names[0]]))


def test_the_network_s_view_is_the_row_of_an_image_and_the_nearest_kept_slice_of_a_volume(prepared, bench):
    source, made = prepared
    names = [made.names[3], made.names[0]]
    views = preprocessing.network_views(made, samples.load(HC18, source.table, names), 0)
    assert views.names == names
    assert np.array_equal(views.images, made.images[made.rows(names), 0])
    assert np.array_equal(views.masks, made.masks[made.rows(names)])
    name = PATIENTS[3].name  # six slices, of which 1 to 4 are kept
    native = replace(samples.load(LGG, bench.cases, [name] * 3), slices=[0, 5, 2])
    views = preprocessing.network_views(bench.arrays, native, LGG.display_channel)
    rows = bench.arrays.rows([name])[[0, 3, 1]]
    assert views.slices == [1, 4, 2]
    assert np.array_equal(views.masks, bench.arrays.masks[rows])
    for image, shown in zip(views.images, bench.arrays.images[rows, 1]):
        assert (image.dtype, image.shape, image.min(), image.max()) == (np.uint8, (32, 32), 0, 255)
        order = np.argsort(shown, axis=None)
        assert (np.diff(image.ravel()[order].astype(int)) >= 0).all()  # as FLAIR: the brighter the brighter
