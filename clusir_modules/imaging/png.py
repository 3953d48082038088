"""PNG: its chunks, and what Pillow cannot read or write of 16 bits.

OpenCV would read and write 16-bit color, but no gray with alpha, and it is a download of 65 MB; without interlacing the
format is four chunks to write.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL.PngImagePlugin import PngImageFile

from .limits import check_size

__all__ = ["PngParts", "add_transparency", "read_png_parts", "read_sixteen_bit_png", "write_sixteen_bit_png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels, PNG specification (third edition), table 8
_GRAY, _RGB, _PALETTE, _GRAY_AND_ALPHA = 0, 2, 3, 4
_SUB = 1  # filter that stores the difference to the pixel on the left, bytewise
_PICTURE = (b"IHDR", b"PLTE", b"pHYs", b"acTL", b"fcTL", b"IDAT", b"IEND")
_HEADER = b"\0\0\0\rIHDR"
_METADATA = {b"iCCP": "color profile", b"eXIf": "EXIF data", b"tEXt": "text", b"zTXt": "text", b"iTXt": "text"}
_XMP = b"XML:com.adobe.xmp"
_LARGEST = 1 << 24  # bytes of a profile, EXIF data or an XMP packet; more is left out
_BYTES_OF_PIXEL = 10  # RGBA of 16 bits, and what deflate may add
_MARGIN = 1 << 20


class PngParts(NamedTuple):
    """What a PNG file consists of.

    Attributes:
        picture: a PNG file with the pixels and the resolution alone, without a transparent color.
        bits: of a sample.
        color_type: 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGBA.
        transparent: gray or color that is transparent, at the bits of the file, or None.
        profile: ICC profile or None.
        exif: EXIF data or None.
        xmp: XMP packet or None.
        left_out: names of the parts that are damaged or above 16 MiB.
    """

    picture: bytes
    bits: int
    color_type: int
    transparent: tuple[int, ...] | None
    profile: bytes | None
    exif: bytes | None
    xmp: bytes | None
    left_out: tuple[str, ...]


def read_png_parts(path: Path, max_pixels: int | None = None) -> PngParts:
    """Read the chunks of a PNG file; text other than EXIF and XMP is skipped, however long it is.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or too large.
    """
    found: dict[str, bytes | None] = dict.fromkeys(("profile", "exif", "xmp"))
    transparent, left_out = b"", []
    with path.open("rb") as file:
        file.seek(len(_SIGNATURE))
        head = file.read(8)
        header = _read_chunk(file, *struct.unpack(">I4s", head)) if head == _HEADER else b""
        if len(header) != 13:
            raise ValueError("no picture, or its header is damaged")
        width, height, bits, color_type = struct.unpack(">IIBB", header[:10])
        check_size(width, height, max_pixels)
        picture = bytearray(_SIGNATURE + _chunk(b"IHDR", header))
        room = width * height * _BYTES_OF_PIXEL + _MARGIN
        kind = b"IHDR"
        while kind != b"IEND" and len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in (*_PICTURE, b"tRNS"):
                if length > room - len(picture):
                    raise ValueError(f"its chunk {kind.decode()} is damaged")
                content = _read_chunk(file, length, kind)
                transparent = content if kind == b"tRNS" else transparent
                if kind != b"tRNS" or color_type == _PALETTE:
                    picture += _chunk(kind, content)
                continue
            content = file.read(min(length, _LARGEST)) if kind in _METADATA else b""
            file.seek(length - len(content) + 4, 1)
            try:
                found.update(_metadata(kind, content))
            except (ValueError, zlib.error):
                left_out.append(_METADATA[kind])
    key = struct.unpack(f">{len(transparent) // 2}H", transparent[: len(transparent) // 2 * 2])
    return PngParts(
        bytes(picture),
        bits,
        color_type,
        key if len(key) == {_GRAY: 1, _RGB: 3}.get(color_type) else None,
        found["profile"],
        found["exif"],
        found["xmp"],
        tuple(left_out),
    )


def _read_chunk(file: BinaryIO, length: int, kind: bytes) -> bytes:
    content, check = file.read(length), file.read(4)
    if len(content) < length or check != struct.pack(">I", zlib.crc32(kind + content)):
        raise ValueError(f"truncated, or its chunk {kind.decode()} is damaged")
    return content


def _metadata(kind: bytes, content: bytes) -> dict[str, bytes]:
    """Name and bytes of what a chunk holds of the picture's metadata, if it does."""
    keyword, _, rest = content.partition(b"\0")
    if kind == b"eXIf":
        return {"exif": content}
    if kind == b"iCCP":
        return {"profile": _inflate(rest[1:])}
    if kind == b"iTXt" and keyword == _XMP:
        _language, _translated, text = rest[2:].split(b"\0", 2)
        return {"xmp": _inflate(text) if rest[:1] == b"\1" else text}
    if kind != b"iTXt" and keyword in (b"Raw profile type exif", b"Raw profile type APP1"):  # by ImageMagick
        text = _inflate(rest[1:]) if kind == b"zTXt" else rest
        data = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
        return {"exif": data} if data.startswith(b"Exif\0\0") else {}
    return {}


