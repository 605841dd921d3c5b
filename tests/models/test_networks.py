"""Each network by itself: its size against published counts, its parts by hand, and what all have in common."""

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
from tests import builders
from tests.builders import one_thread  # noqa: F401

SMALL = {"in_channels": 1, "out_channels": 3, "base_channels": 4, "depth": 2, "normalisation": "batch"}
NETWORKS = {
    "unet": SMALL,
    "attention_unet": SMALL,
    "segnet": SMALL,
    "segnet_skips": SMALL,
    "resnet_unet": {"in_channels": 1, "out_channels": 3, "encoder": "resnet18"},
}
every_network = pytest.mark.parametrize("model", NETWORKS)


def small(model, seed=0, **changes):
    torch.manual_seed(seed)
    return models.build(model, NETWORKS[model] | changes)


def counted(model, **given):
    """Parameters of a network that takes no memory and no time."""
    with torch.device("meta"):
        return models.parameter_count(models.build(model, given))


def sized(model, in_channels, out_channels, base, depth, normalisation="batch"):
    return counted(
        model,
        in_channels=in_channels,
        out_channels=out_channels,
        base_channels=base,
        depth=depth,
        normalisation=normalisation,
    )


# Sizes


def test_the_attention_u_net_is_as_large_as_the_thesis_code_that_it_is_compared_with():
    assert sized("attention_unet", 1, 4, base=64, depth=4) == 31_394_096
    assert sized("attention_unet", 1, 4, base=32, depth=4) == 7_854_240


