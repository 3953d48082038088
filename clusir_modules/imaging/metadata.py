"""What belongs to a picture beside its pixels: EXIF data, and a profile that fits."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .levels import Pixels

__all__ = [
    "DESCRIBING",
    "DIRECTORIES",
    "ORIENTATION",
    "TURNS",
    "describing_exif",
    "fits",
    "resolution",
    "srgb_profile",
    "to_rgb",
    "with_orientation",
]


ORIENTATION = 0x0112
# Tags of the first directory that describe the picture and not how its file stores it.
DESCRIBING = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# The EXIF orientations: how to turn stored pixels upright, and back.
TURNS: dict[int, tuple[Callable[[Pixels], Pixels], Callable[[Pixels], Pixels]]] = {
    2: (np.fliplr, np.fliplr),
    3: (lambda p: np.rot90(p, 2), lambda p: np.rot90(p, 2)),
    4: (np.flipud, np.flipud),
    5: (lambda p: p.swapaxes(0, 1), lambda p: p.swapaxes(0, 1)),
    6: (lambda p: np.rot90(p, -1), np.rot90),
    7: (lambda p: np.rot90(p, 2).swapaxes(0, 1), lambda p: np.rot90(p, 2).swapaxes(0, 1)),
    8: (np.rot90, lambda p: np.rot90(p, -1)),
}


def describing_exif(path: Path, tags: dict[int, str], directories: dict[int, int]) -> bytes | None:
    """EXIF data of a TIFF file, whose tags are mixed with those of its own layout.

    Args:
        path: the file.
        tags: what :data:`DESCRIBING` tags say.
        directories: where in the file each of :data:`DIRECTORIES` begins.
    """
    kept = Image.Exif()
    for tag, text in tags.items():
        kept[tag] = text
    with path.open("rb") as file:
        head = file.read(8)
        for tag, place in directories.items():
            found = ImageFileDirectory_v2(head, group=tag)
            file.seek(place)
            found.load(file)
            kept.get_ifd(tag).update(dict(found))
            kept[tag] = 0  # replaced by the place of the directory
    return kept.tobytes() if len(kept) else None


def with_orientation(exif: bytes | None, orientation: int) -> bytes | None:
    """EXIF data that states this orientation, unchanged if they already do; None if there is nothing to say."""
    if exif is None and orientation == 1:
        return None
    data = Image.Exif()
    if exif is not None:
        data.load(exif)
        if data.get(ORIENTATION, 1) == orientation:
            return exif
    data[ORIENTATION] = orientation
    return data.tobytes()


def resolution(dpi: Any) -> tuple[float, float] | None:
    """Dots per inch across and down, if they are two positive numbers."""
    try:
        across, down = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    sensible = all(math.isfinite(value) and 0 < value < 1e6 for value in (across, down))
    return (across, down) if sensible else None


def fits(profile: bytes, channels: int) -> bool:
    """Whether an ICC profile is for gray (1) or for RGB (3)."""
    return profile[16:20] == (b"GRAY" if channels == 1 else b"RGB ") and profile[36:40] == b"acsp"


def srgb_profile() -> bytes:
    """The profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def to_rgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """CMYK or Lab to sRGB through its profile, and whether that was possible; Lab is defined without one."""
    if image.mode == "LAB":
        source: Any = ImageCms.createProfile("LAB")
    elif profile is not None and profile[16:20] == b"CMYK":
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        except (ImageCms.PyCMSError, OSError):
            source = None
    else:
        source = None
    if source is not None:
        try:
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            if converted is not None:
                return converted, True
        except ImageCms.PyCMSError:
            if image.mode == "LAB":
                raise
    return image.convert("RGB"), False
