"""A real gain over frequency, piecewise smooth in octave and orientation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...ops.precision import full_precision, widen

__all__ = ["NUM_BANDS", "SpectralGate", "frequency_bands"]

_OCTAVES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)  # cycles/pixel; the lowest also holds the mean
_ORIENTATIONS = 4
NUM_BANDS = len(_OCTAVES) * _ORIENTATIONS


def frequency_bands(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Overlapping windows in octave and orientation on the grid of ``rfft2``; at each frequency they sum to 1.

    Frequencies are in cycles/pixel, so that a gain means the same at every image size.

    Returns:
        ``(NUM_BANDS, height, width // 2 + 1)`` with values in [0, 1].
    """
    # `fftfreq` and `rfftfreq` in arithmetic: those take the size as a constant when they are exported
    rows, columns = (torch.arange(count, device=device, dtype=dtype) for count in (height, width // 2 + 1))
    fy = torch.where(2 * rows < height, rows, rows - height).unsqueeze(1) / height
    fx = columns.unsqueeze(0) / width
    octave = torch.log2((fy.square() + fx.square()).sqrt().clamp(_OCTAVES[0], _OCTAVES[-1]) / _OCTAVES[0])
    centers = torch.arange(len(_OCTAVES), device=device, dtype=dtype).view(-1, 1, 1)
    radial = (1 - (octave - centers).abs()).clamp_min(0)
    angle = torch.atan2(fy.expand_as(octave), fx.expand_as(octave))
    angular = _orientation_windows(angle)
    # At an even width the last column is fx = 1/2 and fx = -1/2 at once. Without the mean of the two its spectrum would
    # not be that of a real map, and what `irfft2` makes of it would differ between devices.
    last = angular[..., -1:]
    mean = (last + _orientation_windows(-angle[:, -1:])) / 2
    angular = torch.cat((angular[..., :-1], torch.where(fx[:, -1:] == 0.5, mean, last)), dim=-1)
    return (radial.unsqueeze(1) * angular.unsqueeze(0)).flatten(0, 1)


def _orientation_windows(angle: Tensor) -> Tensor:
    """Windows ``(_ORIENTATIONS, H, W)`` over the angle ``(H, W)`` in radians, of period pi, that sum to 1."""
    directions = torch.arange(_ORIENTATIONS, device=angle.device, dtype=angle.dtype).view(-1, 1, 1)
    offset = (angle - directions * (math.pi / _ORIENTATIONS) + math.pi / 2).remainder(math.pi) - math.pi / 2
    return torch.cos(offset.abs().clamp_max(math.pi / _ORIENTATIONS) * (_ORIENTATIONS / 2)).square()


class SpectralGate(nn.Module):
    r"""Multiply the spectrum of each group of channels by ``1 + gain`` of each frequency band.

    .. math:: y = \mathcal{F}^{-1}\Big(\big(1 + \sum_j a_{bgj}\, \phi_j\big) \odot \mathcal{F}(x)\Big)

    The bands :math:`\phi_j` are six octaves by four orientations (this project's choice: structure of any size and
    direction, few numbers to predict, and the same meaning at every resolution).

    Shape:
        ``x`` ``(B, C, H, W)`` and ``gains`` ``(B, G, NUM_BANDS)``, ``G`` a divisor of ``C``, to ``(B, C, H, W)``.

    Note: transforms in float32 or wider whatever the autocast type; the output has the dtype of ``x``.
    """

    def forward(self, x: Tensor, gains: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        with full_precision(x):
            signal = widen(x)
            bands = frequency_bands(height, width, x.device, signal.dtype)
            gate = 1 + torch.einsum("bgj,jhw->bghw", gains.to(signal.dtype), bands)
            spectrum = torch.fft.rfft2(signal, norm="ortho")
            gated = spectrum.unflatten(1, (gate.shape[1], -1)) * gate.unsqueeze(2)
            return torch.fft.irfft2(gated.flatten(1, 2), s=(height, width), norm="ortho").to(x.dtype)
