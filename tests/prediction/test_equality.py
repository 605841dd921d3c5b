"""The same image gives the same mask and the same number as the study's own tables, to the byte."""

import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pandas as pd
import pytest

from lib import models
from lib.evaluation import biometry, intervals, landmarks, quality, segmentation
from lib.imaging import image_files, mask_files
from lib.models import devices, trained_model
from lib.study import files
from tests import builders
from tests.builders import one_thread  # noqa: F401
from tests.builders_predict import predict
from tests.evaluation.test_landmarks import bench_of

CPU = devices.choose("cpu")
LIMITS = (1.7, [40.0, 400.0])
MEASURING = {"head_classes": ["head"], "max_axis_ratio": 1.7, "hc_range_mm": [40.0, 400.0]}


def measured_by_06(bench, names):
    """06's measurements and endpoints of the named cases, in its order, in the columns that predictions have too."""
    heads = biometry.find_heads(bench, biometry.read_predictions(bench).query("stage == 'post'"), ["head"])
    references = biometry.references_of(bench, ["head"])
    raised = quality.raised_by_head(*(files.read_csv(bench.folder / f"{n}.csv", []) for n in ("indicators", "limits")))
    table = biometry.measure_all(heads, references, bench.folds, *LIMITS, raised)
    table = intervals.with_limits(table, files.read_csv(bench.folder / "intervals.csv", ["error_per_root"]))
    rows = table[(table["route"] != "baseline") & table["case"].isin(names)]
    points = biometry.points_of(heads)
    return rows.reset_index(drop=True), points[points["case"].isin(names)].reset_index(drop=True)


def assert_same(out, name, table, by):
    """A table of answers has the same values as another, in the columns of the first."""
    written = files.read_csv(out / name, ["case"]).sort_values(by).reset_index(drop=True)
    columns = [column for column in written.columns if column in table]
    expected = table.sort_values(by).reset_index(drop=True)[columns]
    pd.testing.assert_frame_equal(written[columns], expected, check_exact=True, check_dtype=False)
    assert len(written) > 0


def resaved(weights, raise_by=0.0, **changes):
    """Changes the metadata of a file of weights, and raises what its network predicts everywhere."""
    network, about = models.load_described(weights)
    state = network.state_dict()
    state["head.bias"] += raise_by
    models.save(weights, about.pop("model"), about.pop("arguments"), state, about | changes)


@pytest.fixture(autouse=True)
def strict_limits(monkeypatch):
    """Limits are chosen on any number of validation cases, and at their median."""
    monkeypatch.setattr(quality, "FEWEST", 1)
    monkeypatch.setattr(quality, "UNSEEN", 0.0)


def test_regions_are_those_of_05_and_measured_as_in_06(tmp_path):
    draw, head = np.random.default_rng(3), builders.ellipse_region((32, 32), (15, 16), 22, 17, 30)
    images = [np.clip(0.5 * head + draw.uniform(0, 0.4, head.shape), 0, 1) for _ in range(30)]
    bench = builders.image_bench(tmp_path, images, [head] * 30, spacing_mm=0.9)  # ten validate
    bench = replace(bench, dataset=replace(bench.dataset, read_image=image_files.read_grey))
    weights = builders.write_weights(tmp_path / "fold0-seed0" / "model.safetensors", builders.of_images(48, 64))
    untrained = trained_model.load(weights, True, CPU)
    probability = trained_model.probability(untrained, image_files.read_grey(tmp_path / "c0_image.png"))[1]
    steps = [{"step": "minimum_area", "minimum_area_mm2": 2.0}, {"step": "largest_component"}, {"step": "fill_holes"}]
    protocol = segmentation.Protocol([float(np.median(probability))], steps, True, CPU, {}, MEASURING)
    measured = segmentation.evaluate_run(protocol, bench, weights, 0, 0)
    files.write_csv(bench.folder / "cases.csv", measured.table)
    files.write_csv(bench.folder / "indicators.csv", measured.indicators)
    files.write_csv(bench.folder / "limits.csv", measured.limits)
    files.write_csv(bench.folder / "intervals.csv", intervals.of_runs(measured.validation))
    names = sorted(set(measured.table["case"]))
    (tmp_path / "mine").mkdir()
    for name in names:
        shutil.copy(tmp_path / f"{name}_image.png", tmp_path / "mine" / f"{name}.png")
    sizes = tmp_path / "cases.csv"
    sizes.write_text("name,spacing_mm\n" + "".join(f"{name},0.9\n" for name in names))
    out, model = tmp_path / "out", bench.folder / "models" / "fold0-seed0.safetensors"
    assert predict(model, tmp_path / "mine", out, "--pixel-sizes", str(sizes)) == 0
    rows, points = measured_by_06(bench, names)
    assert rows[["predicted_mm", "low_mm", "high_mm"]].notna().any().all()
    assert rows["flags"].str.contains("unlike|large|small").any()
    assert_same(out, "measurements.csv", rows, ["case", "quantity"])
    assert_same(out, "points.csv", points, ["case"])
    shapes, _ = biometry.structures_of_all(bench, biometry.read_predictions(bench).query("stage == 'post'"))
    assert_same(out, "shapes.csv", shapes.query("source == 'predicted'"), ["case"])
    for name in names:
        assert (out / "masks" / f"{name}.png").read_bytes() == bench.predicted("post", 0, 0, name).read_bytes()


