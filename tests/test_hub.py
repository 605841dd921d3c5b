"""The entry for torch.hub, through torch.hub itself."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import hubconf
from lib import files, geometry, models, volumes
from tests.builders import one_thread  # noqa: F401
from tests.conftest import SKIPPED, python

ARGUMENTS = {"in_channels": 3, "out_channels": 1, "base_channels": 4, "depth": 2, "normalisation": "batch"}
FRESH = """
import random, sys, torch
before = torch.get_rng_state(), random.getstate(), torch.get_num_threads()
import hubconf
assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
assert torch.get_num_threads() == before[2] and not torch.is_inference_mode_enabled()
import lib
print(lib.__path__[0])
"""
LOAD = """
import socket, sys, torch
def refuse(*_): raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refuse
model = torch.hub.load(sys.argv[1], "unet_segmentation", source="local", trust_repo=True)
print(sum(each.numel() for each in model.parameters()), sys.modules["lib"].__path__[0])
"""
LOADED = """
import sys, hubconf
hubconf.unet_segmentation()
print(*{name.partition(".")[0] for name in sys.modules})
print(*hubconf.dependencies)
"""
PACKAGES = {  # what the project imports anywhere
    *("numpy", "pandas", "torch", "torchvision", "scipy", "cv2", "pydantic", "yaml", "safetensors", "skimage"),
    *("albumentations", "matplotlib", "seaborn", "papermill", "snakemake", "filelock", "psutil", "typst"),
}


def load(**settings):
    return torch.hub.load(str(files.ROOT), "unet_segmentation", source="local", **settings)


def written(path, model="unet", **changes):
    torch.manual_seed(0)
    given = ARGUMENTS | changes
    network = models.build(model, given).eval()
    models.save(path, model, given, network.state_dict())
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
    """A clone as torch.hub unpacks it: code only, in a place of its own."""
    folder = tmp_path_factory.mktemp("hub") / "owner_name_main"
    shutil.copytree(files.ROOT / "lib", folder / "lib", ignore=SKIPPED)
    for name in ("hubconf.py", "pyproject.toml"):
        shutil.copy2(files.ROOT / name, folder / name)
    return folder


# The entry


def test_there_is_one_entry_and_it_explains_itself():
    # As torch.hub.list finds them, which asks GitHub even for a folder.
    assert [n for n, v in vars(hubconf).items() if callable(v) and not n.startswith("_")] == ["unet_segmentation"]
    assert "weights_path" in hubconf.unet_segmentation.__doc__


def test_the_network_has_7_763_041_parameters_and_is_in_evaluation_mode(model):
    assert models.parameter_count(model) == 7_763_041
    assert not any(module.training for module in model.modules())


def test_an_image_of_256_pixels_gives_probabilities_of_the_same_size(model):
    with torch.inference_mode():
        found = model(torch.randn(1, 3, 256, 256))
    assert found.shape == (1, 1, 256, 256)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.std() > 0


def test_probabilities_are_the_sigmoid_of_the_network_s_logits(model):
    slices = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        assert torch.equal(model(slices), torch.sigmoid(model.network(slices)))


def test_a_copy_elsewhere_is_loaded_with_its_own_code_and_without_network(copied, tmp_path):
    done = python(files.ROOT, "-c", LOAD, str(copied), cwd=tmp_path, PYTHONPATH="")
    assert done.stdout.split(maxsplit=1) == ["7763041", f"{copied / 'lib'}\n"], done.stdout + done.stderr


def test_importing_the_entry_changes_and_writes_nothing(copied):
    before = sorted(copied.rglob("*"))
    done = python(copied, "-B", "-c", FRESH)
    assert done.stdout.strip() == str(copied / "lib"), done.stdout + done.stderr
    assert done.stderr == ""
    assert sorted(copied.rglob("*")) == before


def test_every_package_that_the_entry_loads_is_declared(copied):
    done = python(copied, "-c", LOADED)
    loaded, declared = (set(line.split()) for line in done.stdout.splitlines())
    assert loaded & PACKAGES == declared, done.stdout + done.stderr


# Weights


def test_saved_weights_give_the_saved_network_s_probabilities(tmp_path):
    path, network = written(tmp_path / "model.safetensors")
    loaded = load(pretrained=True, weights_path=str(path))
    slices = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(slices), torch.sigmoid(network(slices)))
    assert not loaded.training


def test_weights_that_are_given_are_read_without_pretrained_too(tmp_path):
    path, network = written(tmp_path / "model.safetensors", base_channels=8, depth=1, normalisation="none")
    assert models.parameter_count(load(weights_path=str(path))) == models.parameter_count(network)


def test_a_fresh_network_s_weights_come_back_from_a_file(model, tmp_path):
    given = ARGUMENTS | {"base_channels": 32, "depth": 4}
    models.save(tmp_path / "model.safetensors", "unet", given, model.network.state_dict())
    again = load(weights_path=str(tmp_path / "model.safetensors"))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


def refusal(path, **settings):
    """The message with which weights are refused; it always says what is expected and how to get it."""
    with pytest.raises(ValueError, match=r"expected a model\.safetensors .* 3 channels in and 1 out; 'make study") as e:
        load(weights_path=None if path is None else str(path), **settings)
    assert "reports/lgg/04_training/fold0-seed0/model.safetensors" in str(e.value)
    return str(e.value)


def test_trained_weights_without_a_file_are_refused_with_how_to_train_them():
    said = refusal(None, pretrained=True)
    assert "pretrained = True without weights_path: this project ships no weights" in said
    assert "CC BY-NC-SA 4.0" in said
    assert "make study STUDY=lgg" in said


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        assert refusal(path).startswith(f"weights_path = {path}: no such file")


@pytest.mark.parametrize(
    ("model", "changes", "found"),
    [
        ("unet", {"in_channels": 1}, "UNet with 1 channels in and 1 out"),
        ("unet", {"out_channels": 4}, "UNet with 3 channels in and 4 out"),
        ("attention_unet", {}, "AttentionUNet with 3 channels in and 1 out"),
        ("segnet", {"depth": 5}, "SegNet with 3 channels in and 1 out"),
    ],
)
def test_weights_of_another_network_are_refused_with_what_they_are(tmp_path, model, changes, found):
    path, _ = written(tmp_path / "model.safetensors", model, **changes)
    assert refusal(path).startswith(f"{path}: holds {found}; ")


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "weights.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_unread_whatever_its_name(tmp_path, name, zipped):
    torch.save({"weight": torch.zeros(1)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name}: looks like a pickle, which may run code")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_does_not_run(tmp_path):
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    for name in ("model.pt", "model.safetensors"):
        (tmp_path / name).write_bytes(trap)
        refusal(tmp_path / name)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(trap)
    assert (tmp_path / "sprung").exists()  # it would have


def test_a_broken_file_and_weights_of_others_are_refused(tmp_path):
    path, network = written(tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    assert "model.safetensors: cannot be read as weights" in refusal(path)
    safetensors.torch.save_file(network.state_dict(), path)
    assert "model.safetensors: names no network" in refusal(path)


# Preprocessing


def test_a_volume_becomes_slices_as_lib_volumes_makes_them(model):
    volume = patient()
    found = model.preprocess(volume)
    assert (found.shape, found.dtype) == ((4, 3, 256, 256), torch.float32)
    mapping = geometry.fit((60, 80), (256, 256), (10, 20, 40, 30))
    given = volumes.statistics(volume[:, 10:50, 20:50], [10.0, 99.0])
    assert np.array_equal(found.numpy(), volumes.to_network(volume, mapping, given))


def test_a_preprocessed_volume_has_mean_0_and_spread_1_within_the_head(model):
    volume = patient()[:, 10:50, 20:50].repeat(4, axis=1).repeat(4, axis=2)
    inner = model.preprocess(volume).double()[..., 32:224]  # 160 x 120 pixels are shown as 256 x 192
    assert inner.mean(dim=(0, 2, 3)) == pytest.approx(np.zeros(3), abs=0.02)
    assert inner.std(dim=(0, 2, 3)) == pytest.approx(np.ones(3), abs=0.05)


def test_a_preprocessed_volume_goes_through_the_network(model):
    with torch.inference_mode():
        assert model(model.preprocess(patient(depth=2))).shape == (2, 1, 256, 256)


@pytest.mark.parametrize("lone", [patient()[0], patient()[:1]], ids=["(H, W, 3)", "(1, H, W, 3)"])
def test_a_lone_slice_is_refused_with_the_reason_and_what_to_give(model, lone):
    for use in (model.preprocess, model.measure):
        with pytest.raises(ValueError, match=r"a lone slice without statistics: .*segments it badly; give the") as e:
            use(lone)
        assert "'statistics, box = model.measure(volume)' and preprocess(slice, statistics, box)" in str(e.value)


@pytest.mark.parametrize("flat", [True, False])
def test_a_lone_slice_with_what_was_measured_on_its_volume_is_as_within_it(model, flat):
    volume = patient()
    volume[3] //= 4  # little tissue: its own statistics would be others
    statistics, box = model.measure(volume)
    found = model.preprocess(volume[3] if flat else volume[3:], statistics, box)
    assert found.numpy() == pytest.approx(model.preprocess(volume)[3:].numpy(), abs=1e-5)


def test_a_lone_slice_without_a_box_is_shown_whole(model):
    volume = patient()
    statistics, _ = model.measure(volume)
    whole = model.preprocess(volume[0], statistics, (0, 0, 60, 80))
    assert torch.equal(model.preprocess(volume[0], statistics), whole)
    assert not torch.equal(model.preprocess(volume, statistics)[:1], whole)


def test_a_constant_channel_gives_zeros_and_no_nan(model):
    volume = patient()
    volume[..., 2] = 77
    found = model.preprocess(volume)
    assert torch.isfinite(found).all()
    assert (found[:, 2] == 0).all()


def test_preprocessing_leaves_the_volume_as_it_was(model):
    volume = patient()
    model.preprocess(volume)
    assert np.array_equal(volume, patient())


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 60, 80), np.uint8), np.zeros((4, 60, 80, 1), np.uint8), np.zeros((4, 60, 80, 3)), torch.zeros(3, 3)],
    ids=["no channels", "one channel", "float64", "tensor"],
)
def test_what_is_no_volume_is_refused_with_what_it_is(model, array):
    with pytest.raises(ValueError, match=r"cannot be segmented; expected \(slices, rows, columns, 3\) of uint8") as e:
        model.preprocess(array)
    assert f"an array {tuple(array.shape)} of {array.dtype}" in str(e.value)
