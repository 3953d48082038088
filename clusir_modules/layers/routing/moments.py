"""Standardization by moments of what was seen so far."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_number, check_positive
from ...ops.snapshot import snapshot

__all__ = ["RunningStandardization"]

_SMALLEST = 1e-3  # deviations below are not divided by
_FARTHEST = 100.0  # deviations from the mean; what lies beyond counts as that


class RunningStandardization(nn.Module):
    r"""Subtract from each channel its running mean and divide by its running mean deviation.

    .. math:: y = \frac{x - m}{d + 10^{-3}}, \quad m \leftarrow m + \mu_n (\bar x - m), \quad
        d \leftarrow d + \mu_n (\overline{|x - m|} - d), \quad \mu_n = \max(\mu, 1 / (n + 1))

    What all images share is no evidence. In deep levels it grows in training to many times what tells images apart,
    and a router that sees only the direction of its input then puts them all into one cluster (this project's choice,
    ``docs/design.md``). Unlike in batch norm the moments of the past are used in training too, so that an image does
    not depend on its batch mates; a layer norm of each image keeps what all have in common.

    One damaged image must not spoil the moments of all that follow: for them a value farther than 100 deviations from
    the mean counts as 100, and NaN as the mean.

    Of several processes each counts its own batches; ``DistributedDataParallel`` hands on the moments of the first, as
    it does with those of batch norm.

    Args:
        dim: channels.
        momentum: weight :math:`\mu` of the ``n``-th batch of training, in [0, 1]; in eval the moments stay.

    Shape:
        ``(B, dim, H, W)`` to the same.

    Raises:
        ValueError: ``dim`` below 1, ``momentum`` out of range; in ``forward`` a wrong shape.
        TypeError: an integer tensor.
    """

    mean: Tensor
    deviation: Tensor
    batches: Tensor

    def __init__(self, dim: int, *, momentum: float = 0.01) -> None:
        super().__init__()
        self.dim = check_positive("dim", dim)
        self.momentum = check_number("momentum", momentum, 0)
        if momentum > 1:
            raise ValueError(f"momentum must be at most 1, got {momentum}")
        self.register_buffer("mean", torch.empty(dim))
        self.register_buffer("deviation", torch.empty(dim))
        self.register_buffer("batches", torch.empty((), dtype=torch.int64))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Forget what was seen."""
        self.mean.zero_()
        self.deviation.fill_(1)
        self.batches.zero_()

    def forward(self, x: Tensor) -> Tensor:
        check_feature_map(x, self.dim)
        changes = self.training and torch.compiler.is_compiling()
        scale = (snapshot(self.deviation) if changes else self.deviation) + _SMALLEST
        y = (x - self.mean.to(x)[:, None, None]) / scale.to(x)[:, None, None]
        if self.training:
            with torch.no_grad():
                self._count(y, scale)
        return y

    def _count(self, y: Tensor, scale: Tensor) -> None:
        self.batches += 1
        weight = torch.reciprocal(self.batches + 1).clamp_min(self.momentum).to(scale)
        y = y.to(scale).clamp(-_FARTHEST, _FARTHEST).nan_to_num(nan=0.0)
        shift, deviation = torch.stack((y, y.abs())).mean(dim=(1, 3, 4)) * scale
        self.mean.addcmul_(shift, weight)
        self.deviation.lerp_(deviation, weight)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, momentum={self.momentum}"
