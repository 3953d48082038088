"""Where tiles lie and how their results are blended."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clusir_modules.inference.tiles import blend_tiles, check_tiles, tile_spans


def blend(image: Tensor, tile: int, overlap: int, scale: int = 1) -> Tensor:
    rows, columns = (tile_spans(length, tile, overlap) for length in image.shape[2:])

    def enlarge(row: slice, column: slice) -> Tensor:
        return image[..., row, column].repeat_interleave(scale, 2).repeat_interleave(scale, 3)

    return torch.cat(list(blend_tiles(enlarge, rows, columns)), dim=2)


class TestTileSpans:
    @settings(max_examples=200, deadline=None)
    @given(st.integers(1, 300), st.integers(1, 80), st.integers(0, 79), st.sampled_from([1, 2, 8, 16]))
    def test_spans_cover_the_length_share_the_overlap_and_are_no_longer_than_a_tile(
        self, length: int, tile: int, overlap: int, multiple: int
    ) -> None:
        overlap %= tile
        spans = tile_spans(length, tile, overlap, multiple)
        assert spans[0].start == 0
        assert spans[-1].stop == length
        assert all(0 < span.stop - span.start <= tile for span in spans)
        assert all(a.start < b.start and a.stop < b.stop for a, b in pairwise(spans))
        assert all(a.stop - b.start >= overlap for a, b in pairwise(spans))

    @pytest.mark.parametrize("length", [513, 1000, 1411, 4096])
    def test_starts_are_multiples_if_the_tile_is_one(self, length: int) -> None:
        assert all(span.start % 16 == 0 for span in tile_spans(length, 512, 30, 16))

    def test_there_are_no_more_than_needed(self) -> None:
        assert len(tile_spans(512, 512, 32)) == 1
        assert len(tile_spans(992, 512, 32)) == 2
        assert len(tile_spans(993, 512, 32)) == 3


class TestBlendTiles:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 30), st.integers(0, 29), st.sampled_from([1, 2, 3]))
    def test_tiles_that_agree_give_the_picture(
        self, height: int, width: int, tile: int, overlap: int, scale: int
    ) -> None:
        image = torch.rand(1, 2, height, width, dtype=torch.float64)
        expected = image.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        torch.testing.assert_close(blend(image, tile, overlap % tile, scale), expected)

    def test_tiles_that_disagree_fade_into_each_other(self) -> None:
        level = iter((0.0, 1.0))
        columns = tile_spans(30, 20, 10)
        (result,) = blend_tiles(lambda row, column: torch.full((1, 1, 8, 20), next(level)), [slice(0, 8)], columns)
        torch.testing.assert_close(result[0, 0, :, :10], torch.zeros(8, 10))
        torch.testing.assert_close(result[0, 0, :, 20:], torch.ones(8, 10))
        ramp = result[0, 0, 0, 10:20]
        torch.testing.assert_close(ramp, torch.sin((torch.arange(10) + 0.5) / 10 * torch.pi / 2) ** 2)

    def test_rows_come_out_before_tiles_below_are_run(self) -> None:
        rows = tile_spans(100, 20, 4)
        seen: list[int] = []

        def run(row: slice, column: slice) -> Tensor:
            seen.append(row.start)
            return torch.zeros(1, 1, row.stop - row.start, 5)

        heights = [(band.shape[2], len(seen)) for band in blend_tiles(run, rows, [slice(0, 5)])]
        assert heights == [(16, 1), (16, 2), (16, 3), (16, 4), (16, 5), (20, 6)]

    def test_half_precision_is_blended_in_float32(self) -> None:
        image = torch.rand(1, 1, 40, 40).half()
        result = blend(image, 16, 8)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, image.float())


class TestCheckTiles:
    @pytest.mark.parametrize("overlap", [-1, 10, 11])
    def test_overlap_outside_the_tile_is_named(self, overlap: int) -> None:
        with pytest.raises(ValueError, match=rf"overlap must be in \[0, tile=10\), got {overlap}"):
            check_tiles(10, overlap)

    @pytest.mark.parametrize(("tile", "error"), [(0, ValueError), (-5, ValueError), (16.0, TypeError)])
    def test_bad_tile_is_named(self, tile: int, error: type[Exception]) -> None:
        with pytest.raises(error, match="tile must be"):
            check_tiles(tile, 0)

    def test_fractional_overlap_is_named(self) -> None:
        with pytest.raises(TypeError, match=r"overlap must be an int, got float 0\.1"):
            check_tiles(10, 0.1)  # type: ignore[arg-type]
