import pickle
import re
import shutil
import sys
import types

import numpy as np
import pytest
import safetensors.torch
import torch

import hubconf
from lib import datasets, models, preprocessing
from lib.data import cases
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.evaluation import segmentation
from lib.imaging import geometry, intensity, mask_files, volumes
from lib.models import trained_model
from lib.study import files, params
from tests import builders, builders_tasks
from tests.builders import one_thread  # noqa: F401
from tests.conftest import SKIPPED, python

CPU = torch.device("cpu")
LGG = files.ROOT.parent / "shared" / "data" / "lgg"
ARGUMENTS = {"in_channels": 3, "out_channels": 1, "base_channels": 4, "depth": 2, "normalisation": "batch"}
IMPORT = """
import random, sys, torch
before = torch.get_rng_state(), random.getstate(), torch.get_num_threads()
import hubconf
assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
assert torch.get_num_threads() == before[2] and not torch.is_inference_mode_enabled()
import lib
print(lib.__path__[0])
hubconf.unet_segmentation()
print(*{name.partition(".")[0] for name in sys.modules})
print(*hubconf.dependencies)
"""
LOAD = """
import socket, sys, torch
def refuse(*_): raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refuse
model = torch.hub.load(sys.argv[1], "unet_segmentation", source="local", trust_repo=True)
print(sum(each.numel() for each in model.parameters()), sys.modules["lib"].__path__[0])
"""
PACKAGES = {  # imported anywhere in the project
    *("numpy", "pandas", "torch", "torchvision", "scipy", "cv2", "pydantic", "yaml", "safetensors", "skimage"),
    *("albumentations", "matplotlib", "seaborn", "papermill", "snakemake", "filelock", "psutil", "typst"),
}
PREPARATION = builders.of_volumes(32, 48, crop_level=0.2, intensity_percentiles=[5.0, 95.0])
USE = {"study": "lgg", "preparation": PREPARATION, "flip_average": True, "threshold": 0.4}


def load(**settings):
    return torch.hub.load(str(files.ROOT), "unet_segmentation", source="local", **settings)


def written(path, model="unet", about=USE, **changes):
    torch.manual_seed(0)
    given = ARGUMENTS | changes
    network = models.build(model, given).eval()
    models.save(path, model, given, network.state_dict(), about)
    return path, network


