"""Optimizers by the name that ``train.optim_g.type`` gives, and how a resumed run takes them up."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from torch.optim import Optimizer

__all__ = ["find_optimizer", "resume_optimizers"]

_DECISIVE = ("train.optim_g", "train.scheduler", "train.total_iter", "train.warmup_iter")

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


def resume_optimizers(model: Any, state: Mapping[str, Any], changed: Mapping[str, Any]) -> bool:
    """Take up optimizers of a training state by the rates and settings of the options, if these have changed.

    The schedules are run through to the iteration of the state, as if it had been trained with these options. Moments
    are the state's, unless the type of the optimizer has changed: then they begin anew.

    Args:
        model: Training model, whose optimizers and schedules are new.
        state: The training state.
        changed: Names of the options that have changed.

    Returns:
        Whether this was done; if nothing relevant has changed, nothing is.
    """
    decisive = [name for name in changed if name.startswith(_DECISIVE)]
    if not decisive:
        return False
    warmup = model.options.train.warmup_iter
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for iteration in range(1, state["iter"] + 1):
            SRModel.update_learning_rate(model, iteration, warmup)
    if "train.optim_g.type" not in changed:
        for optimizer, saved in zip(model.optimizers, state["optimizers"], strict=True):
            settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            for group, own in zip(optimizer.param_groups, settings, strict=True):
                group.update(own)
    return True
