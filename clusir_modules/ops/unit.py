"""Vectors of length 1."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["unit"]


class _Unit(torch.autograd.Function):
    """Three steps and four for the gradient, where autograd takes a dozen."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, softening: float) -> tuple[Tensor, Tensor]:
        # the softening as one more coordinate
        length = torch.linalg.vector_norm(F.pad(x, (0, 1), value=softening), dim=-1, keepdim=True)
        return x / length, length

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, by_direction: Tensor | None, by_length: Tensor | None) -> tuple[Tensor, None]:
        y, length = ctx.saved_tensors
        if by_direction is None:
            by_direction = torch.zeros_like(y)
        along = (by_direction * y).sum(dim=-1, keepdim=True)
        if by_length is not None:  # in a second derivative
            along = along - by_length * length
        return torch.addcmul(by_direction, y, along, value=-1) / length, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> tuple[Tensor, Tensor]:
        y, length = ctx.saved_tensors
        by_length = (tangent * y).sum(dim=-1, keepdim=True)
        return (tangent - y * by_length) / length, by_length


def unit(x: Tensor, softening: float) -> Tensor:
    """Divide vectors along the last dimension by ``sqrt(|x|^2 + softening^2)``: long ones become unit vectors."""
    if torch.compiler.is_compiling():
        return x * (x.square().sum(dim=-1, keepdim=True) + softening**2).rsqrt()
    y: Tensor
    y, _ = _Unit.apply(x, softening)
    return y