@pytest.mark.parametrize("unit", ["pixels", "mm"])
def test_landmarks_are_those_of_05_and_measured_as_in_06(tmp_path, unit):
    bench = bench_of(spacing_mm=(0.5, 0.5), folder=tmp_path)
    draw = np.random.default_rng(5)
    preparation = bench.arrays.preparation | {"heatmap_sigma_unit": unit, "heatmap_sigma": 3.0}
    for name in bench.cases["case"]:
        builders.save_png(tmp_path / f"{name}.png", draw.integers(0, 255, (60, 90), np.uint8))
    bench.cases["sha256"] = builders.hashed(bench.cases)["sha256"]
    weights = builders.write_weights(tmp_path / "fold0-seed0" / "model.safetensors", preparation, out_channels=2)
    resaved(weights, raise_by=0.5, landmarks="multicentre")
    written = landmarks.predict_run(bench, weights.parent.parent, 0, 0, True, CPU, MEASURING, None)
    table = written[0]
    for name, each in zip(("points", "precision", "validation", "indicators", "limits"), written):
        files.write_csv(bench.folder / f"{name}.csv", each)
    files.write_csv(bench.folder / "intervals.csv", intervals.of_runs(written[2]))
    model = bench.folder / "models" / "fold0-seed0.safetensors"
    names = sorted(set(table["case"]))
    out = tmp_path / "out"
    (tmp_path / "mine").mkdir()
    for name in names:
        shutil.copy(tmp_path / f"{name}.png", tmp_path / "mine")
    assert predict(model, tmp_path / "mine", out, "--pixel-size", "0.5") == 0
    rows, points = measured_by_06(bench, names)
    assert rows["predicted_mm"].notna().any()
    assert rows["flags"].str.contains("unlike|weak|large|small").any()
    assert_same(out, "measurements.csv", rows[rows["route"] == "landmark"], ["case", "quantity"])
    assert_same(out, "points.csv", points[points["route"] == "landmark"], ["case"])
    assert not (out / "masks").exists()


@pytest.fixture
def volumes(tmp_path):
    """An evaluated study of volumes with voxel sizes, and its table of them."""
    sizes = tmp_path / "raw" / "kaggle_3m" / "spacing.csv"
    sizes.parent.mkdir(parents=True)
    rows = [f"{patient.name},0.9,1.1,{depth}" for patient, depth in zip(builders.PATIENTS, (2.5, 3.5, 4.5, 5.5))]
    sizes.write_text("\n".join(["patient,row_mm,col_mm,slice_mm", *rows]) + "\n")
    bench = builders.volume_bench(tmp_path)
    weights = builders.write_weights(
        tmp_path / "fold0-seed0" / "model.safetensors", bench.arrays.preparation, in_channels=3
    )
    resaved(weights, classes=["background", "lesion"])
    use = {"head_classes": []}
    protocol = segmentation.Protocol([0.4, 0.5], [{"step": "largest_component"}], True, CPU, {}, use)
    measured = segmentation.evaluate_run(protocol, bench, weights, 0, 0)
    files.write_csv(bench.folder / "cases.csv", measured.table)
    return bench, sizes


def test_volumes_are_those_of_05_and_measured_as_in_06_from_slices_and_from_nifti(tmp_path, volumes):
    bench, sizes = volumes
    model, out = bench.folder / "models" / "fold0-seed0.safetensors", tmp_path / "out"
    predictions = biometry.read_predictions(bench).query("stage == 'post'")
    names = predictions["case"].tolist()
    table = biometry.volumes_of_all(bench, predictions)
    (tmp_path / "mine").mkdir()
    for name in names:  # links are followed
        (tmp_path / "mine" / name).symlink_to(sizes.parent / name, target_is_directory=True)
    assert predict(model, tmp_path / "mine", out, "--pixel-sizes", str(sizes)) == 0
    assert_same(out, "volumes.csv", table, ["case"])
    assert table["predicted_voxels"].sum() > 0
    for row in bench.rows(names):
        evaluated = mask_files.read(bench.predicted("post", 0, 0, row["case"]))
        folder = out / "masks" / row["case"]
        numbers = range(1, len(evaluated) + 1)
        pages = [mask_files.read(folder / f"{row['case']}_{number}_mask.png") for number in numbers]
        assert np.array_equal(np.stack(pages), evaluated)
        image = bench.dataset.read_image(
            files.ROOT / row["image"]
        )  # (D, H, W, 3), rows to the back, columns to the left
        affine = np.diag([-1.1, -0.9, row["spacing_slice_mm"], 1.0])
        voxels = np.moveaxis(image, (0, 1, 2), (2, 1, 0))
        (tmp_path / "nifti").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "nifti" / f"{row['case']}.nii.gz")
    assert predict(model, tmp_path / "nifti", tmp_path / "from_nifti") == 0
    read = files.read_csv(tmp_path / "from_nifti" / "volumes.csv", ["predicted_ml"]).sort_values("case")
    expected = table.sort_values("case")
    assert read["predicted_voxels"].tolist() == expected["predicted_voxels"].tolist()
    assert read["predicted_ml"].tolist() == pytest.approx(expected["predicted_ml"].tolist(), rel=1e-5)  # float32 affine
    for name in names:
        evaluated = mask_files.read(bench.predicted("post", 0, 0, name))
        mask = nibabel.load(tmp_path / "from_nifti" / "masks" / f"{name}.nii.gz")
        assert np.array_equal(np.moveaxis(np.asarray(mask.dataobj), (2, 1, 0), (0, 1, 2)), evaluated)
