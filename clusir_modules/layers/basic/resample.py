"""Learned halving and doubling of the resolution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.checks import check_positive
from ...ops.precision import convolve

__all__ = ["Downsample", "Upsample"]


class Downsample(nn.Sequential):
    """Halve the resolution and double the channels: 3x3 convolution, then pixel unshuffle (this project's choice).

    Shape:
        ``(B, dim, H, W)``, ``dim``, ``H`` and ``W`` even, to ``(B, 2 dim, H / 2, W / 2)``.

    Raises:
        TypeError: ``dim`` is no integer.
        ValueError: ``dim`` is odd or below 1.
    """

    def __init__(self, dim: int) -> None:
        if check_positive("dim", dim) % 2:
            raise ValueError(f"dim must be even, got {dim}")
        super().__init__(nn.Conv2d(dim, dim // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(convolve(self[0], x), 2)


class Upsample(nn.Sequential):
    """Double the resolution and halve the channels: 1x1 convolution, then pixel shuffle.

    As in NAFNet (this project's choice: a 3x3 convolution here was a seventh of the operations of the whole network).

    Shape:
        ``(B, dim, H, W)``, ``dim`` even, to ``(B, dim / 2, 2 H, 2 W)``.

    Raises:
        TypeError: ``dim`` is no integer.
        ValueError: ``dim`` is odd or below 1.
    """

    def __init__(self, dim: int) -> None:
        if check_positive("dim", dim) % 2:
            raise ValueError(f"dim must be even, got {dim}")
        super().__init__(nn.Conv2d(dim, 2 * dim, 1, bias=False), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(convolve(self[0], x), 2)
