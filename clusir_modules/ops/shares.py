"""Numbers as shares of their sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["shares"]


class _Shares(torch.autograd.Function):
    """The gradient in four steps, where autograd takes seven."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.sum(dim=-1, keepdim=True)
        return x / total, total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, by_shares: Tensor | None, by_total: Tensor | None) -> Tensor:
        y, total = ctx.saved_tensors
        if by_shares is None:
            by_shares = torch.zeros_like(y)
        gradient = (by_shares - (by_shares * y).sum(dim=-1, keepdim=True)) / total
        return gradient if by_total is None else gradient + by_total  # the latter in a second derivative

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> tuple[Tensor, Tensor]:
        y, total = ctx.saved_tensors
        by_total = tangent.sum(dim=-1, keepdim=True)
        return (tangent - y * by_total) / total, by_total


def shares(x: Tensor) -> Tensor:
    """Divide by the sum along the last dimension."""
    if torch.compiler.is_compiling():
        return x / x.sum(dim=-1, keepdim=True)
    y: Tensor
    y, _ = _Shares.apply(x)
    return y
