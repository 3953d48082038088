"""Edge loss in BasicSR's registry."""

from __future__ import annotations

from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor

from basicsr_plugin.compat.registration import register_once
from clusir_modules.losses import edge

__all__ = ["EdgeLoss"]


class EdgeLoss(edge.EdgeLoss):
    """``clusir_modules.EdgeLoss`` with the weight that BasicSR's losses have.

    Args:
        eps: Width of the smooth zone around 0, in units of the images.
        loss_weight: Factor of the whole; MPRNet's is 0.05.
    """

    def __init__(self, *, eps: float = 1e-3, loss_weight: float = 1.0) -> None:
        super().__init__(eps=eps)
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Weighted loss of ``pred`` against ``target``, both (B, C, H, W)."""
        return self.loss_weight * super().forward(pred, target)


register_once(LOSS_REGISTRY, EdgeLoss)
