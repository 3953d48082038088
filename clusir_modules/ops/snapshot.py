"""A copy that a compiled backward pass may rely on."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["snapshot"]


@torch.library.custom_op("clusir_modules::snapshot", mutates_args=())
def snapshot(x: Tensor) -> Tensor:
    """Copy a buffer that the forward pass changes later on, for a gradient that needs what it was before.

    ``torch.compile`` (2.6 to 2.15) computes such values in the backward pass again, from the buffer as it is by then,
    a ``clone`` included: the gradient is wrong without a word. The output of a custom operator is kept.
    """
    return x.clone()


@snapshot.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)
