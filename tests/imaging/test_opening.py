"""What is a picture, by its content, and what is refused by name: in the command and in training alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from old_references import require_few_bits
from PIL import Image

from clusir_modules.extras import install_hint
from clusir_modules.imaging.opening import format_of
from clusir_modules.imaging.picture_files import read_picture
from clusir_modules.imaging.reading import decode_image

ROOT = Path(__file__).parents[2]


def refused(path: Path) -> str:
    """The message, after asserting that both readers refuse the file with it."""
    with pytest.raises((OSError, ValueError)) as by_command:
        read_picture(path)
    with pytest.raises(RuntimeError) as in_training:
        decode_image(path)
    assert str(in_training.value) == f"cannot read '{path}': {by_command.value}"
    return str(by_command.value)


@pytest.mark.parametrize("image_format", ["GIF", "ICO", "TGA", "EPS", "PDF", "PCX", "SGI", "JPEG2000", "ICNS"])
def test_other_formats_are_no_pictures_whatever_their_name(tmp_path: Path, image_format: str) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png", format=image_format)
    assert refused(tmp_path / "a.png") == "no picture, or its header is damaged"


@pytest.mark.parametrize("content", [b"", b"P7\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"RIFF\0\0\0\0AVI LIST", b"BM"])
def test_what_has_no_header_of_a_picture(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert refused(tmp_path / "a.png")


def test_the_content_counts_and_not_the_name(tmp_path: Path) -> None:
    for image_format in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"):
        Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "a.xyz", format=image_format)
        assert format_of(tmp_path / "a.xyz") == image_format
        assert (read_picture(tmp_path / "a.xyz").pixels == 9).all()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_frames_and_pages_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (0, 128, 255)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    assert refused(tmp_path / f"a{suffix}") == "several pages or frames, of which only the first would be used"


def test_a_list_of_pages_that_leads_back_to_its_beginning_ends(tmp_path: Path) -> None:
    for subfiletype, message in ((0, "several pages or frames"), (1, "no picture")):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.uint8), subfiletype=subfiletype, metadata=None)
        content = bytearray((tmp_path / "a.tif").read_bytes())
        first = int.from_bytes(content[4:8], "little")
        end = first + 2 + 12 * int.from_bytes(content[first : first + 2], "little")
        content[end : end + 4] = content[4:8]
        (tmp_path / "a.tif").write_bytes(content)
        assert message in refused(tmp_path / "a.tif")


def test_a_preview_in_a_tiff_file_is_no_page(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.full((16, 16), 7, np.uint8), metadata=None)
        writer.write(np.zeros((4, 4), np.uint8), subfiletype=1, metadata=None)
    assert (read_picture(tmp_path / "a.tif").pixels == 7).all()


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (np.zeros((9, 9), np.uint16), {"bitspersample": 12}, "MINISBLACK of 12 bits"),
        (np.zeros((9, 9), np.int16), {}, "signed 16-bit pixels have no defined range"),
        (np.zeros((9, 9), np.uint32), {}, "unsigned 32-bit pixels have no defined range"),
        (np.zeros((9, 9), np.complex64), {}, "complex 64-bit pixels have no defined range"),
        (np.full((9, 9), 2, np.float32), {}, "floating-point pixels must be in [0, 1]"),
        (np.zeros((9, 9, 4), np.uint16), {"photometric": "separated"}, "SEPARATED of 16 bits"),
        (np.zeros((9, 9, 3), np.uint16), {"photometric": "cielab"}, "CIELAB of 16 bits"),
        (np.zeros((9, 9, 5), np.uint16), {"photometric": "rgb", "planarconfig": "contig"}, "5 samples of a pixel"),
    ],
)
def test_kinds_of_tiff_that_have_no_right_picture(
    tmp_path: Path, pixels: np.ndarray, options: dict[str, Any], message: str
) -> None:
    if "bitspersample" in options:
        require_few_bits()
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None, **options)
    assert message in refused(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".bmp", ".ppm"])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    options = {"compression": "tiff_lzw"} if suffix == ".tif" else {}
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", **options)
    content = (tmp_path / f"a{suffix}").read_bytes()
    for share in (0.02, 0.3, 0.6, 0.9):
        (tmp_path / f"a{suffix}").write_bytes(content[: int(len(content) * share)])
        assert refused(tmp_path / f"a{suffix}")


def test_a_picture_is_not_decoded_above_the_limit(tmp_path: Path) -> None:
    for suffix in (".png", ".tif", ".jpg", ".webp", ".bmp", ".ppm"):
        Image.new("L", (100, 30)).save(tmp_path / f"a{suffix}")
        assert read_picture(tmp_path / f"a{suffix}", max_pixels=3000).pixels.shape[:2] == (30, 100)
        with pytest.raises(ValueError, match="100 x 30 pixels are more than 2999"):
            read_picture(tmp_path / f"a{suffix}", max_pixels=2999)


def test_sixteen_bits_are_read_without_imagecodecs(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (21, 37, 3)).astype(np.uint16)
    for number, compression in enumerate((None, "zlib", "lzw", "packbits")):
        options = {"predictor": compression in ("zlib", "lzw"), "planarconfig": "separate", "tile": (16, 16)}
        tifffile.imwrite(
            tmp_path / f"{number}.tif", pixels.transpose(2, 0, 1), photometric="rgb", compression=compression, **options
        )
    np.save(tmp_path / "right.npy", pixels)
    tifffile.imwrite(tmp_path / "last.tif", pixels, photometric="rgb", compression="zstd")
    script = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "import numpy as np; from pathlib import Path\n"
        "from clusir_modules.imaging.picture_files import read_picture\n"
        f"folder = Path({str(tmp_path)!r}); right = np.load(folder / 'right.npy')\n"
        "assert all(np.array_equal(read_picture(folder / f'{n}.tif').pixels, right) for n in range(4))\n"
        "try: read_picture(folder / 'last.tif')\n"
        "except ValueError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == f"compression ZSTD needs the package imagecodecs: {install_hint('pictures')}"
