"""Photographs of scikit-image, trained weights, and the layout that the pictures share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import skimage.data
import torch
from torch import Tensor

import clusir_modules as cm
from clusir_modules.data import Degradation, GaussianNoise, Haze, LowLight, MotionBlur, RainStreaks

ASSETS = Path(__file__).parents[1] / "assets"
FIVE: dict[str, Degradation] = {
    "noise": GaussianNoise(25),
    "rain": RainStreaks(),
    "haze": Haze(),
    "blur": MotionBlur(),
    "low light": LowLight(),
}
"""The five tasks that all-in-one papers compare on."""


def photograph(name: str, top: int = 0, left: int = 0, size: int | None = None) -> Tensor:
    """A photograph that scikit-image brings along, or a square of it, ``(3, H, W)`` in [0, 1]."""
    image = torch.from_numpy(getattr(skimage.data, name)()[..., :3].copy()).permute(2, 0, 1).float() / 255
    return image if size is None else image[:, top : top + size, left : left + size]


def degraded(image: Tensor, degradation: Degradation, seed: int = 0) -> Tensor:
    """The image degraded, always alike for one seed."""
    return degradation(image, torch.Generator().manual_seed(seed))


@cache
def trained_tiny() -> cm.ClusIR:
    """The all-in-one network that comes with the package."""
    return cm.clusir_tiny(pretrained=True).eval()


@cache
def trained_mprnet() -> cm.MPRNet:
    """A small MPRNet trained on pairs of rainy and clean photographs by ``mprnet_small_pairs.yml``."""
    from clusir_modules.serialization.checkpoints import load_weights

    net = cm.MPRNet(16, unet_step=8, orsnet_step=8, num_cabs=2)
    load_weights(net, ASSETS / "mprnet_small_pairs.safetensors")
    return net.eval()


def psnr(image: Tensor, target: Tensor) -> float:
    """Decibels, values clipped to [0, 1]."""
    return -10 * float((image.clamp(0, 1) - target).square().mean().log10())


def show(axes: Any, image: Tensor, title: str, **options: Any) -> None:
    """Draw ``(3, H, W)`` or ``(H, W)`` without ticks."""
    picture = image.detach().clamp(0, 1).permute(1, 2, 0) if image.dim() == 3 else image.detach()
    axes.imshow(picture.numpy(), interpolation="nearest", **options)
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def sheet(pictures: Sequence[tuple[str, Tensor]], columns: int, path: Path) -> None:
    """Save titled pictures in rows of ``columns``."""
    rows = -(-len(pictures) // columns)
    height, width = pictures[0][1].shape[-2:]
    figure, grid = plt.subplots(
        rows, columns, figsize=(2.3 * columns, 2.3 * rows * height / width + 0.25 * rows), layout="constrained"
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (title, image) in zip(grid.flat, pictures):
        axes.set_axis_on()
        options = {} if image.dim() == 3 else {"cmap": "gray"}
        show(axes, image, title, **options)
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write the picture and free its memory."""
    figure.savefig(path, dpi=130, facecolor="white")
    plt.close(figure)
