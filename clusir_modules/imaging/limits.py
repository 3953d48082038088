"""Limits on the size and the number of pictures in a file."""

from __future__ import annotations

from PIL import Image

__all__ = ["SEVERAL", "check_size"]

SEVERAL = "several pages or frames, of which only the first would be used"
"""Why a file of more than one picture is refused."""


def check_size(width: int, height: int, max_pixels: int | None) -> None:
    """Refuse a picture of more than ``max_pixels``, by default Pillow's limit, before it is decoded.

    Raises:
        ValueError: it is larger, or empty.
    """
    limit = Image.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels
    if width < 1 or height < 1:
        raise ValueError(f"{width} x {height} pixels")
    if limit is not None and width * height > limit:
        raise ValueError(
            f"{width} x {height} pixels are more than {limit}, the limit against decompression bombs; "
            "if the file is meant to be so large, raise max_pixels"
        )
