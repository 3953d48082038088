from __future__ import annotations

import numpy as np
import pytest
import pytorch_msssim
import torch
import torch.nn.functional as F
from torch import Tensor

from clusir_modules.losses.ms_ssim import ms_ssim

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def picture(*shape: int) -> Tensor:
    """Smooth random pictures in [0, 1], as float64."""
    coarse = torch.rand(shape[0], shape[1], 6, 6, dtype=torch.float64)
    fine = F.interpolate(coarse, size=shape[2:], mode="bicubic", align_corners=False)
    return (fine + 0.1 * torch.rand(shape, dtype=torch.float64)).clamp(0, 1)


def degraded(x: Tensor, sigma: float) -> Tensor:
    return (x + sigma * torch.randn_like(x)).clamp(0, 1)


def ms_ssim_by_hand(x: np.ndarray, y: np.ndarray, scales: int, length: int) -> float:
    """One channel, every window summed by itself; even sides only, so that the scales need no padding."""
    position = np.arange(length) - length // 2
    window = np.exp(-(position**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    value = 1.0
    for scale in range(scales):
        contrast, luminance = [], []
        for i in range(x.shape[0] - length + 1):
            for j in range(x.shape[1] - length + 1):
                a, b = x[i : i + length, j : j + length], y[i : i + length, j : j + length]
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                covariance = (window * (a - mean_a) * (b - mean_b)).sum()
                contrast.append((2 * covariance + 0.03**2) / (var_a + var_b + 0.03**2))
                luminance.append((2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2))
        similarity = np.array(contrast)
        if scale == scales - 1:
            similarity = similarity * np.array(luminance)
        value *= similarity.mean() ** (WEIGHTS[scale] / sum(WEIGHTS[:scales]))
        x, y = (t.reshape(t.shape[0] // 2, 2, t.shape[1] // 2, 2).mean((1, 3)) for t in (x, y))
    return float(value)


class TestValues:
    @pytest.mark.parametrize("size", [(161, 161), (176, 200), (193, 167)])
    @pytest.mark.parametrize("sigma", [0.02, 0.2])
    def test_equals_pytorch_msssim_above_160_pixels(self, size: tuple[int, int], sigma: float) -> None:

        target = picture(2, 3, *size)
        pred = degraded(target, sigma)
        window = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))  # its own is float32
        window = (window / window.sum()).expand(3, 1, 1, 11)
        expected = pytorch_msssim.ms_ssim(pred, target, data_range=1.0, win=window)
        torch.testing.assert_close(ms_ssim(pred, target), expected, atol=1e-12, rtol=0)

    @pytest.mark.parametrize(
        ("side", "scales", "length"), [(4, 1, 3), (10, 1, 9), (12, 1, 11), (32, 2, 11), (48, 3, 11)]
    )
    def test_equals_a_literal_loop_over_windows_for_small_images(self, side: int, scales: int, length: int) -> None:
        target = picture(1, 1, side, side)
        pred = degraded(target, 0.1)
        expected = ms_ssim_by_hand(pred[0, 0].numpy(), target[0, 0].numpy(), scales, length)
        assert abs(float(ms_ssim(pred, target)) - expected) < 1e-10

    @pytest.mark.parametrize("side", [64, 128])
    def test_orders_degradations_at_the_sizes_of_training_patches(self, side: int) -> None:
        target = picture(2, 3, side, side)
        values = [float(ms_ssim(degraded(target, sigma), target)) for sigma in (0.0, 0.05, 0.1, 0.3)]
        assert values == sorted(values, reverse=True)
        assert values[0] == pytest.approx(1, abs=1e-12)
        assert values[-1] < 0.9

    @pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 40), (11, 10), (13, 400), (160, 160)])
    def test_any_size_has_a_value_in_its_bounds(self, size: tuple[int, int]) -> None:
        pred, target = torch.rand(2, 2, 3, *size)
        assert 0 <= float(ms_ssim(pred, target)) <= 1 + 1e-6
        assert float(ms_ssim(target, target)) == pytest.approx(1, abs=1e-6)

    def test_is_symmetric_and_the_mean_over_images_and_channels(self) -> None:
        pred, target = torch.rand(2, 2, 3, 24, 30, dtype=torch.float64)
        value = ms_ssim(pred, target)
        torch.testing.assert_close(ms_ssim(target, pred), value)
        singles = [
            ms_ssim(pred[b : b + 1, c : c + 1], target[b : b + 1, c : c + 1]) for b in range(2) for c in range(3)
        ]
        torch.testing.assert_close(torch.stack(singles).mean(), value)

    def test_passes_gradcheck(self) -> None:
        target = picture(1, 2, 24, 22)
        pred = degraded(target, 0.05).requires_grad_()
        assert torch.autograd.gradcheck(lambda p: ms_ssim(p, target), (pred,), fast_mode=True)


