import json
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from lib import models
from lib.models import layers, resnet_unet, segnet
from lib.models.attention_unet import Gate
from lib.study import files
from tests import builders, builders_tasks
from tests.builders import one_thread  # noqa: F401

SMALL = {"in_channels": 1, "out_channels": 3, "base_channels": 4, "depth": 2, "normalisation": "batch"}
RESNET = {"in_channels": 1, "out_channels": 3, "encoder": "resnet18"}
NETWORKS = dict.fromkeys(("unet", "attention_unet", "segnet", "segnet_skips"), SMALL) | {"resnet_unet": RESNET}
every_network = pytest.mark.parametrize("model", NETWORKS)


def small(model, **changes):
    torch.manual_seed(0)
    return models.build(model, NETWORKS[model] | changes)


def described(in_channels=1, encoder="resnet18", encoder_weights="imagenet"):
    arguments = {"in_channels": in_channels, "out_channels": 1, "encoder": encoder}
    return {"model": "resnet_unet", "arguments": arguments, "encoder_weights": encoder_weights}


@pytest.mark.parametrize(
    ("model", "channels", "sizes", "count"),
    [
        ("attention_unet", (1, 4), (64, 4, "batch"), 31_394_096),  # the thesis code
        ("attention_unet", (1, 4), (32, 4, "batch"), 7_854_240),
        ("segnet", (3, 1), (64, 5, "batch"), 29_443_585),
        ("segnet", (3, 12), (64, 5, "batch"), 29_449_932),
        ("segnet", (1, 1), (64, 5, "batch"), 29_442_433),
        ("segnet_skips", (3, 1), (64, 5, "batch"), 34_936_321),
        ("unet", (3, 1), (32, 4, "batch"), 7_763_041),
        ("unet", (3, 1), (64, 4, "batch"), 31_037_633),
        ("unet", (1, 1), (64, 4, "none"), 31_030_593),  # the paper of 2015, counted layer by layer
        ("unet", (1, 1), (4, 1, "none"), 1_645),
        ("unet", (3, 4), (4, 3, "none"), 30_380),
        ("unet", (1, 5), (8, 2, "none"), 29_357),
        ("resnet_unet", (3, 1), ("resnet34",), 24_436_369),  # segmentation_models_pytorch
        ("resnet_unet", (3, 1), ("resnet18",), 14_328_209),
    ],
)
def test_networks_have_the_published_number_of_parameters(model, channels, sizes, count):
    own = ("encoder",) if model == "resnet_unet" else ("base_channels", "depth", "normalisation")
    arguments = dict(zip(("in_channels", "out_channels", *own), (*channels, *sizes)))
    with torch.device("meta"):  # no memory, no time
        assert models.parameter_count(models.build(model, arguments)) == count


def test_the_encoder_of_segnet_is_that_of_vgg16():
    with torch.device("meta"):
        encoder = models.build("segnet", SMALL | {"in_channels": 3, "base_channels": 64, "depth": 5}).encoder
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    # VGG16 (configuration D of Simonyan and Zisserman 2015) has 14,714,688 parameters before its dense layers.
    assert sum(models.parameter_count(module) for module in convolutions) == 14_714_688
    assert [module.out_channels for module in convolutions] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_up_convolution_equals_pytorch_s_transposed_convolution_with_its_gradients(layout):
    torch.manual_seed(0)
    own, theirs = layers.UpConvolution(6, 3), nn.ConvTranspose2d(6, 3, 2, stride=2)
    theirs.load_state_dict(own.state_dict())
    images, weights = torch.randn(2, 6, 5, 4).to(memory_format=layout), torch.randn(2, 3, 10, 8)
    results = []
    for module in (own, theirs):
        inputs = images.clone().requires_grad_()
        output = module(inputs)
        (output * weights).sum().backward()
        results.append([output, inputs.grad, module.weight.grad, module.bias.grad])
    for one, other in zip(*results):
        torch.testing.assert_close(one, other)


def test_a_gate_computed_by_hand():
    gate = Gate(2, "none")
    parts = {"of_skip": ([1.0, 2.0], 0.5), "of_signal": ([-1.0, 3.0], -0.5), "psi": ([0.5], -1.0)}
    for name, (weight, bias) in parts.items():
        convolution = getattr(gate, name)[0]
        convolution.weight.data = torch.tensor(weight).reshape(convolution.weight.shape)
        convolution.bias.data.fill_(bias)
    skip = torch.tensor([1.0, 2.0, 0.0, -4.0]).reshape(1, 2, 1, 2)  # pixels (1, 0) and (2, -4)
    signal = torch.tensor([2.0, 1.0, 1.0, 1.0]).reshape(1, 2, 1, 2)  # pixels (2, 1) and (1, 1)
    # First: relu(1 + 0.5 - 2 + 3 - 0.5) = 2, psi 0; second: relu(2 - 8 + 0.5 - 1 + 3 - 0.5) = 0, psi -1.
    with torch.inference_mode():
        assert gate(skip, signal).flatten().tolist() == pytest.approx([0.5, 1 / (1 + 2.718281828)], abs=1e-6)


