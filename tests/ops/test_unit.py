from __future__ import annotations

import torch
import torch.nn.functional as F

from clusir_modules.ops.unit import unit


def test_equals_normalize_with_all_gradients() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 5, dtype=torch.float64)
    x[1] *= 1e-4  # shorter than the shortest
    x.requires_grad_()
    torch.testing.assert_close(unit(x, 0.1), F.normalize(x, dim=-1, eps=0.1))
    assert torch.autograd.gradcheck(lambda x: unit(x, 0.1), x)
    assert torch.autograd.gradgradcheck(lambda x: unit(x, 0.1), x)


def test_a_zero_vector_stays_and_has_the_gradient_of_normalize() -> None:
    x, weight = torch.zeros(2, 3, requires_grad=True), torch.rand(2, 3)
    (gradient,) = torch.autograd.grad((unit(x, 1e-3) * weight).sum(), x)
    torch.testing.assert_close(gradient, weight / 1e-3)


def test_gradients_of_each_sample_by_vmap() -> None:
    x = torch.randn(3, 2, 5)
    slopes = torch.vmap(torch.func.grad(lambda x: unit(x, 1e-3)[:, 0].sum()))(x)
    expected = torch.vmap(torch.func.grad(lambda x: F.normalize(x, dim=-1, eps=1e-3)[:, 0].sum()))(x)
    torch.testing.assert_close(slopes, expected)
