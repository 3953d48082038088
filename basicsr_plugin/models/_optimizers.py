"""Optimizers by the name that ``train.optim_g.type`` gives."""

from __future__ import annotations

import inspect

import torch
from torch.optim import Optimizer

__all__ = ["find_optimizer"]

_UNSUITABLE = ("Optimizer", "LBFGS", "SparseAdam")
"""The base class, one that must evaluate the loss itself, and one for sparse gradients."""


def find_optimizer(name: str | None) -> type[Optimizer]:
    """Class of ``torch.optim`` with this name.

    Raises:
        ValueError: There is none that works with dense gradients and without a closure.
    """
    found = {
        key: value
        for key, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, Optimizer) and key not in _UNSUITABLE
    }
    if name not in found:
        raise ValueError(f"train.optim_g.type must be one of {', '.join(sorted(found))}, got {name!r}")
    return found[name]