@pytest.mark.parametrize(("bias", "hidden"), [(-200.0, True), (200.0, False)])
def test_closed_gates_hide_the_skips_and_open_ones_show_them(bias, hidden):
    network = small("attention_unet", normalisation="none").eval()
    for block in network.up:  # so that the skips are the only way up
        nn.init.zeros_(block.weight)
    for gate in network.gates:
        nn.init.zeros_(gate.psi[-1].weight)
        nn.init.constant_(gate.psi[-1].bias, bias)
    images = torch.zeros(2, 1, 16, 16)
    images[1, 0, 5, 5] = 1
    with torch.inference_mode():
        one, other = network(images)
    assert torch.equal(one, other) == hidden


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_unpooling_a_pooled_map_keeps_its_maxima_alone(kind, layout):
    torch.manual_seed(0)
    # Random orders of 1..64: no two values of a window are equal, and bfloat16 holds each of them.
    values = torch.stack([torch.randperm(64).reshape(8, 8) + 1 for _ in range(6)]).reshape(2, 3, 8, 8)
    features = values.to(kind).contiguous(memory_format=layout)
    pooled, indices = nn.MaxPool2d(2, return_indices=True)(features)
    windows = pooled.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    unpooled = segnet.unpool(pooled, indices)
    assert unpooled.dtype == kind
    assert torch.equal(unpooled, torch.where(features == windows, features, torch.zeros_like(features)))


@pytest.mark.parametrize(
    ("model", "pixel", "value", "matters"),
    [
        ("segnet", (0, 0), 0.0, True),  # moves the maximum of the window: only its index changes
        ("segnet", (1, 1), 0.5, False),  # below the maximum of its window
        ("segnet_skips", (1, 1), 0.5, True),
    ],
)
def test_the_decoder_of_segnet_gets_indices_and_only_with_skips_values_below_the_maximum(model, pixel, value, matters):
    network = small(model, depth=1, normalisation="none").eval()
    with torch.no_grad():
        for module in network.encoder[0]:
            if isinstance(module, nn.Conv2d):  # passes the image on
                module.weight.zero_()
                module.weight[:, 0, 1, 1] = 1.0
    images = torch.zeros(2, 1, 4, 4)
    images[:, 0, 0, 0] = 1.0
    images[1][0][pixel] = value
    if value == 0:
        images[1, 0, 1, 1] = 1.0
    with torch.inference_mode():
        pooled = [network.pool(network.encoder[0](image[None]))[0] for image in images]
        one, other = network(images)
    assert torch.equal(*pooled)
    assert torch.equal(one, other) != matters


@pytest.mark.parametrize("model", ["unet", "segnet", "segnet_skips"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_networks_work_at_every_depth_with_and_without_normalisation(model, depth, normalisation):
    network = small(model, depth=depth, normalisation=normalisation).eval()
    if model != "unet":
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        assert len(convolutions) == 2 * sum((2, 2, 3, 3, 3)[:depth])
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, 32, 64)).shape == (2, 3, 32, 64)


