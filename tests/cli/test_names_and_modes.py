"""Names that are no text, and the modes of new files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NAME = os.fsdecode(b"caf\xe9.png")  # Latin-1, no UTF-8


@pytest.fixture
def old_picture(clusir, make_pixels):
    Path("in").mkdir()
    try:
        with open(os.path.join("in", NAME), "wb") as file:
            Image.fromarray(make_pixels()).save(file, "PNG")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    return Path("in", NAME)


def test_commands_take_names_that_are_no_text(clusir, weights, old_picture):
    assert clusir("degrade", "in", "noisy", "--task", "noise").exit_code == 0
    assert os.listdir(b"noisy") == [b"caf\xe9.png"]
    options = ("--weights", weights, "--compare")
    assert clusir("restore", old_picture, "out/", *options).exit_code == 0
    assert sorted(os.listdir(b"out")) == [b"caf\xe9.png", b"caf\xe9_compare.png"]
    result = clusir("restore", old_picture, "out/", *options)
    assert result.exit_code == 1
    assert "out/caf\\xe9.png is there already" in result.stderr
    assert clusir("inspect", old_picture, "--weights", weights).exit_code == 0
    assert clusir("check", "in").exit_code == 0
    old_picture.write_bytes(b"no")
    result = clusir("check", "in")
    assert result.exit_code == 1
    assert "in/caf\\xe9.png cannot be read" in result.stdout
    result = clusir("degrade", "in", "third", "--task", "noise")
    assert "failed: in/caf\\xe9.png: no picture" in result.stderr


def test_weights_may_have_names_that_are_no_text(clusir, weights, old_picture):
    named = os.fsdecode(b"r\xe9seau.pth")
    os.rename(weights, named)
    assert clusir("inspect", old_picture, "--weights", named).exit_code == 0
    result = clusir("info", named)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("r\\xe9seau.pth: ClusIR")
    assert clusir("export", named, "--format", "safetensors").exit_code == 0
    assert os.path.exists(b"r\xe9seau.safetensors")


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_modes_follow_the_umask(clusir, make_pixels, mask):
    Path("in").mkdir()
    for suffix in (".png", ".jpg", ".tif", ".webp", ".bmp", ".ppm"):
        Image.fromarray(make_pixels()).save(f"in/p{suffix}")
    Image.fromarray(make_pixels(channels=1, dtype=np.uint16)[..., 0]).save("in/deep.png")
    before = os.umask(mask)
    try:
        assert clusir("degrade", "in", "out", "--task", "GaussianNoise(sigma=0)").exit_code == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path("out").iterdir()}
    assert modes == dict.fromkeys((path.name for path in Path("in").iterdir()), 0o666 & ~mask)
