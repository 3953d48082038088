"""Filtering of one image by a small non-negative kernel in linear light, with mirrored borders."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["blur", "pad_image"]


def pad_image(image: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Pad ``(C, H, W)`` by mirroring without repeating the edge, or by the edge where it is too small for that."""
    fits_w = max(left, right) < image.shape[2]
    fits_h = max(top, bottom) < image.shape[1]
    image = F.pad(image[None], (left, right, 0, 0), mode="reflect" if fits_w else "replicate")
    return F.pad(image, (0, 0, top, bottom), mode="reflect" if fits_h else "replicate")[0]


def blur(image: Tensor, kernel: Tensor, gamma: float) -> Tensor:
    """Convolve every channel with ``kernel`` and return to display values: ``(k * image**gamma) ** (1/gamma)``.

    A direct sum over the non-zero taps: as fast as an FFT for sparse kernels, and exact on flat and black areas.

    Shape:
        image ``(C, H, W)`` in [0, 1]; kernel ``(2R+1, 2R+1)``, non-negative, sum 1; output as the image.
    """
    radius = kernel.shape[0] // 2
    height, width = image.shape[1:]
    light = image.clamp(0, 1)
    if gamma != 1:
        light = light.pow(gamma)
    padded = pad_image(light, radius, radius, radius, radius)
    result = light.new_zeros(light.shape)
    for row, column in kernel.nonzero().tolist():
        top, left = 2 * radius - row, 2 * radius - column
        window = padded[:, top : top + height, left : left + width]
        result.add_(window, alpha=float(kernel[row, column]))
    result = result.clamp(0, 1)
    return result if gamma == 1 else result.pow(1 / gamma)
