"""The weights of a network cast once for autocast, where others run its parts in their own way."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
    checkpoint_wrapper,
)

import clusir_modules as cm


class FullPrecisionAttention(nn.Module):
    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.attention = cm.TransposedAttention(dim, num_heads)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            y: Tensor = self.attention(x.float())
        assert y.dtype is torch.float32
        return y


def _gradient(net: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(x).float().square().mean()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


def test_a_block_that_turns_autocast_off_computes_with_the_weights_themselves() -> None:
    net = cm.clusir_tiny(block=FullPrecisionAttention)
    assert _gradient(net, torch.rand(1, 3, 16, 16)).isfinite().all()


def test_blocks_recomputed_by_a_wrapper_of_torch_have_the_same_gradient() -> None:
    net, x = cm.clusir_tiny(), torch.rand(1, 3, 16, 32)
    wrapped = copy.deepcopy(net)
    apply_activation_checkpointing(
        wrapped,
        checkpoint_wrapper_fn=checkpoint_wrapper,
        check_fn=lambda module: isinstance(module, cm.WTB | cm.DAFMM | cm.ClusterMoE),
    )
    assert torch.equal(_gradient(net, x), _gradient(wrapped, x))
