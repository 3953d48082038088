from __future__ import annotations

import math

import pytest
import torch

from clusir_modules.data import Raindrops


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestRaindrops:
    def test_a_drop_shows_the_scene_half_as_large_and_the_other_way_round(self) -> None:
        """A ramp of light rises by ``b`` a pixel outside, and falls by ``2 b`` a pixel within a drop."""
        rise = 0.002
        light = (0.2 + rise * torch.arange(240, dtype=torch.float64)).expand(3, 80, 240)
        degradation = Raindrops(0.2, radius=9, softness=0, shade=0)
        found = degradation(light ** (1 / 2.2), seeded(0)) ** 2.2
        inner = slice(degradation.margin, -degradation.margin)
        steps = found[:, :, inner].diff(dim=2) / rise
        outside, inside = ((steps - slope).abs() < 1e-6 for slope in (1, -2))
        assert outside.double().mean() > 0.25
        assert inside.double().mean() > 0.25
        assert (outside | inside).double().mean() > 0.8  # the others are at the rims

    def test_pixels_without_a_drop_keep_their_bits(self) -> None:
        image = torch.rand(3, 60, 70, generator=seeded(0))
        changed = (Raindrops(0.2)(image, seeded(1)) != image).any(0)
        assert 0.02 < changed.double().mean() < 0.9
        assert torch.equal(Raindrops(0)(image, seeded(1)), image)

    def test_as_much_is_covered_as_density_and_radius_say(self) -> None:
        """On white, with the rim black, a drop takes ``pi r^2 / 2``; there are ``density`` drops in each square."""
        density, radius = 0.03, 10
        degradation = Raindrops(density, radius=radius, softness=0, shade=1)
        white = torch.ones(16, 1, 256, 256)
        taken = 1 - (degradation.degrade_batch(white, seeded(0)) ** 2.2).mean().item()
        side = math.ceil(radius + 0.5)
        assert taken == pytest.approx(density * math.pi * radius**2 / 2 / side**2, rel=0.15)

    def test_drops_are_of_all_sizes(self) -> None:
        """Of how different areas are, in images that hold one drop mostly; equal ones differ where they are cut off."""
        white, spreads = torch.ones(300, 1, 40, 40), []
        for radius in ((2, 6), 4):
            dark = Raindrops(0.02, radius=radius, softness=0, shade=1).degrade_batch(white, seeded(0)) < 0.99
            area = dark.sum((1, 2, 3)).float()
            spreads.append(area[area > 0].std() / area[area > 0].mean())
        assert spreads[0] > 1.2 * spreads[1]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"density": 1.2}, r"density must be .*within \[0, 1\], got 1.2"),
            ({"radius": 0.1}, r"radius must be .*within \[0.5, 100\], got 0.1"),
            ({"softness": 3}, r"softness must be .*within \[0, 2\], got 3"),
            ({"shade": -1}, r"shade must be .*within \[0, 1\], got -1"),
        ],
    )
    def test_bad_settings_are_named(self, settings: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Raindrops(**settings)  # type: ignore[arg-type]
