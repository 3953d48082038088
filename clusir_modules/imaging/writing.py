"""Picture files, written in the format of their suffix with all that belongs to the picture."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ..serialization.atomic import written_whole
from .levels import Pixels, peak_of, to_eight_bits, to_sixteen_bits
from .metadata import DESCRIBING, DIRECTORIES, ORIENTATION, TURNS, with_orientation
from .opening import IMAGE_SUFFIXES
from .picture_files import Picture
from .png import write_sixteen_bit_png

__all__ = ["write_picture"]

_TIFF = (".tif", ".tiff")
_WITH_ALPHA = (".png", ".webp", *_TIFF)
_WITH_ORIENTATION = (".jpg", ".jpeg", ".png", ".webp", *_TIFF)
_BY_PILLOW = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
_EIGHT_BITS = (".jpg", ".jpeg", ".webp", ".bmp")
_PNM = (".ppm", ".pgm")
_EXIF = b"Exif\0\0"  # Pillow wants it in front for JPEG, and takes it away for the others
_SOFTWARE = 0x0131
_LONG = 4  # type of a tag
_LARGEST_WITH_DIRECTORIES = 1 << 31  # bytes of pixels
_LARGEST_JPEG_XMP = 65504  # bytes that one marker holds beside its name


def write_picture(picture: Picture, path: Path) -> None:
    """Write a picture in the format of the suffix, whole or not at all.

    The pixels are stored turned as they were, with the same EXIF orientation; formats without one get them upright.
    JPEG, WebP and BMP hold 8 bits, PNG and PPM up to 16, TIFF floating point too.

    Raises:
        OSError: the file cannot be written.
        ValueError: the format is unknown, or cannot hold transparency or color.
    """
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise ValueError(f"unknown format {suffix!r}; known are {', '.join(sorted(IMAGE_SUFFIXES))}")
    pixels = _with_alpha(picture, suffix)
    if suffix in _EIGHT_BITS:
        pixels = to_eight_bits(pixels)
    elif pixels.dtype.kind == "f" and suffix not in _TIFF:
        pixels = to_sixteen_bits(pixels)
    elif pixels.dtype.kind == "f":
        pixels = pixels.clip(0, 1)
    if suffix in _WITH_ORIENTATION and picture.orientation in TURNS:
        pixels = TURNS[picture.orientation][1](pixels)
    pixels = np.ascontiguousarray(pixels)
    exif = with_orientation(picture.exif, picture.orientation) if suffix in _WITH_ORIENTATION else None
    picture = picture._replace(exif=exif)
    with written_whole(path) as file:
        if suffix in _TIFF:
            _write_tiff(picture, pixels, file)
        elif suffix in _PNM:
            _write_pnm(pixels, file, suffix)
        elif pixels.dtype == np.uint16:
            write_sixteen_bit_png(pixels, file, exif=exif, profile=picture.profile, xmp=picture.xmp, dpi=picture.dpi)
        else:
            _write_by_pillow(picture, pixels, file, suffix)


def _with_alpha(picture: Picture, suffix: str) -> Pixels:
    if picture.alpha is None:
        return picture.pixels
    if suffix not in _WITH_ALPHA:
        if (picture.alpha != peak_of(picture.alpha)).any():
            raise ValueError(f"{suffix} cannot hold transparency; write {', '.join(_WITH_ALPHA)}")
        return picture.pixels
    color = picture.pixels if picture.pixels.ndim == 3 else picture.pixels[..., None]
    return np.concatenate((color, picture.alpha[..., None]), axis=2)


def _write_pnm(pixels: Pixels, file: Path, suffix: str) -> None:
    if suffix == ".pgm" and pixels.ndim == 3:
        raise ValueError(".pgm cannot hold color; write .ppm")
    kind, peak = (5 if pixels.ndim == 2 else 6), np.iinfo(pixels.dtype).max
    height, width = pixels.shape[:2]
    content = pixels.astype(f">u{pixels.dtype.itemsize}").tobytes()
    file.write_bytes(f"P{kind}\n{width} {height}\n{peak}\n".encode() + content)


def _write_tiff(picture: Picture, pixels: Pixels, file: Path) -> None:
    import tifffile

    exif = Image.Exif()
    if picture.exif is not None:
        exif.load(picture.exif)
    tags, directories = _tiff_tags(exif)
    if pixels.nbytes > _LARGEST_WITH_DIRECTORIES:  # it may become a BigTIFF file
        directories = {}
    if picture.xmp is not None:
        tags.append((700, "B", len(picture.xmp), picture.xmp, True))
    software = exif.get(_SOFTWARE)
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
        extratags=[(ORIENTATION, "H", 1, picture.orientation, True), *tags],
        software=software if isinstance(software, str) and software.isascii() else False,
        metadata=None,
    )
    _append_directories(directories, file)


def _tiff_tags(exif: Image.Exif) -> tuple[list[Any], dict[int, Any]]:
    """EXIF data as tags of tifffile, and the directories that are to be written behind."""
    tags: list[Any] = [
        (code, "s", 0, exif[code].encode() + b"\0", True)
        for code in DESCRIBING
        if code != _SOFTWARE and isinstance(exif.get(code), str)
    ]
    directories = {int(code): content for code in DIRECTORIES if (content := exif.get_ifd(code))}
    return tags, directories


def _append_directories(directories: dict[int, Any], file: Path) -> None:
    """Write directories of EXIF data, which tifffile does not, behind all else, and a list of tags that has them."""
    if not directories:
        return
    with file.open("r+b") as written:
        head = written.read(8)
        order = "<" if head.startswith(b"II") else ">"
        written.seek(struct.unpack(order + "I", head[4:])[0])
        count = struct.unpack(order + "H", written.read(2))[0]
        entries = [written.read(12) for _ in range(count)]
        for code, content in directories.items():
            directory = ImageFileDirectory_v2(head[:4] + bytes(4))
            directory.update(content)
            place = _at_end(written)
            written.write(directory.tobytes(place))
            entries.append(struct.pack(order + "HHII", code, _LONG, 1, place))
        entries.sort(key=lambda entry: struct.unpack(order + "H", entry[:2]))
        place = _at_end(written)
        written.write(struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4))
        written.seek(4)
        written.write(struct.pack(order + "I", place))


def _at_end(file: BinaryIO) -> int:
    """Go to the end of a file, or one further: directories begin at even places."""
    file.seek(0, 2)
    file.write(bytes(file.tell() % 2))
    return file.tell()


def _write_by_pillow(picture: Picture, pixels: Pixels, file: Path, suffix: str) -> None:
    options: dict[str, Any] = {"icc_profile": picture.profile}
    if picture.dpi:
        options["dpi"] = picture.dpi
    if picture.exif is not None:
        options["exif"] = _EXIF + picture.exif.removeprefix(_EXIF)
    if picture.xmp is not None:
        if suffix == ".png":
            options["pnginfo"] = PngInfo()
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", picture.xmp.decode("utf-8", "replace"))
        elif suffix == ".webp" or len(picture.xmp) <= _LARGEST_JPEG_XMP:
            options["xmp"] = picture.xmp
    if suffix in (".jpg", ".jpeg", ".webp"):
        options["quality"] = 95
        options["subsampling"] = 0  # full resolution of color; WebP ignores it
    Image.fromarray(pixels).save(file, format=_BY_PILLOW[suffix], **options)
