"""Networks by name, their layers, and the files that hold them."""

import json

import pytest
import safetensors.torch
import torch

from lib import models
from tests import builders
from tests.builders import one_thread  # noqa: F401

ARGUMENTS = builders.NETWORK["arguments"]


def written(folder, **changes):
    path = folder / "model.safetensors"
    network = builders.network(**changes)
    models.save(path, "unet", ARGUMENTS | changes, network.state_dict())
    return path, network


def with_metadata(folder, metadata):
    path = folder / "other.safetensors"
    path.write_bytes(safetensors.torch.save(builders.network().state_dict(), metadata))
    return path


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_the_u_net_has_every_depth_with_and_without_normalisation(depth, normalisation):
    network = builders.network(depth=depth, out_channels=3, normalisation=normalisation)
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, 32, 64)).shape == (2, 3, 32, 64)


def test_the_same_seed_builds_the_same_weights_and_another_others():
    one, again, other = (builders.network(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_an_unknown_network_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="model = 'resnet'   not known; allowed: unet"):
        models.build("resnet", ARGUMENTS)


@pytest.mark.parametrize(
    ("classes", "per", "channels"),
    [(2, None, 1), (3, None, 3), (4, None, 4), (2, "line", 2), (4, "line", 2), (2, "point", 4), (4, "point", 4)],
)
def test_two_classes_share_a_logit_more_have_one_each_and_landmarks_a_heatmap_a_line_or_a_point(classes, per, channels):
    assert models.out_channels(classes, per) == channels


def test_without_landmarks_their_heatmaps_are_not_asked_for():
    config = builders.step_params("03_model", landmarks="none", heatmap_per="point")
    assert models.describe(config, in_channels=1)["arguments"]["out_channels"] == 1


# Layers


def test_layers_are_listed_in_the_order_in_which_they_run_and_leave_the_network_as_it_was():
    network = builders.network(depth=1, normalisation="none").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rows = models.layer_table(network, (1, 16, 24))
    assert [(row["layer"].split(".")[0], row["channels"], row["rows"], row["cols"]) for row in rows] == [
        ("encoder", 4, 16, 24),
        ("encoder", 4, 16, 24),
        ("encoder", 8, 8, 12),
        ("encoder", 8, 8, 12),
        ("up", 4, 16, 24),
        ("decoder", 4, 16, 24),
        ("decoder", 4, 16, 24),
        ("head", 1, 16, 24),
    ]
    assert sum(row["parameters"] for row in rows) == models.parameter_count(network)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


# Files


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_same_weights_are_the_same_bytes_however_often_and_from_where_they_are_saved(tmp_path, layout):
    path, network = written(tmp_path)
    assert len({written(tmp_path)[0].read_bytes() for _ in range(5)}) == 1
    for same in (network, models.load(path)):
        models.save(tmp_path / "again", "unet", ARGUMENTS, same.to(memory_format=layout).state_dict())
        assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_a_loaded_network_gives_the_same_logits_and_its_file_names_it(tmp_path, normalisation):
    path, network = written(tmp_path, normalisation=normalisation)
    images = torch.randn(2, 1, 16, 16)
    with torch.inference_mode():
        assert torch.equal(models.load(path)(images), network(images))
    assert not models.load(path).training
    with safetensors.safe_open(path, "pt") as file:
        arguments = ARGUMENTS | {"normalisation": normalisation}
        assert json.loads(file.metadata()["network"]) == {"model": "unet", "arguments": arguments}


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_broken_file_is_refused_by_name(tmp_path, length):
    path, _ = written(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"model\.safetensors: cannot be read as weights"):
        models.load(path)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ValueError, match=f"{path}: cannot be read as weights"):
            models.load(path)


def of_network(model, **changes):
    return {"network": json.dumps({"model": model, "arguments": ARGUMENTS | changes})}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "names no network; expected weights saved by this"),
        ({"format": "pt"}, "names no network"),
        ({"network": "null"}, "names no network"),
        ({"network": '{"model": "unet"}'}, "names no network"),
        ({"network": "{unet"}, "cannot be read as weights"),
        (of_network("unet", base_channels=8), "weights do not fit"),
        (of_network("unet", depth=1), "weights do not fit"),
        (of_network("unet", width=5), "weights do not fit"),
        (of_network("segnet"), "weights do not fit"),
    ],
    ids=str,
)
def test_weights_of_others_and_of_another_network_are_refused_by_name(tmp_path, metadata, message):
    with pytest.raises(ValueError, match=rf"other\.safetensors: {message}"):
        models.load(with_metadata(tmp_path, metadata))
