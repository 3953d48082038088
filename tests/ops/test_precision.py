from __future__ import annotations

import torch
from torch import nn

from clusir_modules.ops.precision import cast_once, convolve


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
