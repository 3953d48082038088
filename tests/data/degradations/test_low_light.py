from __future__ import annotations

import pytest
import torch

from clusir_modules.data import LowLight


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestLowLight:
    def test_without_noise_it_is_the_exposure_curve(self) -> None:
        image = torch.rand(3, 20, 20, generator=seeded(0))
        result = LowLight(0.3, gamma=1.5, shot_noise=0, read_noise=0)(image, seeded(1))
        assert torch.allclose(result, 0.3 * image**1.5, atol=1e-6)

    def test_the_default_is_always_darker(self) -> None:
        image = torch.rand(3, 40, 40, generator=seeded(0))
        for seed in range(20):
            assert LowLight()(image, seeded(seed)).mean() < 0.5 * image.mean()

    def test_noise_has_the_variance_of_the_sensor_model_in_linear_light(self) -> None:
        level = 0.8
        image = torch.full((3, 200, 200), level, dtype=torch.float64)
        dark = LowLight(0.9, gamma=1, shot_noise=1e-3, read_noise=2e-3)(image, seeded(0))
        light = dark**2.2
        expected = (0.9 * level) ** 2.2
        assert light.mean().item() == pytest.approx(expected, rel=1e-3)
        assert light.var().item() == pytest.approx(1e-3 * expected + 2e-3**2, rel=0.02)

    def test_shot_noise_grows_with_the_light(self) -> None:
        ramp = torch.tensor([0.2, 0.9]).repeat_interleave(5000).view(1, 100, 100).double()
        light = LowLight(1.0, gamma=1, shot_noise=1e-3, read_noise=0)(ramp, seeded(0)) ** 2.2
        assert light[:, 50:].std() > 3 * light[:, :50].std()

    def test_bad_exposure_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"exposure must be .* got 1.5"):
            LowLight(1.5)
