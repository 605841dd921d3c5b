"""The constants that the report states are those of the objects with which the code trains."""

import inspect
import math

import albumentations
import numpy as np
import pytest
import torch

from lib import losses
from lib.imaging import heatmaps
from lib.models import resnet_unet, segnet, unet
from lib.report import constants
from lib.study import files, params
from lib.training import augmentation, loop

STATED = constants.describe()
STEPS = 40


def training(**changes: object) -> params.TrainingParams:
    study = params.read_study(files.study_file("demo"))
    return params.step_params(study, "04_training", fold=0, seed=0).model_copy(update=changes)


def optimiser(config: params.TrainingParams) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate, weight_decay=config.weight_decay)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_printed_betas_and_epsilon_are_those_of_the_optimiser(name: str) -> None:
    network = {"model": "unet", "arguments": {"in_channels": 1, "out_channels": 1, "base_channels": 4, "depth": 1}}
    network |= {"encoder_weights": "none"}
    network["arguments"]["normalisation"] = "batch"
    state = loop.initial_state(training(optimizer=name, device="cpu", precision="float32"), network, 4, "rel")
    (group,) = state.optimizer.param_groups
    assert list(group["betas"]) == STATED["betas"]
    assert group["eps"] == STATED["adam_epsilon"]
    (norm, *_) = [each for each in state.model.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    assert (norm.eps, norm.momentum) == (STATED["batch_norm_epsilon"], STATED["batch_norm_momentum"])


def test_the_printed_cycle_is_the_learning_rate_of_every_step() -> None:
    config = training(schedule="one_cycle", epochs=4, learning_rate=0.003, warm_up_fraction=0.3)
    steps, optimizer = STEPS, optimiser(config)
    schedule = loop._schedule(config, steps // 4, "rel", optimizer)
    top, start = 0.003, 0.003 / STATED["one_cycle_start"]
    end, peak = start / STATED["one_cycle_end"], 0.3 * (steps + 1) - 1
    for step in range(steps + 1):
        rise = start + (top - start) * (1 - math.cos(math.pi * step / peak)) / 2
        fall = end + (top - end) * (1 + math.cos(math.pi * (step - peak) / (steps - peak))) / 2
        assert schedule.get_last_lr()[0] == pytest.approx(rise if step <= peak else fall, rel=1e-9), step
        if step < steps:
            optimizer.step()
            schedule.step()


def test_the_printed_cosine_and_plateau_are_those_of_training() -> None:
    config = training(schedule="cosine", epochs=4, learning_rate=0.002)
    optimizer = optimiser(config)
    schedule = loop._schedule(config, STEPS // 4, "rel", optimizer)
    for step in range(STEPS):
        assert schedule.get_last_lr()[0] == pytest.approx(0.002 * (1 + math.cos(math.pi * step / STEPS)) / 2, rel=1e-9)
        optimizer.step()
        schedule.step()
    plateau = training(schedule="plateau", plateau_factor=0.5, plateau_patience=3)
    assert loop._schedule(plateau, 1, "rel", optimiser(plateau)).threshold == STATED["plateau_threshold"]


def test_constants_read_from_the_source_are_those_of_the_modules() -> None:
    assert STATED["dice_smoothing"] == losses.EPSILON
    assert STATED["clahe_limit"] == list(augmentation.CLAHE_LIMIT)
    assert STATED["least_reach_px"] == heatmaps.MIN_REACH_PX
    assert STATED["segnet_convolutions"] == list(segnet.COUNTS)
    assert STATED["segnet_multiples"] == list(segnet.MULTIPLES)
    assert STATED["resnet_decoder"] == list(resnet_unet.WIDTHS)
    with pytest.raises(ValueError, match=r"lib\.losses: assigns no literal to MISSING"):
        constants.of_source("lib.losses", "MISSING")
    with pytest.raises(ValueError, match=r"lib\.nothing: assigns no literal to X"):
        constants.of_source("lib.nothing", "X")


def test_a_change_of_brightness_is_a_fraction_of_the_largest_grey_value() -> None:
    change = albumentations.RandomBrightnessContrast((0.2, 0.2), (0.1, 0.1), p=1)
    changed = change(image=np.full((4, 4), 100, np.uint8))["image"]
    assert int(changed[0, 0]) == round(100 * 1.1 + 0.2 * STATED["grey_levels"])
    tiles = inspect.signature(albumentations.CLAHE).parameters["tile_grid_size"].default
    assert list(tiles) == STATED["clahe_tiles"]


def test_a_value_at_the_lowest_level_of_a_u_net_depends_on_as_many_pixels_as_printed() -> None:
    """The printed side is 1 plus 2 per convolution and 1 per pooling, times the step of their level."""
    depth = 3
    network = unet.UNet(1, 1, 2, depth, "none")
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 0.1)
    image = torch.rand(1, 1, 128, 128, requires_grad=True)
    features = network.encoder[0](image)
    for block in network.encoder[1:]:
        features = block(torch.nn.functional.avg_pool2d(features, 2))  # the maximum depends on one of four pixels
    features[0, 0, 8, 8].backward()
    rows = image.grad[0, 0].abs().sum(dim=1).nonzero()
    side = 1 + sum(4 * 2**level for level in range(depth + 1)) + sum(2**level for level in range(depth))
    assert int(rows.max() - rows.min()) + 1 == side == 68


def test_weights_start_with_the_printed_variance() -> None:
    torch.manual_seed(0)
    network = unet.UNet(1, 1, 64, 1, "batch")
    convolution, up = network.encoder[1][0], network.up[0]  # 64 to 128 channels, and 128 to 64
    assert float(convolution.weight.detach().var()) == pytest.approx(2 / (9 * 64), rel=0.02)
    assert float(up.weight.detach().var()) == pytest.approx(2 / (4 * 64), rel=0.02)
    assert not up.bias.detach().any()
