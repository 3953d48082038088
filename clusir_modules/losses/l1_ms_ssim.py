"""The joint objective of ClusIR."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ..ops.checks import check_number
from .ms_ssim import ms_ssim

__all__ = ["L1MSSSIMLoss"]


class L1MSSSIMLoss(nn.Module):
    r"""Mean absolute error plus weighted structural dissimilarity.

    .. math::
        \frac{1}{B} \sum_b \phi(\operatorname{mean} |p_b - t_b|) + \lambda (1 - \operatorname{MS\text{-}SSIM}(p, t)),
        \quad \phi(e) = \kappa \log(1 + e / \kappa)

    Args:
        ms_ssim_weight: :math:`\lambda >= 0`; the paper gives no value, the default is this project's choice.
        knee: :math:`\kappa > 0`, the error of an image from which on it counts by its logarithm. Images in low light
            or haze are several times as far from their target as noisy ones, and a mean lets them drown those in a
            network for all. Infinite, the default, is the plain mean of the paper.

    Shape:
        ``pred`` and ``target`` ``(B, C, H, W)`` in [0, 1], any size, to a scalar.

    Raises:
        ValueError: a negative or infinite weight, a knee that is not positive; in ``forward`` two shapes, no 4-D tensor
            or no image.
        TypeError: a weight or knee that is not a number; in ``forward`` an integer tensor.

    Example:
        >>> loss, clean = L1MSSSIMLoss(), torch.rand(1, 3, 64, 64)
        >>> loss(0.9 * clean, clean) < loss(0.5 * clean, clean)
        tensor(True)

    Reference: ClusIR, arXiv:2512.10948, experimental setup (L1 and MS-SSIM).
    """

    def __init__(self, ms_ssim_weight: float = 0.2, *, knee: float = math.inf) -> None:
        super().__init__()
        self.ms_ssim_weight = check_number("ms_ssim_weight", ms_ssim_weight, 0)
        if isinstance(knee, bool) or not isinstance(knee, int | float):
            raise TypeError(f"knee must be a number, got {type(knee).__name__} {knee!r}")
        if not knee > 0:  # NaN too
            raise ValueError(f"knee must be > 0, got {knee}")
        self.knee = knee

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        similarity = ms_ssim(pred, target)
        errors = (pred - target).abs().mean(dim=(1, 2, 3))
        if self.knee < math.inf:
            errors = self.knee * (errors / self.knee).log1p()
        return errors.mean() + self.ms_ssim_weight * (1 - similarity)

    def extra_repr(self) -> str:
        return f"ms_ssim_weight={self.ms_ssim_weight}, knee={self.knee}"
