"""Charbonnier loss: a smooth L1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..ops.precision import widen

__all__ = ["CharbonnierLoss", "charbonnier", "check_eps", "check_pair"]


def check_eps(eps: float) -> float:
    """Return ``eps`` if it is a finite number above 0.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not finite, or not above 0.
    """
    if isinstance(eps, bool) or not isinstance(eps, (int, float)):
        raise TypeError(f"eps must be a number, got {eps!r}")
    if not 0 < eps < math.inf:
        raise ValueError(f"eps must be finite and > 0, got {eps}")
    return eps


def charbonnier(pred: Tensor, target: Tensor, *, eps: float = 1e-3) -> Tensor:
    """Return the mean of ``sqrt((pred - target)**2 + eps**2)``; see :class:`CharbonnierLoss`."""
    check_pair(pred, target)
    check_eps(eps)
    difference = widen(pred) - widen(target)
    return torch.sqrt(difference.square() + eps * eps).mean()


class CharbonnierLoss(nn.Module):
    r"""Charbonnier loss, the mean over all elements of a smooth absolute difference.

    .. math:: L(x, y) = \frac{1}{n}\sum_i \sqrt{(x_i - y_i)^2 + \varepsilon^2}

    MPRNet's variant: :math:`\varepsilon` is squared, and the mean is taken of the roots. (The paper's formula
    :math:`\sqrt{\lVert x - y \rVert^2 + \varepsilon^2}` takes one root of the whole sum; the authors' code and this
    take one per element. BasicSR adds its ``eps`` unsquared.)

    Args:
        eps: width of the smooth zone around 0, in units of the images, > 0 (paper: 1e-3 for images in [0, 1]).

    Shape:
        - Input: ``pred`` and ``target`` of one shape, any rank.
        - Output: scalar, at least ``eps``.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: ``eps`` is not positive and finite; the shapes differ, or hold nothing.

    Note:
        Half-precision inputs are computed in float32, where ``eps**2`` does not vanish; the scalar is then float32.

    Example:
        >>> float(CharbonnierLoss(eps=3.0)(torch.full((1, 3, 2, 2), 4.0), torch.zeros(1, 3, 2, 2)))
        5.0

    Reference:
        Charbonnier et al., "Two Deterministic Half-Quadratic Regularization Algorithms for Computed Imaging",
        ICIP 1994;
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021, eq. 2.
    """

    def __init__(self, *, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = check_eps(eps)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``pred`` against ``target``."""
        return charbonnier(pred, target, eps=self.eps)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"eps={self.eps}"


def check_pair(pred: Tensor, target: Tensor) -> None:
    """Refuse what is no pair of images to compare.

    Raises:
        TypeError: one is not a floating-point tensor.
        ValueError: the shapes differ, or hold nothing.
    """
    for name, value in (("pred", pred), ("target", target)):
        if not isinstance(value, Tensor) or not torch.is_floating_point(value):
            got = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"{name} must be a floating-point tensor, got {got}")
    if pred.shape != target.shape:
        raise ValueError(f"pred and target must have the same shape, got {tuple(pred.shape)} and {tuple(target.shape)}")
    if pred.numel() == 0:
        raise ValueError(f"pred and target must not be empty, got shape {tuple(pred.shape)}")
