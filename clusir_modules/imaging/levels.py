"""Values of pixels: what white is, and fewer bits."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Pixels", "peak_of", "to_eight_bits", "to_sixteen_bits"]

Pixels: TypeAlias = npt.NDArray[Any]
"""uint8, uint16, or float32 in [0, 1]."""


def peak_of(pixels: Pixels) -> int:
    """The value of white: 255, 65535, or 1 for floating point."""
    return 1 if pixels.dtype.kind == "f" else int(np.iinfo(pixels.dtype).max)


def to_eight_bits(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Pixels of 16 bits, or of floating point, rounded to 8; those of 8 as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind == "f":
        return np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def to_sixteen_bits(pixels: Pixels) -> npt.NDArray[np.uint16]:
    """Pixels of floating point rounded to 16 bits."""
    return np.rint(pixels.clip(0, 1).astype(np.float64) * 65535).astype(np.uint16)
