"""Padding of maps of any size to a multiple."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_positive
from .tracing import exporting

__all__ = ["channels_last", "crop", "extend_by_edge", "pad_to_multiple"]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Extend the bottom and the right of a map to the next multiple: mirrored, or where too small by its edge.

    Mirroring needs more pixels than it adds, so a dimension of at most ``multiple / 2`` pixels may be extended by its
    edge instead. The caller crops back with ``y[..., :H, :W]``.

    Shape:
        ``(B, C, H, W)``, ``H, W >= 1``, to ``(B, C, H', W')`` with ``H'`` and ``W'`` the next multiples.

    Raises:
        ValueError: ``multiple`` is below 1.
    """
    check_positive("multiple", multiple)
    for dim, size in ((2, x.shape[2]), (3, x.shape[3])):
        # written so that a symbolic size is seen to become a multiple
        added = (size + multiple - 1) // multiple * multiple - size
        if exporting():
            x = _extend(x, dim, size, size + added)
        elif added:
            x = F.pad(
                x, (0, 0, 0, added) if dim == 2 else (0, added, 0, 0), mode="reflect" if added < size else "replicate"
            )
    return x


def extend_by_edge(x: Tensor, width: int) -> Tensor:
    """Extend a map ``(B, C, H, W)`` on all sides by ``width`` copies of its edge.

    Inductor takes the gradient of ``F.pad``'s replication for contiguous where it is channels last, and fails.
    """
    if not torch.compiler.is_compiling():
        return F.pad(x, (width,) * 4, mode="replicate")
    for dim in (2, 3):
        first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
        x = torch.cat((*[first] * width, x, *[last] * width), dim=dim)
    return x


def channels_last(x: Tensor) -> Tensor:
    """Lay out a map ``(B, C, H, W)`` with the channels of a pixel side by side, under ``torch.vmap`` too."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """Keep the top left part of a map, which undoes :func:`pad_to_multiple`."""
    if exporting():  # negative padding leaves no guard on the size, as a slice would
        return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2])).contiguous()
    return x[..., :height, :width]


def _extend(x: Tensor, dim: int, size: int, target: int) -> Tensor:
    """The same without a branch on the size."""
    index = torch.arange(target, device=x.device)
    mirrored = 2 * (size - 1) - index
    beyond = torch.where(mirrored.amin(dim=0) < 0, torch.full_like(index, size - 1), mirrored)
    return x.index_select(dim, torch.where(index < size, index, beyond))
