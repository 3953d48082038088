"""One level of the 2-D discrete wavelet transform and its inverse, the Haar wavelet on a fast exact path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_choice, check_feature_map
from .constants import constants
from .precision import full_precision, widen
from .tracing import exporting, recording

if TYPE_CHECKING:
    import pywt

__all__ = ["MODES", "WaveLike", "dwt2d", "idwt2d"]

WaveLike: TypeAlias = "str | pywt.Wavelet | Tensor"

MODES = frozenset({"zero", "symmetric", "reflect", "periodization"})
_HAAR_NAMES = frozenset({"haar", "db1"})
_WAVES = "a discrete wavelet of PyWavelets (haar, db2, bior2.2, ...)"
_PART_SIZE = 2**20  # bytes
_FILTER_BANKS: dict[str, tuple[tuple[float, ...], ...]] = {}


class _HaarAnalysis(torch.autograd.Function):
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


class _HaarSynthesis(torch.autograd.Function):
    """Inverse of :class:`_HaarAnalysis`."""

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
        """Nothing to save: see :class:`_HaarAnalysis`."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        return haar_analysis(grads[0])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *maps: Tensor) -> Any:
        x = haar_synthesis(*_join_batches(info.batch_size, in_dims, maps))
        return x.unflatten(0, (info.batch_size, -1)), 0


class _EagerHaarAnalysis(_HaarAnalysis):
    """With forward mode, which ``torch.compile`` does not trace."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> tuple[Tensor, Tensor]:
        return haar_analysis(*tangents)


class _EagerHaarSynthesis(_HaarSynthesis):
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
    batch, channels, height, width = x.shape
    columns = _empty_like_layout(x, batch, 2 * channels, height, width // 2)
    low, high = columns.chunk(2, dim=1)
    odd = x[..., 1::2]
    torch.lerp(x[..., 0::2], odd, 0.5, out=low)
    torch.sub(low, odd, out=high)
    bands = details.unflatten(1, (3, channels))  # LH, HL, HH
    torch.add(low[..., 0::2, :], low[..., 1::2, :], out=ll)
    torch.add(high[..., 0::2, :], high[..., 1::2, :], out=bands[:, 1])
    columns = columns.unflatten(1, (2, channels))
    torch.sub(columns[..., 0::2, :], columns[..., 1::2, :], out=bands[:, 0::2])


def _synthesize_into(x: Tensor, ll: Tensor, details: Tensor) -> None:
    batch, channels, height, width = ll.shape
    bands = details.unflatten(1, (3, channels))  # LH, HL, HH
    columns = _empty_like_layout(ll, batch, 2 * channels, 2 * height, width).unflatten(1, (2, channels))
    even = columns[..., 0::2, :]
    torch.lerp(ll, bands[:, 0], 0.5, out=even[:, 0])
    torch.lerp(bands[:, 1], bands[:, 2], 0.5, out=even[:, 1])
    torch.sub(even, bands[:, 0::2], out=columns[..., 1::2, :])
    low, high = columns.unbind(1)
    torch.add(low, high, out=x[..., 0::2])
    torch.sub(low, high, out=x[..., 1::2])


def _empty_like_layout(x: Tensor, batch: int, channels: int, height: int, width: int) -> Tensor:
    """Uninitialized map with the dtype and the device of ``x``, channels last if ``x`` is."""
    if x.stride(1) == 1 and x.shape[1] > 1:
        return x.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
    return x.new_empty((batch, channels, height, width))


def haar_analysis(x: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal Haar bands of an even-sized map: LL ``(B, C, h, w)`` and LH, HL, HH as ``(B, 3C, h, w)``."""
    function = _HaarAnalysis if torch.compiler.is_compiling() else _EagerHaarAnalysis
    ll, details = function.apply(x)
    return ll, details


def haar_synthesis(ll: Tensor, details: Tensor) -> Tensor:
    """Exact inverse of :func:`haar_analysis`."""
    function = _HaarSynthesis if torch.compiler.is_compiling() else _EagerHaarSynthesis
    x: Tensor = function.apply(ll, details)
    return x


def check_wave(wave: str) -> None:
    """Refuse a name that PyWavelets does not know as a discrete wavelet.

    Raises:
        TypeError: ``wave`` is not a string.
        ValueError: ``wave`` is unknown.
    """
    if not isinstance(wave, str):
        raise TypeError(f"wave must be {_WAVES}, by name, got {type(wave).__name__} {wave!r:.80}")
    if wave not in _HAAR_NAMES:
        filter_bank(wave)


def remember_wave(wave: WaveLike) -> str | Tensor:
    """Name of a discrete wavelet, under which :func:`filter_bank` finds its taps; a filter bank as it is.

    Raises:
        TypeError: ``wave`` is neither a name nor a ``pywt.Wavelet`` nor a floating-point tensor.
        ValueError: the name is unknown, or the tensor has another shape.
    """
    if isinstance(wave, str):
        check_wave(wave)
        return wave
    if isinstance(wave, Tensor) and wave.is_floating_point():
        if wave.dim() != 2 or wave.shape[0] != 4 or wave.shape[1] < 2 or wave.shape[1] % 2:
            raise ValueError(f"wave must have shape (4, L) with an even L as a filter bank, got {tuple(wave.shape)}")
        return wave
    if isinstance(wave, Tensor) or not isinstance(getattr(wave, "filter_bank", None), tuple):
        raise TypeError(
            f"wave must be {_WAVES}, by name or as pywt.Wavelet, or a floating-point filter bank (4, L), "
            f"got {type(wave).__name__} {wave!r:.80}"
        )
    bank = tuple(tuple(taps) for taps in wave.filter_bank)
    name = f"{wave.name} {hash(bank):x}"  # two of one name may differ
    _FILTER_BANKS.setdefault(name, bank)
    return name


def filter_bank(wave: str) -> tuple[tuple[float, ...], ...]:
    """Taps ``(dec_lo, dec_hi, rec_lo, rec_hi)`` of an orthogonal or biorthogonal wavelet, all of one even length.

    A plain dictionary remembers them, which ``torch.compile`` reads as a constant; it cannot trace pywt.
    """
    if wave not in _FILTER_BANKS:
        import pywt

        if wave not in pywt.wavelist(kind="discrete"):
            raise ValueError(f"wave must be {_WAVES}, got {wave!r}")
        _FILTER_BANKS[wave] = tuple(tuple(taps) for taps in pywt.Wavelet(wave).filter_bank)
    return _FILTER_BANKS[wave]


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
    if isinstance(wave, str) and wave in _HAAR_NAMES:
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
    if isinstance(wave, str) and wave in _HAAR_NAMES:
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
    haar = isinstance(wave, str) and wave in _HAAR_NAMES
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
    if isinstance(wave, str) and wave in _HAAR_NAMES and ll.is_contiguous():  # as in dwt2d
        x = synthesize_stacked(ll.flatten(0, 1).unsqueeze(1), details.flatten(0, 1), wave, mode)
        return x.squeeze(1).unflatten(0, ll.shape[:2])
    return synthesize_stacked(ll, details.transpose(1, 2).flatten(1, 2), wave, mode)
