from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clusir_modules.ops.spectrum import fourier_matrices, scale_spectrum


class Scale(nn.Module):
    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return scale_spectrum(x, gate)


def draw(height: int, width: int) -> tuple[Tensor, Tensor]:
    return (
        torch.randn(2, 6, height, width, dtype=torch.float64),
        torch.rand(2, 3, height, width // 2 + 1, dtype=torch.float64),
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 6), (7, 9), (8, 12)])
def test_a_gain_multiplies_each_frequency_of_its_channels(size: tuple[int, int]) -> None:
    x, gate = draw(*size)
    spectrum = np.fft.rfft2(x.numpy()) * np.repeat(gate.numpy(), 2, axis=1)
    expected = np.fft.irfft2(spectrum, s=size)
    np.testing.assert_allclose(scale_spectrum(x, gate).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("size", [(2, 2), (7, 9), (8, 12), (12, 8)])
def test_the_matrices_that_an_export_records_are_the_transform(size: tuple[int, int]) -> None:
    x, gate = draw(*size)
    with fourier_matrices():
        recorded = torch.export.export(Scale(), (x, gate)).module()
    assert not [node for node in recorded.graph.nodes if "fft" in str(node.target)]
    torch.testing.assert_close(recorded(x, gate), scale_spectrum(x, gate), atol=1e-12, rtol=0)


def test_angles_of_long_maps_stay_exact() -> None:
    x, gate = torch.rand(1, 1, 2, 3000), torch.rand(1, 1, 2, 1501)
    with fourier_matrices():
        recorded = torch.export.export(Scale(), (x, gate)).module()
    torch.testing.assert_close(recorded(x, gate).double(), scale_spectrum(x.double(), gate.double()), atol=5e-5, rtol=0)


def test_the_choice_ends_with_its_context() -> None:
    x, gate = draw(4, 4)
    with fourier_matrices(), fourier_matrices(False):
        recorded = torch.export.export(Scale(), (x, gate)).module()
    after = torch.export.export(Scale(), (x, gate)).module()
    for module in (recorded, after):
        assert [node for node in module.graph.nodes if "fft" in str(node.target)]
