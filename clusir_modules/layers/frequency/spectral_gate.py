"""A real gain over frequency, piecewise smooth in octave and orientation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...ops.precision import full_precision, widen
from ...ops.spectrum import scale_spectrum

__all__ = ["NUM_BANDS", "SpectralGate", "frequency_bands"]

_OCTAVES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)  # cycles/pixel; the lowest also holds the mean
_ORIENTATIONS = 4
NUM_BANDS = len(_OCTAVES) * _ORIENTATIONS
_LARGEST_KEPT, _MOST_KEPT = 2**21, 16  # numbers of one size, sizes: 64 MB in float32 at most
_BANDS: dict[tuple[int, int, torch.device, torch.dtype], Tensor] = {}


def frequency_bands(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Overlapping windows in octave and orientation on the grid of ``rfft2``; at each frequency they sum to 1.

    Frequencies are in cycles/pixel, so that a gain means the same at every image size.

    Returns:
        ``(NUM_BANDS, height, width // 2 + 1)`` with values in [0, 1].
    """
    fy, fx = _frequencies(height, width, device, dtype)
    octave = torch.addcmul(fy.square(), fx, fx).sqrt().clamp(_OCTAVES[0], _OCTAVES[-1]).log2()
    centers = torch.arange(math.log2(_OCTAVES[0]), 0, device=device, dtype=dtype).view(-1, 1, 1)
    radial = (1 - (octave - centers).abs()).relu()
    directions = torch.linspace(0, math.pi * (1 - 1 / _ORIENTATIONS), _ORIENTATIONS, device=device, dtype=dtype)
    directions = directions.view(-1, 1, 1)
    # each window is a half wave of the doubled angle, so that they sum to 1
    angular = ((torch.atan2(fy, fx) - directions) * (_ORIENTATIONS / 2)).cos().relu().square()
    # At an even width the last column is fx = 1/2 and fx = -1/2 at once. Without the mean of the two its spectrum would
    # not be that of a real map, and what `irfft2` makes of it would differ between devices.
    straight, diagonal = angular[0::2], angular[1::2]
    diagonal = torch.where(fx == 0.5, diagonal.mean(dim=0, keepdim=True), diagonal)
    angular = torch.stack((straight, diagonal), dim=1).flatten(0, 1)
    return (radial.unsqueeze(1) * angular.unsqueeze(0)).flatten(0, 1)


def _frequencies(height: int, width: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Frequencies of the rows ``(height, 1)`` and of the columns ``(1, width // 2 + 1)`` of ``rfft2``."""
    if not torch.compiler.is_compiling():
        fy = torch.fft.fftfreq(height, device=device, dtype=dtype)
        return fy.unsqueeze(1), torch.fft.rfftfreq(width, device=device, dtype=dtype).unsqueeze(0)
    # in arithmetic: a traced program would take the size for a constant
    rows, columns = (torch.arange(count, device=device, dtype=dtype) for count in (height, width // 2 + 1))
    return torch.where(2 * rows < height, rows, rows - height).unsqueeze(1) / height, columns.unsqueeze(0) / width


def _remembered_bands(signal: Tensor) -> Tensor:
    """Bands for a map: those of the small sizes that training repeats are computed once.

    Only plain numbers in memory are kept or taken: no tensor that is being traced, mapped or captured.
    """
    height, width = signal.shape[-2:]
    made_for = (signal.device, signal.dtype)
    if torch.compiler.is_compiling() or NUM_BANDS * height * width > _LARGEST_KEPT or not _has_memory(signal):
        return frequency_bands(height, width, *made_for)
    key = (height, width, *made_for)
    if key not in _BANDS:
        with torch.inference_mode(False), torch.no_grad():
            bands = frequency_bands(height, width, *made_for)
        if not _has_memory(bands) or (signal.is_cuda and torch.cuda.is_current_stream_capturing()):
            return bands
        if len(_BANDS) >= _MOST_KEPT:
            _BANDS.clear()
        _BANDS[key] = bands
    return _BANDS[key]


def _has_memory(x: Tensor) -> bool:
    try:
        return type(x) is Tensor and x.data_ptr() != 0
    except RuntimeError:  # inside a transform of torch.func
        return False


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
        with full_precision(x):
            signal = widen(x)
            bands = _remembered_bands(signal)
            gate = ((1 + gains.to(signal.dtype)) @ bands.flatten(1)).unflatten(2, bands.shape[1:])  # bands sum to 1
            return scale_spectrum(signal, gate).to(x.dtype)
