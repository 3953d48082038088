"""One picture file to another, as a script does it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import clusir_modules as cm
from clusir_modules.imaging.picture_files import Picture, read_picture
from clusir_modules.imaging.writing import write_picture


class Negative(nn.Module):
    """A network whose result is known exactly."""

    def forward(self, x):
        return 1 - x


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_result_is_the_networks_and_all_else_stays(tmp_path, make_pixels, channels, dtype):
    if dtype == np.float32:
        pixels = np.random.default_rng(0).random((20, 28, channels), np.float32)
    else:
        pixels = make_pixels(20, 28, channels, dtype)
    color = pixels[..., 0] if channels < 3 else pixels[..., :3]
    alpha = pixels[..., -1] if channels % 2 == 0 else None
    given = Picture(color, alpha, 6, dpi=(300.0, 300.0), xmp=b"<x:xmpmeta/>")
    write_picture(given, tmp_path / "a.tif")
    assert cm.restore_file(Negative(), tmp_path / "a.tif", tmp_path / "b.tif") == ()
    found = read_picture(tmp_path / "b.tif")
    peak = 1 if dtype == np.float32 else np.iinfo(dtype).max
    assert found.pixels.dtype == dtype
    assert np.allclose(found.pixels, peak - color, rtol=0, atol=1e-6 if dtype == np.float32 else 0)
    assert alpha is None if found.alpha is None else np.array_equal(found.alpha, alpha)
    assert (found.orientation, found.dpi, found.xmp) == (6, given.dpi, given.xmp)


def test_options_reach_the_restoration(tmp_path, make_pixels):
    torch.manual_seed(0)
    net = cm.clusir_tiny(dim=8, num_heads=(1, 2, 2, 2), num_experts=3, num_clusters=(4, 3, 3, 2), embed_dim=16).eval()
    with torch.no_grad():
        net.tail.weight.mul_(20)
    pixels = make_pixels(70, 90)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    options = {"tile": 48, "overlap": 16, "routing": "tile"}
    cm.restore_file(net, str(tmp_path / "a.png"), str(tmp_path / "b.png"), **options)
    found = read_picture(tmp_path / "b.png").pixels
    assert np.array_equal(found, cm.restore(net, pixels, progress=False, **options))
    assert not np.array_equal(found, cm.restore(net, pixels, progress=False))


def test_files_that_are_there(tmp_path, make_pixels):
    pixels = make_pixels(20, 28)
    source, target, comparison = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    Image.fromarray(pixels).save(source)
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"b\.png is there already"):
        cm.restore_file(Negative(), source, target, comparison=comparison)
    assert not comparison.exists()
    cm.restore_file(Negative(), source, target, comparison=comparison, existing="skip")
    assert target.read_bytes() == b"mine"
    assert np.array_equal(np.asarray(Image.open(comparison))[:, 28 + 8 :], 255 - pixels)
    assert np.array_equal(np.asarray(Image.open(comparison))[:, :28], pixels)
    cm.restore_file(Negative(), source, target, existing="overwrite")
    assert np.array_equal(np.asarray(Image.open(target)), 255 - pixels)


def test_the_source_is_never_replaced(tmp_path, make_pixels):
    source = tmp_path / "a.png"
    Image.fromarray(make_pixels()).save(source)
    (tmp_path / "link.png").symlink_to(source)
    (tmp_path / "sub").mkdir()
    before = source.read_bytes()
    for target in (source, tmp_path / "link.png", tmp_path / "sub" / ".." / "a.png"):
        with pytest.raises(ValueError, match=r"\.png is an input and would be replaced"):
            cm.restore_file(Negative(), source, target, existing="overwrite")
        with pytest.raises(ValueError, match="is an input"):
            cm.restore_file(Negative(), source, tmp_path / "b.png", comparison=target, existing="overwrite")
    with pytest.raises(ValueError, match="written twice"):
        cm.restore_file(Negative(), source, tmp_path / "b.png", comparison=tmp_path / "b.png")
    assert source.read_bytes() == before
    assert not (tmp_path / "b.png").exists()


def test_what_cannot_be_done_is_named(tmp_path, make_pixels):
    Image.fromarray(make_pixels()).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"unknown format '\.heic'"):
        cm.restore_file(Negative(), tmp_path / "a.png", tmp_path / "b.heic")
    with pytest.raises(ValueError, match="existing must be"):
        cm.restore_file(Negative(), tmp_path / "a.png", tmp_path / "b.png", existing="maybe")
    with pytest.raises(ValueError, match="28 x 20 pixels are more than 100"):
        cm.restore_file(Negative(), tmp_path / "a.png", tmp_path / "b.png", max_pixels=100)
    with pytest.raises(FileNotFoundError):
        cm.restore_file(Negative(), tmp_path / "none.png", tmp_path / "b.png")
