"""Written islands of full precision inside autocast regions."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["full_precision", "widen"]


def widen(x: Tensor) -> Tensor:
    """Return ``x`` as float32, or unchanged if it is float64 already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Context in which autocast is off on the device of ``x``, for softmax gates, Fourier transforms and norms."""
    if x.device.type == "meta":  # has no autocast; torch.compile cannot ask torch for it before torch 2.15
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
