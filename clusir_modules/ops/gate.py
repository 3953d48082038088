"""Product of two halves of a map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["gate"]


class _Gate(torch.autograd.Function):
    """The gradient of both halves as one product: autograd takes two and puts them together by a copy."""

    generate_vmap_rule = True

    @staticmethod
    def forward(halves: Tensor, dim: int) -> Tensor:
        value, factor = halves.unbind(dim)
        return value * factor

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])
        ctx.dim = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (halves,) = ctx.saved_tensors
        return halves.flip(ctx.dim) * grad.unsqueeze(ctx.dim), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (halves,) = ctx.saved_tensors
        return (halves.flip(ctx.dim) * tangent).sum(ctx.dim)


def gate(halves: Tensor, dim: int) -> Tensor:
    """Return the product of the two entries of ``halves`` along ``dim``, which is 2 long and not kept."""
    if torch.compiler.is_compiling():
        value, factor = halves.unbind(dim)
        return value * factor
    y: Tensor = _Gate.apply(halves, dim)
    return y
