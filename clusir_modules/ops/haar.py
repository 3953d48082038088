"""The orthonormal Haar transform of an even-sized map: additions of the four pixels of each 2 x 2 block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .tracing import recording

__all__ = ["haar_analysis", "haar_synthesis"]

_PART_SIZE = 2**20  # bytes


class _Analysis(torch.autograd.Function):
    """Even-sized ``(B, C, H, W)`` to LL ``(B, C, h, w)`` and LH, HL, HH stacked by band ``(B, 3C, h, w)``."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        if recording():  # refuses to write into views, and fuses what is written down plainly
            low, high = x[..., 0::2] + x[..., 1::2], x[..., 0::2] - x[..., 1::2]
            top_low, bottom_low, top_high, bottom_high = (
                rows for columns in (low, high) for rows in (columns[..., 0::2, :], columns[..., 1::2, :])
            )
            details = torch.cat((top_low - bottom_low, top_high + bottom_high, top_high - bottom_high), dim=1)
            return (top_low + bottom_low) * 0.5, details * 0.5
        batch, channels, height, width = x.shape
        ll = _empty_like_layout(x, batch, channels, height // 2, width // 2)
        details = _empty_like_layout(x, batch, 3 * channels, height // 2, width // 2)
        for part, low, other in _parts(x, ll, details):
            _analyze_into(part, low, other)
        return ll, details

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        """Nothing to save: the transform is orthonormal, so its adjoint is its inverse."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return haar_synthesis(*grads)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *maps: Tensor) -> Any:
        ll, details = haar_analysis(*_join_batches(info.batch_size, in_dims, maps))
        return (ll.unflatten(0, (info.batch_size, -1)), details.unflatten(0, (info.batch_size, -1))), (0, 0)


class _Synthesis(torch.autograd.Function):
    """Inverse of :class:`_Analysis`."""

    @staticmethod
    def forward(ll: Tensor, details: Tensor) -> Tensor:
        if recording():  # as above
            lh, hl, hh = details.chunk(3, dim=1)
            top = torch.stack((ll + lh + hl + hh, ll + lh - hl - hh), dim=-1).flatten(3)
            bottom = torch.stack((ll - lh + hl - hh, ll - lh - hl + hh), dim=-1).flatten(3)
            return torch.stack((top, bottom), dim=3).flatten(2, 3) * 0.5
        batch, channels, height, width = ll.shape
        x = _empty_like_layout(ll, batch, channels, 2 * height, 2 * width)
        for part, low, other in _parts(x, ll, details):
            _synthesize_into(part, low, other)
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Nothing to save: see :class:`_Analysis`."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        return haar_analysis(grads[0])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *maps: Tensor) -> Any:
        x = haar_synthesis(*_join_batches(info.batch_size, in_dims, maps))
        return x.unflatten(0, (info.batch_size, -1)), 0


class _EagerAnalysis(_Analysis):
    """With forward mode, which ``torch.compile`` does not trace."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> tuple[Tensor, Tensor]:
        return haar_analysis(*tangents)


class _EagerSynthesis(_Synthesis):
    """Likewise."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return haar_synthesis(*tangents)


def _join_batches(count: int, dims: tuple[int | None, ...], maps: tuple[Tensor, ...]) -> list[Tensor]:
    """Maps of ``torch.vmap`` with the mapped dimension joined to the batch."""
    mapped = (x.expand(count, *x.shape) if dim is None else x.movedim(dim, 0) for dim, x in zip(dims, maps))
    return [x.flatten(0, 1) for x in mapped]


def _parts(x: Tensor, *bands: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """On a CPU the maps in parts of the batch, so that what lies between two steps stays in its cache."""
    if x.device.type != "cpu" or x.shape[0] == 0:
        return [(x, *bands)]
    images = max(_PART_SIZE // (x[0].numel() * x.element_size()), 1)
    return zip(*(maps.split(images) for maps in (x, *bands)), strict=True)


def _analyze_into(x: Tensor, ll: Tensor, details: Tensor) -> None:
    """Rows before columns: whole rows lie side by side in either layout, so that adding them runs on vectors."""
    batch, channels, height, width = x.shape
    rows = _empty_like_layout(x, 2 * batch, channels, height // 2, width).unflatten(0, (2, batch))
    low, high = rows.unbind()
    bottom = x[..., 1::2, :]
    torch.lerp(x[..., 0::2, :], bottom, 0.5, out=low)
    torch.sub(low, bottom, out=high)
    bands = details.unflatten(1, (3, channels)).movedim(1, 0)  # LH, HL, HH
    torch.add(low[..., 0::2], low[..., 1::2], out=ll)
    torch.add(high[..., 0::2], high[..., 1::2], out=bands[0])
    torch.sub(rows[..., 0::2], rows[..., 1::2], out=bands[1:])


def _synthesize_into(x: Tensor, ll: Tensor, details: Tensor) -> None:
    batch, channels, height, width = ll.shape
    bands = details.unflatten(1, (3, channels)).movedim(1, 0)  # LH, HL, HH
    rows = _empty_like_layout(ll, 2 * batch, channels, height, 2 * width).unflatten(0, (2, batch))
    even = rows[..., 0::2]
    torch.lerp(ll, bands[1], 0.5, out=even[0])
    torch.lerp(bands[0], bands[2], 0.5, out=even[1])
    torch.sub(even, bands[1:], out=rows[..., 1::2])
    low, high = rows.unbind()
    torch.add(low, high, out=x[..., 0::2, :])
    torch.sub(low, high, out=x[..., 1::2, :])


def _empty_like_layout(x: Tensor, batch: int, channels: int, height: int, width: int) -> Tensor:
    """Uninitialized map with the dtype and the device of ``x``, channels last if ``x`` is."""
    if x.stride(1) == 1 and x.shape[1] > 1:
        return x.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
    return x.new_empty((batch, channels, height, width))


def haar_analysis(x: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal Haar bands of an even-sized map: LL ``(B, C, h, w)`` and LH, HL, HH as ``(B, 3C, h, w)``."""
    function = _Analysis if torch.compiler.is_compiling() else _EagerAnalysis
    ll, details = function.apply(x)
    return ll, details


def haar_synthesis(ll: Tensor, details: Tensor) -> Tensor:
    """Exact inverse of :func:`haar_analysis`."""
    function = _Synthesis if torch.compiler.is_compiling() else _EagerSynthesis
    x: Tensor = function.apply(ll, details)
    return x
