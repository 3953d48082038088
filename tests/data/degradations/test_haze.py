from __future__ import annotations

import math

import pytest
import torch

from clusir_modules.data import Haze
from clusir_modules.data.degradations import haze


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestHaze:
    def test_it_is_the_scattering_formula_with_its_own_maps(self) -> None:
        image = torch.rand(3, 50, 70, generator=seeded(9))
        haze = Haze()
        transmission, airlight = haze.sample_maps(image, seeded(4))
        result = haze(image, seeded(4))
        for channel in range(3):
            for row, column in ((0, 0), (13, 60), (49, 69)):
                t = transmission[0, row, column].item()
                expected = image[channel, row, column].item() * t + airlight[channel].item() * (1 - t)
                assert result[channel, row, column].item() == pytest.approx(expected, abs=1e-6)

    def test_transmission_is_between_the_far_end_and_1_and_smooth(self) -> None:
        for seed in range(20):
            transmission, _ = Haze(1.5).sample_maps(torch.zeros(3, 200, 300), seeded(seed))
            assert math.exp(-1.5) - 1e-6 <= transmission.min()
            assert transmission.max() <= 1
            assert transmission.diff(dim=1).abs().max() < 0.05
            assert transmission.diff(dim=2).abs().max() < 0.05

    def test_the_top_of_a_scene_is_farther_than_its_bottom_on_average(self) -> None:
        maps = [Haze().sample_maps(torch.zeros(1, 320, 320), seeded(seed))[0] for seed in range(50)]
        transmission = torch.stack(maps).mean(0)[0]
        assert transmission[:80].mean() < transmission[-80:].mean() - 0.1

    def test_a_patch_spans_less_depth_than_a_whole_scene(self) -> None:
        def spread(size: int) -> float:
            maps = (Haze(1.0).sample_maps(torch.zeros(1, size, size), seeded(s))[0] for s in range(40))
            return sum(float(t.max() - t.min()) for t in maps) / 40

        assert spread(64) < 0.6 * spread(320)

    def test_stronger_scattering_hides_more(self) -> None:
        image = torch.rand(3, 64, 64, generator=seeded(1))
        contrasts = [Haze(beta, airlight=0.9, tint=0)(image, seeded(3)).std().item() for beta in (0, 0.5, 1, 2, 4)]
        assert contrasts == sorted(contrasts, reverse=True)
        assert torch.allclose(Haze(0)(image, seeded(3)), image)

    def test_tint_bounds_the_difference_of_the_channels(self) -> None:
        for seed in range(20):
            airlight = Haze(airlight=0.8, tint=0.05).sample_maps(torch.zeros(3, 8, 8), seeded(seed)).airlight
            assert (airlight - 0.8).abs().max() <= 0.05 + 1e-6

    def test_bad_scene_size_is_named(self) -> None:
        with pytest.raises(ValueError, match="scene_size must be >= 1, got 0"):
            Haze(scene_size=0)


class TestObjects:
    def depth(self, objects: float, seed: int, size: int = 160) -> torch.Tensor:
        return -Haze(1.0, objects=objects).sample_maps(torch.zeros(1, size, size), seeded(seed))[0][0].log()

    def test_they_are_nearer_than_the_scene_behind_and_as_far_everywhere(self) -> None:
        for seed in range(10):
            behind, with_objects = self.depth(0, seed), self.depth(1, seed)
            covered = with_objects < behind - 1e-5
            assert torch.allclose(with_objects[~covered], behind[~covered], atol=2e-5)
            distances = with_objects[covered].mul(1e5).round().unique()
            assert distances.numel() <= 20  # 10 objects, each of one depth, read back through exp and log
            assert with_objects.min() >= 0.25 - 1e-5

    def test_their_borders_are_sharp(self) -> None:
        def steepest(objects: float) -> list[float]:
            return sorted(float(self.depth(objects, seed).diff(dim=1).abs().max()) for seed in range(20))

        assert steepest(0)[-1] < 0.05
        assert steepest(1)[10] > 0.1

    def test_a_share_of_the_scenes_has_some(self) -> None:
        changed = [not torch.equal(self.depth(0.3, seed, 60), self.depth(0, seed, 60)) for seed in range(200)]
        always = [not torch.equal(self.depth(1, seed, 60), self.depth(0, seed, 60)) for seed in range(200)]
        assert 0.45 < sum(always) / 200
        assert sum(changed) / sum(always) == pytest.approx(0.3, abs=0.15)

    def test_large_images_are_made_in_portions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = self.depth(1, 3)
        monkeypatch.setattr(haze, "_PIXELS_AT_ONCE", 2 * 160 * 160)
        assert torch.equal(self.depth(1, 3), whole)

    @pytest.mark.parametrize(("objects", "error"), [(1.5, ValueError), (-1, ValueError), ((0, 1), TypeError)])
    def test_a_bad_share_is_named(self, objects: object, error: type[Exception]) -> None:
        with pytest.raises(error, match="objects must be a number"):
            Haze(objects=objects)  # type: ignore[arg-type]
