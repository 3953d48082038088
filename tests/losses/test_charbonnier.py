from __future__ import annotations

import math

import pytest
import torch

from clusir_modules.losses.charbonnier import CharbonnierLoss, charbonnier


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class TestCharbonnierLoss:
    def test_is_the_mean_of_the_roots(self) -> None:
        pred, target = torch.rand(2, 1, 3, 4, 5, dtype=torch.float64).unbind()
        terms = [
            math.sqrt((a - b) ** 2 + 1e-6)
            for a, b in zip(pred.flatten().tolist(), target.flatten().tolist(), strict=True)
        ]
        assert CharbonnierLoss()(pred, target).item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)

    def test_equal_images_give_eps(self) -> None:
        x = torch.rand(1, 3, 4, 4)
        assert CharbonnierLoss(eps=0.25)(x, x).item() == pytest.approx(0.25)

    def test_large_differences_give_their_mean_absolute_value(self) -> None:
        pred, target = torch.full((1, 3, 4, 4), 100.0), torch.zeros(1, 3, 4, 4)
        assert CharbonnierLoss()(pred, target).item() == pytest.approx(100)

    def test_the_function_is_the_module(self) -> None:
        pred, target = torch.rand(2, 1, 3, 4, 5).unbind()
        assert charbonnier(pred, target, eps=0.1) == CharbonnierLoss(eps=0.1)(pred, target)

    def test_gradcheck_in_float64(self) -> None:
        pred, target = (torch.rand(1, 3, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
        assert torch.autograd.gradcheck(CharbonnierLoss(eps=0.1), (pred, target))

    def test_gradient_is_finite_where_the_images_are_equal(self) -> None:
        x = torch.rand(1, 3, 4, 4, requires_grad=True)
        CharbonnierLoss()(x, x.detach()).backward()
        assert torch.equal(x.grad, torch.zeros_like(x))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_images_are_computed_in_float32(self, dtype: torch.dtype) -> None:
        x = torch.rand(1, 3, 4, 4).to(dtype)
        loss = CharbonnierLoss()(x, x)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(1e-3)

    def test_compiles_without_graph_break(self) -> None:
        pred, target = torch.rand(2, 1, 3, 4, 5).unbind()
        loss = CharbonnierLoss()
        torch.testing.assert_close(
            torch.compile(loss, fullgraph=True, backend="aot_eager")(pred, target), loss(pred, target)
        )

    def test_representation_shows_eps(self) -> None:
        assert repr(CharbonnierLoss(eps=0.5)) == "CharbonnierLoss(eps=0.5)"

    def test_bad_arguments_are_named(self) -> None:
        with pytest.raises(ValueError, match="eps must be finite and > 0, got 0"):
            CharbonnierLoss(eps=0)
        for eps in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="eps must be finite and > 0"):
                CharbonnierLoss(eps=eps)
        with pytest.raises(TypeError, match="eps must be a number, got '1'"):
            CharbonnierLoss(eps="1")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="pred and target must not be empty"):
            CharbonnierLoss()(torch.zeros(0, 3, 4, 4), torch.zeros(0, 3, 4, 4))
        loss, x = CharbonnierLoss(), torch.rand(1, 3, 4, 4)
        with pytest.raises(ValueError, match="pred and target must have the same shape"):
            loss(x, x[:, :1])
        with pytest.raises(TypeError, match=r"target must be a floating-point tensor, got torch.int64"):
            loss(x, x.long())
        with pytest.raises(TypeError, match="pred must be a floating-point tensor, got float"):
            loss(1.0, x)
