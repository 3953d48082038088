"""Read a picture file with all that its restoration must keep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .levels import Pixels
from .metadata import ORIENTATION, TURNS, describing_exif, fits, resolution, srgb_profile, to_rgb
from .opening import format_of, open_by_pillow
from .png import add_transparency, read_sixteen_bit_png
from .tiff import open_tiff

__all__ = ["Picture", "read_picture", "read_stored"]


class Picture(NamedTuple):
    """A picture, upright.

    Attributes:
        pixels: ``(H, W)`` gray or ``(H, W, 3)`` RGB, uint8, uint16, or float32 in [0, 1].
        alpha: ``(H, W)`` of the same type, or None.
        orientation: EXIF orientation, 1 to 8, in which the file stores the pixels.
        exif: EXIF data or None; of a TIFF file the tags that describe the picture.
        profile: ICC color profile or None.
        dpi: resolution or None.
        xmp: XMP packet or None.
        notes: what could not be kept, as sentences without a full stop.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    orientation: int = 1
    exif: bytes | None = None
    profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    notes: tuple[str, ...] = ()


def read_picture(path: Path, *, max_pixels: int | None = None) -> Picture:
    """Read a picture, gray or color, with or without alpha, and turn it upright; palettes, CMYK and Lab become RGB.

    Args:
        path: a PNG, JPEG, BMP, TIFF, WebP or PPM file; its content counts, not its name.
        max_pixels: largest picture that is decoded, by default Pillow's limit.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no picture, damaged, too large, of several pages or frames, or of a kind that is not read.
    """
    stored = read_stored(path, max_pixels=max_pixels)
    if stored.orientation not in TURNS:
        return stored
    return _turned(stored, TURNS[stored.orientation][0])


