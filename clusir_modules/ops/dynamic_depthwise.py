"""Depthwise convolution with kernels of its own for each image."""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from .tracing import exporting

__all__ = ["dynamic_depthwise"]


def dynamic_depthwise(x: Tensor, kernels: Tensor, bias: Tensor | None = None, *, padding: int = 0) -> Tensor:
    """Convolve each channel of each image with its own kernel, zeros outside.

    Shape:
        ``x`` ``(B, C, H, W)``, ``kernels`` ``(B, C, k, k)``, ``bias`` ``(B, C)`` to ``(B, C, H', W')``.

    Note: several images are convolved as channels of one. On a CPU those lie side by side in each pixel, which torch
    convolves three to five times as fast; the result is laid out like that, so that each image has its channels in
    neighboring places.
    """
    batch, channels = kernels.shape[:2]
    if isinstance(batch, torch.SymInt) and exporting():
        return _shift_and_add(x, kernels, bias, padding)
    if bias is not None and torch.compiler.is_compiling():  # Inductor of torch 2.8 cannot convolve with a gathered bias
        return dynamic_depthwise(x, kernels, padding=padding) + bias[..., None, None]
    weight = kernels.flatten(0, 1).unsqueeze(1)
    bias = None if bias is None else bias.flatten()
    if batch == 1:
        return F.conv2d(x, weight, bias, padding=padding, groups=channels)
    if x.device.type == "cpu":
        joined = x.permute(2, 3, 0, 1).reshape(1, *x.shape[2:], -1).permute(0, 3, 1, 2)
    else:
        joined = x.reshape(1, batch * channels, *x.shape[2:])
    y = F.conv2d(joined, weight, bias, padding=padding, groups=batch * channels)
    return y.squeeze(0).unflatten(0, (batch, channels))


def _shift_and_add(x: Tensor, kernels: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """The same without groups, whose number ONNX wants to know: it is that of the images."""
    x = F.pad(x, (padding,) * 4)
    size = kernels.shape[2]
    height, width = (length - size + 1 for length in x.shape[2:])
    parts = (
        x.narrow(2, row, height).narrow(3, column, width) * kernels[:, :, row, column, None, None]
        for row in range(size)
        for column in range(size)
    )
    y = reduce(torch.add, parts)
    return y if bias is None else y + bias[..., None, None]
