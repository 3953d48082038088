"""Real factors on the spectrum of maps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .tracing import exporting

__all__ = ["fourier_matrices", "scale_spectrum"]

_RECORDED = {"matrices": False}  # no ContextVar: torch 2.8 cannot trace one


@contextmanager
def fourier_matrices(enabled: bool = True) -> Iterator[None]:
    """Within it ``torch.export`` records Fourier transforms as products of real matrices, where ``enabled``.

    That is exact too, needs no complex numbers and no operator that few runtimes have, and takes ``6 H W (H + W)/2``
    multiply-adds for a channel in place of ``O(H W log(H W))``: for tiles, not for whole pictures.
    """
    before = _RECORDED["matrices"]
    _RECORDED["matrices"] = enabled
    try:
        yield
    finally:
        _RECORDED["matrices"] = before


def scale_spectrum(x: Tensor, gate: Tensor) -> Tensor:
    """Multiply the two-dimensional spectrum of each map by real factors.

    Shape:
        ``x`` ``(B, C, H, W)``, float32 or wider, and ``gate`` ``(B, G, H, W // 2 + 1)`` on the grid of ``rfft2``, ``G``
        a divisor of ``C``, to ``(B, C, H, W)``.
    """
    height, width = x.shape[-2:]
    if exporting() and _RECORDED["matrices"]:
        return _by_matrices(x, gate)
    # real and imaginary parts times a real factor: a product of complex numbers would take four
    spectrum = torch.view_as_real(torch.fft.rfft2(x, norm="ortho")).unflatten(1, (gate.shape[1], -1))
    gated = torch.view_as_complex((spectrum * gate.unsqueeze(2).unsqueeze(-1)).flatten(1, 2))
    return torch.fft.irfft2(gated, s=(height, width), norm="ortho")


def _by_matrices(x: Tensor, gate: Tensor) -> Tensor:
    """The same in real numbers: real and imaginary parts lie side by side in the columns."""
    height, width = x.shape[-2:]
    kept = width // 2 + 1
    cos_rows, sin_rows = _waves(height, height, x)
    cos_columns, sin_columns = _waves(width, kept, x)
    parts = x @ torch.cat((cos_columns, -sin_columns), dim=1)
    parts = _transform_columns(parts, cos_rows, sin_rows)
    factors = torch.cat((gate, gate), dim=3).unsqueeze(2)
    parts = (parts.unflatten(1, (gate.shape[1], -1)) * factors).flatten(1, 2)
    parts = _transform_columns(parts, cos_rows, -sin_rows)
    # a frequency between 0 and 1/2 stands for its negative too
    number = torch.arange(kept, device=x.device)
    twice = torch.where((number == 0) | (2 * number == width), 1, 2).to(x.dtype) / (height * width)
    return parts @ torch.cat((cos_columns * twice, -sin_columns * twice), dim=1).mT


def _transform_columns(parts: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply ``cos - i sin`` down the columns."""
    kept = parts.shape[3] // 2
    straight, turned = cos @ parts, sin @ parts
    real = straight.narrow(3, 0, kept) + turned.narrow(3, kept, kept)
    return torch.cat((real, straight.narrow(3, kept, kept) - turned.narrow(3, 0, kept)), dim=3)


def _waves(length: int, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine ``(length, count)`` of the first ``count`` frequencies; whole turns taken off, so exact ones."""
    place, frequency = (torch.arange(size, device=like.device, dtype=like.dtype) for size in (length, count))
    steps = place.unsqueeze(1) * frequency
    steps = steps - (steps / length).floor() * length
    angle = steps * (2 * math.pi) / length
    return angle.cos(), angle.sin()
