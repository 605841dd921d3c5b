import json

import pytest
import safetensors.torch
import torch

from lib import models
from tests import builders
from tests.builders import one_thread  # noqa: F401

ARGUMENTS = builders.NETWORK["arguments"]


def double_convolution_count(before, after):
    return 9 * before * after + after + 9 * after * after + after


def unet_2015_count(base, depth, in_channels, out_channels):
    """Weights and biases of U-Net without normalisation, counted layer by layer."""
    widths = [base * 2**level for level in range(depth + 1)]
    encoder = sum(double_convolution_count(b, a) for b, a in zip([in_channels, *widths], widths))
    up = sum(4 * 2 * width * width + width for width in widths[:-1])
    decoder = sum(double_convolution_count(2 * width, width) for width in widths[:-1])
    return encoder + up + decoder + base * out_channels + out_channels


def written(folder, **changes):
    path = folder / "model.safetensors"
    network = builders.network(**changes)
    models.save(path, "unet", ARGUMENTS | changes, network.state_dict())
    return path, network


def with_metadata(folder, metadata):
    path = folder / "other.safetensors"
    path.write_bytes(safetensors.torch.save(builders.network().state_dict(), metadata))
    return path


# U-Net


def test_the_u_net_of_2015_has_31_million_parameters():
    given = {"in_channels": 1, "out_channels": 1, "base_channels": 64, "depth": 4, "normalisation": "none"}
    with torch.device("meta"):  # no memory, no time
        network = models.MODELS["unet"](**given)
    # 18,843,456 + 12,182,464 + 65: encoder with bottom; four up-convolutions with their blocks; the last 1x1.
    assert models.parameter_count(network) == unet_2015_count(64, 4, 1, 1) == 31_030_593


@pytest.mark.parametrize(("base", "depth", "channels", "classes"), [(4, 1, 1, 1), (4, 3, 3, 4), (8, 2, 1, 5)])
def test_parameters_are_those_counted_by_hand(base, depth, channels, classes):
    network = builders.network(
        base_channels=base, depth=depth, in_channels=channels, out_channels=classes, normalisation="none"
    )
    assert models.parameter_count(network) == unet_2015_count(base, depth, channels, classes)


def test_batch_normalisation_trades_each_bias_for_two_numbers():
    with_norm, without = (models.parameter_count(builders.network(normalisation=n)) for n in ("batch", "none"))
    channels = 2 * (4 + 8 + 16) + 2 * (4 + 8)  # of the 3x3 convolutions
    assert with_norm - without == channels


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_logits_are_as_large_as_the_image(depth, normalisation):
    network = builders.network(depth=depth, out_channels=3, normalisation=normalisation)
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, 32, 64)).shape == (2, 3, 32, 64)


def test_every_parameter_gets_a_gradient():
    network = builders.network().train()
    network(torch.randn(2, 1, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_a_skip_carries_detail_that_pooling_would_lose():
    network = builders.network(depth=3, normalisation="none")
    one = torch.zeros(1, 1, 16, 16)
    other = one.clone()
    other[0, 0, 5, 5] = 1
    with torch.inference_mode():
        difference = (network(other) - network(one)).abs()[0, 0]
    assert difference[5, 5] > 0
    assert difference.max() == difference[2:9, 2:9].max()


def test_the_same_seed_builds_the_same_weights_and_another_others():
    one, again, other = (builders.network(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_an_unknown_network_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="model = 'resnet'   not known; allowed: unet"):
        models.build("resnet", ARGUMENTS)


@pytest.mark.parametrize(("classes", "logits"), [(2, 1), (3, 3), (4, 4)])
def test_two_classes_share_one_logit_and_more_have_one_each(classes, logits):
    assert models.out_channels(classes, None) == logits


@pytest.mark.parametrize(("per", "channels"), [("line", 2), ("point", 4)])
def test_landmarks_have_a_heatmap_a_line_or_a_point_however_many_classes_there_are(per, channels):
    assert [models.out_channels(classes, per) for classes in (2, 4)] == [channels, channels]


def test_without_landmarks_their_heatmaps_are_not_asked_for():
    chosen = builders.step_params("03_model", landmarks="none", heatmap_per="point")
    assert models.describe(chosen, in_channels=1)["arguments"]["out_channels"] == 1


# Layers


def test_layers_are_listed_in_the_order_in_which_they_run():
    rows = models.layer_table(builders.network(depth=1), (1, 16, 24))
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


def test_layers_have_all_parameters_of_a_network_without_normalisation():
    network = builders.network(normalisation="none")
    rows = models.layer_table(network, (1, 16, 16))
    assert sum(row["parameters"] for row in rows) == models.parameter_count(network)


def test_listing_layers_leaves_the_network_as_it_was():
    network = builders.network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    models.layer_table(network, (1, 16, 16))
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


# Files


def test_saved_weights_are_equal_bytes_twice(tmp_path):
    contents = {written(tmp_path)[0].read_bytes() for _ in range(5)}
    assert len(contents) == 1


def test_a_loaded_network_saves_to_the_same_bytes(tmp_path):
    path, _ = written(tmp_path)
    models.save(tmp_path / "again", "unet", ARGUMENTS, models.load(path).state_dict())
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_a_loaded_network_gives_the_same_logits(tmp_path, normalisation):
    path, network = written(tmp_path, normalisation=normalisation)
    images = torch.randn(2, 1, 16, 16)
    with torch.inference_mode():
        assert torch.equal(models.load(path)(images), network(images))
    assert not models.load(path).training


def test_a_saved_file_says_which_network_it_holds(tmp_path):
    path, _ = written(tmp_path)
    with safetensors.safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["network"]) == {"model": "unet", "arguments": ARGUMENTS}


def test_channels_last_weights_are_saved_like_others(tmp_path):
    path, network = written(tmp_path)
    turned = network.to(memory_format=torch.channels_last)
    models.save(tmp_path / "turned", "unet", ARGUMENTS, turned.state_dict())
    assert (tmp_path / "turned").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_broken_file_is_refused_by_name(tmp_path, length):
    path, _ = written(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"model\.safetensors: cannot be read as weights"):
        models.load(path)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ValueError, match="cannot be read as weights") as caught:
            models.load(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"network": "null"}, {"network": '{"model": "unet"}'}])
def test_weights_of_others_are_refused_by_name(tmp_path, metadata):
    with pytest.raises(ValueError, match=r"other\.safetensors: names no network; expected weights saved by this"):
        models.load(with_metadata(tmp_path, metadata))


def test_metadata_that_is_no_json_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"other\.safetensors: cannot be read as weights"):
        models.load(with_metadata(tmp_path, {"network": "{unet"}))


@pytest.mark.parametrize(
    ("model", "changes"),
    [("unet", {"base_channels": 8}), ("unet", {"depth": 1}), ("unet", {"width": 5}), ("segnet", {})],
    ids=str,
)
def test_weights_that_do_not_fit_the_network_they_name_are_refused_by_name(tmp_path, model, changes):
    described = json.dumps({"model": model, "arguments": ARGUMENTS | changes})
    with pytest.raises(ValueError, match=r"other\.safetensors: weights do not fit"):
        models.load(with_metadata(tmp_path, {"network": described}))
