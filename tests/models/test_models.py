import json

import pytest
import safetensors.torch
import torch

from lib import models
from tests import builders
from tests.builders import one_thread  # noqa: F401

ARGUMENTS = builders.NETWORK["arguments"]


def written(folder):
    path, network = folder / "model.safetensors", builders.network()
    models.save(path, "unet", ARGUMENTS, network.state_dict(), {})
    return path, network


def test_a_seed_determines_the_weights_and_an_unknown_network_is_refused_with_the_known_ones():
    one, again, other = (builders.network(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ValueError, match="model = 'resnet'   not known; allowed: unet"):
        models.build("resnet", ARGUMENTS)


def test_two_classes_share_a_logit_more_have_one_each_and_landmarks_one_heatmap_per_line_or_point():
    assert [models.out_channels(classes, None) for classes in (2, 3, 4)] == [1, 3, 4]
    assert [models.out_channels(classes, per) for per in ("line", "point") for classes in (2, 4)] == [2, 2, 4, 4]


def test_layers_are_listed_in_the_order_in_which_they_run():
    rows = models.layer_table(builders.network(depth=1, normalisation="none"), (1, 16, 24))
    listed = [(row["layer"].split(".")[0], row["channels"], row["rows"], row["cols"]) for row in rows]
    fine = [("up", 4, 16, 24), *[("decoder", 4, 16, 24)] * 2, ("head", 1, 16, 24)]
    assert listed == [*[("encoder", 4, 16, 24)] * 2, *[("encoder", 8, 8, 12)] * 2, *fine]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_same_weights_are_the_same_bytes_however_often_and_from_where_they_are_saved(tmp_path, layout):
    path, network = written(tmp_path)
    assert len({written(tmp_path)[0].read_bytes() for _ in range(5)}) == 1
    for same in (network, models.load(path)):
        models.save(tmp_path / "again", "unet", ARGUMENTS, same.to(memory_format=layout).state_dict(), {})
        assert (tmp_path / "again").read_bytes() == path.read_bytes()
    with safetensors.safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["network"]) == {"model": "unet", "arguments": ARGUMENTS}


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_broken_file_a_missing_one_and_a_folder_are_refused_by_name(tmp_path, length):
    path, _ = written(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    for broken in (path, tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ValueError, match=f"{broken}: not a readable weights file"):
            models.load(broken)


def of_network(model, **changes):
    return {"network": json.dumps({"model": model, "arguments": ARGUMENTS | changes})}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        *((text, "the metadata name no network") for text in (None, {"format": "pt"}, {"network": "null"})),
        ({"network": '{"model": "unet"}'}, "the metadata name no network"),
        ({"network": "{unet"}, "not a readable weights file"),
        *((of_network("unet", **{key: 1}), "weights do not fit") for key in ("base_channels", "depth", "width")),
        *(
            (of_network("unet", **{key: 10**9}), f"weights do not fit .*{key} above 4096")
            for key in ("depth", "out_channels")
        ),
        (of_network("unet", base_channels=4000, depth=6), "weights do not fit .*names or shapes of tensors differ"),
        ({"network": json.dumps({"model": "unet", "arguments": []})}, "weights do not fit"),
        ({"network": "[" * 10**5}, "not a readable weights file"),
        (of_network("segnet"), "weights do not fit"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_weights_of_others_and_of_another_network_are_refused_by_name(tmp_path, metadata, message):
    path = tmp_path / "other.safetensors"
    path.write_bytes(safetensors.torch.save(builders.network().state_dict(), metadata))
    with pytest.raises(ValueError, match=rf"other\.safetensors: {message}"):
        models.load(path)
