from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clusir_modules import dwt2d, idwt2d

WAVES = ("haar", "db2", "bior2.2")
MODES = ("zero", "symmetric", "reflect", "periodization")
SIZES = ((8, 8), (9, 12), (10, 7), (11, 13))


def library_dwt(x: Tensor, wave: str, mode: str) -> tuple[Tensor, Tensor]:
    from pytorch_wavelets import DWTForward

    ll, details = DWTForward(J=1, wave=wave, mode=mode).to(x.dtype)(x)
    return ll, details[0]


def library_idwt(ll: Tensor, details: Tensor, wave: str, mode: str) -> Tensor:
    from pytorch_wavelets import DWTInverse

    return DWTInverse(wave=wave, mode=mode).to(ll.dtype)((ll, [details]))


def pywt_dwt(x: Tensor, wave: str, mode: str) -> tuple[np.ndarray, np.ndarray]:
    ll, details = pywt.dwt2(x.numpy(), wave, mode, axes=(-2, -1))
    return ll, np.stack(details, axis=2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wave", WAVES)
class TestAgainstPytorchWavelets:
    @pytest.mark.parametrize("mode", MODES)
    def test_analysis_has_the_same_values(self, wave: str, mode: str, size: tuple[int, int]) -> None:
        x = torch.rand(2, 3, *size)
        for ours, theirs in zip(dwt2d(x, wave, mode), library_dwt(x, wave, mode)):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)

    @pytest.mark.parametrize("mode", MODES)
    def test_synthesis_has_the_same_values(self, wave: str, mode: str, size: tuple[int, int]) -> None:
        ll, details = (torch.rand_like(band) for band in dwt2d(torch.rand(2, 3, *size), wave, mode))
        expected = library_idwt(ll, details, wave, mode)
        torch.testing.assert_close(idwt2d(ll, details, wave, mode), expected, atol=1e-6, rtol=1e-6)

    def test_analysis_has_the_same_gradient(self, wave: str, size: tuple[int, int]) -> None:
        x = torch.rand(2, 3, *size, requires_grad=True)
        cotangents = [torch.rand_like(band) for band in dwt2d(x, wave)]
        (ours,) = torch.autograd.grad(dwt2d(x, wave), x, cotangents)
        (theirs,) = torch.autograd.grad(library_dwt(x, wave, "zero"), x, cotangents)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)

    def test_synthesis_has_the_same_gradient(self, wave: str, size: tuple[int, int]) -> None:
        bands = [torch.rand_like(band).requires_grad_() for band in dwt2d(torch.rand(2, 3, *size), wave)]
        cotangent = torch.rand_like(idwt2d(*bands, wave))
        ours = torch.autograd.grad(idwt2d(*bands, wave), bands, cotangent)
        theirs = torch.autograd.grad(library_idwt(*bands, wave, "zero"), bands, cotangent)
        for a, b in zip(ours, theirs):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wave", [*WAVES, "db1", "sym5", "coif2", "rbio3.1", "dmey"])
