from __future__ import annotations

import math

import pytest
import torch

from clusir_modules.data import RainStreaks, Snow
from clusir_modules.data.degradations import _particles, rain
from clusir_modules.data.degradations._particles import Particles, transmittance


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one(**settings: float) -> Particles:
    values = {"x": 20.0, "y": 20.0, "length": 0.0, "radius": 2.0, "angle": 0.0, "opacity": 0.5} | settings
    return Particles(**{name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()})


class TestTransmittance:
    def test_a_flake_absorbs_its_area_times_its_opacity(self) -> None:
        absorbed = 1 - transmittance(41, 41, one(radius=6.0), softness=0.5, fade=0)
        assert absorbed.sum().item() == pytest.approx(0.5 * math.pi * 36, rel=0.05)
        assert absorbed[20, 20].item() == pytest.approx(0.5)

    def test_a_streak_is_long_in_its_direction(self) -> None:
        absorbed = 1 - transmittance(
            61, 61, one(x=30, y=30, length=30, radius=1, angle=math.radians(30)), softness=1, fade=0
        )
        rows, columns = torch.meshgrid(torch.arange(61.0), torch.arange(61.0), indexing="ij")
        weights = absorbed / absorbed.sum()
        covariance = ((rows - 30) * (columns - 30) * weights).sum()
        slope = covariance / ((rows - 30) ** 2 * weights).sum()
        assert slope.item() == pytest.approx(math.tan(math.radians(30)), rel=0.05)

    def test_overlapping_particles_multiply(self) -> None:
        single = transmittance(41, 41, one(), softness=1, fade=0)
        pair = Particles(**{name: value.repeat(2) for name, value in vars(one()).items()})
        assert torch.allclose(transmittance(41, 41, pair, softness=1, fade=0), single**2)

    def test_a_particle_outside_reaches_in_only_as_far_as_it_is_wide(self) -> None:
        absorbed = 1 - transmittance(30, 30, one(x=-3.0, y=15.0, radius=5.0), softness=0.2, fade=0)
        assert absorbed[15, 0] > 0
        assert absorbed[15, 5:].max() == 0
        assert absorbed[:, 20:].max() == 0


class TestRainStreaks:
    def test_rain_only_moves_pixels_towards_the_light_of_the_drops(self) -> None:
        image = torch.rand(3, 60, 60, generator=seeded(0)) * 0.7
        result = RainStreaks(light=0.9)(image, seeded(1))
        assert (result >= image - 1e-6).all()
        assert (result <= 0.9 + 1e-6).all()
        assert (result - image).max() > 0.1

    def test_streaks_follow_the_angle_of_the_fall(self) -> None:
        def gradient_energy(angle: float) -> tuple[float, float]:
            rain = RainStreaks(3.0, angle=angle, veil=0)(torch.zeros(1, 160, 160), seeded(2))[0]
            return float(rain.diff(dim=1).square().sum()), float(rain.diff(dim=0).square().sum())

        across, along = gradient_energy(0)
        assert across > 5 * along  # vertical streaks vary sideways
        tilted_across, tilted_along = gradient_energy(45)
        assert 0.7 < tilted_across / tilted_along < 1.4

    def test_more_density_covers_more_and_none_covers_nothing(self) -> None:
        covered = [
            RainStreaks(density, veil=0)(torch.zeros(1, 120, 120), seeded(0)).mean().item() for density in (0, 1, 3, 9)
        ]
        assert covered[0] == 0
        assert covered == sorted(covered)
        assert covered[3] > 3 * covered[1]

    def test_rain_is_as_dense_at_the_border_as_in_the_middle(self) -> None:
        rain = torch.stack([RainStreaks(4.0, veil=0)(torch.zeros(1, 64, 64), seeded(s)) for s in range(100)]).mean(0)[0]
        border = torch.cat([rain[:4].flatten(), rain[-4:].flatten(), rain[:, :4].flatten(), rain[:, -4:].flatten()])
        assert border.mean().item() == pytest.approx(rain[16:48, 16:48].mean().item(), rel=0.15)

    def test_the_veil_alone_is_an_even_haze(self) -> None:
        image = torch.rand(3, 10, 10, generator=seeded(0))
        result = RainStreaks(0, veil=0.25, light=1)(image, seeded(0))
        assert torch.allclose(result, 0.75 * image + 0.25, atol=1e-6)

    def test_too_steep_an_angle_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"angle must be .*\[-60, 60\], got 80"):
            RainStreaks(angle=80)


