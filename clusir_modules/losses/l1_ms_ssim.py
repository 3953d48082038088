"""The joint objective of ClusIR."""

from __future__ import annotations

import math

from torch import Tensor, nn

from .ms_ssim import ms_ssim

__all__ = ["L1MSSSIMLoss"]


class L1MSSSIMLoss(nn.Module):
    r"""Mean absolute error plus weighted structural dissimilarity.

    .. math:: \operatorname{mean} |p - t| + \lambda (1 - \operatorname{MS\text{-}SSIM}(p, t))

    Args:
        ms_ssim_weight: :math:`\lambda >= 0`; the paper gives no value, the default is this project's choice.

    Shape:
        ``pred`` and ``target`` ``(B, C, H, W)`` in [0, 1], any size, to a scalar.

    Raises:
        ValueError: a negative or infinite weight; in ``forward`` two shapes, no 4-D tensor or no image.
        TypeError: an integer tensor.

    Reference: ClusIR, arXiv:2512.10948, experimental setup (L1 and MS-SSIM).
    """

    def __init__(self, ms_ssim_weight: float = 0.2) -> None:
        super().__init__()
        if not 0 <= ms_ssim_weight < math.inf:  # NaN too
            raise ValueError(f"ms_ssim_weight must be finite and >= 0, got {ms_ssim_weight}")
        self.ms_ssim_weight = ms_ssim_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        similarity = ms_ssim(pred, target)
        return (pred - target).abs().mean() + self.ms_ssim_weight * (1 - similarity)

    def extra_repr(self) -> str:
        return f"ms_ssim_weight={self.ms_ssim_weight}"
