"""Progressive training: patches grow and batches shrink from phase to phase."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from basicsr_plugin.options.schema import RunOptions

__all__ = ["ProgressivePatches"]


class ProgressivePatches:
    """Cuts each loaded batch down to the patch and batch size of the current phase.

    The option names are Restormer's: ``datasets.train.{mini_batch_sizes,iters,gt_sizes}``. After the last phase's
    iterations its sizes stay.

    Args:
        mini_batch_sizes: Samples of each phase, of those that the loader gives.
        iters: Iterations that each phase lasts.
        gt_sizes: Side of the square target patches of each phase, in pixels.
        gt_size: Side of the patches that the loader gives.
        batch_size: Samples that the loader gives.
        scale: Target size over input size.

    Raises:
        ValueError: The lists differ in length or are empty, or a phase needs more than the loader gives.
    """

    def __init__(
        self,
        mini_batch_sizes: Sequence[int],
        iters: Sequence[int],
        gt_sizes: Sequence[int],
        *,
        gt_size: int,
        batch_size: int,
        scale: int = 1,
    ) -> None:
        lengths = len(mini_batch_sizes), len(iters), len(gt_sizes)
        if len(set(lengths)) != 1 or not lengths[0]:
            raise ValueError(f"mini_batch_sizes, iters and gt_sizes must be of one length, got lengths {lengths}")
        if max(gt_sizes) > gt_size:
            raise ValueError(f"gt_sizes must not exceed gt_size, {gt_size}, got {list(gt_sizes)}")
        if max(mini_batch_sizes) > batch_size:
            raise ValueError(f"mini_batch_sizes must not exceed the batch size, {batch_size}, got {mini_batch_sizes}")
        if any(size % scale for size in gt_sizes):
            raise ValueError(f"gt_sizes must be multiples of scale, {scale}, got {list(gt_sizes)}")
        self.batch_sizes = mini_batch_sizes
        self.gt_sizes = gt_sizes
        self.scale = scale
        self.ends = list(accumulate(iters))

    @classmethod
    def from_options(cls, options: RunOptions) -> ProgressivePatches | None:
        """Those of ``datasets.train``, or None if it has none.

        Raises:
            ValueError: Some of the options are missing, or they do not fit.
        """
        data = options.dataset_options()["train"]
        phases = {name: getattr(data, name) for name in ("mini_batch_sizes", "iters", "gt_sizes")}
        if all(value is None for value in phases.values()):
            return None
        missing = [name for name in (*phases, "gt_size") if getattr(data, name) is None]
        if missing:
            raise ValueError(f"datasets.train: progressive patches also need {', '.join(missing)}")
        replicas = 1 if options.dist or options.num_gpu == "auto" else max(options.num_gpu, 1)
        phases["mini_batch_sizes"] = [size * replicas for size in data.mini_batch_sizes]
        batch_size = data.batch_size_per_gpu * replicas
        return cls(**phases, gt_size=data.gt_size, batch_size=batch_size, scale=options.scale)

    def crop(self, lq: Tensor, gt: Tensor, iteration: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """First samples of a batch, each cut to the same random window.

        Args:
            lq: Input, shape (B, C, H, W).
            gt: Target, shape (B, C, scale * H, scale * W).
            iteration: Counted from 1.
            generator: Source of the window's place, on the CPU.

        Returns:
            Both, cut to the sizes of the iteration's phase.
        """
        phase = min(bisect_right(self.ends, iteration - 1), len(self.ends) - 1)
        samples, side = self.batch_sizes[phase], self.gt_sizes[phase] // self.scale
        top = int(torch.randint(lq.shape[-2] - side + 1, (), generator=generator))
        left = int(torch.randint(lq.shape[-1] - side + 1, (), generator=generator))
        return (
            lq[:samples, :, top : top + side, left : left + side],
            gt[
                :samples,
                :,
                top * self.scale : (top + side) * self.scale,
                left * self.scale : (left + side) * self.scale,
            ],
        )
