"""Sampler that continues an interrupted epoch at the sample where it stopped, with any number of processes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from basicsr_plugin.compat.seeds import fold_seed

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
        interrupted: What :meth:`position` gave when the run was interrupted. Then the number of ranks and the batch
            size may be others now: what is left of the epoch is shared among the ranks that there are, so that every
            sample comes once. Without it they are taken to be the same.

    Raises:
        ValueError: The data set is empty.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int,
        rank: int,
        ratio: float = 1,
        *,
        batch_size: int = 1,
        seed: int = 0,
        start_epoch: int = 0,
        start_iteration: int = 0,
        interrupted: Mapping[str, Any] | None = None,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError("dataset must have at least one sample, got an empty one")
        self.dataset = dataset
        self.num_replicas = num_replicas
        self.rank = rank
        self.ratio = ratio
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = start_epoch
        self.num_samples = self._filled(math.ceil(len(dataset) * ratio / num_replicas))
        self.start_epoch = start_epoch
        self.start_iteration = start_iteration
        self.parts = self._parts_done(interrupted)
        self.first_iterations = len(self._indices(start_epoch)) // batch_size

    def _parts_done(self, interrupted: Mapping[str, Any] | None) -> list[list[int]]:
        """What is done of the epoch: ranks, batch size and iterations of each process group that worked at it."""
        if interrupted is None:
            done = self.start_iteration - self.start_epoch * (self.num_samples // self.batch_size)
            fits = 0 <= done <= self.num_samples // self.batch_size
            parts = [[self.num_replicas, self.batch_size, done]]
        else:
            fits = (interrupted["samples"], interrupted["ratio"]) == (len(self.dataset), self.ratio)
            parts = [list(part) for part in interrupted["parts"]]
        if fits:
            return parts
        warnings.warn(
            f"iteration {self.start_iteration} is not in epoch {self.start_epoch} of "
            f"{self.num_samples // self.batch_size} iterations: the data set or the batch size has changed since the "
            "run was interrupted; the epoch starts anew",
            stacklevel=4,
        )
        return []

    def position(self, epoch: int, iteration: int) -> dict[str, Any]:
        """Where in its epoch a run is.

        Args:
            epoch: The running one, from 0.
            iteration: The last one of the run that is done.

        Returns:
            What ``interrupted`` takes, plain data.
        """
        done = iteration - self.start_iteration
        parts: list[list[int]] = []
        if epoch == self.start_epoch:
            parts = [list(part) for part in self.parts]
        else:
            done -= self.first_iterations + (epoch - self.start_epoch - 1) * (self.num_samples // self.batch_size)
        now = [self.num_replicas, self.batch_size]
        if parts and parts[-1][:2] == now:
            parts[-1][2] += done
        else:
            parts.append([*now, done])
        return {"samples": len(self.dataset), "ratio": self.ratio, "parts": parts}

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iterator shuffles for."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Samples of a whole epoch, also when the interrupted one is the next."""
        return self.num_samples

    def __iter__(self) -> Iterator[int] | Iterator[tuple[int, int]]:
        indices: list[int] = self._indices(self.epoch).tolist()
        if getattr(self.dataset, "accepts_epoch", False):
            return iter([(self.epoch, index) for index in indices])
        return iter(indices)

    def _indices(self, epoch: int) -> Tensor:
        """What this rank shows in an epoch, or in the rest of the interrupted one."""
        parts = self.parts if epoch == self.start_epoch else []
        rest = self._order(epoch, parts[0][0] if parts else self.num_replicas)
        for ranks, batch_size, iterations in parts[:-1]:
            rest = rest[ranks * batch_size * iterations :]
        if not parts:
            return self._share(rest)
        ranks, batch_size, iterations = parts[-1]
        if (ranks, batch_size) == (self.num_replicas, self.batch_size):
            return self._share(rest)[batch_size * iterations :]
        return self._share(rest[ranks * batch_size * iterations :])

    def _order(self, epoch: int, ranks: int) -> Tensor:
        """An epoch's order for all ranks, who take turns; a few samples come twice if they do not divide it."""
        seed = (fold_seed(self.seed) * _SEED_STRIDE + epoch) % 2**64
        length = math.ceil(len(self.dataset) * self.ratio / ranks) * ranks
        return torch.randperm(length, generator=torch.Generator().manual_seed(seed)) % len(self.dataset)

    def _share(self, order: Tensor) -> Tensor:
        """Part of this rank, filled up so that all ranks have the same number of whole batches."""
        drawn = math.ceil(len(order) / self.num_replicas)
        return _repeat(_repeat(order, drawn * self.num_replicas)[self.rank :: self.num_replicas], self._filled(drawn))

    def _filled(self, samples: int) -> int:
        return math.ceil(samples / self.batch_size) * self.batch_size


def _repeat(order: Tensor, length: int) -> Tensor:
    return order.repeat(math.ceil(length / len(order)))[:length] if len(order) else order
