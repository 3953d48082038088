from __future__ import annotations

import numpy as np
import pytest
import torch

from clusir_modules.data import GaussianNoise


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestGaussianNoise:
    @pytest.mark.parametrize("sigma", [5, 15, 25, 50])
    def test_measured_deviation_is_sigma(self, sigma: int) -> None:
        image = torch.full((3, 256, 256), 0.5)
        noise = (GaussianNoise(sigma, quantize=False)(image, seeded(0)) - image) * 255
        assert noise.std().item() == pytest.approx(sigma, rel=0.01)
        assert noise.mean().item() == pytest.approx(0, abs=4 * sigma / np.sqrt(noise.numel()))

    def test_noise_is_independent_between_channels_and_neighbors(self) -> None:
        noise = GaussianNoise(25, quantize=False)(torch.zeros(3, 200, 200), seeded(0)).double()
        assert abs(np.corrcoef(noise[0].flatten(), noise[1].flatten())[0, 1]) < 0.02
        assert abs(np.corrcoef(noise[0, :, 1:].flatten(), noise[0, :, :-1].flatten())[0, 1]) < 0.02

    def test_quantized_noise_is_numpy_clipping_and_truncation(self) -> None:
        levels = np.random.default_rng(0).integers(0, 256, (3, 64, 64))
        image = torch.from_numpy(levels).float() / 255
        result = GaussianNoise(40)(image, seeded(5))
        unclipped = GaussianNoise(40, quantize=False)(image, seeded(5))
        noise = (unclipped - image).numpy().astype(np.float64) * 255
        expected = np.clip(levels + noise, 0, 255).astype(np.uint8)
        difference = np.abs((result * 255).round().numpy() - expected)
        # Where float32 lands on the other side of a whole level, one level.
        assert difference.max() <= 1
        assert (difference > 0).mean() < 5e-3

    def test_every_quantized_value_is_a_level_and_the_mean_drops_by_half_a_level(self) -> None:
        image = torch.full((1, 400, 400), 128 / 255)
        levels = GaussianNoise(15)(image, seeded(0)) * 255
        assert torch.allclose(levels, levels.round(), atol=1e-4)
        assert levels.double().mean().item() == pytest.approx(127.5, abs=0.15)

    def test_without_noise_8_bit_images_come_back_exactly(self) -> None:
        image = (torch.arange(256) / 255).view(1, 16, 16)
        assert torch.equal(GaussianNoise(0)(image, seeded(0)), image)

    def test_unquantized_noise_is_not_clipped(self) -> None:
        result = GaussianNoise(50, quantize=False)(torch.zeros(1, 50, 50), seeded(0))
        assert result.min() < -0.1

    def test_levels_of_a_list_are_drawn_equally_often(self) -> None:
        noise = GaussianNoise([15, 25, 50], quantize=False)
        image = torch.full((3, 32, 32), 0.5)
        found = [round(((noise(image, seeded(seed)) - image) * 255).std().item() / 5) * 5 for seed in range(300)]
        assert {15, 25, 50} == set(found)
        assert min(found.count(sigma) for sigma in (15, 25, 50)) > 70

    @pytest.mark.parametrize(
        ("sigma", "error"), [(-1, ValueError), ([], ValueError), (256, ValueError), ("25", TypeError)]
    )
    def test_bad_sigma_is_named(self, sigma: object, error: type[Exception]) -> None:
        with pytest.raises(error, match="sigma must be"):
            GaussianNoise(sigma)  # type: ignore[arg-type]

    def test_between_the_levels_every_one_is_as_likely(self) -> None:
        noise = GaussianNoise((40, 10, 20), between=True, quantize=False)
        image = torch.zeros(3, 40, 40)
        drawn = torch.tensor([noise(image, seeded(s)).std().item() * 255 for s in range(400)])
        assert 9 < drawn.min() < 11
        assert 38 < drawn.max() < 42
        assert torch.histc(drawn, 5, 10, 40).min() > 400 / 5 - 4 * (400 * 0.16) ** 0.5
