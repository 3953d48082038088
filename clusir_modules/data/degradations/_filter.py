"""Filtering by a small kernel in linear light, with mirrored borders: of one image, of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["blur", "blur_batch", "mirrored", "pad_batch", "pad_image"]


def pad_image(image: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Pad ``(C, H, W)`` by mirroring without repeating the edge, or by the edge where it is too small for that."""
    fits_w = max(left, right) < image.shape[2]
    fits_h = max(top, bottom) < image.shape[1]
    image = F.pad(image[None], (left, right, 0, 0), mode="reflect" if fits_w else "replicate")
    return F.pad(image, (0, 0, top, bottom), mode="reflect" if fits_h else "replicate")[0]


def mirrored(index: Tensor, length: Tensor | int) -> Tensor:
    """Indices within ``[0, length)`` for any whole numbers: as if both edges were mirrors that do not repeat them."""
    period = (2 * torch.as_tensor(length) - 2).clamp_min(1)
    index = index % period
    return torch.minimum(index, period - index)


def pad_batch(images: Tensor, margin: int) -> Tensor:
    """Pad ``(B, C, H, W)`` by mirroring as often as it takes."""
    for axis in (2, 3):
        length = images.shape[axis]
        around = torch.arange(-margin, length + margin, device=images.device)
        images = images.index_select(axis, mirrored(around, length))
    return images


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


def blur_batch(images: Tensor, kernels: Tensor, gamma: float) -> Tensor:
    """:func:`blur` of every image by a kernel of its own, by way of the Fourier transform.

    Within 1e-6 of the direct sum in linear light, in single precision.

    Shape:
        images ``(B, C, H, W)`` in [0, 1]; kernels ``(B, 2R+1, 2R+1)``; output as the images.
    """
    radius = kernels.shape[-1] // 2
    height, width = images.shape[2:]
    light = images.clamp(0, 1)
    if gamma != 1:
        light = light.pow(gamma)
    padded = pad_batch(light, radius)
    # What the circular convolution wraps around lies in the padding; multiples of 16 have fast transforms.
    size = [-(-length // 16) * 16 for length in padded.shape[2:]]
    spectrum = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(kernels, s=size)[:, None]
    blurred = torch.fft.irfft2(spectrum, s=size)
    result = blurred[:, :, 2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width].clamp(0, 1)
    return result if gamma == 1 else result.pow(1 / gamma)