class TestDirections:
    def angles(self, degradation: RainStreaks, seed: int, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
        """Angles in degrees of the drops of each layer."""
        drawn: list[torch.Tensor] = []

        def record(height: int, width: int, drops: Particles, **options: float) -> torch.Tensor:
            drawn.append(torch.rad2deg(drops.angle))
            return torch.ones(height, width, dtype=torch.float64)

        monkeypatch.setattr(rain, "transmittance", record)
        degradation(torch.zeros(1, 100, 100), seeded(seed))
        return drawn

    def test_as_many_as_are_drawn_share_the_streaks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = set()
        for seed in range(30):
            layers = self.angles(RainStreaks(10.0, angle=(-50, 50), directions=(1, 3)), seed, monkeypatch)
            angles = torch.cat(layers).sort().values
            gaps = angles.diff() > 1.5  # within a direction they lie closer
            found.add(1 + int(gaps.sum()))
            assert -52 <= angles.min()
            assert angles.max() <= 52
        assert found == {1, 2, 3}

    def test_one_direction_spreads_by_two_degrees(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for angles in self.angles(RainStreaks(10.0, angle=20), 0, monkeypatch):
            assert 18 <= angles.min() < 18.3
            assert 21.7 < angles.max() <= 22

    def test_it_reaches_heavy_rain_as_in_rain100h(self) -> None:
        """Its images are at 10.5 to 15.5 dB, brighter by 0.11 to 0.25, and rain covers 40 to 80% of the pixels."""
        heavy = RainStreaks(
            (10, 30), length=(20, 60), width=(2, 4), opacity=(0.5, 1.0), light=(0.9, 1.0), directions=(1, 5)
        )
        clean = torch.full((48, 3, 96, 96), 0.4)
        change = heavy.degrade_batch(clean, seeded(0)) - clean
        psnr = -10 * change.square().mean((1, 2, 3)).log10()
        assert psnr.min() < 10.5
        assert psnr.max() > 14
        assert change.mean((1, 2, 3)).min() < 0.13
        assert change.mean((1, 2, 3)).max() > 0.25
        assert (change > 0.1).float().mean((1, 2, 3)).max() > 0.8

    @pytest.mark.parametrize(
        ("directions", "error", "message"),
        [
            (0, ValueError, r"directions must be .*within \[1, 8\], got 0"),
            ((3, 2), ValueError, "directions must be an int or an ascending pair"),
            (2.0, TypeError, "directions must be an int or a pair of ints, got 2.0"),
        ],
    )
    def test_bad_numbers_are_named(self, directions: object, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            RainStreaks(directions=directions)  # type: ignore[arg-type]


class TestSnow:
    def test_flakes_are_whiter_than_rain(self) -> None:
        image = torch.full((3, 128, 128), 0.2)
        assert Snow(3.0)(image, seeded(0)).max() > 0.85
        assert RainStreaks(3.0)(image, seeded(0)).max() < 0.85

    def test_flakes_are_round_not_streaks(self) -> None:
        snow = Snow(2.0, angle=0, veil=0)(torch.zeros(1, 200, 200), seeded(0))[0]
        across, along = float(snow.diff(dim=1).square().sum()), float(snow.diff(dim=0).square().sum())
        assert across < 2 * along

    def test_snow_only_brightens_what_is_darker_than_the_flakes(self) -> None:
        image = torch.rand(3, 60, 60, generator=seeded(0)) * 0.9
        result = Snow(light=0.95)(image, seeded(1))
        assert (result >= image - 1e-6).all()
        assert (result <= 0.95 + 1e-6).all()


class TestLargeImages:
    def test_many_particles_drawn_in_portions_give_what_they_give_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image = torch.zeros(1, 80, 80)
        at_once = RainStreaks(20.0)(image, seeded(0))
        monkeypatch.setattr(_particles, "_AT_ONCE", 7)
        assert torch.allclose(RainStreaks(20.0)(image, seeded(0)), at_once, atol=1e-6)
