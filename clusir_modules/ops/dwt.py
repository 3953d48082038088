"""One level of the 2-D discrete wavelet transform and its inverse."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_choice, check_feature_map
from .constants import constants
from .filter_banks import WaveLike, filter_bank, is_haar, remember_wave
from .haar import haar_analysis, haar_synthesis
from .precision import full_precision, widen
from .tracing import exporting

__all__ = ["MODES", "analyze_stacked", "dwt2d", "idwt2d", "synthesize_stacked"]

MODES = frozenset({"zero", "symmetric", "reflect", "periodization"})


def kernels(wave: str | Tensor, x: Tensor, *, analysis: bool) -> Tensor:
    """Low and high pass ``(2, L)`` in the type of ``x``, of the analysis in the order in which convolutions read."""
    if isinstance(wave, Tensor):
        return (wave[:2].flip(1) if analysis else wave[2:]).to(x)
    low, high = (taps[::-1] for taps in filter_bank(wave)[:2]) if analysis else filter_bank(wave)[2:]
    return constants((*low, *high), x).view(2, -1)


def depthwise(kernels: Tensor, dim: int, channels: int) -> Tensor:
    """Weight of a convolution along ``dim`` by both filters for each of ``channels`` channels."""
    return kernels.view(2, 1, *along(dim, kernels.shape[1])).repeat(channels, 1, 1, 1)


def extend(x: Tensor, dim: int, left: int, right: int, mode: str) -> Tensor:
    """Extend ``x`` along ``dim`` by gathering; any extension of any length is defined, also longer than the signal."""
    size = x.shape[dim]
    index = torch.arange(-left, size + right, device=x.device)
    if mode == "symmetric":  # x2 x1 | x1 x2 x3 | x3 x2
        index = index.remainder(2 * size)
        index = torch.minimum(index, 2 * size - 1 - index)
    elif mode == "reflect":  # x3 x2 | x1 x2 x3 | x2 x1
        period = max(2 * size - 2, 1)
        index = index.remainder(period)
        index = torch.minimum(index, period - index)
    else:  # periodic: x2 x3 | x1 x2 x3 | x1 x2
        index = index.remainder(size)
    return x.index_select(dim, index)


def along(dim: int, size: int) -> tuple[int, int]:
    """Height and width of a kernel or a stride that acts along rows (3) or columns (2) alone."""
    return (1, size) if dim == 3 else (size, 1)


def _analyze(x: Tensor, filters: Tensor, dim: int, mode: str) -> Tensor:
    """Filter along ``dim`` and halve it: ``C`` channels become ``2C``, low and high pass of each in turn."""
    channels, size, length = x.shape[1], x.shape[dim], filters.shape[1]
    if mode == "periodization":
        left, right = length // 2 - 1, length // 2 - 1 + size % 2
        if size % 2:
            x = torch.cat((x, x.narrow(dim, size - 1, 1)), dim)
            right -= 1
    else:
        total = 2 * ((size + length - 1) // 2 - 1) - size + length
        left, right = total // 2, (total + 1) // 2
    if mode == "zero":
        x = F.pad(x, (left, right) if dim == 3 else (0, 0, left, right))
    else:
        x = extend(x, dim, left, right, mode)
    return F.conv2d(x, depthwise(filters, dim, channels), stride=along(dim, 2), groups=channels)


def _synthesize(x: Tensor, filters: Tensor, dim: int, mode: str) -> Tensor:
    """Inverse of :func:`_analyze` for a filter bank that reconstructs perfectly."""
    channels, size, length = x.shape[1] // 2, x.shape[dim], filters.shape[1]
    start, kept = length - 2, 2 * size - length + 2
    if mode == "periodization":
        border = length // 4 + 1
        x = extend(x, dim, border, border, mode)
        start, kept = length // 2 - 1 + 2 * border, 2 * size
    if kept < 1:
        raise ValueError(f"ll and details are too small for a wavelet of {length} taps, got {size} along dim {dim}")
    x = F.conv_transpose2d(x, depthwise(filters, dim, channels), stride=along(dim, 2), groups=channels)
    return x.narrow(dim, start, kept)


def analyze_stacked(x: Tensor, wave: str | Tensor, mode: str = "zero") -> tuple[Tensor, Tensor]:
    """:func:`dwt2d` unchecked, the details stacked by band: ``(B, 3C, h, w)``, for Haar in the layout of ``x``."""
    if is_haar(wave):
        for dim in (2, 3):
            added = (x.shape[dim] + 1) // 2 * 2 - x.shape[dim]  # so that a symbolic size is seen to become even
            if exporting() or added:
                if mode == "zero":
                    x = F.pad(x, (0, added) if dim == 3 else (0, 0, 0, added))
                else:
                    x = extend(x, dim, 0, added, "reflect" if mode == "reflect" else "symmetric")
        return haar_analysis(x)
    with full_precision(x):
        wide = widen(x)
        filters = kernels(wave, wide, analysis=True)
        bands = _analyze(_analyze(wide, filters, 3, mode), filters, 2, mode).to(x.dtype).unflatten(1, (-1, 4))
    return bands[:, :, 0], bands[:, :, 1:].transpose(1, 2).flatten(1, 2)


def synthesize_stacked(ll: Tensor, bands: Tensor, wave: str | Tensor, mode: str = "zero") -> Tensor:
    """Inverse of :func:`analyze_stacked`, unchecked."""
    if is_haar(wave):
        return haar_synthesis(ll, bands)
    stacked = torch.cat((ll.unsqueeze(2), bands.unflatten(1, (3, -1)).transpose(1, 2)), dim=2).flatten(1, 2)
    with full_precision(ll):
        wide = widen(stacked)
        filters = kernels(wave, wide, analysis=False)
        return _synthesize(_synthesize(wide, filters, 2, mode), filters, 3, mode).to(ll.dtype).contiguous()


def dwt2d(x: Tensor, wave: WaveLike = "haar", mode: str = "zero") -> tuple[Tensor, Tensor]:
    """Split a map into one low-pass and three detail bands at half resolution.

    One level of the separable transform, equal to ``pytorch_wavelets.DWTForward(J=1, wave=wave, mode=mode)``.
    The Haar wavelet runs as additions of the four pixels of each 2x2 block, every other one as strided convolutions
    in float32 or wider (in bfloat16 torch's CPU kernel for them reads memory that was never written).
    Unlike that library, the gradient is the true adjoint in every mode, and ``torch.compile(fullgraph=True)`` works:
    for a wavelet other than Haar after a first call outside, which a :class:`WTB` makes when it is built.

    Args:
        x: floating-point map ``(B, C, H, W)``, any values, any ``H, W >= 1``.
        wave: a discrete wavelet of PyWavelets, by name or as ``pywt.Wavelet``, which may have filters of your own; or a
            filter bank as a tensor ``(4, L)`` in the order of ``pywt.Wavelet.filter_bank``, which gets a gradient.
        mode: extension at the border: "zero", "symmetric" (the edge repeated), "reflect" (the edge not repeated) or
            "periodization" (cyclic, no more coefficients than needed).

    Returns:
        ``ll`` ``(B, C, h, w)`` and ``details`` ``(B, C, 3, h, w)``: the bands LH (high pass down the columns), HL (high
        pass along the rows) and HH. ``h = (H + L - 1) // 2`` for filters of ``L`` taps, ``ceil(H / 2)`` for Haar and
        for periodization; ``w`` likewise. Both are contiguous; ``ll`` of Haar is channels last where ``x`` is.

    Raises:
        TypeError: ``x`` is not floating point, or ``wave`` is neither a name nor a wavelet nor a filter bank.
        ValueError: ``x`` is not 4-D, or ``wave`` or ``mode`` is unknown.

    Example:
        >>> ll, details = dwt2d(torch.rand(1, 3, 5, 8))
        >>> ll.shape, details.shape
        (torch.Size([1, 3, 3, 4]), torch.Size([1, 3, 3, 3, 4]))

    Reference: Mallat, "A theory for multiresolution signal decomposition", PAMI 1989.
    """
    check_feature_map(x)
    wave = remember_wave(wave)
    check_choice("mode", mode, MODES)
    haar = is_haar(wave)
    if haar and x.is_contiguous():  # each channel as an image: its bands come out side by side, without a copy
        ll, bands = analyze_stacked(x.flatten(0, 1).unsqueeze(1), wave, mode)
        return ll.squeeze(1).unflatten(0, x.shape[:2]), bands.unflatten(0, x.shape[:2])
    ll, bands = analyze_stacked(x, wave, mode)
    details = bands.unflatten(1, (3, -1)).transpose(1, 2).contiguous()
    return (ll if haar else ll.contiguous()), details


def idwt2d(ll: Tensor, details: Tensor, wave: WaveLike = "haar", mode: str = "zero") -> Tensor:
    """Put the four bands of :func:`dwt2d` together again.

    Equal to ``pytorch_wavelets.DWTInverse(wave=wave, mode=mode)``. A map of odd height or width comes back one larger,
    since the bands do not tell: the caller crops.

    Args:
        ll: low-pass band ``(B, C, h, w)``.
        details: bands LH, HL, HH ``(B, C, 3, h, w)``, of the dtype of ``ll``.
        wave: as in :func:`dwt2d`.
        mode: as in :func:`dwt2d`.

    Shape:
        Output: ``(B, C, 2h - L + 2, 2w - L + 2)`` for filters of ``L`` taps, ``(B, C, 2h, 2w)`` for Haar and for
        periodization.

    Raises:
        TypeError: ``ll`` is not floating point, ``details`` is not a tensor, or the dtypes differ.
        ValueError: the shapes do not belong together or are too small for the wavelet, ``wave`` or ``mode`` is unknown.

    Example:
        >>> x = torch.rand(1, 3, 8, 6)
        >>> torch.allclose(idwt2d(*dwt2d(x)), x, atol=1e-6)
        True
    """
    check_feature_map(ll, name="ll")
    wave = remember_wave(wave)
    check_choice("mode", mode, MODES)
    if not isinstance(details, Tensor):
        raise TypeError(f"details must be a torch.Tensor (B, C, 3, h, w), got {type(details).__name__}")
    batch, channels, height, width = ll.shape
    if details.shape != (batch, channels, 3, height, width):
        raise ValueError(
            f"details must have shape {(batch, channels, 3, height, width)} for ll of {tuple(ll.shape)}, "
            f"got {tuple(details.shape)}"
        )
    if details.dtype != ll.dtype:
        raise TypeError(f"details must have the dtype of ll, {ll.dtype}, got {details.dtype}")
    if is_haar(wave) and ll.is_contiguous():  # as in dwt2d
        x = synthesize_stacked(ll.flatten(0, 1).unsqueeze(1), details.flatten(0, 1), wave, mode)
        return x.squeeze(1).unflatten(0, ll.shape[:2])
    return synthesize_stacked(ll, details.transpose(1, 2).flatten(1, 2), wave, mode)
