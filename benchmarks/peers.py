"""The training loop beside those of MONAI and nnU-Net and a plain one: python -m benchmarks.peers.

Same images, network, batch size, loss, optimizer, precision and memory layout, one thread, in turn; the plain loop
trains in float32. Needs the packages of `pip install '.[peers]'`, best in an environment of their own.
Sources of the loops: MONAI's 2D segmentation tutorial (CacheDataset, dictionary transforms); nnU-Net v2
(nnUNetDatasetBlosc2, nnUNetDataLoader, batchgeneratorsv2) with the augmentation of the study.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from monai import data as monai_data
from monai import transforms as monai_transforms
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from benchmarks import packed, protocol, student
from benchmarks.protocol import Protocol
from lib import models
from lib.data.arrays import Arrays
from lib.imaging.preparation import GREY
from lib.models import inference
from lib.study import files, params

STUDY = "hc18_quick"
IMAGES, ROUNDS = 64, 5
FOREGROUND = 0.33  # share of patches that nnU-Net draws around foreground
Epoch = Callable[[], None]


def main() -> None:
    """Prints the CPU time of an image in each loop, and its ratio to ours round by round."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    study = params.read_study(files.study_file(STUDY)).model_copy(update={"device": "cpu", "workers": 0})
    with tempfile.TemporaryDirectory() as folder:
        print(table(measure(loops(study, Path(folder)), IMAGES, ROUNDS)).to_string(index=False))


def loops(study: params.Study, folder: Path) -> dict[str, Epoch]:
    """A function per loop that trains one epoch of IMAGES images."""
    data = packed.phantoms(study, IMAGES, folder)
    steps = IMAGES // study.batch_size
    running = protocol.start(study, data, 2 * (ROUNDS + 1) * steps)
    batches = protocol.feed(running, np.arange(IMAGES), 0)
    (folder / "nnunet").mkdir()
    (folder / "png").mkdir()
    loader = nnunet_loader(running, folder / "nnunet")
    return {
        "bare step": partial(protocol.bare, running, steps),
        "ours": lambda: protocol.train(running, batches(1)),
        "MONAI, CacheDataset": peer_epoch(running, monai_batches(running)),
        "nnU-Net, nnUNetDataLoader": peer_epoch(running, lambda: nnunet_batches(loader, steps)),
        "plain, PNG files and float32": student.epoch_of(running, IMAGES, folder / "png"),
    }


