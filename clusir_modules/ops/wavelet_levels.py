"""Wavelet transforms of several levels: decimated (`wavedec2`) and undecimated (`swt2d`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_feature_map, check_positive
from .dwt import along, depthwise, dwt2d, extend, idwt2d, kernels
from .filter_banks import WaveLike, filter_bank, remember_wave
from .precision import full_precision, widen

__all__ = ["iswt2d", "swt2d", "wavedec2", "waverec2"]


def wavedec2(x: Tensor, wave: WaveLike = "haar", mode: str = "zero", *, level: int | None = None) -> list[Tensor]:
    """Split a map into the details of several levels and what remains, each level at half the resolution.

    The low-pass band is split again and again by :func:`dwt2d`. Equal to ``pywt.wavedec2`` in the four modes.

    Args:
        x: floating-point map ``(B, C, H, W)``, any ``H, W >= 1``.
        wave: as in :func:`dwt2d`.
        mode: extension at the border, see :func:`dwt2d`.
        level: how many times to split, at least 0; default as many as ``pywt.dwtn_max_level`` finds useful for the
            smaller side.

    Returns:
        ``[ll, details_J, ..., details_1]``, coarsest first: ``ll`` ``(B, C, h_J, w_J)`` and ``details_j``
        ``(B, C, 3, h_j, w_j)`` as :func:`dwt2d` gives them.

    Raises:
        TypeError: ``x`` is not floating point, ``wave`` is no wavelet, ``level`` is no integer.
        ValueError: ``x`` is not 4-D, ``wave`` or ``mode`` is unknown, ``level`` is negative.

    Example:
        >>> [tuple(band.shape) for band in wavedec2(torch.rand(1, 3, 16, 20), level=2)]
        [(1, 3, 4, 5), (1, 3, 3, 4, 5), (1, 3, 3, 8, 10)]

    Reference: Mallat, "A theory for multiresolution signal decomposition", PAMI 1989.
    """
    check_feature_map(x)
    wave = remember_wave(wave)
    if level is None:
        taps = wave.shape[1] if isinstance(wave, Tensor) else len(filter_bank(wave)[0])
        smaller, longest = min(x.shape[2:]), taps - 1
        level = max((smaller // longest).bit_length() - 1, 0)
    details: list[Tensor] = []
    for _ in range(check_positive("level", level, least=0)):
        x, bands = dwt2d(x, wave, mode)
        details.insert(0, bands)
    return [x, *details]


def waverec2(coefficients: Sequence[Tensor], wave: WaveLike = "haar", mode: str = "zero") -> Tensor:
    """Put the bands of :func:`wavedec2` together again.

    Equal to ``pywt.waverec2``. A map of odd height or width comes back one larger: the caller crops.

    Args:
        coefficients: ``[ll, details_J, ..., details_1]`` of :func:`wavedec2`.
        wave: as in :func:`wavedec2`.
        mode: as in :func:`wavedec2`.

    Shape:
        Output: ``(B, C, H, W)``, with one level that of :func:`idwt2d`.

    Raises:
        TypeError: an element is no floating-point tensor.
        ValueError: there is none, or the shapes do not belong together.

    Example:
        >>> x = torch.rand(1, 3, 8, 16)
        >>> torch.allclose(waverec2(wavedec2(x, level=2)), x, atol=1e-6)
        True
    """
    x, details = _check_coefficients(coefficients)
    for bands in details:
        # what was one larger than the map that was split
        x = x[..., : x.shape[2] - (x.shape[2] == bands.shape[3] + 1), : x.shape[3] - (x.shape[3] == bands.shape[4] + 1)]
        x = idwt2d(x, bands, wave, mode)
    return x


def swt2d(x: Tensor, wave: WaveLike = "haar", *, level: int = 1) -> list[Tensor]:
    """Split a map into the details of several levels and what remains, all at full resolution.

    The undecimated transform: nothing is left out, so a shift of the map shifts all bands. At level ``j`` the filters
    have gaps of :math:`2^{j-1} - 1` pixels. The map is continued periodically. Equal to ``pywt.swt2(...,
    trim_approx=True)``, and defined for sizes that ``pywt`` refuses.

    Args:
        x: floating-point map ``(B, C, H, W)``, any ``H, W >= 1``.
        wave: as in :func:`dwt2d`.
        level: how many times to split, at least 1.

    Returns:
        ``[ll, details_J, ..., details_1]``, coarsest first: ``ll`` ``(B, C, H, W)``, each of the others
        ``(B, C, 3, H, W)`` with the bands LH, HL, HH of :func:`dwt2d`.

    Raises:
        TypeError: ``x`` is not floating point, ``wave`` is no wavelet, ``level`` is no integer.
        ValueError: ``x`` is not 4-D, ``wave`` is unknown, ``level`` is below 1.

    Example:
        >>> [tuple(band.shape) for band in swt2d(torch.rand(1, 3, 5, 7), "db2", level=2)]
        [(1, 3, 5, 7), (1, 3, 3, 5, 7), (1, 3, 3, 5, 7)]

    Reference: Holschneider et al., "A real-time algorithm for signal analysis with the help of the wavelet
    transform", 1989.
    """
    check_feature_map(x)
    wave = remember_wave(wave)
    details: list[Tensor] = []
    low = widen(x)
    with full_precision(x):
        filters = kernels(wave, low, analysis=True)
        for number in range(check_positive("level", level)):
            bands = _split(_split(low, filters, 3, 2**number), filters, 2, 2**number).unflatten(1, (-1, 4))
            low = bands[:, :, 0]
            details.insert(0, bands[:, :, 1:])
    return [band.to(x.dtype).contiguous() for band in (low, *details)]


def iswt2d(coefficients: Sequence[Tensor], wave: WaveLike = "haar") -> Tensor:
    """Put the bands of :func:`swt2d` together again, exactly.

    Equal to ``pywt.iswt2``. The bands hold the map several times over; where they do not agree the result is the mean
    of all ways to put them together, which is what makes denoising by them better than by :func:`wavedec2`.

    Args:
        coefficients: ``[ll, details_J, ..., details_1]`` of :func:`swt2d`.
        wave: as in :func:`swt2d`.

    Shape:
        Output: ``(B, C, H, W)``, the shape of ``ll``.

    Raises:
        TypeError: an element is no floating-point tensor.
        ValueError: there is none, or the shapes do not belong together.

    Example:
        >>> x = torch.rand(1, 3, 8, 16)
        >>> torch.allclose(iswt2d(swt2d(x, level=2)), x, atol=1e-6)
        True
    """
    ll, details = _check_coefficients(coefficients)
    for number, bands in enumerate(details, start=1):
        if bands.shape[3:] != ll.shape[2:]:
            raise ValueError(f"coefficients[{number}] must be as large as coefficients[0], got {tuple(bands.shape)}")
    wave = remember_wave(wave)
    low = widen(ll)
    with full_precision(ll):
        filters = kernels(wave, low, analysis=False).flip(1)
        for bands, number in zip(details, reversed(range(len(details)))):
            stacked = torch.cat((low.unsqueeze(2), widen(bands)), dim=2).flatten(1, 2)
            low = _join(_join(stacked, filters, 2, 2**number), filters, 3, 2**number)
    return low.to(ll.dtype)


def _check_coefficients(coefficients: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
    if isinstance(coefficients, Tensor) or len(coefficients) == 0:
        raise ValueError("coefficients must be [ll, details_J, ..., details_1], got none or a single tensor")
    ll, *details = coefficients
    check_feature_map(ll, name="coefficients[0]")
    for number, bands in enumerate(details, start=1):
        if not isinstance(bands, Tensor) or bands.dtype != ll.dtype:
            raise TypeError(f"coefficients[{number}] must be a tensor of {ll.dtype}, got {bands!r:.80}")
        if bands.dim() != 5 or bands.shape[:3] != (*ll.shape[:2], 3):
            wanted = f"({ll.shape[0]}, {ll.shape[1]}, 3, h, w)"
            raise ValueError(f"coefficients[{number}] must have shape {wanted}, got {tuple(bands.shape)}")
    return ll, details


def _split(x: Tensor, filters: Tensor, dim: int, gap: int) -> Tensor:
    """Correlate along ``dim`` with taps ``gap`` apart, periodically: low and high pass of each channel in turn."""
    channels, length = x.shape[1], filters.shape[1]
    left = (length // 2 - 1) * gap
    x = extend(x, dim, left, (length - 1) * gap - left, "periodization")
    return F.conv2d(x, depthwise(filters, dim, channels), groups=channels, dilation=along(dim, gap))


def _join(x: Tensor, filters: Tensor, dim: int, gap: int) -> Tensor:
    """Inverse of :func:`_split` for a filter bank that reconstructs perfectly, where each value is held twice."""
    channels, length = x.shape[1] // 2, filters.shape[1]
    right = (length // 2 - 1) * gap
    x = extend(x, dim, (length - 1) * gap - right, right, "periodization")
    weight = (0.5 * filters).view(1, 2, *along(dim, length)).repeat(channels, 1, 1, 1)
    return F.conv2d(x, weight, groups=channels, dilation=along(dim, gap))
