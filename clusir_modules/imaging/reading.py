"""Decoding of image files to arrays, with errors that name the file."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..ops.checks import check_positive

__all__ = ["IMAGE_SUFFIXES", "decode_image", "read_image", "to_tensor"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
"""Endings of the files that count as images, in lower case."""

Pixels: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")  # Pillow's decoder of EPS would start a program
_OPENING = threading.Lock()
_SIXTEEN_BIT_GRAY = ("I;16", "I;16B", "I;16L", "I;16N")
# Raw modes in which Pillow keeps the high byte of 16-bit color, and the mode that keeps the low byte instead.
_SWAPPED_ENDS = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def read_image(path: str | os.PathLike[str], *, max_pixels: int | None = None) -> Tensor:
    """Read an image file as ``(3, H, W)`` float32 RGB in [0, 1].

    8 and 16 bits (of 16-bit PPM color and of 16-bit gray with alpha the upper 8); gray is repeated to three channels,
    palettes and CMYK are converted, an alpha channel is dropped (not composited). An EXIF orientation is not applied:
    the files of a data set are taken as they are stored, since a ground truth seldom carries the tag of its partner.

    Args:
        path: a PNG, JPEG, BMP, TIFF, WebP or PPM file; its content counts, not its name.
        max_pixels: largest image, ``H W``, that is decoded: a small file can hold an image that fills the memory (a
            decompression bomb). By default Pillow's limit, ``PIL.Image.MAX_IMAGE_PIXELS``, 89 million.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is no image, truncated or corrupt, too large, or of an unsupported kind. The message names the
            file.
        TypeError: ``max_pixels`` is no integer.
        ValueError: ``max_pixels`` is below 1.
    """
    return to_tensor(decode_image(path, max_pixels=max_pixels))


def to_tensor(pixels: Pixels) -> Tensor:
    """``(H, W, 3)`` integers of the full range of their type to ``(3, H, W)`` float32 in [0, 1]."""
    scale = np.float32(np.iinfo(pixels.dtype).max)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / scale)


def decode_image(path: str | os.PathLike[str], *, max_pixels: int | None = None) -> Pixels:
    """Decode an image file to ``(H, W, 3)`` RGB, uint8 or uint16; see :func:`read_image`."""
    path = Path(path)
    if max_pixels is not None:
        check_positive("max_pixels", max_pixels)
    try:
        with _open(path, max_pixels) as image:
            return _decode(image, path, max_pixels)
    except FileNotFoundError:
        raise FileNotFoundError(f"image file '{path}' does not exist") from None
    except UnidentifiedImageError as error:
        raise RuntimeError(f"cannot read '{path}': not an image, or its header is damaged") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise RuntimeError(f"cannot read '{path}': {error}") from error


@contextmanager
def _open(path: Path, max_pixels: int | None) -> Iterator[Image.Image]:
    """Open an image file and read its header; this limit replaces Pillow's, which warns only, up to twice its size."""
    with _OPENING:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            image = Image.open(path, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    limit = limit if max_pixels is None else max_pixels
    with image:
        if limit is not None and image.width * image.height > limit:
            raise ValueError(
                f"{image.width} x {image.height} pixels are more than {limit}, the limit against decompression bombs; "
                "if the file is meant to be so large, raise max_pixels"
            )
        yield image


def _decode(image: Image.Image, path: Path, max_pixels: int | None) -> Pixels:
    if image.mode in ("RGB", "RGBA") and _is_sixteen_bit_color(image):
        return _decode_sixteen_bit_color(image, path, max_pixels)
    if image.mode in _SIXTEEN_BIT_GRAY or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _gray_to_rgb(np.asarray(image).astype(np.uint16))
    if image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (Pillow mode {image.mode}) have no defined range; store 8 or 16 bits")
    if image.mode in ("1", "L", "LA"):
        return _gray_to_rgb(np.asarray(image.convert("L")))
    # By way of RGBA, a palette's transparent entry keeps its color.
    rgb: Pixels = np.asarray(image.convert("RGBA" if image.mode in ("P", "PA", "RGBA") else "RGB"))[:, :, :3]
    return rgb


def _gray_to_rgb(gray: Pixels) -> Pixels:
    rgb: Any = np.repeat(gray[:, :, None], 3, axis=2)
    return cast(Pixels, rgb)


def _raw_mode(arguments: Any) -> str:
    """Layout of the stored pixels, from the decoder arguments of a tile of the file."""
    mode = arguments if isinstance(arguments, str) or not arguments else arguments[0]
    return mode if isinstance(mode, str) else ""


def _is_sixteen_bit_color(image: Any) -> bool:
    return any(";16" in _raw_mode(tile[3]) for tile in getattr(image, "tile", ()))


def _decode_sixteen_bit_color(image: Image.Image, path: Path, max_pixels: int | None) -> Pixels:
    """Decode twice: Pillow holds 8 bits of color only, first the high bytes, then (asked for the other end) the low."""
    high = np.asarray(image)[:, :, :3].astype(np.uint16)
    with _open(path, max_pixels) as opened:
        again: Any = opened
        for number, (codec, box, offset, arguments) in enumerate(again.tile):
            mode = _raw_mode(arguments)
            swapped = mode[:-1] + _SWAPPED_ENDS[mode[-1]]
            rest = () if isinstance(arguments, str) else tuple(arguments[1:])
            changed = (codec, box, offset, (swapped, *rest))
            again.tile[number] = tuple.__new__(type(again.tile[number]), changed)  # a named tuple since Pillow 11
        low = np.asarray(again)[:, :, :3]
    return cast(Pixels, high * np.uint16(256) + low)
