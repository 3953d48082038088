"""Overlapping tiles of a picture: where they lie, and how their results are blended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..ops.checks import check_positive
from ..ops.precision import widen

__all__ = ["blend_tiles", "check_tiles", "tile_spans"]


def check_tiles(tile: int, overlap: int) -> None:
    """Refuse tiles that would not advance.

    Raises:
        TypeError: one is not an integer.
        ValueError: ``tile`` is below 1 or ``overlap`` not in [0, tile).
    """
    check_positive("tile", tile)
    if isinstance(overlap, bool) or not isinstance(overlap, int):
        raise TypeError(f"overlap must be an int, got {type(overlap).__name__} {overlap!r}")
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap must be in [0, tile={tile}), got {overlap}")


def tile_spans(length: int, tile: int, overlap: int, multiple: int = 1) -> list[slice]:
    """Cut ``length`` pixels into spans of at most ``tile`` that share at least ``overlap`` with the next.

    Where ``tile`` is a multiple of ``multiple``, so is every start: a network that halves its resolution then sees the
    pixels paired as in the whole picture, and extends the same border by the same pixels.
    """
    if tile % multiple or tile - overlap < multiple:
        multiple = 1
    last = math.ceil(max(length - tile, 0) / multiple) * multiple
    stride = (tile - overlap) // multiple * multiple
    return [slice(start, min(start + tile, length)) for start in (*range(0, last, stride), last)]


def _rise(length: int, over: int, like: Tensor) -> Tensor:
    """``length`` weights that rise from nearly 0 to 1 over the first ``over``, as a raised cosine."""
    position = torch.arange(length, device=like.device, dtype=like.dtype) + 0.5
    return torch.sin((position / max(over, 1)).clamp(max=1) * (math.pi / 2)).square() if over else like.new_ones(length)


def _windows(spans: list[slice], scale: int, like: Tensor) -> list[Tensor]:
    """Weights of each span along one axis, fading over what neighbors share; at each pixel they sum to 1."""
    scaled = [slice(span.start * scale, span.stop * scale) for span in spans]
    windows = []
    for number, span in enumerate(scaled):
        length = span.stop - span.start
        before = scaled[number - 1].stop - span.start if number > 0 else 0
        after = span.stop - scaled[number + 1].start if number < len(scaled) - 1 else 0
        windows.append(_rise(length, before, like) * _rise(length, after, like).flip(0))
    total = like.new_zeros(scaled[-1].stop)
    for span, window in zip(scaled, windows):
        total[span] += window
    return [window / total[span] for span, window in zip(scaled, windows)]


def _blend_row(run: Callable[[slice, slice], Tensor], row: slice, columns: list[slice]) -> Tensor:
    first = widen(run(row, columns[0]))
    scale = first.shape[3] // (columns[0].stop - columns[0].start)
    band = first.new_zeros(*first.shape[:3], columns[-1].stop * scale)
    for column, window in zip(columns, _windows(columns, scale, first)):
        result = first if column is columns[0] else widen(run(row, column))
        band[..., column.start * scale : column.stop * scale] += window * result
    return band


def blend_tiles(run: Callable[[slice, slice], Tensor], rows: list[slice], columns: list[slice]) -> Iterator[Tensor]:
    """Run all tiles and yield the blended result from top to bottom, as soon as no further tile reaches a row.

    No more than two rows of tiles are in memory at a time, however high the picture is.

    Args:
        run: from the rows and the columns of a tile to its result ``(B, C, s h, s w)`` for some whole ``s``.
        rows: of the tiles, see :func:`tile_spans`.
        columns: of the tiles.

    Yields:
        Consecutive rows ``(B, C, n, s W)``, in float32 or wider.
    """
    carried: Tensor | None = None
    for number, row in enumerate(rows):
        band = _blend_row(run, row, columns)
        scale = band.shape[3] // columns[-1].stop
        band *= _windows(rows, scale, band)[number].unsqueeze(1)
        if carried is not None:
            band[:, :, : carried.shape[2]] += carried
        end = rows[number + 1].start if number < len(rows) - 1 else row.stop
        finished = (end - row.start) * scale
        yield band[:, :, :finished]
        carried = band[:, :, finished:]
