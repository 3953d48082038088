"""The plugin's own entries of the ``train`` and ``logger`` sections, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from basicsr_plugin.checkpoints import FORMATS

__all__ = ["TrainSettings", "iteration_seed"]

_AMP_DTYPES = {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}
_MAX_SKIPPED_STEPS = 10
"""Enough for a few bad pictures in a row, few enough to end a run that has diverged (this project's choice)."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How an optimizer step is taken.

    Attributes:
        amp_dtype: Type of mixed precision, or None.
        accum_iter: Iterations whose gradients are averaged into one step.
        max_grad_norm: Bound of the gradient's norm, infinite if gradients are not clipped.
        max_skipped_steps: Steps in a row that may be left out since loss or gradient is not finite; one more ends the
            run. 10 by default.
    """

    amp_dtype: torch.dtype | None
    accum_iter: int
    max_grad_norm: float
    max_skipped_steps: int

    @classmethod
    def from_options(cls, opt: Mapping[str, Any]) -> TrainSettings:
        """Read the settings off the options.

        Raises:
            ValueError: A value is not accepted, or two do not fit.
        """
        train, logger = opt["train"], opt["logger"]
        amp = train.get("amp")
        if amp not in _AMP_DTYPES:
            raise ValueError(f"train.amp must be bf16, fp16 or ~ (none), got {amp!r}")
        accum_iter = train.get("accum_iter", 1)
        if not isinstance(accum_iter, int) or accum_iter < 1:
            raise ValueError(f"train.accum_iter must be a whole number of at least 1, got {accum_iter!r}")
        save_freq = logger["save_checkpoint_freq"]
        if save_freq % accum_iter:
            raise ValueError(
                f"train.accum_iter must divide logger.save_checkpoint_freq, {save_freq:g}, got {accum_iter}: a "
                "checkpoint holds no half-accumulated gradient"
            )
        max_norm = train.get("grad_clip_max_norm")
        if train.get("grad_clip") and (max_norm is None or not max_norm > 0):
            raise ValueError(f"train.grad_clip needs a positive train.grad_clip_max_norm, got {max_norm!r}")
        max_skipped = train.get("max_skipped_steps", _MAX_SKIPPED_STEPS)
        if not isinstance(max_skipped, int) or max_skipped < 0:
            raise ValueError(f"train.max_skipped_steps must be a whole number of at least 0, got {max_skipped!r}")
        file_format = logger.get("save_checkpoint_format", FORMATS[0])
        if file_format not in FORMATS:
            raise ValueError(f"logger.save_checkpoint_format must be one of {FORMATS}, got {file_format!r}")
        return cls(
            amp_dtype=_AMP_DTYPES[amp],
            accum_iter=accum_iter,
            max_grad_norm=max_norm if train.get("grad_clip") else float("inf"),
            max_skipped_steps=max_skipped,
        )


def iteration_seed(manual_seed: int, iteration: int, rank: int) -> int:
    """Seed of one iteration of one process, mixed into the low 32 bits: torch's CPU generator uses no others."""
    return int(np.random.SeedSequence((manual_seed, iteration, rank)).generate_state(1, np.uint64)[0])
