from __future__ import annotations

import torch

from clusir_modules.ops.shares import shares


def test_sum_to_one_with_all_gradients() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 3, dtype=torch.float64).add(0.1).requires_grad_()
    torch.testing.assert_close(shares(x), x / x.sum(dim=-1, keepdim=True))
    torch.testing.assert_close(shares(x).sum(dim=-1), torch.ones(4, dtype=torch.float64))
    assert torch.autograd.gradcheck(shares, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(shares, x)


def test_compiled_as_eager() -> None:
    x = torch.rand(3, 5)
    torch.testing.assert_close(torch.compile(shares, backend="eager", fullgraph=True)(x), shares(x))


def test_gradients_of_each_sample_by_vmap() -> None:
    x = torch.rand(3, 2, 5) + 0.1
    slopes = torch.vmap(torch.func.grad(lambda x: shares(x)[:, 0].sum()))(x)
    expected = torch.vmap(torch.func.grad(lambda x: (x / x.sum(-1, keepdim=True))[:, 0].sum()))(x)
    torch.testing.assert_close(slopes, expected)
