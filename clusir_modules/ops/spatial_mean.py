"""Mean of a map over its pixels."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["spatial_mean"]


def spatial_mean(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Mean over the pixels of ``(B, C, H, W)`` as ``(B, C)``, computed in ``dtype``; one pixel is taken as it is."""
    if x.shape[2:] == (1, 1):
        return x.flatten(1).to(dtype or x.dtype)
    return x.mean(dim=(2, 3), dtype=dtype)