def patient(depth=4, size=(60, 80), seed=0):
    """Dark noise around a bright box of 40 x 30 pixels."""
    draw = np.random.default_rng(seed)
    volume = draw.integers(0, 6, (depth, *size, 3)).astype(np.uint8)
    volume[:, 10:50, 20:50] = draw.integers(60, 256, (depth, 40, 30, 3))
    return volume


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return load()


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the code elsewhere, as torch.hub unpacks it."""
    folder = tmp_path_factory.mktemp("hub") / "owner_name_main"
    shutil.copytree(files.ROOT / "lib", folder / "lib", ignore=SKIPPED)
    for name in ("hubconf.py", "pyproject.toml"):
        shutil.copy2(files.ROOT / name, folder / name)
    return folder


def test_the_entry_has_7_763_041_parameters_and_outputs_the_sigmoid_of_its_logits(model):
    # Entries as torch.hub.list finds them, which accesses GitHub even for a folder.
    assert [n for n, v in vars(hubconf).items() if callable(v) and not n.startswith("_")] == ["unet_segmentation"]
    assert "weights_path" in hubconf.unet_segmentation.__doc__
    assert models.parameter_count(model) == 7_763_041
    assert not any(module.training for module in model.modules())
    slices = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        predicted = model(slices)
        assert torch.equal(predicted, torch.sigmoid(model.network(slices)))
    assert predicted.shape == (2, 1, 32, 48)


def test_a_copy_elsewhere_is_loaded_with_its_own_code_and_without_network_access(copied, tmp_path):
    done = python(files.ROOT, "-c", LOAD, str(copied), cwd=tmp_path, PYTHONPATH="")
    assert done.stdout.split(maxsplit=1) == ["7763041", f"{copied / 'lib'}\n"], done.stdout + done.stderr


def test_importing_the_entry_changes_and_writes_nothing_and_loads_only_declared_packages(copied):
    before = sorted(copied.rglob("*"))
    done = python(copied, "-B", "-c", IMPORT)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    path, loaded, declared = done.stdout.splitlines()
    assert path == str(copied / "lib")
    assert set(loaded.split()) & PACKAGES == set(declared.split())
    assert sorted(copied.rglob("*")) == before


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("changes", [{}, {"base_channels": 8, "depth": 1, "normalisation": "none"}], ids=str)
def test_saved_weights_give_the_saved_network_s_probabilities(tmp_path, pretrained, changes):
    path, network = written(tmp_path / "model.safetensors", **changes)
    loaded = load(pretrained=pretrained, weights_path=str(path))
    slices = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(slices), torch.sigmoid(network.to(memory_format=torch.channels_last)(slices)))
    assert not loaded.training


def refusal(path, **settings):
    """The message of refused weights, which always tells the expected weights and how to get them."""
    expected = r"expected a U-Net .* 3 input and 1 output channels .*'make study STUDY=lgg .*/models/fold0-seed0\.safe"
    with pytest.raises(ValueError, match=expected) as caught:
        load(weights_path=None if path is None else str(path), **settings)
    return str(caught.value)


def write_pickle(path, zipped):
    torch.save({"weight": torch.zeros(1)}, path, _use_new_zipfile_serialization=zipped)


def write_half(path):
    written(path)
    path.write_bytes(path.read_bytes()[:100])


OF_IMAGES = USE | {"preparation": builders.of_images(32, 48) | {"channels": 3}}
REFUSED = [
    (lambda path: None, "model.safetensors: no such file"),
    (lambda path: path.mkdir(), "model.safetensors: no such file"),
    (lambda path: written(path, in_channels=1), "contains UNet with 1 input and 1 output channels; "),
    (lambda path: written(path, out_channels=4), "contains UNet with 3 input and 4 output channels; "),
    (lambda path: written(path, "attention_unet"), "contains AttentionUNet with 3 input and 1 output channels; "),
    (lambda path: written(path, "segnet", depth=5), "contains SegNet with 3 input and 1 output channels; "),
    (lambda path: write_pickle(path, True), "appears to be a pickle"),
    (lambda path: write_pickle(path, False), "appears to be a pickle"),
    (write_half, "not a readable weights file"),
    (lambda path: safetensors.torch.save_file({"weight": torch.zeros(1)}, path), "the metadata name no network"),
    (lambda path: written(path, about={}), "the metadata lack the preparation of volumes (older weights)"),
    (lambda path: written(path, about=OF_IMAGES), "trained on single images, not on volumes"),
    (lambda path: written(path, about={"study": "lgg_quick", "preparation": PREPARATION}), "weights of 04_training, "),
]


@pytest.mark.parametrize(("write", "message"), REFUSED)
def test_unsuitable_weights_are_refused_with_their_path_and_content(tmp_path, write, message):
    path = tmp_path / "04_training" / "fold2-seed1" / "model.safetensors"
    path.parent.mkdir(parents=True)
    write(path)
    refused = refusal(path)
    assert f"{path}: " in refused
    assert message in refused
    if "04_training" in message:
        assert "reports/lgg_quick/05_evaluation/models/fold2-seed1.safetensors" in refused
    assert "pretrained = True without weights_path" in refusal(None, pretrained=True)


def test_a_pickle_of_any_name_is_not_run(tmp_path):
    trap = pickle.dumps(builders_tasks.Trap(tmp_path / "sprung"))
    for name in ("model.pt", "model.pth", "model.safetensors"):
        (tmp_path / name).write_bytes(trap)
        assert "appears to be a pickle" in refusal(tmp_path / name)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(trap)
    assert (tmp_path / "sprung").exists()  # the trap works


@pytest.fixture
def own_lib(tmp_path):
    """A user's script folder with a package of the same name."""
    (tmp_path / "own" / "lib").mkdir(parents=True)
    (tmp_path / "own" / "lib" / "__init__.py").write_text("answer = 42\n", encoding="utf-8")
    return tmp_path / "own"


