"""Learned filters: PyWavelets' at the start, perfectly reconstructing ever after."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch

from clusir_modules import LearnableWavelet, dwt2d, idwt2d, iswt2d, swt2d, wavedec2, waverec2

MODES = ("zero", "symmetric", "reflect", "periodization")


def at_random(wave: str, mode: str = "periodization") -> LearnableWavelet:
    """With filters that nobody has."""
    wavelet = LearnableWavelet(wave, mode).double()
    torch.nn.init.uniform_(wavelet.angles, -3, 3)
    return wavelet


@pytest.mark.parametrize("wave", ["db2", "db3", "db13", "sym4", "sym20", "coif1", "coif10"])
def test_starts_as_the_wavelet_of_pywavelets(wave: str) -> None:
    wavelet = LearnableWavelet(wave).double()
    wavelet.reset_parameters()  # in float64
    np.testing.assert_allclose(wavelet.filter_bank().detach().numpy(), pywt.Wavelet(wave).filter_bank, atol=1e-8)
    x = torch.randn(1, 2, 13, 18, dtype=torch.float64)
    for ours, named in zip(wavelet(x), dwt2d(x, wave, "periodization"), strict=True):
        torch.testing.assert_close(ours, named, atol=1e-7, rtol=0)
    single = LearnableWavelet(wave).filter_bank()
    np.testing.assert_allclose(single.detach().numpy(), pywt.Wavelet(wave).filter_bank, atol=5e-6)


class TestWhateverWasLearned:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("wave", ["db2", "db5", "sym10"])
    def test_reconstructs_perfectly(self, wave: str, mode: str) -> None:
        wavelet = at_random(wave, mode)
        assert abs(wavelet.filter_bank().detach() - torch.tensor(pywt.Wavelet(wave).filter_bank)).max() > 0.1
        x = torch.randn(2, 3, 13, 8, dtype=torch.float64)
        torch.testing.assert_close(wavelet.inverse(*wavelet(x))[..., :13, :8], x, atol=1e-12, rtol=0)

    def test_several_levels_and_full_resolution_too(self) -> None:
        bank = at_random("db4").filter_bank()
        x = torch.randn(1, 2, 16, 24, dtype=torch.float64)
        torch.testing.assert_close(waverec2(wavedec2(x, bank, level=2), bank), x, atol=1e-12, rtol=0)
        torch.testing.assert_close(iswt2d(swt2d(x, bank, level=2), bank), x, atol=1e-12, rtol=0)

    def test_details_of_a_constant_are_zero_and_energy_stays(self) -> None:
        wavelet = at_random("sym4")
        ll, details = wavelet(torch.ones(1, 1, 16, 16, dtype=torch.float64))
        torch.testing.assert_close(ll, torch.full_like(ll, 2.0), atol=1e-12, rtol=0)
        torch.testing.assert_close(details, torch.zeros_like(details), atol=1e-12, rtol=0)
        x = torch.randn(1, 1, 16, 16, dtype=torch.float64)
        bands = torch.cat([band.flatten() for band in wavelet(x)])
        torch.testing.assert_close(bands.square().sum(), x.square().sum(), atol=1e-10, rtol=0)

    def test_equals_pywavelets_with_the_same_filters(self) -> None:
        wavelet = at_random("db3")
        own = pywt.Wavelet("own", wavelet.filter_bank().tolist())
        x = torch.randn(1, 1, 11, 14, dtype=torch.float64)
        ll, details = pywt.dwt2(x.numpy(), own, "periodization", axes=(-2, -1))
        ours = wavelet(x)
        np.testing.assert_allclose(ours[0].detach().numpy(), ll, atol=1e-12)
        np.testing.assert_allclose(ours[1].detach().numpy(), np.stack(details, axis=2), atol=1e-12)


def test_finds_the_filters_that_leave_the_details_of_a_signal_empty() -> None:
    rows = torch.linspace(0, 1, 32, dtype=torch.float64)
    ramp = (rows[:, None] + 2 * rows)[None, None]  # what db2 was made for: its details of a ramp are zero
    wavelet = LearnableWavelet("db2", "symmetric").double()
    with torch.no_grad():
        wavelet.angles += 0.3
    optimizer = torch.optim.LBFGS(wavelet.parameters(), line_search_fn="strong_wolfe", tolerance_grad=1e-14)

    def details_inside() -> torch.Tensor:
        optimizer.zero_grad()
        energy = wavelet(ramp)[1][..., 2:-2, 2:-2].square().sum()
        energy.backward()
        return energy

    assert details_inside() > 1e-3
    optimizer.step(details_inside)
    assert details_inside() < 1e-9
    np.testing.assert_allclose(wavelet.filter_bank()[2].detach().numpy(), pywt.Wavelet("db2").rec_lo, atol=1e-4)


def test_a_filter_bank_gets_a_gradient() -> None:
    bank = torch.tensor(pywt.Wavelet("bior2.2").filter_bank, dtype=torch.float64, requires_grad=True)
    x = torch.randn(1, 1, 4, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda b: idwt2d(*(band.tanh() for band in dwt2d(x, b)), b), bank)


@pytest.mark.parametrize("wave", ["haar", "bior2.2", "dmey", "db30", "coif17"])
def test_wavelets_without_angles_are_refused(wave: str) -> None:
    with pytest.raises(ValueError, match=f"wave must be an orthogonal wavelet with angles of its own .*, got '{wave}'"):
        LearnableWavelet(wave)
