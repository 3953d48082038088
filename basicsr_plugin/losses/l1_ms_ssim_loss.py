"""L1 + MS-SSIM in BasicSR's registry."""

from __future__ import annotations

import math

from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor

from basicsr_plugin.compat.registration import register_once
from clusir_modules.losses import l1_ms_ssim

__all__ = ["L1MSSSIMLoss"]


class L1MSSSIMLoss(l1_ms_ssim.L1MSSSIMLoss):
    """``clusir_modules.L1MSSSIMLoss`` with the weight that BasicSR's losses have.

    Args:
        ms_ssim_weight: Weight of 1 - MS-SSIM against L1.
        knee: Error of an image from which on it counts by its logarithm.
        loss_weight: Factor of the whole.
    """

    def __init__(self, ms_ssim_weight: float = 0.2, *, knee: float = math.inf, loss_weight: float = 1.0) -> None:
        super().__init__(ms_ssim_weight, knee=knee)
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Weighted loss of ``pred`` against ``target``, both (B, C, H, W) in [0, 1]."""
        return self.loss_weight * super().forward(pred, target)


register_once(LOSS_REGISTRY, L1MSSSIMLoss)