def test_an_imported_package_called_lib_is_refused_with_both_paths(copied, own_lib, tmp_path):
    (own_lib / "own.py").write_text(f"import lib\n{LOAD}", encoding="utf-8")
    done = python(files.ROOT, str(own_lib / "own.py"), str(copied), cwd=tmp_path, PYTHONPATH="")
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith(f"ImportError: this model requires the package {copied / 'lib'}, but another package ")
    assert f"from {own_lib / 'lib'}; load the model in a separate Python process, or rename" in message


def test_a_package_called_lib_on_the_path_or_without_a_file_is_refused(own_lib, monkeypatch):
    monkeypatch.delitem(sys.modules, "lib")
    hubconf._refuse_another_lib()
    monkeypatch.setattr(sys, "path", [*sys.path, str(own_lib)])
    with pytest.raises(ImportError, match=rf"another package called lib is in {own_lib}, "):
        hubconf._refuse_another_lib()
    monkeypatch.setitem(sys.modules, "lib", types.ModuleType("lib"))
    with pytest.raises(ImportError, match="another package called lib has already been imported from <module 'lib'>"):
        hubconf._refuse_another_lib()


@pytest.mark.parametrize("flip_average", [True, False])
def test_a_volume_is_segmented_with_the_settings_of_the_file(tmp_path, flip_average):
    path, network = written(tmp_path / "model.safetensors", about=USE | {"flip_average": flip_average})
    predicted = load(weights_path=str(path)).segment(patient(depth=5))
    assert (predicted.shape, predicted.dtype) == ((5, 60, 80), np.float32)
    network = network.to(memory_format=torch.channels_last)
    of_05 = trained_model.probability(trained_model.Model(network, USE, flip_average, CPU), patient(depth=5))
    assert np.array_equal(predicted, of_05[1])
    assert (predicted[[0, -1]] == 0).all()
    assert (predicted[1:-1, 10:50, 20:50] > 0).all()
    assert (predicted[:, :10] == 0).all()


def test_a_phantom_patient_is_segmented_as_in_evaluation(tmp_path):
    bench = builders.volume_bench(tmp_path)
    weights = tmp_path / "fold0-seed0" / "model.safetensors"
    builders.write_weights(weights, bench.arrays.preparation, in_channels=3)
    steps = [{"step": "largest_component"}]
    protocol = segmentation.Protocol([0.4, 0.5], steps, flip_average=True, device=CPU, nsd_tolerances={})
    measured = segmentation.evaluate_run(protocol, bench, weights, 0, 0)
    model = load(weights_path=str(bench.folder / "models" / "fold0-seed0.safetensors"))
    assert model.about["threshold"] == measured.choices["threshold"].item()
    assert model.about["postprocessing"] == steps
    names = set(measured.table["case"])
    assert names
    for row in bench.cases[bench.cases["case"].isin(names)].to_dict("records"):
        volume, _ = samples.read_case(bench.dataset, row)
        raw = mask_files.read(bench.predicted("raw", 0, 0, row["case"]))
        assert np.array_equal(model.segment(volume) >= model.about["threshold"], raw == 1)


