"""Grouped dispatch of images to expert modules of any kind."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor, nn

__all__ = ["DispatchedExperts", "dispatch"]


def dispatch(experts: Iterable[nn.Module], x: Tensor, weights: Tensor, indices: Tensor) -> Tensor:
    r"""Weighted sum of the chosen experts of each image, every expert called once with all the images that chose it.

    An expert that no image chose is called with an empty batch, so that its parameters have a zero gradient instead of
    none, which ``DistributedDataParallel`` would wait for. A module that refuses an empty batch (``rfft2`` on CPUs)
    does its part outside the dispatch.

    Under ``torch.vmap`` over the routing every expert runs on every image, those not chosen with weight 0: which images
    an expert gets would be shapes that depend on values, which vmap does not have.

    Args:
        experts: modules from ``(b, C, H, W)`` to ``(b, C', H', W')``, the same for all.
        x: images ``(B, C, H, W)``.
        weights: ``(B, k)``.
        indices: ``(B, k)`` int64, the experts of each image, no expert twice.

    Returns:
        ``(B, C', H', W')``.
    """
    if _is_mapped(indices):
        shares = ((expert, ((indices == number) * weights).sum(dim=1)) for number, expert in enumerate(experts))
        return reduce(torch.add, (_scale(expert(x), share) for expert, share in shares))
    parts, rows = [], []
    for number, expert in enumerate(experts):
        row, slot = torch.nonzero(indices == number, as_tuple=True)
        parts.append(_scale(expert(x[row]), weights[row, slot]))
        rows.append(row)
    stacked = torch.cat(parts)
    return stacked.new_zeros(x.shape[0], *stacked.shape[1:]).index_add(0, torch.cat(rows), stacked)


def _scale(part: Tensor, weight: Tensor) -> Tensor:
    return part * weight.to(part.dtype)[:, None, None, None]


def _is_mapped(indices: Tensor) -> bool:
    """Whether ``torch.vmap`` maps over the choice, so that no value of it can be read."""
    if torch.compiler.is_compiling():
        return False
    try:
        torch.nonzero(indices[:0])
    except RuntimeError:
        return True
    return False


class DispatchedExperts(nn.ModuleList):
    """Experts of any kind, each run on the images that chose it; no residual.

    Args:
        modules: the experts, each from ``(b, C, H, W)`` to ``(b, C', H', W')``, the same for all. An expert that no
            image chose is called with an empty batch, see :func:`dispatch`.

    Shape:
        ``x`` ``(B, C, H, W)``, ``weights`` ``(B, k)``, ``indices`` ``(B, k)`` int64 to ``(B, C', H', W')``.

    Note: the shapes inside depend on the routing, which ``torch.compile`` captures with
    ``capture_dynamic_output_shape_ops``.

    Example:
        >>> experts = DispatchedExperts(nn.Conv2d(8, 8, 2 * width + 1, padding=width) for width in range(3))
        >>> experts(torch.rand(1, 8, 5, 6), torch.tensor([[0.7, 0.3]]), torch.tensor([[2, 0]])).shape
        torch.Size([1, 8, 5, 6])
    """

    def forward(self, x: Tensor, weights: Tensor, indices: Tensor) -> Tensor:
        return dispatch(self, x, weights, indices)
