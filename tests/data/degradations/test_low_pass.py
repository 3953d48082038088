"""Gaussian, generalized, plateau and sinc kernels: against BasicSR's, and the filtering against SciPy's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve

from basicsr_plugin.compat.imports import prepare
from clusir_modules.data import GaussianBlur, SincFilter, build_degradation

prepare()
from basicsr.data import degradations as peer  # noqa: E402 - `prepare` makes it possible

KINDS = {
    "gaussian": peer.bivariate_Gaussian,
    "generalized": peer.bivariate_generalized_Gaussian,
    "plateau": peer.bivariate_plateau,
}
ANGLES = (0.0, 30.0, 90.0, -75.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def beta_of(profile: str, beta: float) -> float | None:
    return None if profile == "gaussian" else beta


class TestGaussianBlur:
    @pytest.mark.parametrize("beta", [0.5, 1.0, 3.5])
    @pytest.mark.parametrize("size", [7, 13, 21])
    @pytest.mark.parametrize("profile", KINDS)
    def test_round_kernels_are_those_of_basicsr(self, profile: Any, size: int, beta: float) -> None:
        extra = () if profile == "gaussian" else (beta,)
        for sigma in (0.2, 1.0, 3.0):
            expected = KINDS[profile](size, sigma, sigma, 0, *extra, isotropic=True)
            kernel = GaussianBlur(sigma, profile=profile, beta=beta_of(profile, beta), size=size)
            assert np.abs(kernel.sample_kernel(seeded(0)).numpy() - expected).max() < 1e-6

    @pytest.mark.parametrize("angle", ANGLES)
    @pytest.mark.parametrize("profile", KINDS)
    def test_long_kernels_are_those_of_basicsr(self, profile: Any, angle: float) -> None:
        """The two deviations are drawn: what was drawn is read off the moments of the kernel with the same seed."""
        blur = GaussianBlur(
            (0.8, 3.0), profile=profile, isotropic=False, angle=angle, size=21, beta=beta_of(profile, 2.0)
        )
        extra = () if profile == "gaussian" else (2.0,)
        for seed in range(5):
            generator = seeded(seed)
            torch.rand(1, generator=generator, dtype=torch.float64)  # the size
            first, second = (0.8 + 2.2 * torch.rand(1, generator=generator, dtype=torch.float64).item() for _ in "ab")
            expected = KINDS[profile](21, first, second, math.radians(angle), *extra, isotropic=False)
            assert np.abs(blur.sample_kernel(seeded(seed)).numpy() - expected).max() < 1e-6

    def test_the_first_deviation_lies_along_the_angle(self) -> None:
        """Without BasicSR: the covariance of the kernel."""
        generator = seeded(3)
        blur = GaussianBlur((0.6, 3.0), isotropic=False, angle=30, size=61)
        kernel = blur.sample_kernel(generator)
        offsets = torch.arange(-30, 31, dtype=torch.float64)
        u, v = offsets.expand(61, 61), offsets[:, None].expand(61, 61)
        direction = torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)], dtype=torch.float64)
        along, across = u * direction[0] + v * direction[1], v * direction[0] - u * direction[1]
        assert abs((kernel * along * across).sum()) < 1e-3
        spreads = [(kernel * x.square()).sum().sqrt().item() for x in (along, across)]
        assert spreads[0] != pytest.approx(spreads[1], rel=0.05)
        assert all(0.5 < spread < 3.1 for spread in spreads)

    @pytest.mark.parametrize(("profile", "low", "high"), [("generalized", 0.5, 4.0), ("plateau", 1.0, 2.0)])
    def test_half_of_the_exponents_are_below_1_as_in_basicsr(self, profile: Any, low: float, high: float) -> None:
        """With one sigma and one size only the exponent is random: it is read off the tap beside the center."""
        blur, generator = GaussianBlur(2, profile=profile, size=7), seeded(0)
        kernels = torch.stack([blur.sample_kernel(generator) for _ in range(400)])
        ratio = kernels[:, 3, 4] / kernels[:, 3, 3]
        height = -2 * ratio.log() if profile == "generalized" else 1 / ratio - 1  # q^beta with q = 1/4
        beta = height.log() / math.log(0.25)
        assert low - 1e-6 <= beta.min()
        assert beta.max() <= high + 1e-6
        assert (beta <= 1 + 1e-9).float().mean() == pytest.approx(0.5, abs=0.08)
        assert (beta > (1 + high) / 2).float().mean() == pytest.approx(0.25, abs=0.07)

    def test_a_logarithmic_range_of_exponents_is_taken_as_it_is(self) -> None:
        blur = GaussianBlur(2, profile="plateau", beta={"log_uniform": [0.25, 4]}, size=7)  # type: ignore[arg-type]
        generator = seeded(0)
        kernels = torch.stack([blur.sample_kernel(generator) for _ in range(400)])
        beta = (kernels[:, 3, 3] / kernels[:, 3, 4] - 1).log() / math.log(0.25)
        assert (beta < 0.5).float().mean() == pytest.approx(0.25, abs=0.07)

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"sigma": -1}, ValueError, "sigma must be a number .* got -1"),
            ({"profile": "box"}, ValueError, "profile must be one of gaussian, generalized, plateau, got 'box'"),
            ({"isotropic": 0.5}, TypeError, "isotropic must be a bool, got 0.5"),
            ({"beta": 2}, ValueError, "beta must be None for the profile 'gaussian', got 2"),
            ({"profile": "plateau", "beta": 0}, ValueError, r"beta must be .* within \[0.1, 10\], got 0"),
            ({"size": 8}, ValueError, "size must be odd, or a pair of odd numbers, got 8"),
            ({"size": (7, 20)}, ValueError, r"size must be odd, or a pair of odd numbers, got \(7, 20\)"),
            ({"size": 7.0}, TypeError, "size must be an int or a pair of ints, got 7.0"),
            ({"gamma": 0}, ValueError, r"gamma must be a number within \[1, 4\], got 0"),
        ],
    )
    def test_bad_settings_are_named(self, settings: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            GaussianBlur(**settings)


class TestSincFilter:
    @pytest.mark.parametrize("size", [7, 13, 21])
    def test_kernels_are_those_of_basicsr(self, size: int) -> None:
        for omega in (math.pi / 5, math.pi / 3, 2.0, math.pi):
            expected = peer.circular_lowpass_kernel(omega, size)
            kernel = SincFilter(omega / (2 * math.pi), size=size).sample_kernel(seeded(0))
            assert np.abs(kernel.numpy() - expected).max() < 1e-6

    def test_it_lets_low_frequencies_pass_and_stops_high_ones(self) -> None:
        row = torch.arange(96, dtype=torch.float64)
        for frequency, least, most in ((0.05, 0.9, 1.1), (0.4, 0.0, 0.1)):
            wave = 0.5 + 0.25 * torch.cos(2 * math.pi * frequency * row).expand(1, 96, 96)
            filtered = SincFilter(0.2, size=21)(wave, seeded(0))[..., 20:-20, 20:-20]
            assert least < filtered.std() / wave.std() < most

    def test_edges_ring(self) -> None:
        step = (torch.arange(64) < 32).double().expand(1, 64, 64) * 0.5 + 0.25
        filtered = SincFilter(0.2, size=21)(step, seeded(0))
        assert filtered.min() < 0.24
        assert filtered.max() > 0.76

    def test_a_bad_cutoff_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"cutoff must be .* within \[0.01, 0.5\], got 3.14"):
            SincFilter(3.14)


@pytest.mark.parametrize(
    "degradation",
    [
        GaussianBlur(2.5),
        GaussianBlur((0.5, 3), profile="generalized", isotropic=False),
        GaussianBlur((0.5, 3), profile="plateau", isotropic=False, gamma=2.2),
        SincFilter(0.25),
    ],
)
class TestFiltering:
    def test_an_image_is_convolved_with_its_kernel(self, degradation: Any) -> None:
        image = torch.rand(3, 40, 53, generator=seeded(0), dtype=torch.float64) * 0.6 + 0.2
        kernel = degradation.sample_kernel(seeded(2)).numpy()
        light = image.numpy() ** degradation.gamma
        expected = np.stack([convolve(channel, kernel, mode="mirror") for channel in light]).clip(0, 1)
        found = degradation(image, seeded(2)).numpy() ** degradation.gamma
        assert np.abs(found - expected).max() < 1e-7

    def test_a_batch_is_convolved_with_a_kernel_for_each_image(self, degradation: Any) -> None:
        images = torch.rand(4, 3, 40, 53, generator=seeded(0), dtype=torch.float64) * 0.6 + 0.2
        kernels = degradation._sample_kernels(images, seeded(2)).numpy()
        for image, kernel, found in zip(images, kernels, degradation.degrade_batch(images, seeded(2))):
            light = image.numpy() ** degradation.gamma
            expected = np.stack([convolve(channel, kernel, mode="mirror") for channel in light]).clip(0, 1)
            assert np.abs(found.numpy() ** degradation.gamma - expected).max() < 1e-7

    def test_kernels_have_sum_1(self, degradation: Any) -> None:
        generator = seeded(0)
        for _ in range(50):
            kernel = degradation.sample_kernel(generator)
            assert kernel.shape == (21, 21)
            assert kernel.sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("degradation", [GaussianBlur(3), SincFilter(0.2)])
def test_every_odd_side_of_the_range_is_as_likely(degradation: Any) -> None:
    generator = seeded(0)
    kernels = torch.stack([degradation.sample_kernel(generator) for _ in range(800)])
    sides = (kernels[:, 10] != 0).sum(1)
    assert sorted(sides.unique().tolist()) == list(range(7, 22, 2))
    assert all((sides == side).float().mean() == pytest.approx(1 / 8, abs=0.04) for side in range(7, 22, 2))


def test_they_are_known_by_name_and_with_settings() -> None:
    config = {"type": "GaussianBlur", "sigma": [0.2, 1.5], "profile": "plateau", "isotropic": False, "size": [7, 21]}
    assert build_degradation(config) == GaussianBlur((0.2, 1.5), profile="plateau", isotropic=False)
    assert build_degradation("gaussian_blur") == GaussianBlur()
    assert build_degradation("sinc_filter") == SincFilter()
