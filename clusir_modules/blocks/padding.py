"""Padding of maps of any size to a multiple."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .._checks import check_positive

__all__ = ["pad_to_multiple"]


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
        # written so that a symbolic size is seen to become a multiple, and one of at least `multiple` to be mirrored
        added = (size + multiple - 1) // multiple * multiple - size
        mode = "reflect" if size >= multiple or added < size else "replicate"
        x = F.pad(x, (0, 0, 0, added) if dim == 2 else (0, added, 0, 0), mode=mode)
    return x
