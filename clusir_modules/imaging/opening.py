"""Which files are pictures: a fixed list of formats, told by the first bytes of the file and never by its name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import (
    BmpImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from .limits import SEVERAL, check_size
from .png import PngParts, read_png_parts

__all__ = ["IMAGE_SUFFIXES", "format_of", "open_by_pillow"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
"""Endings of the files that count as images, in lower case."""

# `Image.open` would also try programs such as Ghostscript, and take the pictures of a phone (MPO) for several frames.
_PLUGINS: dict[str, Any] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}
_STARTS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    **{f"P{number}{space}".encode(): "PPM" for number in range(1, 7) for space in " \t\r\n#"},
}


def format_of(path: Path) -> str:
    """Name of the format: PNG, JPEG, BMP, TIFF, WEBP or PPM.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is of no such format.
    """
    with path.open("rb") as file:
        start = file.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return "WEBP"
    found = next((name for head, name in _STARTS.items() if start.startswith(head)), None)
    if found is None:
        raise ValueError("no picture, or its header is damaged")
    return found


def open_by_pillow(path: Path, file_format: str, max_pixels: int | None) -> tuple[ImageFile.ImageFile, PngParts | None]:
    """Read the header; of PNG files also the parts that Pillow reads with another bound or not at all.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, too large, or has several pages or frames.
    """
    parts = read_png_parts(path, max_pixels) if file_format == "PNG" else None
    try:
        image = _PLUGINS[file_format](path if parts is None else io.BytesIO(parts.picture))
    except SyntaxError as error:
        raise ValueError("no picture, or its header is damaged") from error
    check_size(image.width, image.height, max_pixels)
    if file_format != "TIFF" and getattr(image, "n_frames", 1) > 1:
        raise ValueError(SEVERAL)
    return image, parts
