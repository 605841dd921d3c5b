import os
import re
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
KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from lib.data import cases
from lib.study import files
from tests import test_preprocessing
folder = Path(sys.argv[1])
files.processed_folder = lambda name: folder / name
files.write_csv = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # after the arrays, before their geometry
test_preprocessing.preprocess(files.read_csv(folder / "cases.csv", cases.CASE_COLUMNS))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return builders.write_hc18(tmp_path_factory.mktemp("raw"), HEADS)


@pytest.fixture(scope="module")
def hc18_table(written):
    return builders.verified(written).cases


@pytest.fixture(scope="module")
def points(hc18_table):
    """Random landmarks of the drawn heads, in another order than the manifest."""
    values = np.random.default_rng(0).uniform(5, 55, (len(hc18_table), 8)).round(1)
    table = pd.DataFrame(values, columns=head_points.POINT_COLUMNS)
    table.insert(0, "case", hc18_table["case"])
    return table.sample(frac=1, random_state=1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return builders.volume_bench(tmp_path_factory.mktemp("volumes"))


@pytest.fixture(scope="module")
def kinds(hc18_table, points, bench):
    """Arguments of `source_of` for each kind of study."""
    sources = {"regions": (hc18_table, HC18, SIZE, None), "landmarks": (hc18_table, HC18, SIZE, points)}
    return sources | {"volumes": (bench.cases, LGG, SIZE, None)}


@pytest.fixture
def prepared(hc18_table, processed):
    return source_of(hc18_table), preprocess(hc18_table)


def source_of(table, dataset=HC18, size=SIZE, points=None, **keys):
    """The source of a table's arrays; the size may be smaller than a study allows."""
    keys = builders.OF_VOLUMES | {"heatmap_sigma": 3.0, "heatmap_sigma_unit": "pixels"} | keys
    config = builders.step_params("02_preprocessing", **keys).model_copy(update={"image_size": list(size)})
    return preprocessing.source_of(config, table, dataset, points)


def preprocess(*arguments, live=None, **keys):
    return preprocessing.preprocess(source_of(*arguments, **keys), live=live)


def fingerprint(*arguments, **keys):
    return preprocessing.fingerprint(source_of(*arguments, **keys))


def state(folder):
    """Bytes and modification time of each file of arrays."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def test_a_head_is_at_the_position_given_by_its_geometry(prepared, hc18_table):
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
def test_a_file_changed_since_the_manifest_is_refused(written, processed, tmp_path_factory, name):
    copy = shutil.copytree(written, tmp_path_factory.mktemp("changed") / "copy")
    table = builders.verified(copy).cases
    shutil.copy(copy / "training_set" / name.replace("001", "000"), copy / "training_set" / name)
    with pytest.raises(ValueError, match=r"001_HC\.png or its mask has changed since 01_data_verification"):
        preprocess(table)
    assert state(processed) == {}


def test_arrays_of_a_killed_process_are_not_used(hc18_table, processed):
    files.write_csv(processed / "cases.csv", hc18_table)
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(processed)]
    assert subprocess.run(command, cwd=files.ROOT).returncode == -signal.SIGKILL
    assert list(processed.rglob("images.npy"))
    with pytest.raises(ValueError, match="no such arrays; rerun"):
        arrays.open_arrays(fingerprint(hc18_table))
    assert preprocess(hc18_table).images.any()


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "geometry.csv", "dataset.json", None])
def test_arrays_that_have_changed_are_recomputed_to_the_byte_and_this_is_logged(hc18_table, processed, capsys, name):
    lines = []
    folder = processed / preprocess(hc18_table, live=lines.append).fingerprint
    assert lines[-1] == ""  # progress, cleared at the end
    before = state(folder)
    preprocess(hc18_table, live=lines.clear)
    assert state(folder) == before  # a second call writes nothing
    assert capsys.readouterr().out == ""
    if name is None:  # an incomplete folder
        (folder / "images.npy").write_bytes(b"half")
        (folder / "dataset.json").unlink()
    else:
        os.truncate(folder / name, len(before[name][0]) // 2)
    preprocess(hc18_table)
    line = capsys.readouterr().out
    assert line.startswith(f"data/processed/{folder.name}: {name or ''}")
    assert line.endswith("; recomputing the arrays\n")
    contents = [{path: content for path, (content, _) in each.items()} for each in (before, state(folder))]
    assert contents[0] == contents[1]


def test_the_fingerprint_depends_on_cases_bytes_size_classes_and_landmarks(hc18_table, points):
    moved = points.copy()
    moved.loc[0, "bpd_2_col"] += 0.1
    tables = [hc18_table, hc18_table.iloc[::-1], hc18_table.iloc[1:]]
    tables += [hc18_table.replace({"sha256": {hc18_table["sha256"][0]: "other"}})]  # a byte of a file
    others = {"size": [48, 32], "dataset": replace(HC18, classes=("background", "head", "csp"))}
    changes = [*({key: value} for key, value in others.items()), {"points": points}, {"points": moved}]
    assert len({*map(fingerprint, tables), *(fingerprint(hc18_table, **change) for change in changes)}) == 8


def test_keys_and_pixel_sizes_change_the_fingerprint_of_only_those_studies_that_use_them(kinds):
    of_volumes = {"end_slices_dropped": 0, "crop_level": 0.2, "intensity_percentiles": [5.0, 99.0]}
    of_landmarks = {"heatmap_sigma": 4.0, "heatmap_sigma_unit": "mm"}
    of_none = {"study": "another", "device": "cpu", "precision": "float16"}
    before = {kind: fingerprint(*arguments) for kind, arguments in kinds.items()}
    for users, keys in (({"volumes"}, of_volumes), ({"landmarks"}, of_landmarks), (set(), of_none)):
        for key, value in keys.items():
            changed = {kind for kind, each in kinds.items() if fingerprint(*each, **{key: value}) != before[kind]}
            assert changed == users, key
    table, points = kinds["landmarks"][0], kinds["landmarks"][-1]
    corrected = table.assign(spacing_row_mm=table["spacing_row_mm"] * 1.1)
    keys = [{}, {"points": points}, {"points": points, "heatmap_sigma_unit": "mm"}]
    assert [fingerprint(table, **each) != fingerprint(corrected, **each) for each in keys] == [False, False, True]


@pytest.mark.parametrize(
    ("users", "modules"),
    [
        ("regions landmarks volumes", "lib.preprocessing lib.imaging.preparation lib.imaging.geometry lib.data.cases"),
        ("regions landmarks", "lib.datasets.hc18"),
        ("volumes", "lib.datasets.lgg lib.imaging.volumes"),
        ("", "lib.training.augmentation lib.datasets lib.study.params"),
    ],
)
def test_code_changes_the_fingerprint_of_the_arrays_that_it_processes(kinds, monkeypatch, users, modules):
    before, real = {name: fingerprint(*arguments) for name, arguments in kinds.items()}, provenance.module_hash
    for module in modules.split():
        monkeypatch.setattr(provenance, "module_hash", lambda name, m=module: "other" if name == m else real(name))
        changed = {name for name, arguments in kinds.items() if fingerprint(*arguments) != before[name]}
        assert changed == {*users.split()}, module


def test_landmarks_are_at_the_positions_given_by_their_geometry(hc18_table, points, processed):
    made = preprocess(hc18_table, points=points, heatmap_sigma=2.5)
    assert (made.points.shape, made.points.dtype) == ((6, 4, 2), np.float32)
    natives = points.set_index("case").loc[made.names].to_numpy(float).reshape(-1, 4, 2)
    for native, mapped, mapping in zip(natives, made.points, made.geometries):
        expected = (native + 0.5) * [mapping.scale_row, mapping.scale_col] - 0.5 + [mapping.pad_row, mapping.pad_col]
        assert mapped == pytest.approx(expected, abs=1e-5)
    assert made.sigmas.tolist() == [2.5] * 6  # in pixels, equal for all cases


def test_a_heatmap_width_in_mm_scales_with_the_root_of_the_pixel_area(hc18_table, points, processed):
    made = preprocess(hc18_table, points=points, heatmap_sigma=3.0, heatmap_sigma_unit="mm")
    for head, sigma in zip(HEADS, made.sigmas, strict=True):
        scale = min(32 / head.shape[0], 48 / head.shape[1])  # network pixels per native pixel
        assert sigma == pytest.approx(3.0 / head.spacing_mm * scale, rel=0.02), head.name  # sizes are rounded to pixels
    assert made.sigmas.std() > 0.1
    anisotropic = hc18_table.assign(spacing_row_mm=hc18_table["spacing_row_mm"] * 4)
    sigmas = preprocess(anisotropic, points=points, heatmap_sigma=3.0, heatmap_sigma_unit="mm").sigmas
    assert sigmas == pytest.approx(made.sigmas / 2, rel=1e-6)


def test_missing_landmarks_and_a_width_in_mm_without_pixel_size_are_refused(hc18_table, points, processed):
    table = hc18_table.copy()
    table.loc[[1, 4], "spacing_row_mm"] = np.nan
    unknown = re.escape(str(table["case"].iloc[[1, 4]].tolist()))
    with pytest.raises(ValueError, match=rf"heatmap_sigma_unit = 'mm'   2 cases have no pixel size: {unknown}"):
        preprocess(table, points=points, heatmap_sigma_unit="mm")
    with pytest.raises(ValueError, match=r"1 cases without one row of landmarks: \['002_HC'\]"):
        preprocess(hc18_table, points=points[points["case"] != "002_HC"])
    assert state(processed) == {}


def normalised(patient, seed, mapping):
    """Kept slices of a patient, cropped, clipped and standardised; and the normalised value of black by channel."""
    cropped = patient.image(seed)[1:-1, *mapping.crop].astype(float)
    low, high = np.percentile(cropped, [10, 99], axis=(0, 1, 2))
    scaled = (np.clip(cropped, low, high) - low) / (high - low)
    mean, std = scaled.mean(axis=(0, 1, 2)), scaled.std(axis=(0, 1, 2))
    return (scaled - mean) / std, -mean / std


def test_every_kept_slice_is_a_row_normalised_by_statistics_of_the_kept_and_cropped_volume(bench):
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
            padding = np.ones((32, 32), bool)
            padding[mapping.inner] = False
            assert np.abs(image[:, padding] - black[:, None]).max(initial=0) < 1e-5
        inner = patient.mask[1:-1, *mapping.crop].repeat(2, axis=1).repeat(2, axis=2)  # at twice the size
        assert np.array_equal(made.masks[rows][(slice(None), *mapping.inner)], inner)
        assert made.masks[rows].sum() == inner.sum()


def test_without_dropped_slices_all_are_rows_and_dropping_all_is_refused(bench, processed):
    with pytest.raises(ValueError, match="end_slices_dropped = 2   not allowed with 4 slices"):
        preprocess(bench.cases, LGG, [32, 32], end_slices_dropped=2)
    assert state(processed) == {}
    made = preprocess(bench.cases, LGG, [32, 32], end_slices_dropped=0)
    assert len(made.names) == 5 + 4 + 5 + 6
    assert made.slices[:5].tolist() == [0, 1, 2, 3, 4]


def test_arrays_equal_the_model_input_prepared_from_files(bench, hc18_table, points, processed):
    of_heads = preprocess(hc18_table, points=points, heatmap_sigma_unit="mm")
    for table, dataset, made in ((hc18_table, HC18, of_heads), (bench.cases, LGG, bench.arrays)):
        for row in table.to_dict("records"):
            native, _ = samples.read_case(dataset, row)
            prepared, rows = preparation.prepare(native, made.preparation), made.rows([row["case"]])
            assert np.array_equal(prepared.images, made.images[rows]), row["case"]
            assert np.array_equal(prepared.slices, made.slices[rows])
            assert (prepared.mapping, prepared.depth) == (made.geometry_of(row["case"]), row["slices"])
    for row, mapping, sigma in zip(hc18_table.to_dict("records"), of_heads.geometries, of_heads.sigmas):
        size = cases.spacing_mm(row)
        assert preparation.heatmap_sigma(of_heads.preparation, mapping, size) == pytest.approx(sigma, rel=1e-6)


def test_round_trip_dice_is_high_lower_at_a_coarser_size_and_1_at_native_size(prepared):
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


def test_voxels_in_dropped_slices_and_outside_the_crop_are_lost(bench, prepared):
    source = source_of(bench.cases, LGG, [32, 32])
    trip = preprocessing.round_trip(source, bench.arrays, bench.cases["case"].tolist())
    first, second, third, fourth = (patient.name for patient in PATIENTS)
    assert dict(zip(trip["case"], trip["dice"])) == {first: 1, third: 2 * 32 / (32 + 48), fourth: 2 * 40 / (40 + 42)}
    assert set(trip["class"]) == {"lesion"}
    lost = preprocessing.lost_voxels(source, bench.arrays)
    assert lost.columns.tolist() == ["case", "reference_voxels", "in_dropped_slices", "outside_crop"]
    assert lost.values.tolist() == [[first, 48, 0, 0], [second, 0, 0, 0], [third, 48, 16, 0], [fourth, 42, 0, 2]]
    pd.testing.assert_frame_equal(preprocessing.lost_voxels(*prepared), lost[:0], check_dtype=False)


def test_points_are_mapped_back_aspect_is_kept_and_a_stretched_image_is_detected(prepared, bench):
    for made in (prepared[1], bench.arrays):
        assert preprocessing.point_error(made) < 1e-9
        assert preprocessing.aspect_error(made) <= 1
    stretched = replace(geometry.fit((60, 90), (32, 48)), scale_col=48 / 80)
    assert preprocessing.aspect_error(replace(builders.discs(1), geometries=[stretched])) > 1


def test_missing_and_surplus_rows_are_detected(prepared, bench):
    source, names = source_of(bench.cases, LGG, [32, 32]), bench.arrays.names
    without = [name for name in names if name != PATIENTS[1].name]
    incomplete = [(source, replace(bench.arrays, names=wrong)) for wrong in (names[:-1], [*names, names[-1]], without)]
    incomplete += [(source_of(bench.cases, LGG, [32, 32], end_slices_dropped=0), bench.arrays)]
    incomplete += [(prepared[0], replace(prepared[1], names=[*prepared[1].names, prepared[1].names[0]]))]
    assert not any(preprocessing.rows_are_complete(*each) for each in incomplete)
    assert all(preprocessing.rows_are_complete(*each) for each in (prepared, (source, bench.arrays)))


def test_the_network_view_is_the_row_of_an_image_or_the_nearest_kept_slice_of_a_volume(prepared, bench):
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
    for image, flair in zip(views.images, bench.arrays.images[rows, 1]):
        assert (image.dtype, image.shape, image.min(), image.max()) == (np.uint8, (32, 32), 0, 255)
        order = np.argsort(flair, axis=None)
        assert (np.diff(image.ravel()[order].astype(int)) >= 0).all()  # monotonic in FLAIR
