"""Layer norm over the channels of an NCHW map."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LayerNorm2d", "NormFactory"]


class NormFactory(Protocol):
    """Makes the norm of a map with ``dim`` channels; the norm keeps the shape."""

    def __call__(self, dim: int, /) -> nn.Module: ...


class LayerNorm2d(nn.LayerNorm):
    r"""Normalize the channels of each pixel to mean 0 and variance 1, then scale and shift them.

    .. math:: y_c = w_c \frac{x_c - \operatorname{mean}(x)}{\sqrt{\operatorname{var}(x) + \varepsilon}} + b_c

    The ``LayerNorm2d`` of timm, number for number. It stands here because importing timm takes longer than importing
    torch.

    Args:
        dim: channels.
        eps: added to the variance.

    Shape:
        Input and output: ``(B, dim, H, W)``.

    Example:
        >>> LayerNorm2d(16)(torch.rand(2, 16, 9, 7)).shape
        torch.Size([2, 16, 9, 7])

    Reference: Ba et al., "Layer Normalization", 2016.
    """

    def __init__(self, dim: int, *, eps: float = 1e-6) -> None:
        super().__init__(dim, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
