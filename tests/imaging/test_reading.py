from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clusir_modules.data import read_image
from clusir_modules.imaging.reading import decode_image


def write_sixteen_bit_png(path: Path, levels: np.ndarray) -> None:
    """A PNG written by hand from the format's specification, as Pillow writes no 16-bit color."""
    height, width, channels = levels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    color_type = {1: 0, 3: 2, 4: 6}[channels]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.fixture
def levels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)


class TestReadImage:
    def test_8_bit_rgb_is_exact(self, tmp_path: Path, levels: np.ndarray) -> None:
        Image.fromarray(levels).save(tmp_path / "a.png")
        image = read_image(tmp_path / "a.png")
        assert image.dtype == torch.float32
        assert image.shape == (3, 9, 14)
        assert image.is_contiguous()
        assert np.array_equal(image.permute(1, 2, 0).numpy(), levels.astype(np.float32) / 255)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_16_bit_png_keeps_all_bits(self, tmp_path: Path, channels: int) -> None:
        levels = np.random.default_rng(0).integers(0, 65536, (9, 14, channels), dtype=np.uint16)
        write_sixteen_bit_png(tmp_path / "a.png", levels)
        decoded = decode_image(tmp_path / "a.png")
        assert decoded.dtype == np.uint16
        assert np.array_equal(decoded, levels[:, :, :3] if channels > 1 else levels.repeat(3, axis=2))
        expected = decoded.astype(np.float64) / 65535
        assert np.allclose(read_image(tmp_path / "a.png").permute(1, 2, 0).numpy(), expected, atol=1e-7)

    def test_16_bit_files_of_another_encoder_with_row_filters_are_exact(self, tmp_path: Path) -> None:
        cv2 = pytest.importorskip("cv2")
        ramp = np.linspace(0, 65535, 40 * 30 * 3).reshape(40, 30, 3).astype(np.uint16)
        for name in ("a.png", "a.tif"):
            cv2.imwrite(str(tmp_path / name), ramp[:, :, ::-1])
            assert np.array_equal(decode_image(tmp_path / name), ramp)

    @pytest.mark.parametrize("mode", ["L", "1", "LA"])
    def test_gray_is_repeated_to_three_channels(self, tmp_path: Path, mode: str, levels: np.ndarray) -> None:
        gray = Image.fromarray(levels[:, :, 0]).convert(mode)
        gray.save(tmp_path / "a.png")
        expected = np.asarray(gray.convert("L")).astype(np.float32) / 255
        image = read_image(tmp_path / "a.png").numpy()
        assert all(np.array_equal(channel, expected) for channel in image)

    def test_alpha_is_dropped_not_composited(self, tmp_path: Path, levels: np.ndarray) -> None:
        alpha = np.full((9, 14, 1), 7, dtype=np.uint8)
        Image.fromarray(np.concatenate([levels, alpha], axis=2)).save(tmp_path / "a.png")
        assert np.array_equal(decode_image(tmp_path / "a.png"), levels)

    def test_a_palette_gives_its_colors_also_where_transparent(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.putdata([0, 1])
        image.save(tmp_path / "a.png", transparency=0)
        assert decode_image(tmp_path / "a.png").tolist() == [[[10, 20, 30], [200, 100, 50]]]

    def test_cmyk_is_converted_to_rgb(self, tmp_path: Path) -> None:
        Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
        red, green, blue = decode_image(tmp_path / "a.jpg")[4, 4]
        assert red > 240
        assert green < 15
        assert blue < 15

    def test_exif_orientation_is_not_applied(self, tmp_path: Path, levels: np.ndarray) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(levels).save(tmp_path / "a.jpg", exif=exif)
        assert read_image(tmp_path / "a.jpg").shape == (3, 9, 14)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
            read_image(tmp_path / "nothing.png")

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
    def test_a_truncated_file_is_an_error_that_names_it(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"cut.{suffix}"
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        with pytest.raises(RuntimeError, match=rf"cannot read '.*cut\.{suffix}'"):
            read_image(path)

    @pytest.mark.parametrize("content", [b"", b"not an image at all", b"\x89PNG\r\n\x1a\n" + bytes(50)])
    def test_what_is_no_image_is_an_error_that_names_it(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(RuntimeError, match=r"cannot read '.*bad\.png'"):
            read_image(tmp_path / "bad.png")

    def test_a_damaged_checksum_is_an_error(self, tmp_path: Path, levels: np.ndarray) -> None:
        path = tmp_path / "bad.png"
        Image.fromarray(levels).save(path)
        data = bytearray(path.read_bytes())
        data[data.index(b"IDAT") + 20] ^= 0xFF
        path.write_bytes(bytes(data))
        with pytest.raises(RuntimeError, match=r"bad\.png"):
            read_image(path)

    @pytest.mark.parametrize("factor", [1.5, 3])
    def test_more_pixels_than_pillow_allows_is_an_error_that_names_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
    ) -> None:
        Image.new("RGB", (100, 30)).save(tmp_path / "bomb.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(3000 / factor))
        with pytest.raises(RuntimeError, match=r"bomb\.png': 100 x 30 pixels are more than .*decompression bombs"):
            read_image(tmp_path / "bomb.png")
        assert read_image(tmp_path / "bomb.png", max_pixels=3000).shape == (3, 30, 100)
        assert int(3000 / factor) == Image.MAX_IMAGE_PIXELS, "Pillow's limit must be back"

    @pytest.mark.parametrize("bits", [8, 16])
    def test_the_limit_is_an_argument(self, tmp_path: Path, bits: int) -> None:
        path = tmp_path / "a.ppm"
        path.write_bytes(b"P6 4 3 %d " % (2**bits - 1) + bytes(4 * 3 * 3 * bits // 8))
        assert read_image(path, max_pixels=12).shape == (3, 3, 4)
        with pytest.raises(RuntimeError, match=r"4 x 3 pixels are more than 11, .* raise max_pixels"):
            read_image(path, max_pixels=11)
        for limit, error in ((0, ValueError), (2.5, TypeError)):
            with pytest.raises(error, match="max_pixels must be"):
                read_image(path, max_pixels=limit)  # type: ignore[arg-type]

    def test_a_bomb_is_refused_before_it_fills_the_memory(self, tmp_path: Path) -> None:
        side = 60000  # 3.6 thousand million pixels in the header, none in the file
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
        packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
        with pytest.raises(RuntimeError, match=r"bomb\.png': 60000 x 60000 pixels are more than 89478485"):
            read_image(tmp_path / "bomb.png")

    def test_kinds_whose_decoder_would_start_a_program_are_no_images(self, tmp_path: Path) -> None:
        Image.new("RGB", (4, 4)).save(tmp_path / "script.eps")
        (tmp_path / "script.eps").rename(tmp_path / "script.png")
        with Image.open(tmp_path / "script.png") as image:
            assert image.format == "EPS"
        with pytest.raises(RuntimeError, match=r"cannot read '.*script\.png': no picture"):
            read_image(tmp_path / "script.png")

    @pytest.mark.parametrize("value", [-0.1, 1.1, 200.0, float("nan")])
    def test_floating_point_is_taken_in_0_to_1_alone(self, tmp_path: Path, value: float) -> None:
        pixels = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
        Image.fromarray(pixels).save(tmp_path / "a.tif")
        assert np.array_equal(read_image(tmp_path / "a.tif")[1].numpy(), pixels)
        pixels[1, 1] = value
        Image.fromarray(pixels).save(tmp_path / "a.tif")
        with pytest.raises(RuntimeError, match=r"a\.tif': floating-point pixels must be in \[0, 1\]"):
            read_image(tmp_path / "a.tif")

    def test_whole_numbers_of_32_bits_are_refused_because_their_range_is_unknown(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((4, 4), dtype=np.int32)).save(tmp_path / "a.tif")
        with pytest.raises(RuntimeError, match="signed 32-bit pixels"):
            read_image(tmp_path / "a.tif")
