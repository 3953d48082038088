"""Decoding of image files to arrays, with errors that name the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..ops.checks import check_positive
from .levels import Pixels, peak_of
from .opening import IMAGE_SUFFIXES
from .picture_files import read_stored

__all__ = ["IMAGE_SUFFIXES", "Pixels", "decode_image", "read_image", "to_tensor"]


def read_image(path: str | os.PathLike[str], *, max_pixels: int | None = None) -> Tensor:
    """Read an image file as ``(3, H, W)`` float32 RGB in [0, 1].

    8 and 16 bits, and TIFF of floating point in [0, 1]; gray is repeated to three channels, palettes, CMYK and Lab are
    converted, an alpha channel is dropped (not composited). An EXIF orientation is not applied: the files of a data set
    are taken as they are stored, since a ground truth seldom carries the tag of its partner. The pixels are those that
    ``clusir restore`` reads of the same file.

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
    """``(H, W, 3)`` numbers of the full range of their type to ``(3, H, W)`` float32 in [0, 1]."""
    scale = np.float32(peak_of(pixels))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / scale)


def decode_image(path: str | os.PathLike[str], *, max_pixels: int | None = None) -> Pixels:
    """Decode an image file to ``(H, W, 3)`` RGB, uint8, uint16 or float32; see :func:`read_image`."""
    path = Path(path)
    if max_pixels is not None:
        check_positive("max_pixels", max_pixels)
    try:
        pixels = read_stored(path, max_pixels=max_pixels).pixels
    except FileNotFoundError:
        raise FileNotFoundError(f"image file '{path}' does not exist") from None
    except (OSError, ValueError) as error:
        raise RuntimeError(f"cannot read '{path}': {error}") from error
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
