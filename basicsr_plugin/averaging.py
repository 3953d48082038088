"""The exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["move_average"]


@torch.no_grad()
def move_average(average: nn.Module, net: nn.Module, weight: float | Tensor) -> None:
    """Move the parameters of ``average`` towards those of ``net`` by a share of their distance, and copy the buffers.

    Args:
        average: Network of the same parameters and buffers.
        net: The trained network.
        weight: Share in (0, 1]. A scalar tensor on the device may also be 0, which leaves everything as it was; nobody
            has to wait for its value.
    """
    averages, values = list(average.parameters()), [p.detach() for p in net.parameters()]
    distances = torch._foreach_sub(values, averages)
    torch._foreach_mul_(distances, weight)
    torch._foreach_add_(averages, distances)
    for old, new in zip(average.buffers(), net.buffers(), strict=True):
        old.copy_(torch.where(weight > 0, new, old) if isinstance(weight, Tensor) else new)