@pytest.fixture
def hub(tmp_path):
    """An empty folder as torchvision's download cache."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    yield tmp_path
    torch.hub.set_dir(before)


def write_imagenet(encoder="resnet18", **changes):
    """A weights file as downloaded by torchvision, with random numbers."""
    torch.manual_seed(5)
    weights = getattr(resnet_unet.torchvision_resnet(), encoder)(weights=None).state_dict()
    weights["bn1.running_mean"].fill_(0.25)
    weights |= changes
    torch.save(weights, resnet_unet.imagenet_file(encoder))
    return weights


@pytest.mark.parametrize(
    ("encoder", "name"), [("resnet18", "resnet18-f37072fd.pth"), ("resnet34", "resnet34-b627a593.pth")]
)
def test_a_colour_network_loads_the_file_of_its_encoder(hub, encoder, name):
    written = write_imagenet(encoder)
    assert (hub / "checkpoints" / name).is_file()
    loaded = models.start(described(3, encoder)).encoder.state_dict()
    assert loaded.keys() == written.keys() - {"fc.weight", "fc.bias"}
    assert all(torch.equal(loaded[name], written[name]) for name in loaded)


def test_a_grey_network_gets_the_sum_over_red_green_and_blue(hub):
    kernel = torch.zeros(64, 3, 7, 7)
    kernel[0, :, 3, 3] = torch.tensor([1.0, 2.0, 4.0])
    write_imagenet(**{"conv1.weight": kernel})
    first = models.start(described(1)).encoder.conv1.weight
    assert (first.shape, first[0, 0, 3, 3], first.count_nonzero()) == ((64, 1, 7, 7), 7, 1)


def test_the_decoder_depends_on_every_level_of_the_encoder(monkeypatch):
    network = small("resnet_unet").eval()
    images = torch.randn(1, 1, 64, 96)
    features = [level.detach().requires_grad_() for level in network.encode(images)]
    sizes = [(64, 32, 48), (64, 16, 24), (128, 8, 12), (256, 4, 6), (512, 2, 3)]
    assert [tuple(level.shape[1:]) for level in features] == sizes
    monkeypatch.setattr(network, "encode", lambda _: features)
    network(images).square().sum().backward()
    assert all(level.grad is not None and level.grad.any() for level in features)


def test_a_missing_file_is_named_with_its_folder_and_nothing_is_downloaded(hub, monkeypatch):
    def refuse(*_):
        raise AssertionError("network access")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    with pytest.raises(ValueError, match=rf"file resnet18-f37072fd\.pth, which does not exist in {hub}/checkpoints"):
        models.start(described())
    assert list((hub / "checkpoints").iterdir()) == []


def save_trap(path):
    path.write_bytes(pickle.dumps({"conv1.weight": builders_tasks.Trap(path.with_name("sprung"))}, protocol=2))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b""), "not a readable weights file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "not a readable weights file"),
        (save_trap, "not a readable weights file"),
        (lambda path: torch.save(torch.zeros(3), path), "contains Tensor; expected a dict of tensors"),
        (lambda path: torch.save({}, path), "weights do not fit resnet18"),
        (lambda path: torch.save({"conv1.weight": 5}, path), "weights do not fit resnet18"),
        (lambda path: torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path), "weights do not fit resnet18"),
    ],
    ids=["empty", "cut", "code", "no names", "no tensors", "a number", "another network"],
)
def test_a_file_without_the_encoder_s_weights_is_refused_by_name(hub, spoil, message):
    write_imagenet()
    spoil(resnet_unet.imagenet_file("resnet18"))
    with pytest.raises(ValueError, match=rf"resnet18-f37072fd\.pth: {message}"):
        models.start(described())
    assert len(list((hub / "checkpoints").iterdir())) == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.start(described(2)), "requires 1 or 3 channels, not 2"),
        (lambda: models.start(described(encoder_weights="imagenette")), "'imagenette'   not allowed with resnet_unet"),
        (
            lambda: models.start(described() | {"model": "unet", "arguments": SMALL}),
            "'imagenet'   not allowed with unet",
        ),
        (lambda: small("resnet_unet", encoder="resnet50"), "'resnet50'   not known; allowed: resnet18, resnet34"),
        (lambda: small("segnet", depth=0), "depth = 0   not allowed with SegNet; allowed: 1 to 5"),
        (lambda: small("segnet", depth=6), "depth = 6   not allowed with SegNet; allowed: 1 to 5"),
    ],
)
def test_unknown_arguments_and_initial_weights_are_refused(hub, build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_torchvision_is_imported_only_by_a_network_that_needs_it():
    code = "import sys; from lib import models; print('torchvision' in sys.modules); "
    code += f"models.build('resnet_unet', {RESNET}); print('torchvision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=files.ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_any_other_error_of_torchvision_s_import_is_raised(monkeypatch):
    def fail(name):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(RuntimeError, match="the disk is on fire"):
        resnet_unet.torchvision_resnet.__wrapped__()


@every_network
def test_logits_have_the_size_of_the_image_and_every_parameter_gets_a_gradient(model):
    network = small(model).train().to(memory_format=torch.channels_last)
    for precision in (torch.float32, torch.bfloat16):
        network.zero_grad()
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            logits = network(torch.randn(2, 1, 64, 96).contiguous(memory_format=torch.channels_last))
        assert (logits.shape, logits.dtype) == ((2, 3, 64, 96), precision)
        assert logits.min() < 0 < logits.max()  # neither probabilities nor after a ReLU
        logits.float().square().mean().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@every_network
def test_convolutions_have_he_initialisation_and_no_bias(model):
    for module in small(model).modules():
        if isinstance(module, nn.Conv2d):
            if module.weight.numel() > 500:  # standard error of a standard deviation: below 1 / sqrt(2 * 500) = 3 %
                expected = (2 / module.weight[0].numel()) ** 0.5
                assert float(module.weight.detach().std()) == pytest.approx(expected, rel=0.15)
            assert module.bias is None or not module.bias.detach().any()


@every_network
def test_bfloat16_changes_logits_little_and_memory_layout_hardly(model):
    network, images = small(model).eval(), torch.randn(2, 1, 32, 64)
    with torch.inference_mode():
        plain = network(images)
        last = network.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(images)
    scale = plain.std()
    assert (last - plain).abs().max() < 1e-4 * scale
    # 8 bits of mantissa through some twenty layers; in SegNet rounding also changes the indices of maxima.
    assert (rough.float() - plain).square().mean().sqrt() < 0.2 * scale


@every_network
def test_saved_weights_give_the_same_logits_when_loaded(model, tmp_path):
    network, path = small(model), tmp_path / "model.safetensors"
    network(torch.randn(2, 1, 64, 64))  # updates the running means
    models.save(path, model, NETWORKS[model], network.state_dict(), {})
    images, loaded = torch.randn(1, 1, 32, 32), models.load(path)
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(images), network.eval()(images))


@every_network
def test_every_convolution_is_listed_once_from_image_to_logits_and_the_network_is_unchanged(model):
    network = small(model).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rows = models.layer_table(network, (1, 32, 64))
    modules = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)}
    parameters = {row["layer"]: row["parameters"] for row in rows}
    assert len(rows) == len(modules)
    assert parameters == {name: models.parameter_count(module) for name, module in modules.items()}
    assert rows[0]["layer"].startswith("encoder")
    assert (rows[-1]["layer"], rows[-1]["channels"], rows[-1]["rows"], rows[-1]["cols"]) == ("head", 3, 32, 64)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


@every_network
def test_an_image_whose_sides_are_no_multiples_is_refused_with_the_nearest_size(model):
    step = 32 if model == "resnet_unet" else 4
    for rows, nearest in ((34, 32), (1, step)):  # at least one step, not 0
        with pytest.raises(ValueError, match=rf"{rows} x 64 pixels .* multiples of {step}; nearest: \[{nearest}, 64\]"):
            small(model)(torch.zeros(1, 1, rows, 64))


@every_network
def test_a_study_describes_a_network_that_can_be_built(model):
    keys = {"base_channels": 4, "depth": 5, "encoder_weights": "imagenet" if model == "segnet" else "none"}
    network = models.describe(builders.step_params("03_model", model=model, **keys), in_channels=3)
    assert json.loads(json.dumps(network)) == network
    plain = {"base_channels": 4, "depth": 5, "normalisation": "batch"}
    arguments = {"in_channels": 3, "out_channels": 1}
    arguments |= {"encoder": "resnet34"} if model == "resnet_unet" else plain
    assert network == {"model": model, "arguments": arguments, "encoder_weights": "none"}
    with torch.device("meta"):
        assert models.start(network).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)


def test_imagenet_weights_are_loaded_at_the_start_and_not_needed_for_trained_weights(hub, tmp_path):
    config = builders.step_params("03_model", model="resnet_unet", encoder="resnet18", encoder_weights="imagenet")
    network, path = models.describe(config, in_channels=1), tmp_path / "trained.safetensors"
    assert network["encoder_weights"] == "imagenet"
    write_imagenet()
    started = models.start(network)
    models.save(path, network["model"], network["arguments"], started.state_dict(), {})
    resnet_unet.imagenet_file("resnet18").unlink()
    assert torch.equal(models.load(path).encoder.bn1.running_mean, started.encoder.bn1.running_mean)


@pytest.mark.parametrize("model", ["unet", "attention_unet", "segnet", "segnet_skips"])
def test_a_network_of_heatmaps_starts_with_zeros_and_gets_gradients(model):
    config = builders.step_params("03_model", model=model, base_channels=4, depth=2, landmarks="multicentre")
    network = models.start(models.describe(config, 1))
    maps = network(torch.randn(1, 1, 16, 16))
    assert maps.shape == (1, 2, 16, 16)
    assert not maps.any()
    ((maps - 1) ** 2).mean().backward()
    assert network.head.weight.grad.abs().max() > 0
