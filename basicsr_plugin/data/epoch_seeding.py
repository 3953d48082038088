"""Makes any BasicSR data set reproducible, whatever the number of loader workers."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import torch

from basicsr_plugin.data.named_samples import NamedSamples

__all__ = ["EpochSeeded"]

_ONE_SAMPLE_AT_A_TIME = threading.Lock()
"""The generators belong to the process, and BasicSR's ``prefetch_mode: cpu`` leaves threads of older epochs running."""


class EpochSeeded(NamedSamples):
    """Data set whose random numbers depend on (seed, epoch, index) only.

    BasicSR's data sets draw crops and flips from the global generators, so that a sample depends on which worker loads
    it and on all that this worker loaded before. Here the generators of ``random``, NumPy and torch are seeded before
    every sample.

    Args:
        dataset: The data set to wrap; its attributes remain readable.
        seed: Seed of the run.

    Raises:
        RuntimeError: In ``dataset[i]``, a sample cannot be loaded; the message names its files.
    """

    accepts_epoch = True

    def __init__(self, dataset: Any, *, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        words = np.random.SeedSequence((self.seed, epoch, index)).generate_state(3)
        with _ONE_SAMPLE_AT_A_TIME:
            return self._draw(index, words)

    def _draw(self, index: int, words: np.ndarray[Any, Any]) -> Any:
        random.seed(int(words[0]))
        np.random.seed(int(words[1]))  # noqa: NPY002 - the generator that BasicSR draws from
        # A thread of `prefetch_mode: cpu` runs beside the model, which uses torch's generator at the same time.
        if threading.current_thread() is threading.main_thread():
            torch.manual_seed(int(words[2]))
        return self.load(index)
