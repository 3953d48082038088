"""Grouped dispatch of images to expert modules of any kind."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["DispatchedExperts", "dispatch"]


def dispatch(experts: Iterable[nn.Module], x: Tensor, weights: Tensor, indices: Tensor) -> Tensor:
    r"""Weighted sum of the chosen experts of each image, every expert called once with all the images that chose it.

    An expert that no image chose is called with an empty batch, so that its parameters have a zero gradient instead of
    none, which ``DistributedDataParallel`` would wait for. A module that refuses an empty batch (``rfft2`` on CPUs)
    does its part outside the dispatch.

    Args:
        experts: modules from ``(b, C, H, W)`` to ``(b, C', H', W')``, the same for all.
        x: images ``(B, C, H, W)``.
        weights: ``(B, k)``.
        indices: ``(B, k)`` int64, the experts of each image, no expert twice.

    Returns:
        ``(B, C', H', W')``.
    """
    parts, rows = [], []
    for number, expert in enumerate(experts):
        row, slot = torch.nonzero(indices == number, as_tuple=True)
        part = expert(x[row])
        parts.append(part * weights[row, slot].to(part.dtype)[:, None, None, None])
        rows.append(row)
    stacked = torch.cat(parts)
    return stacked.new_zeros(x.shape[0], *stacked.shape[1:]).index_add(0, torch.cat(rows), stacked)


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
