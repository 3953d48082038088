"""PNG of 16 bits.

Pillow writes no 16-bit color. OpenCV does, but no gray with alpha, and it is a download of 65 MB that needs OpenGL
libraries; without interlacing and filters the format is four chunks.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["write_sixteen_bit_png"]

_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels, PNG specification (third edition), table 8
_SUB = 1  # filter that stores the difference to the pixel on the left, bytewise


def write_sixteen_bit_png(
    pixels: npt.NDArray[Any], file: Path, *, exif: bytes | None = None, profile: bytes | None = None
) -> None:
    r"""Write gray, gray and alpha, RGB or RGBA.

    Args:
        pixels: uint16, ``(H, W)`` or ``(H, W, C)``, ``C`` from 1 to 4.
        file: where to.
        exif: EXIF data, with or without the leading ``Exif\0\0`` of JPEG files.
        profile: ICC color profile.

    Raises:
        OSError: the file cannot be written.
    """
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    samples = pixels.reshape(height, width * channels).astype(">u2").view(np.uint8)
    step = 2 * channels
    filtered = samples.copy()
    filtered[:, step:] -= samples[:, :-step]
    rows = np.concatenate((np.full((height, 1), _SUB, np.uint8), filtered), axis=1)
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0)
    with file.open("wb") as out:
        out.write(b"\x89PNG\r\n\x1a\n")
        out.write(_chunk(b"IHDR", header))
        if profile is not None:
            out.write(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
        if exif is not None:
            out.write(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
        out.write(_chunk(b"IDAT", zlib.compress(rows.tobytes())))
        out.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
