"""Running a network on images of any size: padded to its window, and in overlapping tiles."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["run_padded", "run_tiled"]


def run_padded(net: Callable[[Tensor], Tensor], image: Tensor, multiple: int) -> Tensor:
    """Run a network on an image padded below and right to a multiple of its window, and crop the result.

    Args:
        net: Maps (B, C, H, W) to (B, C, s * H, s * W) for some whole s.
        image: Shape (B, C, H, W).
        multiple: Side lengths are raised to a multiple of it: by reflection, by repeating the border where the image is
            too small to reflect.

    Returns:
        Result of the unpadded size, shape (B, C, s * H, s * W).
    """
    height, width = image.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if below or right:
        mode = "reflect" if below < height and right < width else "replicate"
        image = F.pad(image, (0, right, 0, below), mode=mode)
    result = net(image)
    scale = result.shape[-1] // image.shape[-1]
    return result[..., : height * scale, : width * scale]


def run_tiled(net: Callable[[Tensor], Tensor], image: Tensor, *, tile: int, overlap: int) -> Tensor:
    """Run a network on overlapping tiles and blend the results smoothly.

    Within an overlap the weight of a tile falls linearly towards its edge, so that seams do not show; results of a
    network that works on each pixel alone are unchanged, to rounding.

    Args:
        net: As for :func:`run_padded`.
        image: Shape (B, C, H, W).
        tile: Side of the tiles, in input pixels. A smaller image is run whole.
        overlap: Pixels that neighbors share at least, in [0, tile).

    Returns:
        Result, shape (B, C, s * H, s * W).

    Raises:
        ValueError: ``overlap`` is not in [0, tile).
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap must be in [0, {tile}), got {overlap}")
    height, width = image.shape[-2:]
    if height <= tile and width <= tile:
        return net(image)
    total = weights = None
    for top in _starts(height, tile, overlap):
        for left in _starts(width, tile, overlap):
            part = image[..., top : top + tile, left : left + tile]
            result = net(part)
            scale = result.shape[-1] // part.shape[-1]
            if total is None or weights is None:
                total = result.new_zeros(*result.shape[:-2], height * scale, width * scale)
                weights = result.new_zeros(height * scale, width * scale)
            rows = slice(top * scale, (top + part.shape[-2]) * scale)
            columns = slice(left * scale, (left + part.shape[-1]) * scale)
            window = torch.outer(
                _ramp(part.shape[-2] * scale, overlap * scale, result),
                _ramp(part.shape[-1] * scale, overlap * scale, result),
            )
            total[..., rows, columns] += window * result
            weights[rows, columns] += window
    if total is None:
        raise ValueError(f"image must not be empty, got shape {tuple(image.shape)}")
    return total / weights


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles along one axis; the last tile ends with the image."""
    last = max(length - tile, 0)
    return [*range(0, last, tile - overlap), last]


def _ramp(length: int, overlap: int, like: Tensor) -> Tensor:
    """Weights that rise over ``overlap`` pixels at both ends, never 0."""
    position = torch.arange(1, length + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(position, position.flip(0)).clamp(max=overlap + 1) / (overlap + 1)
