"""Stopping at numbers that are not finite, before they reach the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["require_finite_batch", "require_finite_gradient", "require_finite_loss"]


def require_finite_batch(batch: Mapping[str, Tensor], paths: Sequence[str], where: str) -> None:
    """Check the pictures of a batch.

    Args:
        batch: Tensors of shape (B, C, H, W) by name.
        paths: File of each of the B samples.
        where: For the message, such as "at iteration 5".

    Raises:
        FloatingPointError: One holds NaN or infinity; the message names tensor, place and files.
    """
    finite = torch.stack([torch.isfinite(tensor).flatten(1).all(1) for tensor in batch.values()])
    if finite.all():
        return
    for name, row in zip(batch, finite.tolist(), strict=True):
        bad = [str(path) for path, good in zip(paths, row, strict=False) if not good]
        if not all(row):
            raise FloatingPointError(f"{name} holds NaN or infinite values {where}, in {bad or 'a file without name'}")


def require_finite_loss(terms: Mapping[str, Tensor], paths: Sequence[str], where: str) -> None:
    """Check the terms of the loss, scalars by name; arguments and errors as for :func:`require_finite_batch`."""
    values = torch.stack([term.detach().float() for term in terms.values()])
    if torch.isfinite(values).all():
        return
    bad = {name: value for name, value in zip(terms, values.tolist(), strict=True) if not abs(value) < float("inf")}
    raise FloatingPointError(f"the loss is not finite {where}: {bad}, for the images {list(map(str, paths))}")


def require_finite_gradient(norm: Tensor, paths: Sequence[str], where: str) -> None:
    """Check the norm of the gradient; arguments and errors as for :func:`require_finite_batch`."""
    if not torch.isfinite(norm):
        raise FloatingPointError(
            f"the gradient's norm is {norm.item()} {where}, though the loss is finite; last images: "
            f"{list(map(str, paths))}"
        )
