from __future__ import annotations

import math

import pytest
import torch

from clusir_modules.layers.frequency.spectral_gate import NUM_BANDS, SpectralGate, frequency_bands

CPU = torch.device("cpu")


def bands_by_hand(fy: float, fx: float) -> list[float]:
    """The windows at one frequency in cycles/pixel: linear between octaves, cos^2 between directions."""
    octave = math.log2(min(max(math.hypot(fy, fx), 1 / 64), 1 / 2)) + 6
    angle = math.degrees(math.atan2(fy, fx)) % 180
    values = []
    for center in range(6):
        for direction in (0, 45, 90, 135):
            away = abs(angle - direction)
            away = min(away, 180 - away)
            angular = math.cos(math.radians(2 * away)) ** 2 if away < 45 else 0.0
            values.append(max(0.0, 1 - abs(octave - center)) * angular)
    return values


def wave_map(fy: float, fx: float, height: int, width: int, phase: float = 0.3) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    return torch.cos(2 * math.pi * (fy * y + fx * x) + phase)[None, None]


class TestFrequencyBands:
    @pytest.mark.parametrize("size", [(1, 1), (1, 8), (7, 1), (16, 16), (9, 21), (128, 96)])
    def test_sum_to_one_at_each_frequency(self, size: tuple[int, int]) -> None:
        bands = frequency_bands(*size, CPU, torch.float64)
        assert bands.shape == (NUM_BANDS, size[0], size[1] // 2 + 1)
        assert bands.min() >= 0
        torch.testing.assert_close(bands.sum(0), torch.ones_like(bands[0]), atol=1e-12, rtol=0)

    def test_every_band_has_a_frequency_of_its_own_at_a_usual_size(self) -> None:
        assert (frequency_bands(128, 128, CPU, torch.float64).flatten(1).max(dim=1).values > 0.5).all()


class TestSpectralGate:
    @pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 5), (16, 12)])
    def test_zero_gains_are_the_identity(self, size: tuple[int, int]) -> None:
        x = torch.randn(2, 6, *size, dtype=torch.float64)
        torch.testing.assert_close(SpectralGate()(x, x.new_zeros(2, 3, NUM_BANDS)), x, atol=1e-12, rtol=0)

    @pytest.mark.parametrize("size", [(1, 1), (7, 6), (16, 12)])
    def test_one_gain_for_all_bands_is_a_factor(self, size: tuple[int, int]) -> None:
        x = torch.randn(1, 2, *size, dtype=torch.float64)
        torch.testing.assert_close(SpectralGate()(x, x.new_full((1, 1, NUM_BANDS), 0.7)), 1.7 * x, atol=1e-12, rtol=0)

    @pytest.mark.parametrize(("octave", "cycles"), [(3, 4), (4, 8), (2, 2)])
    @pytest.mark.parametrize("direction", [0, 2])
    def test_a_sinusoid_is_scaled_by_the_gain_of_its_band_alone(self, octave: int, cycles: int, direction: int) -> None:
        frequency = (0.0, cycles / 32) if direction == 0 else (cycles / 32, 0.0)
        x = wave_map(*frequency, 32, 32)
        band = octave * 4 + direction
        gains = torch.zeros(1, 1, NUM_BANDS, dtype=torch.float64)
        gains[..., band] = 0.8
        torch.testing.assert_close(SpectralGate()(x, gains), 1.8 * x, atol=1e-12, rtol=0)
        torch.testing.assert_close(SpectralGate()(x, 0.8 - gains), x, atol=1e-12, rtol=0)

    @pytest.mark.parametrize("cycles", [(3, 5), (-4, 4), (-7, 2), (0, 1), (5, 0), (-1, 12), (0, 0)])
    @pytest.mark.parametrize("size", [(32, 32), (31, 33), (64, 48)])
    def test_any_sinusoid_is_scaled_by_the_mixture_at_its_frequency(
        self, cycles: tuple[int, int], size: tuple[int, int]
    ) -> None:
        fy, fx = cycles[0] / size[0], cycles[1] / size[1]
        x = wave_map(fy, fx, *size)
        gains = torch.randn(1, 1, NUM_BANDS, dtype=torch.float64)
        factor = 1 + sum(float(g) * window for g, window in zip(gains.flatten(), bands_by_hand(fy, fx)))
        torch.testing.assert_close(SpectralGate()(x, gains), factor * x, atol=1e-10, rtol=0)

    def test_a_gain_means_the_same_at_every_size(self) -> None:
        gains = torch.randn(1, 1, NUM_BANDS, dtype=torch.float64)
        small = SpectralGate()(wave_map(1 / 8, 1 / 4, 16, 16), gains)
        large = SpectralGate()(wave_map(1 / 8, 1 / 4, 64, 48), gains)
        torch.testing.assert_close(large[..., :16, :16], small, atol=1e-10, rtol=0)

    @pytest.mark.parametrize("size", [(8, 8), (7, 6), (6, 7), (1, 4), (5, 5)])
    def test_the_filter_is_that_of_a_real_kernel(self, size: tuple[int, int]) -> None:
        """``irfft2`` is only defined on the spectrum of a real map; what it does else depends on the device."""
        height, width = size
        bands = frequency_bands(height, width, CPU, torch.float64)
        opposite = (-torch.arange(height)) % height
        columns = [0, width // 2] if width % 2 == 0 else [0]
        for column in columns:
            torch.testing.assert_close(bands[:, opposite, column], bands[:, :, column], atol=1e-12, rtol=0)

    def test_groups_have_gains_of_their_own(self) -> None:
        x = torch.randn(2, 6, 8, 8, dtype=torch.float64)
        gains = torch.randn(2, 3, NUM_BANDS, dtype=torch.float64)
        y = SpectralGate()(x, gains)
        for b in range(2):
            for channel in range(6):
                alone = SpectralGate()(
                    x[b : b + 1, channel : channel + 1], gains[b : b + 1, channel // 2 : channel // 2 + 1]
                )
                torch.testing.assert_close(y[b : b + 1, channel : channel + 1], alone, atol=1e-12, rtol=0)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("size", [(8, 8), (7, 9)])
    def test_half_precision_is_transformed_in_float32(self, dtype: torch.dtype, size: tuple[int, int]) -> None:
        x = torch.randn(1, 2, *size).to(dtype)
        gains = torch.randn(1, 1, NUM_BANDS)
        with torch.autocast("cpu", dtype=dtype):
            y = SpectralGate()(x, gains)
        assert y.dtype == dtype
        assert torch.equal(y, SpectralGate()(x.float(), gains).to(dtype))
