"""PNG of 16 bits, read back by other programs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from clusir_modules.imaging.png import write_sixteen_bit_png


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 33)])
def test_torchvision_and_opencv_read_the_same_pixels(tmp_path, size, channels):
    from torchvision.io import ImageReadMode, decode_image

    pixels = np.random.default_rng(0).integers(0, 65536, (*size, channels)).astype(np.uint16)
    write_sixteen_bit_png(pixels, tmp_path / "a.png")
    decoded = decode_image(str(tmp_path / "a.png"), ImageReadMode.UNCHANGED)
    assert decoded.dtype == torch.uint16
    assert np.array_equal(decoded.permute(1, 2, 0).numpy(), pixels)
    if channels != 2:
        read = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
        order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
        assert np.array_equal(read[..., order], pixels)


def test_pillow_finds_profile_and_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    write_sixteen_bit_png(np.zeros((4, 6), np.uint16), tmp_path / "a.png", exif=exif.tobytes(), profile=b"profile")
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.size == (6, 4)
        assert image.getexif()[0x0112] == 8
        assert image.info["icc_profile"] == b"profile"


def test_smooth_pictures_are_compressed(tmp_path):
    ramp = np.add.outer(np.arange(200), np.arange(300)).astype(np.uint16) * 100
    write_sixteen_bit_png(ramp, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < ramp.nbytes / 10
