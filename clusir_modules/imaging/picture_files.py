"""Picture files, read and written with all that a restoration must keep."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from clusir_modules.imaging.png import write_sixteen_bit_png
from clusir_modules.serialization.atomic import written_whole

__all__ = ["Picture", "read_picture", "to_eight_bits", "write_picture"]

Pixels: TypeAlias = npt.NDArray[Any]

_ORIENTATION = 0x0112
_TIFF = (".tif", ".tiff")
_WITH_ALPHA = (".png", ".webp", *_TIFF)
_WITH_ORIENTATION = (".jpg", ".jpeg", ".png", ".webp", *_TIFF)
_EIGHT_BITS = (".jpg", ".jpeg", ".webp", ".bmp")
# Raw modes in which Pillow keeps the high byte of 16-bit color, and the mode that keeps the low byte instead.
_SWAPPED_ENDS = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
# The EXIF orientations: how to turn stored pixels upright, and back.
_TURNS: dict[int, tuple[Callable[[Pixels], Pixels], Callable[[Pixels], Pixels]]] = {
    2: (np.fliplr, np.fliplr),
    3: (lambda p: np.rot90(p, 2), lambda p: np.rot90(p, 2)),
    4: (np.flipud, np.flipud),
    5: (lambda p: p.swapaxes(0, 1), lambda p: p.swapaxes(0, 1)),
    6: (lambda p: np.rot90(p, -1), np.rot90),
    7: (lambda p: np.rot90(p, 2).swapaxes(0, 1), lambda p: np.rot90(p, 2).swapaxes(0, 1)),
    8: (np.rot90, lambda p: np.rot90(p, -1)),
}


class Picture(NamedTuple):
    """A picture, upright.

    Attributes:
        pixels: ``(H, W)`` gray or ``(H, W, 3)`` RGB, uint8 or uint16.
        alpha: ``(H, W)`` of the same type, or None.
        orientation: EXIF orientation, 1 to 8, in which the file stores the pixels.
        exif: EXIF data, None without any; of TIFF files only the orientation is kept.
        profile: ICC color profile or None.
        dpi: resolution or None.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    orientation: int = 1
    exif: bytes | None = None
    profile: bytes | None = None
    dpi: tuple[float, float] | None = None


def read_picture(path: Path) -> Picture:
    """Read a picture of 8 or 16 bits, gray or color, with or without alpha; palettes and CMYK become RGB.

    Raises:
        OSError: there is no such file, or it is truncated.
        ValueError: it is no picture, of several pages or frames, or of 32 bits.
    """
    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise ValueError(f"{frames} pages or frames, of which only the first would be written")
            # Decoding a TIFF file turns the pixels and removes the tag; asking a PNG file for its tags decodes it.
            orientation = image.getexif().get(_ORIENTATION, 1) if image.format == "TIFF" else None
            upright = _decode(image, path)
            still_to_turn = image.getexif().get(_ORIENTATION, 1)
            if still_to_turn in _TURNS:
                upright = _TURNS[still_to_turn][0](upright)
            orientation = still_to_turn if orientation is None else orientation
            channels = upright.shape[2] if upright.ndim == 3 else 1
            pixels = {1: upright, 2: upright[..., 0]}.get(channels, upright[..., :3])
            return Picture(
                np.ascontiguousarray(pixels),
                upright[..., -1] if channels in (2, 4) else None,
                orientation if orientation in _TURNS else 1,
                _exif_bytes(image),
                image.info.get("icc_profile"),
                _resolution(image),
            )
    except UnidentifiedImageError as error:
        raise ValueError("no picture, or its header is damaged") from error
    except (SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be read: {error}") from error


def write_picture(picture: Picture, path: Path) -> None:
    """Write a picture in the format of the suffix, whole or not at all.

    The pixels are stored turned as they were, with the same EXIF orientation; formats without one get them upright.
    JPEG, WebP and BMP hold 8 bits.

    Raises:
        OSError: the file cannot be written.
        ValueError: the format is unknown, or cannot hold transparency or 16 bits.
    """
    suffix = path.suffix.lower()
    pixels = _with_alpha(picture, suffix)
    if suffix in _EIGHT_BITS:
        pixels = to_eight_bits(pixels)
    if suffix in _WITH_ORIENTATION and picture.orientation in _TURNS:
        pixels = _TURNS[picture.orientation][1](pixels)
    pixels = np.ascontiguousarray(pixels)
    with written_whole(path) as file:
        if suffix in _TIFF:
            _write_tiff(picture, pixels, file)
        elif suffix == ".png" and pixels.dtype == np.uint16:
            write_sixteen_bit_png(pixels, file, exif=picture.exif, profile=picture.profile)
        else:
            _write_by_pillow(picture, pixels, file, suffix)


def to_eight_bits(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Pixels of 16 bits rounded to 8; those of 8 as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _decode(image: Image.Image, path: Path) -> Pixels:
    """``(H, W)``, or ``(H, W, C)`` with 2 (gray and alpha), 3 or 4 channels."""
    mode = image.mode
    raw = _raw_mode(image)
    if ";16" in raw and mode in ("RGB", "RGBA"):
        return _decode_gray_and_alpha(path) if raw.startswith("LA") else _decode_color(image, path)
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):
        return np.asarray(image).astype(np.uint16)
    if mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (Pillow mode {mode}) have no defined range; store 8 or 16 bits")
    if mode in ("1", "L", "LA", "La"):
        transparent = mode in ("LA", "La") or "transparency" in image.info
        return np.asarray(image.convert("LA" if transparent else "L"))
    transparent = mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if transparent else "RGB"))