def measure(epochs: dict[str, Epoch], images: int, rounds: int) -> dict[str, np.ndarray]:
    """CPU milliseconds of an image in each loop, (rounds,); the loops run in turn, after a round of warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in epochs}
    for _ in range(rounds + 1):
        for name, epoch in epochs.items():
            taken[name].append(protocol.seconds(epoch, torch.device("cpu")) / images * 1e3)
    return {name: np.array(values[1:]) for name, values in taken.items()}


def table(taken: dict[str, np.ndarray]) -> pd.DataFrame:
    """Median and range of CPU milliseconds and of their ratio to ours."""
    rows = []
    for name, values in taken.items():
        ratios = values / taken["ours"]
        spreads = [f"{each.min():.{digits}f} to {each.max():.{digits}f}" for each, digits in ((values, 1), (ratios, 2))]
        rows.append((name, f"{np.median(values):.1f}", spreads[0], f"{np.median(ratios):.2f}", spreads[1]))
    return pd.DataFrame(rows, columns=["loop", "CPU ms an image", "range", "time over ours", "range of ratio"])


def peer_epoch(running: Protocol, batches: Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]) -> Epoch:
    """An epoch of a usual loop over batches of normalised images (N, 1, H, W) and masks (N, H, W)."""
    state, config = running.state, running.config
    network = models.start(running.network).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000)

    def epoch() -> None:
        for images, masks in batches():
            optimizer.zero_grad(set_to_none=True)
            inputs = images.contiguous(memory_format=torch.channels_last)
            loss = running.objective.loss(inference.forward(network, inputs, state.precision), masks)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
            optimizer.step()
            schedule.step()
            loss.item()

    return epoch


def monai_batches(running: Protocol) -> Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]:
    """MONAI's CacheDataset with the study's augmentation; normalisation is done once, in the cache."""
    config, keys = running.config, ("image", "label")
    shift = [config.shift_fraction * side for side in running.data.masks.shape[1:]]
    change = config.brightness_contrast
    steps = [
        monai_transforms.EnsureTyped(keys, track_meta=False),
        monai_transforms.RandFlipd(keys, prob=config.horizontal_flip, spatial_axis=1),
        monai_transforms.RandAffined(
            keys,
            prob=config.affine_probability,
            rotate_range=math.radians(config.rotation_deg),
            translate_range=shift,
            scale_range=config.scale_fraction,
            mode=("bilinear", "nearest"),
            padding_mode="border",
        ),
        monai_transforms.RandScaleIntensityd("image", factors=change, prob=config.intensity_probability),
        monai_transforms.RandShiftIntensityd("image", offsets=change, prob=config.intensity_probability),
    ]
    items = [{"image": image, "label": mask[None]} for image, mask in zip(normalised(running.data), running.data.masks)]
    cases = monai_data.CacheDataset(
        items, monai_transforms.Compose(steps), cache_rate=1.0, num_workers=0, progress=False
    )
    loader = monai_data.DataLoader(cases, batch_size=config.batch_size, shuffle=True, num_workers=0)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in loader:
            yield batch["image"], batch["label"][:, 0]

    return batches


def nnunet_loader(running: Protocol, folder: Path) -> nnUNetDataLoader:
    """nnU-Net's loader of compressed files in a folder, with the study's augmentation in batchgeneratorsv2."""
    config, size = running.config, running.data.masks.shape[1:]
    for name, image, mask in zip(running.data.names, normalised(running.data), running.data.masks):
        locations = {1: np.pad(np.argwhere(mask == 1), ((0, 0), (2, 0)))}  # (N, 4): channel, slice, row, column
        block = (1, 1, *size)
        path = str(folder / name)
        nnUNetDatasetBlosc2.save_case(
            image[:, None], mask[None, None].astype(np.int8), {"class_locations": locations}, path, block, block
        )
    change = (1 - config.brightness_contrast, 1 + config.brightness_contrast)
    share, turn = config.affine_probability, math.radians(config.rotation_deg)
    brightness = MultiplicativeBrightnessTransform(BGContrast(change), synchronize_channels=False)
    contrast = ContrastTransform(BGContrast(change), preserve_range=True, synchronize_channels=False)
    steps = [
        SpatialTransform(
            size,
            patch_center_dist_from_border=0,
            random_crop=False,
            p_rotation=share,
            rotation=(-turn, turn),
            p_scaling=share,
            scaling=(1 - config.scale_fraction, 1 + config.scale_fraction),
            p_synchronize_scaling_across_axes=1,
        ),
        RandomTransform(brightness, config.intensity_probability),
        RandomTransform(contrast, config.intensity_probability),
        MirrorTransform((1,)),
        RemoveLabelTansform(-1, 0),
    ]
    labels = LabelManager({"background": 0, "head": 1}, None)
    cases = nnUNetDatasetBlosc2(str(folder))
    return nnUNetDataLoader(
        cases, config.batch_size, size, size, labels, FOREGROUND, transforms=ComposeTransforms(steps)
    )


def nnunet_batches(loader: nnUNetDataLoader, steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """A number of batches of nnU-Net's loader, which has no epochs."""
    for _ in range(steps):
        batch = next(loader)
        yield batch["data"], batch["target"][:, 0]


def normalised(data: Arrays) -> np.ndarray:
    """Images as the network gets them, (N, 1, H, W) float32."""
    return ((data.images.astype(np.float32) - GREY[0]) / GREY[1]).astype(np.float32)


if __name__ == "__main__":
    main()
