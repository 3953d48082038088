from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from clusir_modules.data import JPEG


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pillow_round_trip(levels: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


class TestJPEG:
    @pytest.mark.parametrize("quality", [1, 10, 40, 95, 100])
    def test_it_equals_a_round_trip_through_pillow(self, quality: int) -> None:
        levels = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
        image = torch.from_numpy(levels).permute(2, 0, 1).float() / 255
        result = (JPEG(quality)(image, seeded(0)) * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(result, pillow_round_trip(levels, quality))

    def test_one_channel_is_coded_as_gray(self) -> None:
        levels = np.random.default_rng(0).integers(0, 256, (21, 19), dtype=np.uint8)
        result = JPEG(20)(torch.from_numpy(levels)[None].float() / 255, seeded(0))
        assert np.array_equal((result[0] * 255).round().byte().numpy(), pillow_round_trip(levels, 20))

    def test_both_ends_of_a_range_are_drawn(self) -> None:
        image = torch.rand(3, 16, 16, generator=seeded(0))
        ends = [JPEG(quality)(image, seeded(0)) for quality in (10, 11)]
        drawn = [JPEG([10, 11])(image, seeded(seed)) for seed in range(40)]
        counts = [sum(torch.equal(result, end) for result in drawn) for end in ends]
        assert min(counts) > 5
        assert sum(counts) == 40

    def test_a_shifted_grid_is_that_of_a_crop_of_a_compressed_picture(self) -> None:
        """The grid is found again among all 256; single images equal Pillow's, those of a batch nearly."""
        levels = np.random.default_rng(0).integers(0, 256, (18, 23, 3), dtype=np.uint8)
        image = torch.from_numpy(levels).permute(2, 0, 1).float() / 255
        crops = np.stack(
            [
                pillow_round_trip(np.pad(levels, ((down, 16 - down), (right, 16 - right), (0, 0)), mode="edge"), 85)[
                    down : down + 18, right : right + 23
                ]
                for down in range(16)
                for right in range(16)
            ]
        ).astype(float)
        single = [JPEG(85, shifted=True)(image, seeded(seed)) for seed in range(12)]
        batch = JPEG(85, shifted=True).degrade_batch(image.expand(12, -1, -1, -1), seeded(0))
        for results, most in ((single, 1e-3), (batch, 1.2)):
            errors = [np.abs(crops - 255 * result.permute(1, 2, 0).numpy()).mean((1, 2, 3)) for result in results]
            assert max(error.min() for error in errors) < most
            assert min(np.partition(error, 1)[1] for error in errors) > 2 * most
            assert len({int(error.argmin()) for error in errors}) > 8

    def test_a_batch_repeats_the_last_rows_of_chroma_as_pillow_does(self) -> None:
        levels = np.random.default_rng(0).integers(0, 256, (22, 28, 3), dtype=np.uint8)
        images = torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 255
        found = 255 * JPEG(30).degrade_batch(images, seeded(0))[0].permute(1, 2, 0).numpy()
        assert np.abs(found - pillow_round_trip(levels, 30)).mean() < 0.1

    def test_shifted_is_a_bool(self) -> None:
        with pytest.raises(TypeError, match="shifted must be a bool, got 3"):
            JPEG(shifted=3)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("quality", "error"), [(0, ValueError), (101, ValueError), ((30, 10), ValueError), (30.5, TypeError)]
    )
    def test_bad_quality_is_named(self, quality: object, error: type[Exception]) -> None:
        with pytest.raises(error, match="quality must be"):
            JPEG(quality)  # type: ignore[arg-type]
