"""Reading and writing picture files with all that a restoration must keep."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from clusir_modules.imaging.levels import to_eight_bits
from clusir_modules.imaging.picture_files import Picture, read_picture
from clusir_modules.imaging.png import write_sixteen_bit_png
from clusir_modules.imaging.writing import write_picture

ORIENTATION = 0x0112
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def stored(picture: Picture) -> np.ndarray:
    """Pixels and alpha as one array ``(H, W, C)``."""
    parts = [picture.pixels if picture.pixels.ndim == 3 else picture.pixels[..., None]]
    return np.concatenate(parts if picture.alpha is None else [*parts, picture.alpha[..., None]], axis=2)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("mode", CHANNELS)
def test_lossless_formats_keep_gray_color_alpha_and_depth(tmp_path, make_pixels, suffix, dtype, mode):
    pixels = make_pixels(9, 14, CHANNELS[mode], dtype)
    color = pixels[..., :3] if CHANNELS[mode] >= 3 else pixels[..., 0]
    given = Picture(color, pixels[..., -1] if mode.endswith("A") else None)
    write_picture(given, tmp_path / f"a{suffix}")
    again = read_picture(tmp_path / f"a{suffix}")
    assert again.pixels.dtype == dtype
    assert again.pixels.ndim == (2 if CHANNELS[mode] < 3 else 3)
    assert np.array_equal(stored(again), pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_written_by_opencv_are_read_exactly(tmp_path, make_pixels, suffix, channels):
    pixels = make_pixels(9, 14, channels, np.uint16)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    cv2.imwrite(str(tmp_path / f"a{suffix}"), pixels[..., order])
    assert np.array_equal(stored(read_picture(tmp_path / f"a{suffix}")), pixels)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bit_tiff_of_another_program_is_read_exactly(tmp_path, make_pixels, compression):
    pixels = make_pixels(9, 14, 3, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression=compression, byteorder=">")
    assert np.array_equal(read_picture(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("suffix", "dtype"), [(".jpg", np.uint8), (".png", np.uint16), (".tif", np.uint16)])
def test_pixels_are_upright_in_memory_and_stored_as_they_were(tmp_path, make_pixels, suffix, dtype, orientation):
    pixels = make_pixels(9, 14, 3, dtype)
    source = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if suffix == ".jpg":
        Image.fromarray(pixels).save(source, exif=exif, quality=95)
    elif suffix == ".tif":
        tags = [(ORIENTATION, "H", 1, orientation, True)]
        tifffile.imwrite(source, pixels, photometric="rgb", extratags=tags, metadata=None)
    else:
        write_sixteen_bit_png(pixels, source, exif=exif.tobytes())
    with Image.open(source) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    picture = read_picture(source)
    assert picture.orientation == orientation
    assert np.array_equal(to_eight_bits(picture.pixels) if suffix == ".jpg" else picture.pixels >> 8, expected)
    write_picture(picture, tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as image, Image.open(source) as original:
        assert image.size == original.size
        assert image.getexif()[ORIENTATION] == orientation
        difference = abs(np.asarray(image).astype(int) - np.asarray(original))
    assert difference.mean() <= (4 if suffix == ".jpg" else 0)


def test_a_format_without_orientation_gets_upright_pixels(tmp_path, make_pixels):
    pixels = make_pixels(9, 14)
    write_picture(Picture(pixels, orientation=6), tmp_path / "a.bmp")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.bmp")), pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_profile_and_resolution_are_kept(tmp_path, make_pixels, suffix):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = tmp_path / f"a{suffix}"
    Image.fromarray(make_pixels()).save(source, exif=exif, icc_profile=profile, dpi=(300, 300))
    write_picture(read_picture(source), tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert image.getexif()[0x010F] == "maker"
        assert image.info["icc_profile"] == profile
        if suffix != ".webp":
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_profile_and_resolution_of_a_tiff_are_kept(tmp_path, make_pixels):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tifffile.imwrite(
        tmp_path / "a.tif", make_pixels(dtype=np.uint16), photometric="rgb", iccprofile=profile,
        resolution=(240, 240), resolutionunit="inch",
    )  # fmt: skip
    write_picture(read_picture(tmp_path / "a.tif"), tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as image:
        assert image.info["icc_profile"] == profile
        assert image.info["dpi"] == pytest.approx((240, 240))


@pytest.mark.parametrize(
    ("mode", "expected"), [("P", "RGB"), ("CMYK", "RGB"), ("1", "L"), ("L", "L"), ("LA", "LA"), ("RGBA", "RGBA")]
)
def test_other_kinds_of_pixels_become_gray_or_rgb(tmp_path, make_pixels, mode, expected):
    image = Image.fromarray(make_pixels()).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path)
    found = stored(read_picture(path))
    with Image.open(path) as again:
        reference = np.asarray(again.convert(expected))
    assert np.array_equal(found, reference if reference.ndim == 3 else reference[..., None])


def test_a_transparent_palette_entry_becomes_alpha(tmp_path, make_pixels):
    Image.fromarray(make_pixels()).convert("P").save(tmp_path / "a.png", transparency=3)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(image.convert("RGBA"))
    assert np.array_equal(stored(read_picture(tmp_path / "a.png")), expected)


def test_sixteen_bits_are_rounded_where_the_format_holds_eight():
    pixels = np.array([0, 128, 129, 257, 65535 // 2, 65535], np.uint16)
    assert to_eight_bits(pixels).tolist() == [round(v / 257) for v in pixels.tolist()]


def test_transparency_is_not_dropped_silently(tmp_path, make_pixels):
    alpha = np.full((20, 28), 255, np.uint8)
    write_picture(Picture(make_pixels(), alpha), tmp_path / "opaque.jpg")
    alpha[0, 0] = 254
    with pytest.raises(ValueError, match=r"\.jpg cannot hold transparency; write \.png"):
        write_picture(Picture(make_pixels(), alpha), tmp_path / "a.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["opaque.jpg"]


def test_pages_are_not_dropped_silently(tmp_path, make_pixels):
    frames = [Image.fromarray(make_pixels(seed=seed)) for seed in (0, 1)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="several pages or frames"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises((ValueError, OSError)):
        read_picture(tmp_path / "a.png")


def test_a_truncated_picture_is_refused(tmp_path, make_pixels):
    write_picture(Picture(make_pixels(dtype=np.uint16)), tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises((ValueError, OSError)):
        read_picture(tmp_path / "a.png")
