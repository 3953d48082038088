"""Padding and tiles."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from basicsr_plugin.models.inference import run_padded, run_tiled


def upscale(image):
    return functional.interpolate(image, scale_factor=2, mode="nearest")


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (16, 16), (3, 17)])
def test_padding_reaches_a_multiple_and_is_cropped_away(size):
    image = torch.rand(1, 3, *size)
    seen = []

    def net(padded):
        seen.append(padded.shape[-2:])
        return upscale(padded)

    assert torch.equal(run_padded(net, image, 8), upscale(image))
    assert all(side % 8 == 0 for side in seen[0])


def test_padding_reflects_where_it_can_and_repeats_the_border_elsewhere():
    image = torch.arange(5.0).reshape(1, 1, 1, 5).expand(1, 1, 5, 5)
    seen = []
    run_padded(lambda padded: seen.append(padded) or padded, image, 8)
    assert seen[0][0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    run_padded(lambda padded: seen.append(padded) or padded, image[..., :3, :3], 8)
    assert seen[1][0, 0, 0].tolist() == [0, 1, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("size", [(33, 50), (8, 50), (64, 12), (10, 10), (1, 40)])
@pytest.mark.parametrize("overlap", [0, 3, 9])
def test_a_pixelwise_network_gives_the_same_with_tiles(size, overlap):
    image = torch.rand(2, 3, *size)
    torch.testing.assert_close(run_tiled(upscale, image, tile=10, overlap=overlap), upscale(image))


def test_no_tile_exceeds_its_size_and_all_pixels_are_covered():
    covered = torch.zeros(45, 61)
    image = torch.arange(45.0 * 61).reshape(1, 1, 45, 61)

    def net(part):
        assert max(part.shape[-2:]) <= 16
        covered.view(-1)[part.long().flatten()] += 1
        return part

    run_tiled(net, image, tile=16, overlap=4)
    assert covered.min() >= 1


def test_blending_leaves_no_seam_between_tiles_that_disagree():
    level = iter(range(100))
    result = run_tiled(
        lambda part: torch.full_like(part, float(next(level))), torch.zeros(1, 1, 8, 30), tile=20, overlap=10
    )
    steps = result[0, 0, 0].diff()
    assert result[0, 0, 0, 0] == 0
    assert result[0, 0, 0, -1] == 1
    assert steps.min() >= 0
    assert steps.max() < 0.2


@pytest.mark.parametrize("overlap", [-1, 10])
def test_overlap_must_be_smaller_than_the_tile(overlap):
    with pytest.raises(ValueError, match=rf"overlap must be in \[0, tile=10\), got {overlap}"):
        run_tiled(upscale, torch.zeros(1, 1, 20, 20), tile=10, overlap=overlap)
