from __future__ import annotations

import math

import pytest
import torch

from clusir_modules.data import CameraNoise, LogUniform
from clusir_modules.data.degradations.camera import _interpolate_mosaic


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestCameraNoise:
    @pytest.mark.parametrize("level", [0.3, 0.8])
    def test_noise_has_the_variance_of_the_sensor_model_in_linear_light(self, level: float) -> None:
        image = torch.full((3, 200, 200), level, dtype=torch.float64)
        light = CameraNoise(1e-4, read_noise=2e-3, mosaic=0)(image, seeded(0)) ** 2.2
        expected = level**2.2
        assert light.mean().item() == pytest.approx(expected, rel=1e-3)
        assert light.var().item() == pytest.approx(1e-4 * expected + 2e-3**2, rel=0.02)

    def test_without_a_mosaic_it_is_independent_of_the_neighbors(self) -> None:
        noise = CameraNoise(1e-3, read_noise=0, mosaic=0)(torch.full((3, 200, 200), 0.5).double(), seeded(0)) - 0.5
        for neighbor in (noise[:, 1:] * noise[:, :-1], noise[:, :, 1:] * noise[:, :, :-1], noise[:2] * noise[1:]):
            assert abs(neighbor.mean() / noise.var()) < 0.02

    def test_a_mosaic_keeps_what_it_measures_and_fills_in_the_mean_of_the_neighbors(self) -> None:
        """Against a loop over the pixels, for each of the four places of the red pixel."""
        noise = torch.randn(40, 3, 6, 7, generator=seeded(1), dtype=torch.float64)
        found = _interpolate_mosaic(noise, seeded(2))
        cells = set()
        for before, after in zip(noise, found):
            (cell,) = {
                (row, column)
                for row in (0, 1)
                for column in (0, 1)
                if torch.equal(before[0, row::2, column::2], after[0, row::2, column::2])
            }
            cells.add(cell)
            color = [
                [(r - cell[0]) % 2 + (c - cell[1]) % 2 for c in range(7)] for r in range(6)
            ]  # red 0, green 1, blue 2
            for channel in range(3):
                for row in range(1, 5):
                    for column in range(1, 6):
                        around = [(r, c) for r in range(row - 1, row + 2) for c in range(column - 1, column + 2)]
                        same = [(r, c) for r, c in around if color[r][c] == channel]
                        nearest = min(abs(r - row) + abs(c - column) for r, c in same)
                        values = [before[channel, r, c] for r, c in same if abs(r - row) + abs(c - column) == nearest]
                        assert after[channel, row, column].item() == pytest.approx(sum(values).item() / len(values))
        assert len(cells) == 4

    def test_a_mosaic_correlates_neighbors(self) -> None:
        gray = torch.full((3, 300, 300), 0.5).double()
        noise = CameraNoise(1e-4, read_noise=0, mosaic=1)(gray, seeded(0)) - 0.5
        plain = CameraNoise(1e-4, read_noise=0, mosaic=0)(gray, seeded(0)) - 0.5
        # Of green half the pixels are measured, the others have a quarter of the variance; of red 1, 2/2 and 1/4 of 4.
        assert (noise[1].var() / plain[1].var()).item() == pytest.approx((1 + 0.25) / 2, rel=0.03)
        assert (noise[0].var() / plain[0].var()).item() == pytest.approx((1 + 0.5 + 0.5 + 0.25) / 4, rel=0.03)
        for channel in noise:
            assert (channel[:, 1:] * channel[:, :-1]).mean() / channel.var() > 0.3

    def test_a_share_of_the_images_has_a_mosaic(self) -> None:
        images = torch.full((400, 3, 24, 24), 0.5)
        noise = CameraNoise(1e-4, read_noise=0, mosaic=0.3).degrade_batch(images, seeded(0)) - 0.5
        correlated = (noise[:, 1, 1:] * noise[:, 1, :-1]).mean((1, 2)) / noise[:, 1].var((1, 2)) > 0.2
        assert correlated.float().mean().item() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 400))

    def test_gray_images_have_no_mosaic(self) -> None:
        image = torch.rand(1, 30, 30, generator=seeded(0))
        assert torch.equal(CameraNoise(mosaic=1)(image, seeded(1)), CameraNoise(mosaic=0)(image, seeded(1)))

    def test_the_default_strength_is_spread_over_its_logarithm(self) -> None:
        image = torch.full((3, 40, 40), 0.5)
        strength = torch.tensor(
            [CameraNoise(read_noise=0.0, mosaic=0)(image, seeded(s)).std().item() for s in range(200)]
        )
        share = (strength < (strength.min() * strength.max()).sqrt()).float().mean()
        assert share.item() == pytest.approx(0.5, abs=0.14)
        assert strength.max() > 8 * strength.min()

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"shot_noise": 2}, r"shot_noise must be .*within \[0, 1\], got 2"),
            ({"read_noise": LogUniform(0, 1)}, r"read_noise must be .*log_uniform \(then above 0\).*got LogUniform"),
            ({"mosaic": 1.5}, r"mosaic must be a number within \[0, 1\], got 1.5"),
        ],
    )
    def test_bad_settings_are_named(self, settings: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            CameraNoise(**settings)  # type: ignore[arg-type]
