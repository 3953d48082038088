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
from clusir_modules.ops.precision import cast_once, convolve


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


def test_recomputed_blocks_have_the_same_gradient() -> None:
    net, x = cm.clusir_tiny(), torch.rand(1, 3, 16, 32)
    wrapped, own = copy.deepcopy(net), copy.deepcopy(net)
    own.set_grad_checkpointing()
    apply_activation_checkpointing(
        wrapped,
        checkpoint_wrapper_fn=checkpoint_wrapper,
        check_fn=lambda module: isinstance(module, cm.WTB | cm.DAFMM | cm.ClusterMoE),
    )
    expected = _gradient(net, x)
    assert torch.equal(_gradient(wrapped, x), expected)
    assert torch.equal(_gradient(own, x), expected)


def test_frozen_weights_have_no_part_in_the_gradient() -> None:
    frozen, trained = nn.Conv2d(3, 4, 1).requires_grad_(False), nn.Conv2d(4, 2, 1)
    x = torch.rand(1, 3, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        with cast_once(x, frozen, trained):
            hidden = convolve(frozen, x)
            y = convolve(trained, hidden)
        expected = trained(frozen(x))
    assert not hidden.requires_grad
    assert torch.equal(y, expected)
    for parameter in trained.parameters():
        gradients = [
            torch.autograd.grad(z.float().square().sum(), parameter, retain_graph=True)[0] for z in (y, expected)
        ]
        torch.testing.assert_close(*gradients, atol=0, rtol=0)
