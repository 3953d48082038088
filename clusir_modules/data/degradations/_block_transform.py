"""What JPEG loses, for a batch: chroma at half the resolution, and rounding of the cosine transform of 8x8 blocks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["code_batch"]

# Quantization at quality 50, row by row (ITU-T T.81, tables K.1 and K.2).
_LUMA = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
_CHROMA = "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99" + 32 * " 99"


def code_batch(levels: Tensor, quality: Tensor) -> Tensor:
    """Gray levels after JPEG at a quality for each image: the arithmetic of libjpeg, without the entropy coding.

    Args:
        levels: ``(B, 3, H, W)`` (then chroma is 4:2:0) or ``(B, 1, H, W)``, whole numbers 0..255 in floating point.
        quality: whole numbers 1..100, ``(B, 1, 1, 1)``.
    """
    height, width = levels.shape[2:]
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    if levels.shape[1] == 1:
        return _round_trip(_pad_to(levels, 8, 8), _LUMA, scale)[:, :, :height, :width]
    red, green, blue = _pad_to(levels, 2, 16).split(1, 1)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue).round()
    blueness = (-0.168735892 * red - 0.331264108 * green + 0.5 * blue + 128).round()
    redness = (0.5 * red - 0.418687589 * green - 0.081312411 * blue + 128).round()
    luma = _round_trip(_pad_to(luma, 8, 8), _LUMA, scale)[:, :, :height, :width]
    # Libjpeg repeats the last column before chroma is halved, and the last row after that.
    chroma = _round_trip(_pad_to(_halve(torch.cat([blueness, redness], 1)), 8, 8), _CHROMA, scale)
    chroma = _double(chroma[:, :, : -(-height // 2), : -(-width // 2)])[:, :, :height, :width] - 128
    blueness, redness = chroma.split(1, 1)
    green = (luma - 0.344136286 * blueness - 0.714136286 * redness).round()
    return torch.cat([luma + (1.402 * redness).round(), green, luma + (1.772 * blueness).round()], 1).clamp(0, 255)


def _pad_to(levels: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column up to multiples."""
    return F.pad(levels, (0, -levels.shape[3] % columns, 0, -levels.shape[2] % rows), mode="replicate")


def _halve(levels: Tensor) -> Tensor:
    """Mean of 2x2 pixels; a half is rounded down and up in turn along a row, as libjpeg does."""
    bias = torch.arange(levels.shape[3] // 2, device=levels.device) % 2 * 0.25 + 0.25
    return (F.avg_pool2d(levels, 2) + bias).floor()


def _double(levels: Tensor) -> Tensor:
    """Linear interpolation, the "fancy upsampling" of libjpeg; a half is rounded up and down in turn along a row."""
    if levels.shape[3] <= 2:  # too narrow for it
        return F.interpolate(levels, scale_factor=2, mode="nearest")
    bias = 0.5 - torch.arange(2 * levels.shape[3], device=levels.device) % 2 / 16
    return (F.interpolate(levels, scale_factor=2, mode="bilinear", align_corners=False) + bias).floor()


def _round_trip(levels: Tensor, table: str, scale: Tensor) -> Tensor:
    """Transform blocks of 8x8, round to multiples of the table in percent, and transform back.

    Shape:
        levels ``(B, C, H, W)``, H and W multiples of 8; scale ``(B, 1, 1, 1)``; output as the levels.
    """
    batch, channels, height, width = levels.shape
    numbers = torch.tensor([int(number) for number in table.split()], dtype=levels.dtype)
    steps = numbers.to(levels.device, non_blocking=True).view(8, 8) * scale
    steps = ((steps + 50) / 100).floor().clamp(1, 255)[:, :, None, None]
    index = torch.arange(8, device=levels.device, dtype=levels.dtype)
    transform = torch.cos((2 * index + 1) * index[:, None] * (math.pi / 16)) / 2
    transform[0] = math.sqrt(1 / 8)
    blocks = (levels - 128).view(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    multiples = (transform @ blocks @ transform.T) / steps
    # Flat blocks have many halves. These are rounded away from 0, also where a rounding error makes them less.
    multiples = (multiples.abs() + (0.5 + 1e-4)).floor() * multiples.sign()
    blocks = (transform.T @ (multiples * steps) @ transform).transpose(3, 4)
    return (blocks.reshape(batch, channels, height, width).round() + 128).clamp(0, 255)
