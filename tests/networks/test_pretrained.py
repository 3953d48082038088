"""The weights that come with the package."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

import clusir_modules as cm
from clusir_modules.networks import clusir


@pytest.mark.parametrize("sigma", [25, 50])
def test_they_remove_noise_from_a_photograph_that_they_never_saw(sigma: int) -> None:
    clean = data.chelsea()[:256, :256].astype(np.float64)
    draw = np.random.default_rng(0)
    noisy = (clean + draw.normal(0, sigma, clean.shape)).clip(0, 255).astype(np.uint8)
    restored = cm.restore(cm.clusir_tiny(pretrained=True), noisy)
    before, after = (peak_signal_noise_ratio(clean.astype(np.uint8), image) for image in (noisy, restored))
    assert after > before + 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_restores_the_same(dtype: torch.dtype) -> None:
    clean = torch.from_numpy(data.astronaut()[:192, :256] / 255).float().permute(2, 0, 1)
    noisy = clean + torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)) / 10
    images = torch.stack((clean, noisy.clamp(0, 1), 0.15 * clean, 0.3 * clean + 0.7))
    net = cm.clusir_tiny(pretrained=True).eval()
    with torch.inference_mode():
        wide = net(images)
        with torch.autocast("cpu", dtype):
            narrow = net(images).float()
    assert (narrow - wide).abs().mean() < 0.004  # a grey level


def test_they_are_small_enough_to_ship() -> None:
    assert clusir.SHIPPED_WEIGHTS.stat().st_size <= 4e6


def test_a_network_of_other_sizes_refuses_them() -> None:
    with pytest.raises(ValueError, match=r"clusir_tiny\.safetensors.*does not fit the network"):
        cm.clusir_tiny(pretrained=True, dim=8, num_heads=(1, 1, 2, 4))


def test_without_them_the_network_is_random() -> None:
    torch.manual_seed(0)
    first = cm.clusir_tiny()
    torch.manual_seed(1)
    second = cm.clusir_tiny()
    assert not torch.equal(first.tail.weight, second.tail.weight)