def test_the_attention_u_net_is_a_u_net_with_gates_counted_by_hand():
    # A level of width w: two projections w * w/2 + w/2, psi w/2 + 1; batch normalisation twice w, and 2 for psi.
    gates = sum(2 * (w * w // 2 + w // 2) + w // 2 + 1 + 2 * w + 2 for w in (64, 128, 256, 512))
    biases = 2 * (64 + 128 + 256 + 512 + 1024) + 2 * (64 + 128 + 256 + 512)  # idle, but counted in the thesis code
    assert sized("attention_unet", 1, 4, 64, 4) == sized("unet", 1, 4, 64, 4) + gates + biases


@pytest.mark.parametrize(
    ("channels", "classes", "count"),
    [(3, 1, 29_443_585), (3, 2, 29_444_162), (3, 11, 29_449_355), (3, 12, 29_449_932), (1, 1, 29_442_433)],
)
def test_segnet_has_the_parameters_that_others_count(channels, classes, count):
    assert sized("segnet", channels, classes, base=64, depth=5) == count


def test_segnet_with_skips_has_19_percent_more_parameters():
    assert sized("segnet_skips", 3, 1, base=64, depth=5) == 34_936_321


def test_the_encoder_of_segnet_is_that_of_vgg16():
    with torch.device("meta"):
        encoder = models.build("segnet", SMALL | {"in_channels": 3, "base_channels": 64, "depth": 5}).encoder
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    # VGG16 (configuration D of Simonyan and Zisserman 2015) has 14,714,688 parameters before its dense layers.
    assert sum(models.parameter_count(module) for module in convolutions) == 14_714_688
    assert [module.out_channels for module in convolutions] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6


def test_skips_widen_the_first_convolution_of_each_level_of_segnet():
    wider = sum(9 * width * width for width in (512, 512, 256, 128, 64))
    assert sized("segnet_skips", 3, 1, 64, 5) - sized("segnet", 3, 1, 64, 5) == wider


@pytest.mark.parametrize(("encoder", "count"), [("resnet34", 24_436_369), ("resnet18", 14_328_209)])
def test_the_resnet_u_net_has_the_parameters_of_segmentation_models_pytorch(encoder, count):
    assert counted("resnet_unet", in_channels=3, out_channels=1, encoder=encoder) == count


def test_the_u_net_keeps_its_published_sizes():
    assert sized("unet", 1, 1, base=64, depth=4, normalisation="none") == 31_030_593
    assert sized("unet", 3, 1, base=32, depth=4) == 7_763_041
    assert sized("unet", 3, 1, base=64, depth=4) == 31_037_633


# Attention


def opened_gate(bias):
    """A gate of two channels whose psi sees the signal's first channel alone: sigmoid(20 * relu(signal) + bias)."""
    gate = Gate(2, "none")
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.zero_()
        gate.of_signal[0].weight[0, 0] = 1.0
        gate.psi[0].weight.fill_(20.0)
        gate.psi[0].bias.fill_(bias)
    return gate


def test_a_gate_opens_where_the_signal_is_and_closes_elsewhere():
    signal = torch.zeros(1, 2, 4, 4)
    signal[0, 0, 1:3, 1:3] = 1.0
    with torch.inference_mode():
        coefficients = opened_gate(bias=-10.0)(torch.randn(1, 2, 4, 4), signal)
    assert coefficients.shape == (1, 1, 4, 4)
    is_open = signal[0, 0] > 0
    assert coefficients[0, 0][is_open].min() > 0.9999  # sigmoid(10)
    assert coefficients[0, 0][~is_open].max() < 0.0001  # sigmoid(-10)


def test_a_gate_worked_out_by_hand():
    gate = Gate(2, "none")
    with torch.no_grad():
        gate.of_skip[0].weight.copy_(torch.tensor([[[[1.0]], [[2.0]]]]))
        gate.of_skip[0].bias.fill_(0.5)
        gate.of_signal[0].weight.copy_(torch.tensor([[[[-1.0]], [[3.0]]]]))
        gate.of_signal[0].bias.fill_(-0.5)
        gate.psi[0].weight.fill_(0.5)
        gate.psi[0].bias.fill_(-1.0)
    skip = torch.tensor([1.0, 2.0, 0.0, -4.0]).reshape(1, 2, 1, 2)  # pixels (1, 0) and (2, -4)
    signal = torch.tensor([2.0, 1.0, 1.0, 1.0]).reshape(1, 2, 1, 2)  # pixels (2, 1) and (1, 1)
    # First: relu(1 + 0.5 - 2 + 3 - 0.5) = 2, psi 0; second: relu(2 - 8 + 0.5 - 1 + 3 - 0.5) = 0, psi -1.
    with torch.inference_mode():
        assert gate(skip, signal).flatten().tolist() == pytest.approx([0.5, 1 / (1 + 2.718281828)], abs=1e-6)


@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_attention_lies_between_0_and_1(normalisation):
    torch.manual_seed(0)
    gate = Gate(6, normalisation)
    with torch.inference_mode():
        coefficients = gate(30 * torch.randn(2, 6, 8, 12), 30 * torch.randn(2, 6, 8, 12))
    assert coefficients.shape == (2, 1, 8, 12)
    assert 0 <= coefficients.min() < 0.2
    assert 0.8 < coefficients.max() <= 1


def set_gates(network, bias):
    with torch.no_grad():
        for gate in network.gates:
            gate.psi[-1].weight.zero_()
            gate.psi[-1].bias.fill_(bias)


def test_closed_gates_hide_the_skips_and_open_ones_show_them():
    network = small("attention_unet", normalisation="none").eval()
    one = torch.zeros(1, 1, 16, 16)
    other = one.clone()
    other[0, 0, 5, 5] = 1
    for block in network.up:  # so that the skips are the only way up
        nn.init.zeros_(block.weight)
    changes = []
    for bias in (-200.0, 200.0):
        set_gates(network, bias)
        with torch.inference_mode():
            changes.append((network(other) - network(one)).abs().max())
    assert changes[0] == 0
    assert changes[1] > 0


# SegNet


def test_unpooling_puts_each_maximum_back_where_it_was():
    image = torch.tensor(
        [
            [1.0, 2.0, 0.0, 9.0],
            [3.0, 0.0, 5.0, 4.0],
            [7.0, 1.0, 1.0, 0.0],
            [2.0, 0.0, 0.0, 6.0],
        ]
    )
    pooled, indices = nn.MaxPool2d(2, return_indices=True)(image[None, None])
    assert pooled[0, 0].tolist() == [[3, 9], [7, 6]]
    assert indices[0, 0].tolist() == [[4, 3], [8, 15]]
    other = torch.tensor([[10.0, 20.0], [30.0, -40.0]])[None, None]
    assert segnet.unpool(other, indices)[0, 0].tolist() == [
        [0, 0, 0, 20],
        [10, 0, 0, 0],
        [30, 0, 0, 0],
        [0, 0, 0, -40],
    ]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_unpooling_a_pooled_map_keeps_its_maxima_alone(kind, layout):
    torch.manual_seed(0)
    # Random orders of 1..64: no two values of a window are equal, and bfloat16 holds each of them.
    values = torch.stack([torch.randperm(64).reshape(8, 8) + 1 for _ in range(6)]).reshape(2, 3, 8, 8)
    features = values.to(kind).contiguous(memory_format=layout)
    pooled, indices = nn.MaxPool2d(2, return_indices=True)(features)
    windows = pooled.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = torch.where(features == windows, features, torch.zeros_like(features))
    unpooled = segnet.unpool(pooled, indices)
    assert unpooled.dtype == kind
    assert torch.equal(unpooled, expected)


def shallow_segnet(model):
    """One level, whose encoder hands on the image: the middle of each kernel is one."""
    network = small(model, depth=1, normalisation="none").eval()
    with torch.no_grad():
        for module in network.encoder[0]:
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
                module.weight[:, 0, 1, 1] = 1.0
    return network


def test_the_decoder_of_segnet_sees_where_maxima_were_found():
    """One pixel of a 2x2 window carries the same value: only the index says which."""
    network = shallow_segnet("segnet")
    images = torch.zeros(2, 1, 4, 4)
    images[0, 0, 0, 0] = images[1, 0, 1, 1] = 1.0
    with torch.inference_mode():
        pooled = [network.pool(network.encoder[0](image[None]))[0] for image in images]
        logits = network(images)
    assert torch.equal(*pooled)
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize(("model", "seen"), [("segnet", False), ("segnet_skips", True)])
def test_only_skips_show_the_decoder_of_segnet_what_pooling_dropped(model, seen):
    images = torch.zeros(2, 1, 4, 4)
    images[:, 0, 0, 0] = 1.0
    images[1, 0, 1, 1] = 0.5  # in the same window, below its maximum
    with torch.inference_mode():
        one, other = shallow_segnet(model)(images)
    assert torch.equal(one, other) != seen


@pytest.mark.parametrize("model", ["segnet", "segnet_skips"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_segnet_has_every_depth_from_1_to_5(model, depth):
    network = small(model, depth=depth).eval()
    kept = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(kept) == 2 * sum((2, 2, 3, 3, 3)[:depth])
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, 32, 64)).shape == (2, 3, 32, 64)


@pytest.mark.parametrize("depth", [0, 6])
def test_segnet_refuses_a_depth_that_vgg16_does_not_have(depth):
    with pytest.raises(ValueError, match=f"depth = {depth}   not allowed with SegNet; 1 to 5"):
        small("segnet", depth=depth)


# ResNet encoder


@pytest.fixture
def hub(tmp_path):
    """An empty folder in place of torchvision's downloads."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    yield tmp_path
    torch.hub.set_dir(before)


def write_imagenet(encoder="resnet18", **changes):
    """A file as torchvision would have downloaded it, with made-up numbers."""
    torch.manual_seed(5)
    weights = getattr(resnet_unet.torchvision_resnet(), encoder)(weights=None).state_dict()
    weights["bn1.running_mean"].fill_(0.25)
    weights |= changes
    torch.save(weights, resnet_unet.imagenet_file(encoder))
    return weights


def described(in_channels=1, encoder="resnet18", encoder_weights="imagenet"):
    given = {"in_channels": in_channels, "out_channels": 1, "encoder": encoder}
    return {"model": "resnet_unet", "arguments": given, "encoder_weights": encoder_weights}


@pytest.mark.parametrize(
    ("encoder", "name"), [("resnet18", "resnet18-f37072fd.pth"), ("resnet34", "resnet34-b627a593.pth")]
)
def test_imagenet_weights_lie_where_torchvision_keeps_them(hub, encoder, name):
    assert resnet_unet.imagenet_file(encoder) == hub / "checkpoints" / name


@pytest.mark.parametrize("encoder", ["resnet18", "resnet34"])
def test_a_colour_network_starts_from_the_file_of_its_encoder(hub, encoder):
    written = write_imagenet(encoder)
    loaded = models.start(described(3, encoder)).encoder.state_dict()
    assert loaded.keys() == written.keys() - {"fc.weight", "fc.bias"}
    assert all(torch.equal(loaded[name], written[name]) for name in loaded)


def test_a_grey_network_starts_from_the_sum_over_red_green_and_blue(hub):
    kernel = torch.zeros(64, 3, 7, 7)
    kernel[0, :, 3, 3] = torch.tensor([1.0, 2.0, 4.0])
    write_imagenet(**{"conv1.weight": kernel})
    first = models.start(described(1)).encoder.conv1.weight
    assert first.shape == (64, 1, 7, 7)
    assert first[0, 0, 3, 3] == 7
    assert first.count_nonzero() == 1


def test_a_grey_image_gives_the_features_of_the_same_image_in_colour(hub):
    write_imagenet()
    grey, colour = (models.start(described(channels)).eval() for channels in (1, 3))
    image = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        for one, other in zip(grey.encode(image), colour.encode(image.expand(1, 3, 32, 32)), strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)  # sums in another order


def test_the_decoder_sees_every_level_of_the_encoder(monkeypatch):
    network = small("resnet_unet").eval()
    images = torch.randn(1, 1, 64, 96)
    features = [level.detach().requires_grad_() for level in network.encode(images)]
    assert [tuple(level.shape[1:]) for level in features] == [
        (64, 32, 48),
        (64, 16, 24),
        (128, 8, 12),
        (256, 4, 6),
        (512, 2, 3),
    ]
    monkeypatch.setattr(network, "encode", lambda _: features)
    network(images).square().sum().backward()
    assert all(level.grad is not None and level.grad.any() for level in features)


def test_without_imagenet_an_encoder_is_drawn_at_random_and_no_file_is_read(hub):
    torch.manual_seed(1)
    started = models.start(described(encoder_weights="none")).state_dict()
    torch.manual_seed(1)
    built = models.build("resnet_unet", described()["arguments"]).state_dict()
    assert all(torch.equal(started[name], built[name]) for name in built)


def test_a_missing_file_is_named_with_its_folder_and_what_to_do(hub):
    with pytest.raises(ValueError, match=r"needs the file resnet18-f37072fd\.pth in .*checkpoints") as caught:
        models.start(described())
    said = str(caught.value)
    assert str(hub / "checkpoints") in said
    assert "resnet18(weights='IMAGENET1K_V1')" in said
    assert "encoder_weights: none" in said


def test_nothing_is_downloaded(hub, monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    with pytest.raises(ValueError, match="which is not there"):
        models.start(described())
    assert list((hub / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("length", [0, -1000])
def test_a_broken_file_of_weights_is_refused_by_name(hub, length):
    write_imagenet()
    path = resnet_unet.imagenet_file("resnet18")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"resnet18-f37072fd\.pth: cannot be read as weights"):
        models.start(described())


class Trap:
    """A pickle that would run code."""

    def __reduce__(self):
        return sys.exit, ("the file ran code",)


def test_code_in_a_file_of_weights_is_not_run(hub):
    resnet_unet.imagenet_file("resnet18").write_bytes(pickle.dumps({"conv1.weight": Trap()}, protocol=2))
    with pytest.raises(ValueError, match="cannot be read as weights"):
        models.start(described())


def test_a_file_that_holds_no_names_is_refused(hub):
    torch.save(torch.zeros(3), resnet_unet.imagenet_file("resnet18"))
    with pytest.raises(ValueError, match=r"resnet18-f37072fd\.pth: holds Tensor; expected tensors by name"):
        models.start(described())


@pytest.mark.parametrize("weights", [{}, {"conv1.weight": 5}, {"conv1.weight": torch.zeros(64, 3, 7, 7)}], ids=len)
def test_weights_of_another_network_are_refused_by_name(hub, weights):
    torch.save(weights, resnet_unet.imagenet_file("resnet18"))
    with pytest.raises(ValueError, match=r"resnet18-f37072fd\.pth: weights do not fit resnet18"):
        models.start(described())


def test_imagenet_weights_are_refused_for_images_of_two_channels(hub):
    write_imagenet()
    with pytest.raises(ValueError, match="needs images of 1 or 3 channels, not 2; nearest: none"):
        models.start(described(2))


@pytest.mark.parametrize(("model", "weights"), [("unet", "imagenet"), ("resnet_unet", "imagenette")])
def test_a_start_that_a_network_does_not_have_is_refused(model, weights):
    with pytest.raises(ValueError, match=f"encoder_weights = '{weights}'   not allowed with {model}"):
        models.start({"model": model, "arguments": NETWORKS[model], "encoder_weights": weights})


def test_an_unknown_encoder_is_refused():
    with pytest.raises(ValueError, match="encoder = 'resnet50'   not known; allowed: resnet18, resnet34"):
        small("resnet_unet", encoder="resnet50")


def test_torchvision_is_imported_only_by_a_network_that_needs_it():
    code = (
        "import sys; from lib import models; print('torchvision' in sys.modules); "
        "models.build('resnet_unet', {'in_channels': 1, 'out_channels': 1, 'encoder': 'resnet18'}); "
        "print('torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=files.ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_another_failure_of_torchvision_is_not_mended(monkeypatch):
    def fail(name):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(RuntimeError, match="the disk is on fire"):
        resnet_unet.torchvision_resnet.__wrapped__()


# What all have in common


@every_network
def test_logits_are_as_large_as_the_image(model):
    with torch.inference_mode():
        logits = small(model).eval()(torch.randn(2, 1, 32, 64))
    assert logits.shape == (2, 3, 32, 64)
    assert logits.min() < 0 < logits.max()  # neither probabilities nor behind a ReLU


@every_network
def test_every_parameter_gets_a_finite_gradient(model):
    network = small(model).train()
    network(torch.randn(2, 1, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@every_network
def test_convolutions_start_with_the_spread_of_he_and_no_bias(model):
    for module in small(model).modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            drawn = module.weight.numel()
            if drawn > 500:  # standard error of a standard deviation: below 1 / sqrt(2 * 500) = 3 %
                assert float(module.weight.detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.15)
            assert module.bias is None or not module.bias.detach().any()


@every_network
def test_a_network_learns_in_bfloat16_with_channels_last(model):
    network = small(model).train().to(memory_format=torch.channels_last)
    images = torch.randn(2, 1, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(images)
    logits.float().square().mean().backward()
    assert logits.dtype == torch.bfloat16
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@every_network
def test_bfloat16_and_memory_layout_change_logits_little_or_not(model):
    network = small(model).eval()
    images = torch.randn(2, 1, 32, 64)
    with torch.inference_mode():
        plain = network(images)
        turned = network.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            short = network(images)
    scale = plain.std()
    assert (turned - plain).abs().max() < 1e-4 * scale
    # 8 bits a number, over some twenty layers; in SegNet two values that round to one also move to another place.
    assert (short.float() - plain).square().mean().sqrt() < 0.2 * scale


@every_network
def test_saved_weights_give_the_same_logits_when_loaded(model, tmp_path):
    network = small(model)
    network(torch.randn(2, 1, 64, 64))  # moves the running means
    path = tmp_path / "model.safetensors"
    models.save(path, model, NETWORKS[model], network.state_dict())
    images = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(models.load(path)(images), network.eval()(images))


def test_trained_weights_load_without_the_file_of_imagenet_weights(hub, tmp_path):
    write_imagenet()
    network = described()
    models.save(
        tmp_path / "model.safetensors", network["model"], network["arguments"], models.start(network).state_dict()
    )
    resnet_unet.imagenet_file("resnet18").unlink()
    loaded = models.load(tmp_path / "model.safetensors").encoder
    assert torch.equal(loaded.bn1.running_mean, torch.full((64,), 0.25))


@every_network
def test_layers_are_listed_from_image_to_logits_with_every_convolution_once(model):
    network = small(model)
    rows = models.layer_table(network, (1, 32, 64))
    names = [name for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert sorted(row["layer"] for row in rows) == sorted(names)
    assert rows[0]["layer"].startswith("encoder")
    assert (rows[-1]["layer"], rows[-1]["channels"], rows[-1]["rows"], rows[-1]["cols"]) == ("head", 3, 32, 64)


@every_network
def test_an_image_that_cannot_be_halved_often_enough_is_refused_with_the_nearest_size(model):
    step = 32 if model == "resnet_unet" else 4
    with pytest.raises(ValueError, match=rf"images of 34 x 64 pixels .* multiples of {step}; nearest: \[3[26], 64\]"):
        small(model)(torch.zeros(1, 1, 34, 64))


def test_a_small_image_is_refused_with_a_size_that_is_not_nothing():
    with pytest.raises(ValueError, match=r"images of 1 x 9 pixels .* 2 poolings; multiples of 4; nearest: \[4, 8\]"):
        layers.require_multiple(torch.zeros(1, 1, 1, 9), depth=2)


# From the study file


@every_network
def test_a_study_describes_a_network_that_starts(model):
    chosen = builders.step_params("03_model", model=model, base_channels=4, depth=5, encoder_weights="none")
    network = models.describe(chosen, in_channels=3)
    assert json.loads(json.dumps(network)) == network
    plain = {"base_channels": 4, "depth": 5, "normalisation": "batch"}
    own = {"encoder": "resnet34"} if model == "resnet_unet" else plain
    given = {"in_channels": 3, "out_channels": 1} | own
    assert network == {"model": model, "arguments": given, "encoder_weights": "none"}
    with torch.device("meta"):
        assert models.start(network).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)


def test_the_arguments_of_a_resnet_u_net_are_those_that_it_has():
    chosen = builders.step_params("03_model", model="resnet_unet", encoder="resnet34", encoder_weights="imagenet")
    assert models.describe(chosen, in_channels=1) == {
        "model": "resnet_unet",
        "arguments": {"in_channels": 1, "out_channels": 1, "encoder": "resnet34"},
        "encoder_weights": "imagenet",
    }


def test_encoder_weights_do_not_count_where_there_is_no_such_encoder():
    chosen = builders.step_params("03_model", model="segnet", encoder_weights="imagenet")
    assert models.describe(chosen, in_channels=1)["encoder_weights"] == "none"


@pytest.mark.parametrize("model", ["unet", "attention_unet", "segnet", "segnet_skips"])
def test_a_network_of_heatmaps_shows_nothing_at_first_and_can_learn(model):
    chosen = builders.step_params("03_model", model=model, base_channels=4, depth=2, landmarks="multicentre")
    network = models.start(models.describe(chosen, 1))
    image = torch.randn(1, 1, 16, 16)
    maps = network(image)
    assert maps.shape == (1, 2, 16, 16)
    assert not maps.any()
    ((maps - 1) ** 2).mean().backward()
    assert network.head.weight.grad.abs().max() > 0
