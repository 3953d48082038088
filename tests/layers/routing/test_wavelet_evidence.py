from __future__ import annotations

import math

import pytest
import pywt
import torch
from torch import Tensor

from clusir_modules import PCGRM, WaveletEvidence


def evidence_by_hand(module: WaveletEvidence, image: Tensor) -> list[float]:
    """Of one image ``(C, H, W)``, its details by PyWavelets, one number at a time."""
    strengths: list[list[float]] = [[], [], []]
    for channel in image.tolist():
        _, (horizontal, vertical, diagonal) = pywt.dwt2(channel, "haar", mode="zero")
        for band, details in zip(strengths, (horizontal, vertical, diagonal)):
            values = [math.log(1 + abs(float(d)) / 0.01) for row in details for d in row]
            band.append(sum(values) / len(values))
    flat = [value for band in strengths for value in band]
    return [
        float(channel.mean()) + sum(float(w) * s for w, s in zip(row, flat)) + float(bias)
        for channel, row, bias in zip(image, module.strength.weight, module.strength.bias)
    ]


@torch.no_grad()
@pytest.mark.parametrize("size", [(6, 4), (5, 7), (1, 1), (1, 6)])
def test_equals_the_formula_by_hand(size: tuple[int, int]) -> None:
    module = WaveletEvidence(3).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    result = module(x)
    assert result.shape == (2, 3, 1, 1)
    for b in range(2):
        expected = torch.tensor(evidence_by_hand(module, x[b]), dtype=torch.float64)
        torch.testing.assert_close(result[b].flatten(), expected, atol=1e-12, rtol=0)


@torch.no_grad()
def test_a_router_tells_noise_of_mean_zero_only_by_it() -> None:
    clean = torch.rand(1, 8, 1, 1).expand(1, 8, 32, 32)
    noise = torch.randn(1, 8, 32, 32)
    noisy = clean + 0.2 * (noise - noise.mean(dim=(2, 3), keepdim=True))
    router, evidence = PCGRM(8, num_clusters=5), WaveletEvidence(8)

    def change(first: Tensor, second: Tensor) -> float:
        return float((router(first).cluster_probs - router(second).cluster_probs).abs().max())

    assert change(clean, noisy) < 1e-5
    assert change(evidence(clean), evidence(noisy)) > 1e-2


def test_gradients_in_float64() -> None:
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(WaveletEvidence(2).double(), (x,))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="dim must be >= 1, got 0"):
        WaveletEvidence(0)
    with pytest.raises(ValueError, match="x must have 3 channels, got 2"):
        WaveletEvidence(3)(torch.rand(1, 2, 4, 4))
    with pytest.raises(TypeError, match="floating-point"):
        WaveletEvidence(3)(torch.ones(1, 3, 4, 4, dtype=torch.int64))
