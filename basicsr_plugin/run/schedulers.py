"""Learning-rate schedules by the name that ``train.scheduler.type`` gives; all step once per iteration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["LinearWarmupCosineLR", "build_scheduler", "find_scheduler", "require_rates"]


class LinearWarmupCosineLR(LRScheduler):
    """Linear rise to the optimizer's rate, then half a cosine down to ``eta_min``.

    With s the iterations done, W ``warmup_iter`` and T ``total_iter``: start + (base - start) s / W for s < W, then
    eta_min + (base - eta_min) (1 + cos(pi (s - W) / (T - W))) / 2, and eta_min from T on.

    Args:
        optimizer: Its rates are the peaks.
        total_iter: T, in iterations; ``RestorationModel`` fills in ``train.total_iter``.
        warmup_iter: W, in iterations, at most ``total_iter``.
        warmup_start_lr: Rate of the very first iteration. At 0 that iteration changes nothing.
        eta_min: Rate at the end.
        last_epoch: Iterations done, -1 at the start.

    Raises:
        ValueError: ``warmup_iter`` is not in [0, total_iter).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_iter: int,
        *,
        warmup_iter: int = 0,
        warmup_start_lr: float = 0.0,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= warmup_iter < total_iter:
            raise ValueError(f"warmup_iter must be in [0, {total_iter}), got {warmup_iter}")
        self.total_iter = total_iter
        self.warmup_iter = warmup_iter
        self.warmup_start_lr = warmup_start_lr
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Rate of each parameter group after ``last_epoch`` iterations, in closed form."""
        step = self.last_epoch
        if step < self.warmup_iter:
            rise = step / self.warmup_iter
            return [self.warmup_start_lr + (base - self.warmup_start_lr) * rise for base in self.base_lrs]
        progress = min((step - self.warmup_iter) / (self.total_iter - self.warmup_iter), 1.0)
        fall = (1 + math.cos(math.pi * progress)) / 2
        return [self.eta_min + (base - self.eta_min) * fall for base in self.base_lrs]


def require_rates(scheduler: LRScheduler, total_iter: int) -> None:
    """Look at the rates of a new schedule where it turns, and in the last iteration.

    Args:
        scheduler: Its optimizer is used up by this.
        total_iter: Iterations of the run.

    Raises:
        ValueError: There is no rate, or it is negative or not finite.
    """
    turns = [turn for name in ("milestones", "restarts", "cumulative_period") for turn in getattr(scheduler, name, ())]
    for done in sorted({turn for turn in turns if turn < total_iter} | {0, total_iter - 1}):
        scheduler.last_epoch = done
        try:
            rates = scheduler.get_lr()
        except (TypeError, ArithmeticError) as error:
            raise ValueError(f"it has no rate for iteration {done + 1} of {total_iter}") from error
        for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
            if not 0 <= rate < math.inf:
                raise ValueError(f"the rate must be a number >= 0, got {rate} in iteration {done + 1} of {total_iter}")
            group["lr"] = rate


_SCHEDULERS: dict[str, type[LRScheduler]] = {
    "MultiStepLR": MultiStepRestartLR,
    "MultiStepRestartLR": MultiStepRestartLR,
    "CosineAnnealingRestartLR": CosineAnnealingRestartLR,
    "LinearWarmupCosineLR": LinearWarmupCosineLR,
}


def find_scheduler(name: str | None) -> type[LRScheduler]:
    """Class of the schedule with this name: BasicSR's, or :class:`LinearWarmupCosineLR`.

    Raises:
        ValueError: There is none.
    """
    if name not in _SCHEDULERS:
        raise ValueError(f"train.scheduler.type must be one of {', '.join(_SCHEDULERS)}, got {name!r}")
    return _SCHEDULERS[name]


def build_scheduler(optimizer: Optimizer, settings: Mapping[str, Any], total_iter: int) -> LRScheduler:
    """Schedule that ``train.scheduler`` describes.

    Args:
        optimizer: Whose rates it sets.
        settings: "type", and the arguments of its class.
        total_iter: Iterations of the run, for a :class:`LinearWarmupCosineLR` that names none.

    Raises:
        ValueError: There is no such type, or a setting is out of range.
    """
    arguments = dict(settings)
    kind = find_scheduler(arguments.pop("type"))
    if kind is LinearWarmupCosineLR:
        arguments.setdefault("total_iter", total_iter)
    return kind(optimizer, **arguments)