EXTREMES = {
    "identical": lambda x: (x, x.clone()),
    "black and white": lambda x: (torch.zeros_like(x), torch.ones_like(x)),
    "both black": lambda x: (torch.zeros_like(x), torch.zeros_like(x)),
    "both constant": lambda x: (torch.full_like(x, 0.5), torch.full_like(x, 0.5)),
    "negative": lambda x: (x, 1 - x),
    "outside [0, 1]": lambda x: (3 * x - 1, x),
    "checkers inverted": lambda x: (
        (torch.arange(x.shape[-1]) % 2).to(x.dtype).expand_as(x),
        ((torch.arange(x.shape[-1]) + 1) % 2).to(x.dtype).expand_as(x),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("side", [7, 64, 192])
def test_value_and_gradient_stay_finite_and_bounded_at_extremes(side: int, name: str, dtype: torch.dtype) -> None:
    pred, target = EXTREMES[name](torch.rand(1, 3, side, side).to(dtype))
    pred = pred.clone().requires_grad_()
    value = ms_ssim(pred, target)
    value.backward()
    assert value.dtype == torch.float32
    assert -1e-6 <= float(value.detach()) <= 1 + 1e-5
    assert torch.isfinite(pred.grad).all()
    if name in {"identical", "both black", "both constant"}:
        assert float(value.detach()) == pytest.approx(1, abs=1e-5)


def test_runs_in_float32_under_autocast() -> None:
    pred, target = torch.rand(2, 1, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ms_ssim(pred, target), ms_ssim(pred, target).float())
        inside = ms_ssim(pred, target)
    assert torch.equal(inside, ms_ssim(pred, target))


def test_bad_arguments_are_named() -> None:
    x = torch.rand(1, 3, 16, 16)
    with pytest.raises(ValueError, match="pred must hold at least one image, got shape"):
        ms_ssim(torch.zeros(0, 3, 16, 16), torch.zeros(0, 3, 16, 16))
    with pytest.raises(ValueError, match="pred and target must have one shape"):
        ms_ssim(x, x[..., 1:])
    with pytest.raises(ValueError, match="target must have shape"):
        ms_ssim(x, x[0])
    with pytest.raises(TypeError, match="pred must be a floating-point tensor"):
        ms_ssim(x.to(torch.uint8), x)


def test_the_gradient_is_bounded_where_a_scale_has_no_similarity() -> None:
    """A power below 1 has no finite slope at 0, where a patch and its faint negative lie."""
    target = torch.rand(1, 1, 24, 24, dtype=torch.float64)
    position = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-(position[:, None] ** 2 + position**2) / (2 * 1.5**2)).flatten()[:, None]
    patches = F.unfold(target, 11)[0]
    variance = (window * (patches - (window * patches).sum(0) / window.sum()) ** 2).sum(0) / window.sum()

    def contrast(strength: float) -> float:
        return float(((0.03**2 - 2 * strength * variance) / ((1 + strength**2) * variance + 0.03**2)).mean())

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if contrast(middle) > 0 else (low, middle)
    for below in (1e-6, 1e-9, 1e-12):
        strength = low * (1 - below)
        pred = (0.5 - strength * (target - 0.5)).requires_grad_()
        ms_ssim(pred, target).backward()
        assert float(pred.grad.abs().max()) < 100


def test_one_negative_scale_does_not_silence_the_others() -> None:
    """The peer's gradient is exactly zero for such a pair."""
    target = torch.rand(1, 3, 192, 192)
    pred = (1 - target).requires_grad_()
    pytorch_msssim.ms_ssim(pred, target, data_range=1).backward()
    assert not pred.grad.any()
    pred.grad = None
    ms_ssim(pred, target).backward()
    assert pred.grad.any()


@pytest.mark.parametrize("scales", [1, 2])
def test_a_negative_similarity_counts_as_the_floor(scales: int) -> None:
    """Each scale of an image and its negative is unlike: what is left of it is 1e-4, to the weight of the scale."""
    side = 20 * scales - 4
    target = torch.zeros(1, 1, side, side, dtype=torch.float64)
    target[..., : side // 2, :] = 1 if scales == 2 else 0
    target = (target + torch.rand(target.shape, dtype=torch.float64)) / 2
    value = float(ms_ssim(1 - target, target))
    assert value == pytest.approx(1e-4, rel=1e-9)
