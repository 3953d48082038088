from __future__ import annotations

import numpy as np
import pytest
import torch

from clusir_modules.data.patches import Augmentation, Patch, draw_patch


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose pixels tell where they are."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


def patch_of(pixels: np.ndarray, size: int, seed: int, margin: int = 0, augment: Augmentation = True) -> Patch:
    return draw_patch(*pixels.shape[:2], size=size, margin=margin, augment=augment, generator=seeded(seed))


class TestPatch:
    @pytest.mark.parametrize("margin", [0, 3, 50])
    def test_trimming_after_any_turn_gives_what_no_margin_gives(self, margin: int) -> None:
        pixels = coordinates(40, 60)
        for seed in range(60):
            with_margin = patch_of(pixels, 16, seed, margin)
            without = patch_of(pixels, 16, seed)
            assert torch.equal(with_margin.trim(with_margin.cut(pixels)), without.trim(without.cut(pixels)))

    def test_the_region_has_the_margin_wherever_the_image_has(self) -> None:
        pixels = coordinates(100, 100)
        for seed in range(40):
            patch = patch_of(pixels, 20, seed, margin=10)
            assert patch.top == min(10, patch.rows.start + patch.top)
            assert patch.cut(pixels).shape[1:] in {
                (20 + patch.top + patch.bottom, 20 + patch.left + patch.right),
                (20 + patch.left + patch.right, 20 + patch.top + patch.bottom),
            }

    def test_all_eight_symmetries_occur_with_full_augmentation(self) -> None:
        pixels = coordinates(4, 4)
        base = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        expected = {
            tuple(t.flatten().tolist()) for k in range(4) for t in self.both_mirrors(torch.rot90(base, k, (1, 2)))
        }
        found = set()
        for seed in range(100):
            patch = patch_of(pixels, 4, seed)
            found.add(tuple(patch.trim(patch.cut(pixels)).flatten().tolist()))
        assert found == expected
        assert len(expected) == 8

    @staticmethod
    def both_mirrors(image: torch.Tensor) -> list[torch.Tensor]:
        return [image, image.flip(2)]

    @pytest.mark.parametrize(("augment", "count"), [(False, 1), ("flip", 2), ("rotate", 4), (True, 8)])
    def test_each_setting_allows_its_symmetries_only(self, augment: Augmentation, count: int) -> None:
        seen = {patch_of(coordinates(8, 8), 8, seed, augment=augment)[7:] for seed in range(100)}
        assert len(seen) == count

    def test_places_cover_the_image_evenly(self) -> None:
        starts = [patch_of(coordinates(12, 12), 8, seed).rows.start for seed in range(500)]
        assert sorted(set(starts)) == [0, 1, 2, 3, 4]
        assert min(starts.count(start) for start in range(5)) > 60

    def test_a_small_image_is_padded_by_reflection(self) -> None:
        pixels = coordinates(6, 9)
        patch = patch_of(pixels, 9, 0, augment=False)
        expected = np.pad(pixels, ((1, 2), (0, 0), (0, 0)), mode="reflect")
        assert np.array_equal((patch.cut(pixels) * 255).round().byte().permute(1, 2, 0).numpy(), expected)

    @pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 2), (15, 16)])
    def test_an_image_too_small_to_reflect_is_padded_by_its_edge(self, size: tuple[int, int]) -> None:
        pixels = coordinates(*size)
        for seed in range(8):
            patch = patch_of(pixels, 16, seed, margin=5)
            result = patch.trim(patch.cut(pixels))
            assert result.shape == (3, 16, 16)
            assert set(result[0].unique().mul(255).round().tolist()) == set(range(size[0]))