def _inflate(content: bytes) -> bytes:
    stream = zlib.decompressobj()
    result = stream.decompress(content, _LARGEST)
    if not stream.eof:
        raise ValueError("truncated or too large")
    return result


def read_sixteen_bit_png(parts: PngParts) -> npt.NDArray[np.uint16]:
    """Pixels ``(H, W, C)``.

    Pillow decodes 16-bit color, but holds 8 bits of it: the high bytes, or the low ones if it is told that the file is
    of the other byte order. Of gray with alpha it is told that the four bytes of a pixel are RGBA.

    Raises:
        OSError: the file is truncated or damaged.
    """
    if parts.color_type == _GRAY_AND_ALPHA:
        halves = _decode(parts, "RGBA").astype(np.uint16)
        pixels = halves[..., 0::2] * np.uint16(256) + halves[..., 1::2]
    elif parts.color_type == _GRAY:
        pixels = _decode(parts, "I;16B").astype(np.uint16)[..., None]
    else:
        mode = "RGB" if parts.color_type == _RGB else "RGBA"
        pixels = _decode(parts, f"{mode};16B").astype(np.uint16) * np.uint16(256)
        pixels += _decode(parts, f"{mode};16L")
    return pixels


def add_transparency(pixels: npt.NDArray[Any], parts: PngParts) -> npt.NDArray[Any]:
    """Give pixels ``(H, W, C)`` an alpha channel, transparent where they have the color that the file names."""
    if parts.transparent is None:
        return pixels
    peak = np.iinfo(pixels.dtype).max
    color = np.array([value * peak // (2**parts.bits - 1) for value in parts.transparent])
    alpha = np.where((pixels == color).all(axis=2), 0, peak).astype(pixels.dtype)
    return np.concatenate((pixels, alpha[..., None]), axis=2)


def _decode(parts: PngParts, raw_mode: str) -> npt.NDArray[Any]:
    with PngImageFile(io.BytesIO(parts.picture)) as image:
        image.tile = [type(tile)(*tile[:3], raw_mode) for tile in image.tile]
        return np.asarray(image)


def write_sixteen_bit_png(
    pixels: npt.NDArray[Any],
    file: Path,
    *,
    exif: bytes | None = None,
    profile: bytes | None = None,
    xmp: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> None:
    r"""Write gray, gray and alpha, RGB or RGBA.

    Args:
        pixels: uint16, ``(H, W)`` or ``(H, W, C)``, ``C`` from 1 to 4.
        file: where to.
        exif: EXIF data, with or without the leading ``Exif\0\0`` of JPEG files.
        profile: ICC color profile.
        xmp: XMP packet.
        dpi: resolution, across and down.

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
        out.write(_SIGNATURE)
        out.write(_chunk(b"IHDR", header))
        if profile is not None:
            out.write(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
        if dpi is not None:
            out.write(_chunk(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in dpi), 1)))
        if exif is not None:
            out.write(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
        if xmp is not None:
            out.write(_chunk(b"iTXt", _XMP + b"\0\0\0\0\0" + xmp))
        out.write(_chunk(b"IDAT", zlib.compress(rows.tobytes())))
        out.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
