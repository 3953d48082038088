"""TIFF of gray and RGB, by tifffile: 8 and 16 bits and floating point, in every layout of the samples."""

from __future__ import annotations

import io
import struct
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import TiffImagePlugin

from ..extras import install_hint
from .levels import Pixels
from .limits import SEVERAL, check_size
from .metadata import DESCRIBING, DIRECTORIES

__all__ = ["TiffPage", "open_tiff"]


_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB = 0, 1, 2
_NONE, _LZW, _PACKBITS = 1, 5, 32773
_DEFLATE = (8, 32946)
_UNSIGNED, _FLOAT = 1, 3
_ASSOCIATED = 1
_PREVIEW = 1  # a small copy of another page
_MOST_PAGES = 8
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class TiffPage:
    """The picture of a TIFF file.

    Attributes:
        by_pillow: whether Pillow has to read it: a palette, CMYK, Lab, YCbCr, less than 8 bits, or 8 bits with a
            compression that only Pillow knows here.
        orientation: as stated, 1 to 8.
        profile: ICC profile or None.
        xmp: XMP packet or None.
        dpi: resolution or None.
        texts: camera, date and so on, by tag.
        directories: places of the EXIF directories in the file, by tag.
    """

    def __init__(self, file: Any, max_pixels: int | None) -> None:
        # The list of pages of a damaged file may lead back to its beginning.
        pages = [page for page in islice(file.pages, _MOST_PAGES) if not page.subfiletype & _PREVIEW]
        if len(pages) != 1:
            raise ValueError(SEVERAL if pages else "no picture, or its header is damaged")
        page = pages[0]
        check_size(page.imagewidth, page.imagelength, max_pixels)
        self._page, self._file = page, file
        self.orientation: int = page.tags.valueof(274, 1)
        self.profile: bytes | None = page.tags.valueof(34675)
        self.xmp: bytes | None = page.tags.valueof(700)
        self.dpi = _resolution(page)
        self.texts = {tag: text for tag in DESCRIBING if isinstance(text := page.tags.valueof(tag), str) and text}
        # What tifffile has read of a directory is without its types; where it begins counts as where its value lies.
        self.directories = {int(tag): page.tags[tag].valueoffset for tag in DIRECTORIES if tag in page.tags}
        plain = page.photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB) and page.bitspersample in (8, 16, 32, 64)
        known = page.compression in (_NONE, _LZW, _PACKBITS, *_DEFLATE) or _has_imagecodecs()
        self.by_pillow = _most_bits(page) <= 8 and not (plain and known)
        if not self.by_pillow:
            self._check(plain, known)

    def _check(self, plain: bool, known: bool) -> None:
        page = self._page
        name = getattr(page.photometric, "name", page.photometric)
        if not plain:
            raise ValueError(f"{name} of {page.bitspersample} bits; store RGB or gray of 8 or 16 bits")
        allowed = {_UNSIGNED: (8, 16), _FLOAT: (16, 32, 64)}.get(int(page.sampleformat), ())
        if page.bitspersample not in allowed:
            kind = {_UNSIGNED: "unsigned", 2: "signed", _FLOAT: "floating-point"}.get(int(page.sampleformat), "complex")
            raise ValueError(
                f"{kind} {page.bitspersample}-bit pixels have no defined range; store 8 or 16 bits, or floating point "
                "in [0, 1]"
            )
        colors = 3 if page.photometric == _RGB else 1
        if page.samplesperpixel - colors not in (0, 1) or page.imagedepth != 1:
            raise ValueError(f"{page.samplesperpixel} samples of a pixel; store gray or RGB, with one alpha or none")
        if not known:
            compression = getattr(page.compression, "name", page.compression)
            raise ValueError(f"compression {compression} needs the package imagecodecs: {install_hint('pictures')}")

    def pixels(self) -> Pixels:
        """``(H, W, C)`` as stored, but gray with white as the largest value and alpha not multiplied in.

        Raises:
            ValueError: the file is damaged, or a floating-point value is not in [0, 1].
        """
        page = self._page
        if page.compression in (_NONE, _LZW, _PACKBITS, *_DEFLATE):
            stored = _decode(page, self._file.filehandle)
        else:
            stored = page.asarray(maxworkers=1).reshape(page.shaped)
        pixels: Pixels = stored[:, 0, :, :, 0].transpose(1, 2, 0) if page.planarconfig == 2 else stored[0, 0]
        if pixels.dtype.kind == "f":
            pixels = pixels.astype(np.float32)
            if not ((pixels >= 0) & (pixels <= 1)).all():  # false for NaN too
                raise ValueError("floating-point pixels must be in [0, 1]")
        peak = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
        colors = 3 if page.photometric == _RGB else 1
        if page.photometric == _MIN_IS_WHITE:
            pixels[..., 0] = peak - pixels[..., 0]
        if pixels.shape[2] > colors and page.extrasamples[:1] == (_ASSOCIATED,):
            pixels[..., :colors] = _divided(pixels[..., :colors], pixels[..., colors:], peak)
        return pixels


