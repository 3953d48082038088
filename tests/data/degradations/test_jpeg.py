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

    @pytest.mark.parametrize(
        ("quality", "error"), [(0, ValueError), (101, ValueError), ((30, 10), ValueError), (30.5, TypeError)]
    )
    def test_bad_quality_is_named(self, quality: object, error: type[Exception]) -> None:
        with pytest.raises(error, match="quality must be"):
            JPEG(quality)  # type: ignore[arg-type]
