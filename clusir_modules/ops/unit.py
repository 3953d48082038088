"""Vectors of length 1."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["unit"]


class _Unit(torch.autograd.Function):
    """The gradient in six steps, where autograd takes fourteen for :func:`torch.nn.functional.normalize`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, shortest: float) -> tuple[Tensor, Tensor]:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(shortest)
        return x / length, length

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)
        ctx.shortest = inputs[1]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, by_direction: Tensor | None, by_length: Tensor | None) -> tuple[Tensor, None]:
        y, length = ctx.saved_tensors
        if by_direction is None:
            by_direction = torch.zeros_like(y)
        along = (by_direction * y).sum(dim=-1, keepdim=True)
        if by_length is not None:  # in a second derivative
            along = along - by_length * length
        # a vector too short for a unit vector is divided by a constant
        return torch.addcmul(by_direction, y, along * (length > ctx.shortest), value=-1) / length, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> tuple[Tensor, Tensor]:
        y, length = ctx.saved_tensors
        by_length = (tangent * y).sum(dim=-1, keepdim=True) * (length > ctx.shortest)
        return (tangent - y * by_length) / length, by_length


def unit(x: Tensor, shortest: float) -> Tensor:
    """Divide vectors along the last dimension by their length, those below ``shortest`` by that."""
    if torch.compiler.is_compiling():
        return F.normalize(x, dim=-1, eps=shortest)
    y: Tensor
    y, _ = _Unit.apply(x, shortest)
    return y
