"""Every layout of every format: written by one library, read by us, compared with another, to the last digit."""

from __future__ import annotations

import itertools
import struct
import zlib
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import PIL
import pytest
import tifffile
from old_references import require_few_bits
from packaging.version import Version
from PIL import Image

from clusir_modules.imaging.picture_files import read_picture
from clusir_modules.imaging.reading import decode_image

HEIGHT, WIDTH = 21, 37


def samples(channels: int, dtype: type, seed: int = 0) -> np.ndarray:
    """Pixels that no smoothing, rounding or swapping of bytes leaves alone; squeezed if there is one channel."""
    draw = np.random.default_rng(seed)
    shape = (HEIGHT, WIDTH, channels)
    if np.dtype(dtype).kind == "f":
        return draw.random(shape).astype(dtype)
    return draw.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def read(path: Path) -> np.ndarray:
    """What the command reads, after asserting that training reads the same colors."""
    picture = read_picture(path)
    assert picture.notes == ()
    pixels = picture.pixels if picture.pixels.ndim == 3 else picture.pixels[..., None]
    rgb = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    in_training = decode_image(path)
    assert in_training.dtype == pixels.dtype
    assert np.array_equal(in_training, rgb)
    return pixels if picture.alpha is None else np.concatenate((pixels, picture.alpha[..., None]), axis=2)


def by_opencv(path: Path) -> np.ndarray:
    """What OpenCV reads, ``(H, W, C)`` in RGB order."""
    found = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    found = found if found.ndim == 3 else found[..., None]
    return found[..., [2, 1, 0, 3][: found.shape[2]]] if found.shape[2] >= 3 else found


def by_libtiff(path: Path) -> np.ndarray:
    """The samples that libtiff finds in a TIFF file, one plane behind the other turned to ``(H, W, C)``."""
    found = imagecodecs.tiff_decode(path.read_bytes())
    found = found if found.ndim == 3 else found[..., None]
    return found if found.shape[:2] == (HEIGHT, WIDTH) else found.transpose(1, 2, 0)


