"""Moving average of a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Average", "move_average"]


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
        self.net.load_state_dict(trained.state_dict())

    def update(self, trained: nn.Module, taken: float | Tensor = 1.0) -> None:
        """Move towards a network: parameters by 1 - ``decay``, buffers entirely.

        Args:
            trained: The network.
            taken: Whether to, as a number: 0 leaves everything as it was. It may be a scalar tensor on the device, for
                whose value nobody has to wait.
        """
        move_average(self.net, trained, (1 - self.decay) * taken)


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