class TestAgainstPyWavelets:
    @pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 1), (16, 9)])
    def test_analysis_has_the_same_values_down_to_one_pixel(self, wave: str, mode: str, size: tuple[int, int]) -> None:
        smallest = 2 if mode == "reflect" else 1  # PyWavelets does not mirror a single pixel
        x = torch.randn(2, 2, *(max(side, smallest) for side in size), dtype=torch.float64)
        for ours, theirs in zip(dwt2d(x, wave, mode), pywt_dwt(x, wave, mode)):
            np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)

    @pytest.mark.parametrize("size", [(12, 10), (7, 5)])
    def test_synthesis_has_the_same_values(self, wave: str, mode: str, size: tuple[int, int]) -> None:
        ll, details = (torch.randn_like(band) for band in dwt2d(torch.rand(1, 2, *size).double(), wave, mode))
        bands = tuple(details[:, :, band].numpy() for band in range(3))
        expected = pywt.idwt2((ll.numpy(), bands), wave, mode, axes=(-2, -1))
        np.testing.assert_allclose(idwt2d(ll, details, wave, mode).numpy(), expected, atol=1e-12)

    @pytest.mark.parametrize("size", [(12, 10), (7, 5)])
    def test_reconstructs_perfectly_in_float64(self, wave: str, mode: str, size: tuple[int, int]) -> None:
        x = torch.randn(1, 2, *size, dtype=torch.float64)
        back = idwt2d(*dwt2d(x, wave, mode), wave, mode)[..., : size[0], : size[1]]
        bound = 0.05 if wave == "dmey" else 1e-10  # the taps of dmey are an approximation, in PyWavelets too
        assert float((back - x).abs().max()) <= bound


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wave", WAVES)
class TestGradients:
    def test_analysis_passes_gradcheck(self, wave: str, mode: str) -> None:
        x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda t: dwt2d(t, wave, mode), (x,))

    def test_synthesis_passes_gradcheck(self, wave: str, mode: str) -> None:
        bands = [band.detach().requires_grad_() for band in dwt2d(torch.randn(1, 2, 5, 6).double(), wave, mode)]
        assert torch.autograd.gradcheck(lambda ll, details: idwt2d(ll, details, wave, mode), bands)

    def test_second_derivatives_pass(self, wave: str, mode: str) -> None:
        x = torch.randn(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(lambda t: dwt2d(t, wave, mode), (x,))


class TestProperties:
    @settings(max_examples=15, deadline=None)
    @given(
        st.sampled_from([*WAVES, "sym4"]),
        st.sampled_from(MODES),
        st.integers(1, 21),
        st.integers(1, 21),
        st.integers(0, 2**31),
    )
    def test_any_size_comes_back(self, wave: str, mode: str, height: int, width: int, seed: int) -> None:
        x = torch.rand(1, 2, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        ll, details = dwt2d(x, wave, mode)
        back = idwt2d(ll, details, wave, mode)
        assert ll.shape == details.shape[:2] + details.shape[3:]
        assert back.shape[2] - height in (0, 1)
        assert back.shape[3] - width in (0, 1)
        torch.testing.assert_close(back[..., :height, :width], x, atol=1e-10, rtol=0)

    @settings(max_examples=15, deadline=None)
    @given(st.sampled_from(["haar", "db2", "sym4"]), st.integers(1, 10), st.integers(1, 10), st.integers(0, 2**31))
    def test_orthogonal_wavelets_keep_the_energy(self, wave: str, half_height: int, half_width: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(1, 2, 2 * half_height, 2 * half_width, dtype=torch.float64, generator=generator)
        ll, details = dwt2d(x, wave, "periodization")
        torch.testing.assert_close(ll.square().sum() + details.square().sum(), x.square().sum(), rtol=1e-10, atol=0)

    @settings(max_examples=15, deadline=None)
    @given(st.sampled_from(WAVES), st.sampled_from(MODES), st.floats(-3, 3), st.integers(0, 2**31))
    def test_the_transform_is_linear(self, wave: str, mode: str, factor: float, seed: int) -> None:
        x, y = torch.randn(2, 1, 2, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for joint, a, b in zip(dwt2d(x + factor * y, wave, mode), dwt2d(x, wave, mode), dwt2d(y, wave, mode)):
            torch.testing.assert_close(joint, a + factor * b, atol=1e-10, rtol=0)


@pytest.mark.parametrize("wave", WAVES)
def test_a_single_pixel_is_mirrored_as_a_constant(wave: str) -> None:
    x = torch.tensor([[[[3.0]]]], dtype=torch.float64)
    for mirrored, repeated in zip(dwt2d(x, wave, "reflect"), dwt2d(x, wave, "symmetric")):
        torch.testing.assert_close(mirrored, repeated)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wave", ["haar", "db2"])
def test_outputs_are_contiguous(wave: str, mode: str) -> None:
    ll, details = dwt2d(torch.rand(2, 3, 7, 6), wave, mode)
    assert all(output.is_contiguous() for output in (ll, details, idwt2d(ll, details, wave, mode)))


class TestHaar:
    def test_bands_are_sums_and_differences_of_a_block(self) -> None:
        a, b, c, d = 1.0, 2.0, 5.0, 11.0
        ll, details = dwt2d(torch.tensor([[[[a, b], [c, d]]]]))
        assert ll.item() == (a + b + c + d) / 2
        assert details.flatten().tolist() == [(a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2]

    def test_channels_last_keeps_layout_and_numbers(self) -> None:
        x = torch.randn(2, 3, 6, 8)
        ll, details = dwt2d(x.contiguous(memory_format=torch.channels_last))
        for ours, plain in zip((ll, details), dwt2d(x)):
            assert torch.equal(ours, plain)
        back = idwt2d(ll.contiguous(memory_format=torch.channels_last), details)
        assert back.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(back, x)

    def test_is_half_precision_safe(self) -> None:
        x = torch.rand(1, 2, 7, 6)
        for dtype in (torch.bfloat16, torch.float16):
            ll, details = dwt2d(x.to(dtype))
            assert ll.dtype == details.dtype == dtype
            torch.testing.assert_close(ll.float(), dwt2d(x)[0], atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("wave", ["haar", "db2"])
def test_compiles_as_one_graph(wave: str) -> None:
    def there_and_back(x: Tensor) -> Tensor:
        return idwt2d(*dwt2d(x, wave), wave)

    x = torch.randn(1, 2, 6, 8)
    there_and_back(x)  # reads the taps of other wavelets, which cannot be traced
    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), x)


def test_gradients_of_each_sample_by_vmap() -> None:
    def energy(x: Tensor, scale: Tensor) -> Tensor:
        ll, details = dwt2d(x * scale)
        return idwt2d(ll.exp(), details).square().sum()

    images, scale = torch.randn(3, 1, 2, 5, 8, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    by_vmap = torch.func.vmap(torch.func.grad(energy, argnums=(0, 1)), in_dims=(0, None))(images, scale)
    one_by_one = [torch.func.grad(energy, argnums=(0, 1))(image, scale) for image in images]
    for together, alone in zip(by_vmap, zip(*one_by_one, strict=True), strict=True):
        torch.testing.assert_close(together, torch.stack(alone))
    ll = torch.randn(1, 2, 3, 4, dtype=torch.float64)
    details = torch.randn(1, 2, 5, 3, 3, 4, dtype=torch.float64)
    mapped = torch.func.vmap(idwt2d, in_dims=(None, 2))(ll, details)
    torch.testing.assert_close(mapped, torch.stack([idwt2d(ll, details[:, :, number]) for number in range(5)]))


class TestBadArguments:
    def test_unknown_wave_is_named(self) -> None:
        for wave in ("nosuch", "db99", "morl"):
            with pytest.raises(ValueError, match=f"wave must be a discrete wavelet .* got '{wave}'"):
                dwt2d(torch.rand(1, 1, 4, 4), wave)
            with pytest.raises(ValueError, match=f"got '{wave}'"):
                idwt2d(torch.rand(1, 1, 4, 4), torch.rand(1, 1, 3, 4, 4), wave)

    def test_unknown_mode_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"mode must be one of .*zero.* got 'mirror'"):
            dwt2d(torch.rand(1, 1, 4, 4), mode="mirror")
        with pytest.raises(ValueError, match="mode must be one of"):
            idwt2d(torch.rand(1, 1, 4, 4), torch.rand(1, 1, 3, 4, 4), mode="mirror")

    def test_wrong_rank_and_type_are_named(self) -> None:
        with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\), got \(3, 4, 4\)"):
            dwt2d(torch.rand(3, 4, 4))
        with pytest.raises(TypeError, match="x must be a floating-point tensor"):
            dwt2d(torch.zeros(1, 1, 4, 4, dtype=torch.uint8))
        with pytest.raises(ValueError, match="x must have at least one pixel"):
            dwt2d(torch.zeros(1, 1, 0, 4))

    def test_bands_that_do_not_belong_together_are_named(self) -> None:
        ll = torch.rand(1, 2, 4, 4)
        with pytest.raises(ValueError, match=r"details must have shape \(1, 2, 3, 4, 4\)"):
            idwt2d(ll, torch.rand(1, 2, 3, 4, 5))
        with pytest.raises(TypeError, match=r"details must be a torch.Tensor .* got list"):
            idwt2d(ll, [torch.rand(1, 2, 3, 4, 4)])
        with pytest.raises(TypeError, match="details must have the dtype of ll"):
            idwt2d(ll, torch.rand(1, 2, 3, 4, 4).double())
        with pytest.raises(ValueError, match="too small for a wavelet of 6 taps"):
            idwt2d(torch.rand(1, 1, 2, 2), torch.rand(1, 1, 3, 2, 2), "db3")
