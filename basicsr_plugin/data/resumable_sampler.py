"""Sampler that continues an interrupted epoch at the sample where it stopped."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sized

import torch
from torch.utils.data import Sampler

__all__ = ["ResumableSampler"]

_SEED_STRIDE = 1_000_003
"""Distance of the shuffling seeds of two runs: more than the epochs of any run, so that runs share no order."""


class ResumableSampler(Sampler):
    """Shuffled indices of one rank, for iteration-based training.

    With ``seed=0`` and ``batch_size=1`` the order is that of BasicSR's ``EnlargedSampler``. Two differences otherwise:
    an epoch's last batch is filled up from the epoch's start instead of being dropped (BasicSR counts it in its number
    of epochs, so that small data sets end training early or never start it), and the order depends on the run's seed.

    Args:
        dataset: Indices are in ``range(len(dataset))``. If it has a true attribute ``accepts_epoch``, the sampler
            yields pairs (epoch, index).
        num_replicas: Number of ranks.
        rank: This process's rank.
        ratio: How often an epoch shows each sample.
        batch_size: Samples that the loader of this rank takes per iteration.
        seed: Seed of the run.
        start_epoch: Epoch that was interrupted.
        start_iteration: Iterations of the whole run done by then; the finished part of ``start_epoch`` is left out.

    Raises:
        ValueError: The data set is empty.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int,
        rank: int,
        ratio: int = 1,
        *,
        batch_size: int = 1,
        seed: int = 0,
        start_epoch: int = 0,
        start_iteration: int = 0,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError("dataset must have at least one sample, got an empty one")
        self.dataset = dataset
        self.num_replicas = num_replicas
        self.rank = rank
        self.seed = seed
        self.epoch = 0
        self.samples_drawn = math.ceil(len(dataset) * ratio / num_replicas)
        self.num_samples = math.ceil(self.samples_drawn / batch_size) * batch_size
        self.start_epoch = start_epoch
        self.start_sample = self._start_sample(start_epoch, start_iteration, batch_size)

    def _start_sample(self, epoch: int, iteration: int, batch_size: int) -> int:
        sample = (iteration * batch_size) - epoch * self.num_samples
        if 0 <= sample <= self.num_samples:
            return sample
        warnings.warn(
            f"iteration {iteration} is not in epoch {epoch} of {self.num_samples // batch_size} iterations: the data "
            "set or the batch size has changed since the run was interrupted; the epoch starts anew",
            stacklevel=3,
        )
        return 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iterator shuffles for."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Samples of a whole epoch, also when the interrupted one is the next."""
        return self.num_samples

    def __iter__(self) -> Iterator[int] | Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * _SEED_STRIDE + self.epoch)
        order = torch.randperm(self.samples_drawn * self.num_replicas, generator=generator)
        order = (order % len(self.dataset))[self.rank :: self.num_replicas]
        order = order.repeat(math.ceil(self.num_samples / self.samples_drawn))[: self.num_samples]
        if self.epoch == self.start_epoch:
            order = order[self.start_sample :]
        indices: list[int] = order.tolist()
        if getattr(self.dataset, "accepts_epoch", False):
            return iter([(self.epoch, index) for index in indices])
        return iter(indices)
