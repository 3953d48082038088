"""What a router should see of a feature map: its means, and how strong its wavelet details are."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_not_empty, check_positive
from ...ops.dwt import analyze_stacked
from ...ops.precision import full_precision, linear_parameters, widen

__all__ = ["WaveletEvidence"]

_WEAK = 0.01  # details of this size count 0.7, weaker ones in proportion, stronger ones by their logarithm


class WaveletEvidence(nn.Module):
    r"""Summarize a map for :class:`PCGRM` by its means and by the mean log strength of its Haar details.

    .. math:: e = \operatorname{GAP}(x) + A \operatorname{GAP}\big(\log(1 + |d(x)| / 0.01)\big), \quad
        (\ell, d) = \operatorname{DWT}(x)

    Noise, rain and blur leave the means of a map nearly as they are, and so a router that pools the map itself cannot
    tell them apart; they differ in how strong the details are and in which direction (this project's choice, measured
    in ``docs/design.md``).

    Args:
        dim: channels of the map.

    Shape:
        ``(B, dim, H, W)``, any ``H, W >= 1``, to ``(B, dim, 1, 1)`` in float32 or wider, which :class:`PCGRM` takes as
        a map of one pixel.

    Raises:
        ValueError: ``dim`` below 1; in ``forward`` a wrong shape.
        TypeError: an integer tensor.

    Example:
        >>> import clusir_modules as cm
        >>> x = torch.rand(2, 16, 20, 30)
        >>> moe, evidence = cm.ClusterMoE(16), cm.WaveletEvidence(16)
        >>> moe(x, routing=moe.router(evidence(x))).shape
        torch.Size([2, 16, 20, 30])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = check_positive("dim", dim)
        self.strength = nn.Linear(3 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        check_feature_map(x, self.dim)
        check_not_empty(x)
        with full_precision(x):
            x = widen(x)
            _, details = analyze_stacked(x, "haar")
            strength = (details.abs() / _WEAK).log1p().mean(dim=(2, 3))
            projected = F.linear(strength, *(parameter.to(x) for parameter in linear_parameters(self.strength)))
            return (x.mean(dim=(2, 3)) + projected)[..., None, None]

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