def read_stored(path: Path, *, max_pixels: int | None = None) -> Picture:
    """As :func:`read_picture`, but with the pixels as the file stores them, not turned upright."""
    try:
        file_format = format_of(path)
        if file_format == "TIFF":
            return _read_tiff(path, max_pixels)
        return _read_by_pillow(path, file_format, max_pixels)
    except (ValueError, FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except MemoryError as error:
        raise ValueError("it needs more memory than there is") from error
    except Exception as error:  # decoders raise many kinds on damaged files
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot be read: {message}") from error


def _turned(picture: Picture, turn: Callable[[Pixels], Pixels]) -> Picture:
    alpha = None if picture.alpha is None else np.ascontiguousarray(turn(picture.alpha))
    return picture._replace(pixels=np.ascontiguousarray(turn(picture.pixels)), alpha=alpha)


def _read_tiff(path: Path, max_pixels: int | None) -> Picture:
    file, page = open_tiff(path, max_pixels)
    with file:
        if page.by_pillow:
            stored = _read_by_pillow(path, "TIFF", max_pixels)
            if page.orientation in TURNS:  # Pillow has turned them upright
                stored = _turned(stored, TURNS[page.orientation][1])
        else:
            stored = _make(page.pixels(), page.profile, ())
    notes = stored.notes
    try:
        exif = describing_exif(path, page.texts, page.directories)
    except Exception:  # whatever Pillow raises on damaged tags
        exif, notes = None, (*notes, "its EXIF data are damaged and left out")
    orientation = page.orientation if page.orientation in TURNS else 1
    return stored._replace(orientation=orientation, exif=exif, xmp=page.xmp, dpi=resolution(page.dpi), notes=notes)


def _read_by_pillow(path: Path, file_format: str, max_pixels: int | None) -> Picture:
    image, parts = open_by_pillow(path, file_format, max_pixels)
    with image:
        notes: tuple[str, ...] = ()
        info = {"profile": image.info.get("icc_profile"), "exif": image.info.get("exif"), "xmp": image.info.get("xmp")}
        if parts is not None:
            info = {"profile": parts.profile, "exif": parts.exif, "xmp": parts.xmp}
            notes = tuple(f"its {name} is damaged or too large, and left out" for name in parts.left_out)
        dpi = resolution(image.info.get("dpi"))
        exif, orientation, damaged = _exif_of(info["exif"])
        if damaged:
            notes = (*notes, "its EXIF data are damaged and left out")
        if parts is not None and parts.bits == 16:
            picture = _make(add_transparency(read_sixteen_bit_png(parts), parts), info["profile"], notes)
        elif parts is not None and parts.transparent is not None:
            pixels = np.asarray(image.convert("L" if len(parts.transparent) == 1 else "RGB"))
            pixels = pixels if pixels.ndim == 3 else pixels[..., None]
            picture = _make(add_transparency(pixels, parts), info["profile"], notes)
        elif file_format == "PPM" and _is_sixteen_bit_color(image):
            picture = _make(_read_sixteen_bit_ppm(path, image), None, notes)
        else:
            picture = _from_pillow(image, info["profile"], notes)
    return picture._replace(exif=exif, orientation=orientation, xmp=info["xmp"], dpi=dpi)


def _exif_of(data: bytes | None) -> tuple[bytes | None, int, bool]:
    """EXIF data, the orientation that they state, and whether they are damaged."""
    if not data:
        return None, 1, False
    exif = Image.Exif()
    try:
        exif.load(data)
        orientation = exif.get(ORIENTATION, 1)
    except Exception:  # whatever Pillow raises on damaged tags
        return None, 1, True
    return (data, orientation if orientation in TURNS else 1, False) if len(exif) else (None, 1, False)


def _from_pillow(image: Image.Image, profile: bytes | None, notes: tuple[str, ...]) -> Picture:
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format == "PPM"):
        return _make(np.asarray(image).astype(np.uint16)[..., None], profile, notes)
    if mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (Pillow mode {mode}) have no defined range; store 8 or 16 bits")
    if mode in ("1", "L", "LA", "La"):
        transparent = mode in ("LA", "La") or "transparency" in image.info
        return _make(np.asarray(image.convert("LA" if transparent else "L")), profile, notes)
    if mode in ("CMYK", "LAB"):
        image.load()
        converted, exact = to_rgb(image, profile)
        if not exact:
            why = "has no profile" if profile is None else "has a profile that cannot be used"
            notes = (*notes, f"it is {mode} and {why}: the colors are converted by a plain formula")
        return _make(np.asarray(converted), srgb_profile() if exact else None, notes)
    transparent = mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info
    return _make(np.asarray(image.convert("RGBA" if transparent else "RGB")), profile, notes)


def _make(pixels: Pixels, profile: bytes | None, notes: tuple[str, ...]) -> Picture:
    """A picture of ``(H, W)`` or ``(H, W, C)`` samples, with the profile if it is one for them."""
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    channels = pixels.shape[2]
    if profile is not None and not fits(profile, 1 if channels < 3 else 3):
        profile, notes = None, (*notes, "its color profile is not one for its pixels, and left out")
    return Picture(
        np.ascontiguousarray(pixels[..., 0] if channels < 3 else pixels[..., :3]),
        np.ascontiguousarray(pixels[..., -1]) if channels in (2, 4) else None,
        profile=profile,
        notes=notes,
    )


def _is_sixteen_bit_color(image: Any) -> bool:
    """Whether a PPM file holds RGB of 16 bits; Pillow would keep 8 of them."""
    if image.mode != "RGB" or not image.tile:
        return False
    arguments = image.tile[0][3]
    return isinstance(arguments, tuple) and len(arguments) == 2 and arguments[1] > 255


def _read_sixteen_bit_ppm(path: Path, image: Any) -> Pixels:
    codec, _, offset, (_, largest) = image.tile[0]
    width, height = image.size
    if codec == "ppm_plain":
        raise ValueError("PPM as text of more than 8 bits; store it as binary")
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read(width * height * 6)
    if len(content) < width * height * 6:
        raise ValueError("truncated")
    pixels = np.frombuffer(content, ">u2").reshape(height, width, 3).astype(np.uint32)
    if largest != 65535:
        pixels = (np.minimum(pixels, largest) * 65535 + largest // 2) // largest
    return pixels.astype(np.uint16)
