from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clusir_modules.ops.unit import unit


def by_rms_norm(x: Tensor, softening: float) -> Tensor:
    """Torch's form: the mean of squares in place of their sum."""
    count = x.shape[-1]
    return F.rms_norm(x, (count,), eps=softening**2 / count) / count**0.5


def test_equals_rms_norm_with_all_gradients() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 5, dtype=torch.float64)
    x[1] *= 1e-4  # shorter than the softening
    x.requires_grad_()
    torch.testing.assert_close(unit(x, 0.1), by_rms_norm(x, 0.1))
    assert torch.autograd.gradcheck(lambda x: unit(x, 0.1), x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: unit(x, 0.1), x)


def test_long_vectors_are_normalized() -> None:
    x = torch.randn(3, 7, dtype=torch.float64)
    torch.testing.assert_close(unit(x, 1e-9), F.normalize(x, dim=-1))


def test_a_zero_vector_stays_and_has_a_finite_gradient() -> None:
    x, weight = torch.zeros(2, 3, requires_grad=True), torch.rand(2, 3)
    (gradient,) = torch.autograd.grad((unit(x, 1e-3) * weight).sum(), x)
    torch.testing.assert_close(gradient, weight / 1e-3)
    assert not unit(x, 1e-3).any()


def test_compiled_as_eager() -> None:
    x = torch.randn(3, 5)
    x[0] *= 1e-4
    torch.testing.assert_close(torch.compile(unit, backend="eager", fullgraph=True)(x, 1e-3), unit(x, 1e-3))


def test_gradients_of_each_sample_by_vmap() -> None:
    x = torch.randn(3, 2, 5)
    slopes = torch.vmap(torch.func.grad(lambda x: unit(x, 1e-3)[:, 0].sum()))(x)
    expected = torch.vmap(torch.func.grad(lambda x: by_rms_norm(x, 1e-3)[:, 0].sum()))(x)
    torch.testing.assert_close(slopes, expected)