TIFF_KINDS = {
    "gray": (1, {"photometric": "minisblack"}),
    "white is zero": (1, {"photometric": "miniswhite"}),
    "gray and alpha": (2, {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
    "RGB": (3, {"photometric": "rgb"}),
    "RGB and alpha": (4, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "RGB and an unnamed channel": (4, {"photometric": "rgb", "extrasamples": ["unspecified"]}),
}
TIFF_TYPES = (np.uint8, np.uint16, np.float16, np.float32, np.float64)
TIFF_LAYOUTS = [
    (compression, predictor, blocks, planar, order, big)
    for compression, predictor, blocks, planar, order, big in itertools.product(
        (None, "zlib", "lzw", "packbits", "zstd"),
        (False, True),
        ({}, {"rowsperstrip": 4}, {"tile": (16, 32)}),
        ("contig", "separate"),
        ("<", ">"),
        (False, True),
    )
    if not (predictor and compression in (None, "packbits"))
]


@pytest.mark.parametrize("dtype", TIFF_TYPES)
@pytest.mark.parametrize("kind", TIFF_KINDS)
def test_tiff(tmp_path: Path, kind: str, dtype: type) -> None:
    channels, options = TIFF_KINDS[kind]
    pixels = samples(channels, dtype)
    expected = pixels.astype(np.float32) if pixels.dtype.kind == "f" else pixels
    if kind == "white is zero":
        expected = (1 if pixels.dtype.kind == "f" else np.iinfo(dtype).max) - expected
    path = tmp_path / "a.tif"
    for compression, predictor, blocks, planar, order, big in TIFF_LAYOUTS:
        if channels == 1 and planar == "separate":
            continue
        stored = pixels.transpose(2, 0, 1) if planar == "separate" else pixels
        tifffile.imwrite(
            path,
            stored[..., 0] if channels == 1 else stored,
            bigtiff=big,
            byteorder=order,
            compression=compression,
            predictor=predictor,
            planarconfig=None if channels == 1 else planar,
            metadata=None,
            **options,
            **blocks,
        )
        layout = f"{compression} {predictor=} {blocks} {planar} {order} {big=}"
        assert np.array_equal(by_libtiff(path), pixels), layout
        assert np.array_equal(read(path), expected), layout


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
def test_tiff_with_alpha_multiplied_in(tmp_path: Path, channels: int, dtype: type) -> None:
    peak = np.iinfo(dtype).max
    wanted = samples(channels, dtype)
    alpha = wanted[..., -1:].astype(np.int64)
    stored = wanted.copy()
    stored[..., :-1] = (wanted[..., :-1].astype(np.int64) * alpha + peak // 2) // peak
    photometric = "rgb" if channels == 4 else "minisblack"
    options = {"planarconfig": "contig", "extrasamples": ["assocalpha"], "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, **options)
    found = read(tmp_path / "a.tif")
    assert np.array_equal(found[..., -1:], alpha)
    again = (found[..., :-1].astype(np.int64) * alpha + peak // 2) // peak
    assert np.array_equal(again, stored[..., :-1]), "multiplied by alpha again, they are what the file holds"


# Lindbloom: RGB of sRGB to XYZ, adapted to D50 by Bradford's method; and the white of D50.
SRGB_TO_XYZ = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
WHITE = np.array([0.9642, 1.0, 0.8251])


def lab_of_srgb(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* relative to D50, of sRGB in [0, 1]."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ SRGB_TO_XYZ.T / WHITE
    x, y, z = np.moveaxis(np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29), 2, 0)
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), axis=2)


FEW_BITS = list(itertools.product((1, 2, 4), ("minisblack", "miniswhite")))


@pytest.mark.parametrize(("bits", "photometric"), FEW_BITS)
def test_tiff_of_few_bits(tmp_path: Path, bits: int, photometric: str) -> None:
    if bits > 1:
        require_few_bits()
    values = samples(1, np.uint8) & (2**bits - 1)
    stored = values[..., 0].astype(bool) if bits == 1 else values[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", stored, bitspersample=bits, photometric=photometric, metadata=None)
    gray = 2**bits - 1 - values if photometric == "miniswhite" else values
    assert np.array_equal(read(tmp_path / "a.tif"), gray * (255 // (2**bits - 1)))


PALETTE = samples(3, np.uint8, seed=1).reshape(-1, 3)[:256]
TIFF_BY_PILLOW = list(
    itertools.product(
        ("1", "P", "CMYK", "LAB", "YCbCr", "L", "RGB", "RGBA"), (None, "tiff_lzw", "tiff_deflate", "packbits")
    )
)
TIFF_BY_PILLOW += [("1", "group3"), ("1", "group4"), ("RGB", "jpeg"), ("L", "jpeg"), ("CMYK", "jpeg")]


@pytest.mark.parametrize(("mode", "compression"), TIFF_BY_PILLOW)
def test_tiff_of_other_colors(tmp_path: Path, mode: str, compression: str | None) -> None:
    if mode == "1":
        require_few_bits()
    if (mode, compression) == ("YCbCr", None) and Version(PIL.__version__) < Version("13"):
        pytest.skip("earlier Pillow calls its own uncompressed YCbCr truncated, so the file is refused")
    path = tmp_path / "a.tif"
    values = samples({"1": 1, "P": 1, "L": 1, "LAB": 3, "YCbCr": 3, "RGB": 3}.get(mode, 4), np.uint8)
    if mode == "1":
        values = values // 128 * 255
        image = Image.fromarray(values[..., 0]).convert("1")
    elif mode == "LAB":  # colors that sRGB has
        values = np.rint(lab_of_srgb(samples(3, np.uint8) / 255) * (2.55, 1, 1)).astype(np.int64).astype(np.uint8)
        image = Image.frombytes(mode, (WIDTH, HEIGHT), values.tobytes())
    else:
        image = Image.frombytes(mode, (WIDTH, HEIGHT), values.tobytes())
    if mode == "P":
        image.putpalette(PALETTE.tobytes())
    image.save(path, compression=compression)
    picture = read_picture(path)
    assert np.array_equal(
        decode_image(path), np.broadcast_to(picture.pixels.reshape(HEIGHT, WIDTH, -1), (HEIGHT, WIDTH, 3))
    )
    if compression == "jpeg":
        with Image.open(path) as again:
            values = np.asarray(again).reshape(values.shape)
    elif mode not in ("CMYK", "YCbCr"):  # which libtiff turns into RGB
        assert np.array_equal(
            imagecodecs.tiff_decode(path.read_bytes()).reshape(HEIGHT, WIDTH, -1) * (255 if mode == "1" else 1), values
        )
    if mode == "1":
        assert np.array_equal(picture.pixels, values[..., 0])
    elif mode == "P":
        assert np.array_equal(picture.pixels, PALETTE[values[..., 0]])
    elif mode == "CMYK":
        light = 255 - values.astype(np.float64)
        assert np.abs(picture.pixels - light[..., :3] * light[..., 3:] / 255).max() <= 1
        assert picture.notes == ("it is CMYK and has no profile: the colors are converted by a plain formula",)
    elif mode == "YCbCr":  # JFIF 1.02, page 3
        y, blue, red = np.moveaxis(values.astype(np.float64) - (0, 128, 128), 2, 0)
        rgb = np.stack((y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue), axis=2)
        assert np.abs(picture.pixels - rgb.clip(0, 255)).max() <= 1
    elif mode == "LAB":
        assert np.abs(lab_of_srgb(picture.pixels / 255) - lab_of_srgb(samples(3, np.uint8) / 255)).max() <= 3
    else:
        found = picture.pixels if picture.alpha is None else np.dstack((picture.pixels, picture.alpha))
        assert np.array_equal(found.reshape(values.shape), values)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png(tmp_path: Path, channels: int, dtype: type) -> None:
    pixels = samples(channels, dtype)
    path = tmp_path / "a.png"
    for level in (0, 1, 9):
        path.write_bytes(imagecodecs.png_encode(pixels, level=level))
        assert np.array_equal(read(path), pixels)
        if channels != 2:
            assert np.array_equal(by_opencv(path), pixels)


PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PNG_COLOR_TYPES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def write_png(path: Path, values: np.ndarray, bits: int, color_type: int, interlaced: bool, *chunks: bytes) -> None:
    """Write PNG without filters, after the specification: for what no library writes."""
    height, width = values.shape[:2]
    rows = b""
    for left, top, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        for row in values[top::down, left::across]:
            if row.size:
                digits = (row.reshape(-1, 1).astype(np.int64) >> np.arange(bits)[::-1] & 1).astype(np.uint8)
                rows += b"\0" + np.packbits(digits.reshape(-1)).tobytes()
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, interlaced)
    body = b"".join((chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


PNG_LAYOUTS = [
    (color_type, bits, interlaced, transparent)
    for color_type, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items()
    for bits in depths
    for interlaced in (False, True)
    for transparent in ((False, True) if color_type in (0, 2, 3) else (False,))
]


@pytest.mark.parametrize(("color_type", "bits", "interlaced", "transparent"), PNG_LAYOUTS)
def test_png_of_every_kind(tmp_path: Path, color_type: int, bits: int, interlaced: bool, transparent: bool) -> None:
    channels = PNG_COLOR_TYPES[color_type]
    values = samples(channels, np.uint16) & (2**bits - 1)
    dtype = np.uint16 if bits == 16 else np.uint8
    peak = np.iinfo(dtype).max
    key = values[3, 4]
    palette = samples(3, np.uint8, seed=2).reshape(-1, 3)[: 2**bits]
    opacity = samples(1, np.uint8, seed=3).reshape(-1)[: 2**bits]
    chunks = []
    if color_type == 3:
        chunks.append(chunk(b"PLTE", palette.tobytes()))
        expected = palette[values[..., 0]]
    else:
        expected = (values.astype(np.int64) * peak // (2**bits - 1)).astype(dtype)
    if transparent:
        content = opacity.tobytes() if color_type == 3 else key.astype(">u2").tobytes()
        chunks.append(chunk(b"tRNS", content))
        alpha = opacity[values[..., 0]] if color_type == 3 else np.where((values == key).all(2), 0, peak)
        expected = np.dstack((expected, alpha.astype(dtype)))
    path = tmp_path / "a.png"
    write_png(path, values, bits, color_type, interlaced, *chunks)
    again = imagecodecs.png_decode(path.read_bytes())
    if not (color_type == 0 and transparent):  # of which libpng's caller decides
        colors = 3 if color_type == 3 else min(channels, 3) if channels != 2 else 2
        assert np.array_equal(again.reshape(HEIGHT, WIDTH, -1)[..., :colors], expected[..., :colors])
    found = read(path)
    assert found.dtype == dtype
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg(tmp_path: Path, mode: str, progressive: bool, subsampling: int) -> None:
    pixels = samples(3, np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / "a.jpg", quality=90, progressive=progressive, subsampling=subsampling)
    assert np.array_equal(read(tmp_path / "a.jpg"), by_opencv(tmp_path / "a.jpg"))


def test_jpeg_with_further_pictures_is_its_first(tmp_path: Path) -> None:
    first, second = (Image.fromarray(samples(3, np.uint8, seed=seed)) for seed in (0, 1))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second], quality=95)
    first.save(tmp_path / "b.jpg", quality=95)
    assert np.array_equal(read(tmp_path / "a.jpg"), by_opencv(tmp_path / "b.jpg"))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("lossless", [False, True])
def test_webp(tmp_path: Path, lossless: bool, channels: int) -> None:
    pixels = samples(channels, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=lossless, exact=True, quality=90)
    found = read(tmp_path / "a.webp")
    assert np.array_equal(found, by_opencv(tmp_path / "a.webp"))
    assert not lossless or np.array_equal(found, pixels)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_bmp(tmp_path: Path, mode: str) -> None:
    Image.fromarray(samples(3, np.uint8)).convert(mode).save(tmp_path / "a.bmp")
    found, again = read(tmp_path / "a.bmp"), by_opencv(tmp_path / "a.bmp")
    assert np.array_equal(np.broadcast_to(found[..., :3], again[..., :3].shape), again[..., :3])


@pytest.mark.parametrize("largest", [1, 100, 255, 1000, 65535])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("text", [False, True])
def test_ppm(tmp_path: Path, text: bool, channels: int, largest: int) -> None:
    values = samples(channels, np.uint16).astype(np.int64) % (largest + 1)
    kind = {(1, True): 2, (3, True): 3, (1, False): 5, (3, False): 6}[channels, text]
    content = values.astype(">u2" if largest > 255 else np.uint8).tobytes()
    content = "\n".join(str(value) for value in values.reshape(-1)).encode() if text else content
    path = tmp_path / "a.ppm"
    path.write_bytes(f"P{kind}\n{WIDTH} {HEIGHT}\n{largest}\n".encode() + content)
    if text and channels == 3 and largest > 255:
        for reader, error in ((read_picture, ValueError), (decode_image, RuntimeError)):
            with pytest.raises(error, match="PPM as text of more than 8 bits"):
                reader(path)
        return
    peak = 65535 if largest > 255 else 255
    assert np.abs(read(path) - values * (peak / largest)).max() <= 0.5 + 1e-6
    if largest == peak and not text:
        assert np.array_equal(by_opencv(path), values)


def test_the_documentation_counts_these_layouts() -> None:
    tiff = sum(
        len(TIFF_TYPES) * len([layout for layout in TIFF_LAYOUTS if channels > 1 or layout[3] == "contig"])
        for channels, _ in TIFF_KINDS.values()
    )
    counts = (tiff, 4, len(TIFF_BY_PILLOW) + len(FEW_BITS), 8 * 3 + len(PNG_LAYOUTS), 12 + 1 + 4 + 5 + 20)
    page = (Path(__file__).parents[2] / "docs" / "howto" / "pictures.md").read_text(encoding="utf-8")
    rows = [
        int(row.split("|")[-2].replace(",", ""))
        for row in page.splitlines()
        if row.split("|")[-2:-1] and row.split("|")[-2].strip().replace(",", "").isdigit()
    ]
    assert tuple(rows) == counts
    assert f"**{sum(counts):,} layouts**" in page
