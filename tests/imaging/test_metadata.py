"""What belongs to a picture stays: orientation, resolution, EXIF, XMP, and a profile that fits its pixels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from test_layouts import chunk, lab_of_srgb

from clusir_modules.data import read_image
from clusir_modules.imaging.picture_files import Picture, read_picture
from clusir_modules.imaging.writing import write_picture

MAKER, DATE, EXPOSURE, LATITUDE = "Camera Works", "2024:05:06 07:08:09", 0.0125, (52.0, 30.0, 12.5)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SOURCES = ("a.jpg", "a.png", "a.webp", "a8.tif", "a16.tif", "a16.png")
RESULTS = ("b.jpg", "b.png", "b.webp", "b.tif", "b.bmp")


def make_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = orientation, MAKER, DATE
    exif.get_ifd(0x8769)[0x829A] = EXPOSURE
    exif.get_ifd(0x8825).update({1: "N", 2: LATITUDE})
    return exif


def make_source(path: Path, orientation: int) -> np.ndarray:
    """Write a picture whose four corners differ, with all that can belong to it; return it upright, 8 bits."""
    stored = np.zeros((16, 24, 3), np.uint8)
    stored[:8, :12], stored[:8, 12:], stored[8:, :12] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    image = Image.fromarray(stored)
    exif = make_exif(orientation)
    if path.name.startswith("a16"):
        upright = np.asarray(ImageOps.exif_transpose(_with(image, exif)))
        deep = upright.astype(np.uint16) * 257
        write_picture(
            Picture(deep, None, orientation, exif.tobytes(), SRGB, (300.0, 150.0), XMP), path
        )  # read back by other libraries below
    elif path.suffix == ".tif":
        exif[700] = XMP
        for directory in (0x8769, 0x8825):
            exif[directory] = dict(exif.get_ifd(directory))
        image.save(path, exif=exif, icc_profile=SRGB, dpi=(300, 150))
    else:
        image.save(path, exif=exif, icc_profile=SRGB, dpi=(300, 150), xmp=XMP, quality=95, lossless=True)
    if path.name == "a.png":  # Pillow writes no XMP packet unless it is told how
        content = path.read_bytes()
        packet = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
        path.write_bytes(content[:33] + packet + content[33:])
    return np.asarray(ImageOps.exif_transpose(_with(image, exif)))


def _with(image: Image.Image, exif: Image.Exif) -> Image.Image:
    image = image.copy()
    image.getexif()[0x0112] = exif[0x0112]
    return image


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_every_pair_of_formats(tmp_path: Path, source: str, result: str, orientation: int) -> None:
    upright = make_source(tmp_path / source, orientation)
    picture = read_picture(tmp_path / source)
    assert picture.notes == ()
    write_picture(picture, tmp_path / result)
    with Image.open(tmp_path / result) as image:
        exif = image.getexif()
        stored = np.asarray(image)  # Pillow turns TIFF files itself, and forgets that they were
        turned = stored if image.format in ("TIFF", "BMP") else np.asarray(ImageOps.exif_transpose(image))
        assert turned.shape == upright.shape
        assert np.abs(turned.astype(int) - upright).mean() < 16
        if result == "b.bmp":
            assert source == "a.webp" or image.info["dpi"] == pytest.approx((300, 150), abs=0.1)
            return
        assert image.info["icc_profile"] == SRGB
        assert (exif[0x010F], exif[0x0132]) == (MAKER, DATE)
        if result != "b.tif":
            assert exif.get(0x0112, 1) == orientation
        assert float(exif.get_ifd(0x8769)[0x829A]) == pytest.approx(EXPOSURE)
        assert [float(value) for value in exif.get_ifd(0x8825)[2]] == pytest.approx(LATITUDE)
        if not (source == "a.webp" or result == "b.webp"):  # WebP has no field for it
            assert [float(value) for value in image.info["dpi"]] == pytest.approx((300, 150), abs=0.1)
        assert XMP in (image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode())
    if result == "b.tif":
        with tifffile.TiffFile(tmp_path / result) as file:
            tags = file.pages[0].tags
            assert tags.valueof(0x0112, 1) == orientation
            assert tags[0x010F].value == MAKER
            assert tags[0x8769].value["ExposureTime"] == pytest.approx(EXPOSURE)
            assert len(file.pages) == 1


def test_a_gray_picture_of_sixteen_bits_keeps_its_resolution(tmp_path: Path) -> None:
    Image.fromarray(np.arange(768, dtype=np.uint16).reshape(16, 48) * 80).save(tmp_path / "a.png", dpi=(300, 300))
    write_picture(read_picture(tmp_path / "a.png"), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert image.mode == "I;16"
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("unit", [2, 3])
def test_resolution_of_tiff_in_inches_and_centimeters(tmp_path: Path, unit: int) -> None:
    options = {"resolution": (300, 150), "resolutionunit": unit, "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8), **options)
    factor = {2: 1, 3: 2.54}[unit]
    assert read_picture(tmp_path / "a.tif").dpi == pytest.approx((300 * factor, 150 * factor))


def header_for(space: bytes, profile: bytes = SRGB) -> bytes:
    """A profile that says it is for another kind of pixels."""
    return profile[:16] + space + profile[20:]


@pytest.mark.parametrize(("mode", "space"), [("RGB", b"GRAY"), ("RGB", b"CMYK"), ("RGB", b"Lab "), ("L", b"RGB ")])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_a_profile_for_other_pixels_is_left_out_with_a_note(tmp_path: Path, name: str, mode: str, space: bytes) -> None:
    Image.new(mode, (24, 16), 77).save(tmp_path / name, icc_profile=header_for(space))
    picture = read_picture(tmp_path / name)
    assert picture.profile is None
    assert picture.notes == ("its color profile is not one for its pixels, and left out",)


def test_a_profile_for_gray_stays_with_gray(tmp_path: Path) -> None:
    Image.new("L", (24, 16), 77).save(tmp_path / "a.png", icc_profile=header_for(b"GRAY"))
    picture = read_picture(tmp_path / "a.png")
    assert picture.notes == ()
    write_picture(picture, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.info["icc_profile"] == header_for(b"GRAY")


# Lab of the 16 corners of CMYK, colors that sRGB has; between them a table is interpolated linearly.
CORNERS = np.random.default_rng(4).uniform((40, -12, -12), (60, 12, 12), (16, 3))
CORNERS[0], CORNERS[15] = (100, 0, 0), (0, 0, 0)  # white, and black: nothing is left to be stretched


def press_profile() -> bytes:
    """An ICC profile for CMYK with a table of 8 bits, after the specification (ICC.1:2022, lut8Type)."""
    corners = np.rint(CORNERS * (2.55, 1, 1) + (0, 128, 128)).astype(np.uint8)
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *(np.eye(3, dtype=int) << 16).reshape(-1))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + identity * 4 + corners.tobytes() + identity * 3
    table += bytes(-len(table) % 4)
    name = b"text" + bytes(4) + b"press\0\0\0"
    white = b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    entries = {b"A2B0": table, b"cprt": name, b"wtpt": white}
    place = 128 + 4 + 12 * len(entries)
    listing, content = struct.pack(">I", len(entries)), b""
    for tag, data in entries.items():
        listing += tag + struct.pack(">II", place + len(content), len(data))
        content += data
    head = struct.pack(">I4sI4s4s4s", place + len(content), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + listing + content


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_cmyk_is_converted_through_its_profile(tmp_path: Path, name: str) -> None:
    inks = np.repeat(np.arange(16), 64).reshape(32, 32)
    bits = (inks[..., None] >> np.arange(4)[::-1] & 1).astype(np.uint8) * 255  # the first ink varies slowest
    image = Image.frombytes("CMYK", (32, 32), bits.tobytes())
    options = {"quality": 100, "subsampling": 0} if name == "a.jpg" else {}
    image.save(tmp_path / name, icc_profile=press_profile(), **options)
    picture = read_picture(tmp_path / name)
    assert picture.notes == ()
    assert picture.profile == SRGB or picture.profile[16:20] == b"RGB "
    difference = np.abs(lab_of_srgb(picture.pixels / 255) - CORNERS[inks])
    assert np.median(difference) < 1
    assert difference.max() < (2.5 if name == "a.tif" else 12)
    assert np.abs(read_image(tmp_path / name).permute(1, 2, 0).numpy() * 255 - picture.pixels).max() < 1e-3


def test_cmyk_with_a_profile_that_is_none_falls_back_and_says_so(tmp_path: Path) -> None:
    image = Image.new("CMYK", (24, 16), (10, 20, 30, 40))
    image.save(tmp_path / "a.jpg", icc_profile=header_for(b"CMYK"), quality=100)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.profile is None
    assert picture.notes == (
        "it is CMYK and has a profile that cannot be used: the colors are converted by a plain formula",
    )
    assert np.abs(picture.pixels.astype(int) - [245 * 215 // 255, 235 * 215 // 255, 225 * 215 // 255]).max() <= 3


def test_damaged_exif_data_do_not_cost_the_picture(tmp_path: Path) -> None:
    pixels = np.full((16, 24, 3), 99, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, pixels)
    assert picture.exif is None


@pytest.mark.parametrize("size", [1 << 20, 3 << 19, (1 << 24) + 1])
def test_text_and_profile_of_png_files_have_a_bound_of_their_own(tmp_path: Path, size: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    profile = (size).to_bytes(4, "big") + SRGB[4:] + bytes(size - len(SRGB))
    chunks = chunk(b"zTXt", b"history\0\0" + zlib.compress(b"x" * size))
    chunks += chunk(b"iCCP", b"large\0\0" + zlib.compress(profile))
    (tmp_path / "a.png").write_bytes(content[:33] + chunks + content[33:])
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, pixels)
    assert np.array_equal((read_image(tmp_path / "a.png") * 255).round().permute(1, 2, 0).numpy(), pixels)
    if size > 1 << 24:
        assert picture.profile is None
        assert picture.notes == ("its color profile is damaged or too large, and left out",)
    else:
        assert picture.profile == profile
        write_picture(picture, tmp_path / "b.png")
        assert read_picture(tmp_path / "b.png").profile == profile
