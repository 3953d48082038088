"""``clusir degrade``."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clusir_modules.data import TASK_DEGRADATIONS, GaussianNoise, Haze, Mixture
from clusir_modules.imaging.picture_files import Picture, read_picture
from clusir_modules.imaging.writing import write_picture


def by_hand(degradation, pixels, name, seed=0):
    peak = np.iinfo(pixels.dtype).max
    generator = torch.Generator().manual_seed(seed * 2**32 + zlib.crc32(name.encode()))
    image = torch.from_numpy(pixels.astype(np.float32) / peak).permute(2, 0, 1)
    return degradation(image, generator).clamp(0, 1).mul(peak).round().permute(1, 2, 0).numpy().astype(pixels.dtype)


@pytest.mark.parametrize("task", TASK_DEGRADATIONS)
def test_every_task_is_that_of_the_data_module(clusir, make_pixels, task):
    pixels = make_pixels(24, 30)
    Image.fromarray(pixels).save("a.png")
    result = clusir("degrade", "a.png", "out.png", "--task", task)
    assert result.exit_code == 0, result.output
    found = read_picture(Path("out.png")).pixels
    assert np.array_equal(found, by_hand(TASK_DEGRADATIONS[task], pixels, "a.png"))
    assert not np.array_equal(found, pixels)


def test_settings_several_tasks_and_the_seed_count(clusir, make_pixels):
    pixels = make_pixels(24, 30)
    Image.fromarray(pixels).save("a.png")
    tasks = ("--task", "Haze(beta=[0.6, 1.8])", "--task", "GaussianNoise(sigma=50)", "--seed", "7")
    assert clusir("degrade", "a.png", "out.png", *tasks).exit_code == 0
    mixture = Mixture([Haze(beta=(0.6, 1.8)), GaussianNoise(sigma=50)])
    assert np.array_equal(read_picture(Path("out.png")).pixels, by_hand(mixture, pixels, "a.png", seed=7))


def test_a_picture_does_not_depend_on_the_others(clusir, make_pixels):
    Path("in").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(make_pixels()).save(f"in/{name}")
    assert clusir("degrade", "in", "both", "--task", "noise").exit_code == 0
    assert clusir("degrade", "in/b.png", "alone.png", "--task", "noise").exit_code == 0
    assert Path("alone.png").read_bytes() == Path("both/b.png").read_bytes()
    assert Path("both/a.png").read_bytes() != Path("both/b.png").read_bytes()


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_alpha_and_depth_stay(clusir, make_pixels, channels):
    pixels = make_pixels(24, 30, channels, np.uint16)
    given = Picture(pixels[..., 0]) if channels == 1 else Picture(pixels[..., :3], pixels[..., 3])
    write_picture(given, Path("a.png"))
    assert clusir("degrade", "a.png", "out.png", "--task", "low_light").exit_code == 0
    found = read_picture(Path("out.png"))
    assert found.pixels.shape == given.pixels.shape
    assert found.pixels.dtype == np.uint16
    assert found.pixels.mean() < given.pixels.mean()
    assert given.alpha is None or np.array_equal(found.alpha, given.alpha)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("nois", "did you mean 'noise'?"),
        ("GaussianNois()", "unknown degradation type 'GaussianNois'; did you mean 'GaussianNoise'?"),
        ("GaussianNoise(sigm=1)", "did you mean 'sigma'?"),
        ("GaussianNoise(sigma=-1)", "sigma must be"),
        ("GaussianNoise(50)", "settings must have names"),
        ("GaussianNoise(sigma=__import__('os').getpid())", "must be a task or"),
        ("__import__('os').system('x')", "must be a task or"),
        ("a b", "must be a task or"),
    ],
)
def test_wrong_tasks_are_refused(clusir, make_pixels, task, message):
    Image.fromarray(make_pixels()).save("a.png")
    result = clusir("degrade", "a.png", "out.png", "--task", task)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not Path("out.png").exists()
