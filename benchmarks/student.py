"""A plain training loop as students write it, to compare with: what the loop of this project saves.

PNG files decoded in each epoch, albumentations in the main process, float32, torch's default memory layout, and the
loss read back in each step. The files hold images at network size, which spares it the resizing.
"""

from collections.abc import Callable
from pathlib import Path

import albumentations
import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.protocol import Protocol
from lib import losses, models
from lib.data.arrays import Arrays
from lib.study import params
from lib.training import augmentation, loop
from lib.training.augmentation import Augmentation


class PngCases(Dataset):
    """Images and masks in PNG files."""

    def __init__(self, folder: Path, names: list[str], transform: albumentations.Compose) -> None:
        self.folder, self.names, self.transform = folder, names, transform

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = cv2.imread(str(self.folder / f"{self.names[index]}.png"), cv2.IMREAD_GRAYSCALE)
        mask = cv2.imread(str(self.folder / f"{self.names[index]}_mask.png"), cv2.IMREAD_GRAYSCALE)
        changed = self.transform(image=image, mask=mask)
        return torch.from_numpy(changed["image"]).float()[None] / 255, torch.from_numpy(changed["mask"]).long()


def epoch_of(protocol: Protocol, count: int, folder: Path) -> Callable[[], float]:
    """Function that trains one epoch on `count` images of the protocol's arrays and returns the mean loss."""
    config, device = protocol.config, protocol.state.device
    names = write_files(protocol.data, count, folder)
    cases = PngCases(folder, names, augmentation.pipeline(params.pick(config, Augmentation), np.dtype(np.uint8))[0])
    loader = DataLoader(cases, batch_size=config.batch_size, shuffle=True)  # type: ignore[arg-type]
    network = models.start(protocol.network).to(device).train()
    optimizer, mixture = torch.optim.AdamW(network.parameters(), lr=config.learning_rate), loop.mixture_of(config)

    def epoch() -> float:
        total = 0.0
        for images, masks in loader:
            images, masks = images.to(device), masks.to(device)
            loss = losses.combined(network(images), masks, mixture)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / len(loader)

    return epoch


def write_files(data: Arrays, count: int, folder: Path) -> list[str]:
    """Writes images and masks as PNG and returns the names of `count` cases, the arrays repeated as needed."""
    names = data.names[:count]
    for name, (image,), mask in zip(names, data.images, data.masks):
        cv2.imwrite(str(folder / f"{name}.png"), image)
        cv2.imwrite(str(folder / f"{name}_mask.png"), mask)
    return np.resize(np.array(names), count).tolist()