@pytest.mark.skipif(not LGG.is_dir(), reason="LGG is not available")
@pytest.mark.parametrize("step", [10, pytest.param(1, marks=pytest.mark.slow)], ids=["3 patients", "28 patients"])
def test_real_patients_are_segmented_as_in_evaluation(step, tmp_path):
    dataset, prepared = datasets.DATASETS["lgg"], builders.of_volumes(64, 64)
    patients, _ = dataset.find_cases(LGG, ())
    assert len(patients) == 28
    table = builders.hashed(cases.cases_table(patients[::step]))
    weights, used = tmp_path / "model.safetensors", tmp_path / "used.safetensors"
    builders.write_weights(weights, prepared, in_channels=3)
    models.complete(weights, used, {"flip_average": True})
    model, bench = load(weights_path=str(used)), EvaluationSet(table, None, None, dataset, tmp_path)
    names = table["case"].tolist()
    trained = trained_model.load(weights, True, CPU)
    for each in (segmentation.predict_case(bench, trained, row) for row in bench.rows(names)):
        volume, _ = samples.read_case(dataset, each.row)
        assert np.array_equal(model.segment(volume), each.probability[1]), each.row["case"]
        assert each.probability.shape == (2, *volume.shape[:3])


def test_without_weights_volumes_are_prepared_as_in_the_full_study():
    study = params.read_study(files.study_file("lgg"))
    config = params.step_params(study, "02_preprocessing")
    source = preprocessing.source_of(config, None, datasets.DATASETS["lgg"], None)
    assert {"preparation": source.preparation, "flip_average": study.flip_average} == hubconf._UNTRAINED


@pytest.mark.parametrize(
    ("crop_level", "size", "box", "percentiles"),
    [
        (None, (256, 256), (10, 20, 40, 30), [10.0, 99.0]),  # as in the full study, without weights
        (0.0, (32, 48), (0, 0, 60, 80), [5.0, 95.0]),  # noise around the box is content at a level of 0
    ],
)
def test_a_volume_is_prepared_as_its_file_says_and_not_changed(tmp_path, model, crop_level, size, box, percentiles):
    volume, (row, col, height, width) = patient(), box
    if crop_level is not None:
        about = USE | {"preparation": PREPARATION | {"crop_level": crop_level}}
        model = load(weights_path=str(written(tmp_path / "model.safetensors", about=about)[0]))
    slices = model.preprocess(volume)
    assert (slices.shape, slices.dtype) == ((2, 3, *size), torch.float32)  # end slices are dropped, as in training
    statistics = intensity.statistics(volume[1:-1, row : row + height, col : col + width], percentiles)
    mapping = geometry.fit((60, 80), size, box)
    assert np.array_equal(slices.numpy(), volumes.to_network(volume[1:-1], mapping, statistics))
    assert np.array_equal(volume, patient())


@pytest.mark.parametrize("single", [patient()[0], patient()[:1]], ids=["(H, W, 3)", "(1, H, W, 3)"])
def test_a_single_slice_without_statistics_is_refused_with_alternatives(model, single):
    for use in (model.preprocess, model.measure, model.segment):
        with pytest.raises(ValueError, match=r"a single slice without statistics .*model.measure\(volume\)"):
            use(single)


@pytest.mark.parametrize("flat", [True, False])
def test_a_single_slice_with_the_statistics_of_its_volume_equals_that_of_the_volume(model, flat):
    volume = patient()
    volume[2] //= 4  # little tissue: its own statistics would differ
    statistics, box = model.measure(volume)
    prepared = model.preprocess(volume[2] if flat else volume[2:3], statistics, box)
    assert prepared.numpy() == pytest.approx(model.preprocess(volume)[1:].numpy(), abs=1e-5)
    whole = model.preprocess(volume[0], statistics, (0, 0, 60, 80))  # as without a box
    assert torch.equal(model.preprocess(volume[0], statistics), whole)
    volume[..., 2] = 77  # a constant channel
    assert (model.preprocess(volume)[:, 2] == 0).all()


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 60, 80), np.uint8), np.zeros((4, 60, 80, 1), np.uint8), np.zeros((4, 60, 80, 3)), torch.zeros(3, 3)],
    ids=["no channels", "one channel", "float64", "tensor"],
)
def test_an_array_that_is_no_volume_is_refused_with_its_shape_and_type(model, array):
    described = re.escape(f"an array {tuple(array.shape)} of {array.dtype}")
    with pytest.raises(ValueError, match=rf"{described}.* expected \(slices, rows, columns, 3\) of uint8"):
        model.preprocess(array)
