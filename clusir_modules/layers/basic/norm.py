"""Layer norm over the channels of an NCHW map."""

from __future__ import annotations

from torch import nn

__all__ = ["layer_norm_2d"]


def layer_norm_2d(dim: int) -> nn.Module:
    """Timm's ``LayerNorm2d``, imported on use: importing timm takes longer than importing the rest of this package."""
    from timm.layers import LayerNorm2d

    norm: nn.Module = LayerNorm2d(dim, eps=1e-6)
    return norm