def _raw_mode(image: Any) -> str:
    """Layout of the stored pixels, from the decoder arguments of the first tile of the file."""
    arguments = image.tile[0][3] if getattr(image, "tile", ()) else ""
    mode = arguments if isinstance(arguments, str) or not arguments else arguments[0]
    return mode if isinstance(mode, str) else ""


def _decode_color(image: Image.Image, path: Path) -> Pixels:
    """Decode twice: Pillow holds 8 bits of color only, first the high bytes, then (asked for the other end) the low."""
    high = np.asarray(image).astype(np.uint16)
    with Image.open(path) as opened:
        again: Any = opened
        for number, (codec, box, offset, arguments) in enumerate(again.tile):
            mode, rest = (arguments, ()) if isinstance(arguments, str) else (arguments[0], tuple(arguments[1:]))
            changed = (codec, box, offset, (mode[:-1] + _SWAPPED_ENDS[mode[-1]], *rest))
            again.tile[number] = tuple.__new__(type(again.tile[number]), changed)  # a named tuple since Pillow 11
        low = np.asarray(again)
    return high * np.uint16(256) + low


def _decode_gray_and_alpha(path: Path) -> Pixels:
    """Take the four bytes of a pixel for RGBA: Pillow holds 8 bits of gray with alpha only. Just PNG comes here."""
    with Image.open(path) as opened:
        again: Any = opened
        again.tile = [tuple.__new__(type(tile), (*tile[:3], "RGBA")) for tile in again.tile]
        data = np.asarray(again).astype(np.uint16)
    return data[..., 0::2] * np.uint16(256) + data[..., 1::2]


def _exif_bytes(image: Image.Image) -> bytes | None:
    exif = image.getexif()
    if image.format == "TIFF" or not len(exif):  # a TIFF file's tags describe its own layout
        return None
    stored = image.info.get("exif")
    return stored if isinstance(stored, bytes) else exif.tobytes()


def _resolution(image: Image.Image) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    return (float(dpi[0]), float(dpi[1])) if dpi else None


def _with_alpha(picture: Picture, suffix: str) -> Pixels:
    if picture.alpha is None:
        return picture.pixels
    if suffix not in _WITH_ALPHA:
        if (picture.alpha != np.iinfo(picture.alpha.dtype).max).any():
            raise ValueError(f"{suffix} cannot hold transparency; write {', '.join(_WITH_ALPHA)}")
        return picture.pixels
    color = picture.pixels if picture.pixels.ndim == 3 else picture.pixels[..., None]
    return np.concatenate((color, picture.alpha[..., None]), axis=2)


def _write_tiff(picture: Picture, pixels: Pixels, file: Path) -> None:
    import tifffile

    has_alpha = pixels.ndim == 3 and pixels.shape[2] in (2, 4)
    tifffile.imwrite(
        file,
        pixels,
        photometric="rgb" if pixels.ndim == 3 and pixels.shape[2] >= 3 else "minisblack",
        planarconfig="contig" if pixels.ndim == 3 else None,
        extrasamples=["unassalpha"] if has_alpha else None,
        compression="zlib",
        iccprofile=picture.profile,
        resolution=picture.dpi,
        resolutionunit="inch" if picture.dpi else None,
        extratags=[(_ORIENTATION, "H", 1, picture.orientation, True)],
        metadata=None,
    )


def _write_by_pillow(picture: Picture, pixels: Pixels, file: Path, suffix: str) -> None:
    if pixels.dtype == np.uint16:
        raise ValueError(f"16 bits are written to .png and .tif, not to {suffix}")
    options: dict[str, Any] = {"icc_profile": picture.profile}
    if picture.dpi:
        options["dpi"] = picture.dpi
    if picture.exif and suffix in _WITH_ORIENTATION:
        options["exif"] = picture.exif
    elif picture.orientation != 1 and suffix in _WITH_ORIENTATION:
        exif = Image.Exif()
        exif[_ORIENTATION] = picture.orientation
        options["exif"] = exif
    if suffix in (".jpg", ".jpeg", ".webp"):
        options["quality"] = 95
        options["subsampling"] = 0  # full resolution of color; WebP ignores it
    registered = Image.registered_extensions()
    if suffix not in registered:
        raise ValueError(f"unknown format {suffix!r}")
    Image.fromarray(pixels).save(file, format=registered[suffix], **options)