def open_tiff(path: Path, max_pixels: int | None) -> tuple[Any, TiffPage]:
    """Open file and its only page; the file is to be closed.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, too large, of several pages, or of a kind that is not read.
    """
    import tifffile

    file = tifffile.TiffFile(path)
    try:
        return file, TiffPage(file, max_pixels)
    except BaseException:
        file.close()
        raise


def _most_bits(page: Any) -> int:
    bits = page.bitspersample
    return max(bits) if isinstance(bits, tuple) else int(bits)


def _has_imagecodecs() -> bool:
    from importlib.util import find_spec

    return find_spec("imagecodecs") is not None


def _resolution(page: Any) -> tuple[float, float] | None:
    dots = {2: 1.0, 3: 2.54}.get(int(page.tags.valueof(296, 2)))  # inch, centimeter
    values = [page.tags.valueof(code) for code in (282, 283)]
    if dots is None or not all(isinstance(value, tuple) and len(value) == 2 and all(value) for value in values):
        return None
    across, down = (value[0] / value[1] * dots for value in values)
    return across, down


def _divided(colors: Pixels, alpha: Pixels, peak: int) -> Pixels:
    """Colors that were multiplied by alpha, without it."""
    if peak == 1:
        return np.divide(colors, alpha, out=np.zeros_like(colors), where=alpha > 0).clip(0, 1)
    wide = (colors.astype(np.uint64) * peak + alpha // 2) // np.maximum(alpha, 1)
    return np.minimum(wide, peak).astype(colors.dtype)


def _decode(page: Any, handle: Any) -> Pixels:
    """Decompress strip after strip, or tile after tile, to no more bytes than it has; tifffile does all the rest."""
    compression, reverse = page.compression, page.fillorder == 2
    result = np.zeros(page.shaped, page.dtype)
    _, _, height, width, samples = page.shaped
    if page.is_tiled:
        rows, columns = page.tilelength, page.tilewidth
    else:
        rows, columns = min(page.rowsperstrip, height), width
    if rows < 1 or columns < 1:
        raise ValueError("its header is damaged")
    needed = -(-height // rows) * -(-width // columns) * page.shaped[0]
    if len(page.dataoffsets) < needed or len(page.databytecounts) < needed:
        raise ValueError("truncated, or its header is damaged")
    row_size = columns * samples * page.dtype.itemsize
    strips = -(-height // rows)  # of one plane
    check_size(columns, rows, max(4 * height * width, 1 << 20))  # tiles are larger than a small picture
    page.compression, page.fillorder = _NONE, 1
    for index in range(needed):
        filled = rows if page.is_tiled else min(rows, height - index % strips * rows)
        size = filled * row_size
        handle.seek(page.dataoffsets[index])
        stored = handle.read(min(page.databytecounts[index], 2 * size + (1 << 16)))
        content = _inflate(stored.translate(_REVERSED) if reverse else stored, compression, size)
        segment, (plane, _, top, left, _), shape = page.decode(content, index)
        if segment is None:
            raise ValueError("a part of its pixels is missing")
        part = result[plane, 0, top : top + shape[1], left : left + shape[2]]
        part[...] = segment[0, : part.shape[0], : part.shape[1]]
    return result


def _inflate(stored: bytes, compression: int, size: int) -> bytes:
    if compression in _DEFLATE:
        return zlib.decompressobj().decompress(stored, size)
    return stored if compression == _NONE else _by_libtiff(stored, compression, size)


def _by_libtiff(stored: bytes, compression: int, size: int) -> bytes:
    """Decompress LZW or PackBits through Pillow, as a TIFF file of one row of ``size`` gray bytes."""
    tags = [(256, 4, size), (257, 4, 1), (258, 3, 8), (259, 3, compression), (262, 3, 1), (273, 4, 0), (277, 3, 1)]
    tags += [(278, 4, 1), (279, 4, len(stored))]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack("<HHIHH" if kind == 3 else "<HHII", code, kind, 1, *((value, 0) if kind == 3 else (value,)))
        for code, kind, value in ((code, kind, start if code == 273 else value) for code, kind, value in tags)
    )
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    with TiffImagePlugin.TiffImageFile(io.BytesIO(header + entries + bytes(4) + stored)) as row:
        return row.tobytes()
