from __future__ import annotations

import pytest
import torch

from clusir_modules.data import LogUniform, LowLight


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

    def test_a_color_cast_is_a_factor_for_each_channel(self) -> None:
        image = torch.full((3, 8, 8), 0.5)
        factors = []
        for seed in range(200):
            dark = LowLight(0.4, gamma=1, shot_noise=0, read_noise=0, cast=0.15)(image, seeded(seed))
            assert (dark.amax((1, 2)) - dark.amin((1, 2))).max() < 1e-6
            factors.append(dark[:, 0, 0] / 0.2)
        drawn = torch.stack(factors)
        assert drawn.min() == pytest.approx(0.85, abs=0.005)
        assert drawn.max() == pytest.approx(1.15, abs=0.005)
        assert torch.corrcoef(drawn.T).fill_diagonal_(0).abs().max() < 0.25

    def test_it_reaches_the_darkness_of_lol(self) -> None:
        """Dark images of LOL-v1 eval15 have means of 0.016 to 0.13, their bright partners about 0.5."""
        night = LowLight(LogUniform(0.04, 0.35), gamma=(1, 1.6), cast=0.15, shot_noise=LogUniform(1e-5, 1e-3))
        image = torch.rand(3, 32, 32, generator=seeded(0))
        means = torch.tensor([night(image, seeded(s)).mean().item() for s in range(200)])
        assert means.min() < 0.016
        assert means.max() > 0.13

    @pytest.mark.parametrize(("cast", "error"), [(1.5, ValueError), (-0.1, ValueError), ((0.0, 0.1), TypeError)])
    def test_a_bad_cast_is_named(self, cast: object, error: type[Exception]) -> None:
        with pytest.raises(error, match="cast must be a number"):
            LowLight(cast=cast)  # type: ignore[arg-type]
