"""Wavelets by name, by object or by their taps, as the filter banks that a transform reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

if TYPE_CHECKING:
    import pywt

__all__ = ["WaveLike", "check_wave", "filter_bank", "is_haar", "remember_wave"]

WaveLike: TypeAlias = "str | pywt.Wavelet | Tensor"

_WAVES = "a discrete wavelet of PyWavelets (haar, db2, bior2.2, ...)"
_FILTER_BANKS: dict[str, tuple[tuple[float, ...], ...]] = {}


def is_haar(wave: str | Tensor) -> bool:
    """Whether that is the Haar wavelet, by one of its names."""
    return isinstance(wave, str) and wave in ("haar", "db1")


def check_wave(wave: str) -> None:
    """Refuse a name that PyWavelets does not know as a discrete wavelet.

    Raises:
        TypeError: ``wave`` is not a string.
        ValueError: ``wave`` is unknown.
    """
    if not isinstance(wave, str):
        raise TypeError(f"wave must be {_WAVES}, by name, got {type(wave).__name__} {wave!r:.80}")
    if not is_haar(wave):
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
