"""Moving average of a network."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["Average"]


class Average:
    """Keeps a second network at the moving average of a trained one, buffers included.

    Args:
        net: Network that becomes the average, of the trained one's class.
        decay: Weight of the old average in each update; in [0, 1).
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = net.eval()
        self.decay = decay

    def copy(self, trained: nn.Module) -> None:
        """Start from a network."""
        self._move(trained, 0.0)

    def update(self, trained: nn.Module) -> None:
        """Move towards a network: parameters by 1 - ``decay``, buffers entirely."""
        self._move(trained, self.decay)

    @torch.no_grad()
    def _move(self, trained: nn.Module, decay: float) -> None:
        update = get_ema_multi_avg_fn(decay)
        update(list(self.net.parameters()), [p.detach() for p in trained.parameters()], 0)
        for average, buffer in zip(self.net.buffers(), trained.buffers(), strict=True):
            average.copy_(buffer)
