from __future__ import annotations

import math

import pytest
import torch

from clusir_modules import L1MSSSIMLoss
from clusir_modules.losses.ms_ssim import ms_ssim


class TestL1MSSSIMLoss:
    @pytest.mark.parametrize("weight", [0.0, 0.2, 3.0])
    def test_is_the_weighted_sum(self, weight: float) -> None:
        pred, target = torch.rand(2, 2, 3, 40, 33, dtype=torch.float64)
        l1 = (pred - target).abs().sum() / pred.numel()
        expected = l1 + weight * (1 - ms_ssim(pred, target))
        torch.testing.assert_close(L1MSSSIMLoss(ms_ssim_weight=weight)(pred, target), expected, atol=1e-12, rtol=0)

    @pytest.mark.parametrize("knee", [0.01, 0.5])
    def test_a_knee_counts_the_error_of_each_image_by_its_logarithm(self, knee: float) -> None:
        pred, target = torch.rand(2, 3, 3, 20, 17, dtype=torch.float64)
        pred[0] = target[0] + 0.001
        errors = [float((p - t).abs().mean()) for p, t in zip(pred, target)]
        expected = sum(knee * math.log(1 + error / knee) for error in errors) / 3
        assert float(L1MSSSIMLoss(0.0, knee=knee)(pred, target)) == pytest.approx(expected, abs=1e-12)

    def test_a_knee_gives_a_small_error_the_larger_say(self) -> None:
        target = torch.rand(2, 3, 16, 16)
        offset = torch.tensor([0.01, 0.3]).view(2, 1, 1, 1)
        shares = []
        for knee in (math.inf, 0.02):
            pred = (target + offset).requires_grad_()
            L1MSSSIMLoss(0.0, knee=knee)(pred, target).backward()
            first, second = pred.grad.abs().mean(dim=(1, 2, 3))
            shares.append(float(first / second))
        assert shares == pytest.approx([1, (1 + 0.3 / 0.02) / (1 + 0.01 / 0.02)], rel=1e-3)

    @pytest.mark.parametrize("side", [1, 64, 128])
    def test_is_zero_for_identical_images_and_positive_else(self, side: int) -> None:
        loss, x = L1MSSSIMLoss(), torch.rand(2, 3, side, side)
        assert float(loss(x, x)) == pytest.approx(0, abs=1e-6)
        assert float(loss(1 - x, x)) > 0.1

    def test_is_at_most_one_plus_the_weight_in_the_unit_range(self) -> None:
        black, white = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
        value = float(L1MSSSIMLoss(0.5)(black, white))
        assert 1.4 < value <= 1.5

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
    def test_gradients_are_finite_for_constant_images(self, level: float, dtype: torch.dtype) -> None:
        for other in (level, 0.3):
            pred = torch.full((1, 3, 64, 64), level, dtype=dtype, requires_grad=True)
            L1MSSSIMLoss()(pred, torch.full((1, 3, 64, 64), other, dtype=dtype)).backward()
            assert torch.isfinite(pred.grad).all()

    def test_descending_it_restores_the_target(self) -> None:
        target = torch.rand(1, 1, 32, 32)
        pred = torch.rand(1, 1, 32, 32, requires_grad=True)
        loss, optimizer = L1MSSSIMLoss(), torch.optim.Adam([pred], 0.05)
        start = float(loss(pred, target).detach())
        for _ in range(40):
            optimizer.zero_grad()
            value = loss(pred, target)
            value.backward()
            optimizer.step()
        assert float(value.detach()) < 0.2 * start

    @pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
    def test_a_bad_weight_is_named(self, weight: float) -> None:
        with pytest.raises(ValueError, match=f"ms_ssim_weight must be finite and >= 0, got {weight}"):
            L1MSSSIMLoss(ms_ssim_weight=weight)

    @pytest.mark.parametrize("knee", [0.0, -1.0, math.nan])
    def test_a_bad_knee_is_named(self, knee: float) -> None:
        with pytest.raises(ValueError, match=f"knee must be > 0, got {knee}"):
            L1MSSSIMLoss(knee=knee)

    def test_unequal_shapes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="pred and target must have one shape"):
            L1MSSSIMLoss()(torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 16))

    def test_two_types_are_promoted(self) -> None:
        pred, target = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16, dtype=torch.float64)
        value = L1MSSSIMLoss()(pred, target)
        assert value.dtype == torch.float64
        torch.testing.assert_close(value, L1MSSSIMLoss()(pred.double(), target))

    def test_settings_of_another_type_are_named(self) -> None:
        with pytest.raises(TypeError, match="ms_ssim_weight must be a number, got str"):
            L1MSSSIMLoss("a")
        with pytest.raises(TypeError, match="knee must be a number, got str"):
            L1MSSSIMLoss(knee="a")
