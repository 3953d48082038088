"""Short lists of numbers as tensors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["constants"]


def constants(values: Iterable[float], like: Tensor) -> Tensor:
    """1-D tensor of the type and on the device of ``like``.

    Each number is written by a fill on the device. ``torch.tensor`` would copy from the host: the host waits for that,
    and a CUDA graph cannot hold it.
    """
    return torch.cat([torch.full((1,), value, dtype=like.dtype, device=like.device) for value in values])
