"""Seeds of any size, for generators that take 32 bits of them."""

from __future__ import annotations

import random

import numpy as np
import torch

__all__ = ["LARGEST_SEED", "fold_seed", "seed_everything"]

LARGEST_SEED = 2**64 - 1


def fold_seed(seed: int) -> int:
    """The seed itself if it has at most 32 bits, else 32 bits that depend on all of its own.

    NumPy's global generator takes no more, and torch's on the CPU uses no more.
    """
    return seed if 0 <= seed < 2**32 else int(np.random.SeedSequence(seed).generate_state(1)[0])


def seed_everything(seed: int) -> None:
    """Seed ``random``, NumPy and torch; stands in for BasicSR's ``set_random_seed``, which fails from 2**32 on."""
    folded = fold_seed(seed)
    random.seed(folded)
    np.random.seed(folded)  # noqa: NPY002 - the generator that BasicSR draws from
    torch.manual_seed(folded)
