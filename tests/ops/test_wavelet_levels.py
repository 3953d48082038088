from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from clusir_modules import dwt2d, idwt2d, iswt2d, swt2d, wavedec2, waverec2

WAVES = ("haar", "db2", "db4", "bior2.2", "rbio1.3", "coif1")
MODES = ("zero", "symmetric", "reflect", "periodization")
AXES = {"axes": (-2, -1)}


def to_pywt(coefficients: list[Tensor]) -> list[Any]:
    ll, *details = (band.numpy() for band in coefficients)
    return [ll, *(tuple(bands[:, :, number] for number in range(3)) for bands in details)]


def assert_equal_to_pywt(ours: list[Tensor], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(to_pywt(ours), theirs, strict=True):
        np.testing.assert_allclose(np.stack(mine), np.stack(other), atol=1e-12, rtol=0)


@pytest.mark.parametrize("wave", WAVES)
class TestAgainstPyWavelets:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("size", [(37, 50), (16, 8), (5, 3)], ids=str)
    def test_levels_with_half_the_resolution(self, wave: str, mode: str, size: tuple[int, int]) -> None:
        x = torch.randn(2, 3, *size, dtype=torch.float64)
        for level in (None, 0, 1, 3) if min(size) > 4 else (None, 0, 1):
            ours = wavedec2(x, wave, mode, level=level)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyWavelets warns of levels beyond what it finds useful
                theirs = pywt.wavedec2(x.numpy(), wave, mode, level, **AXES)
            assert_equal_to_pywt(ours, theirs)
            back = waverec2(ours, wave, mode)
            np.testing.assert_allclose(back.numpy(), pywt.waverec2(theirs, wave, mode, **AXES), atol=1e-12, rtol=0)
            torch.testing.assert_close(back[..., : size[0], : size[1]], x)

    @pytest.mark.parametrize("level", [1, 2, 3])
    def test_levels_with_full_resolution(self, wave: str, level: int) -> None:
        x = torch.randn(2, 3, 16, 24, dtype=torch.float64)
        ours = swt2d(x, wave, level=level)
        assert_equal_to_pywt(ours, pywt.swt2(x.numpy(), wave, level, trim_approx=True, **AXES))
        # bands that no map has: what disagrees is averaged in the same way
        bands = [torch.randn_like(band) for band in ours]
        np.testing.assert_allclose(
            iswt2d(bands, wave).numpy(), pywt.iswt2(to_pywt(bands), wave, **AXES), atol=1e-12, rtol=0
        )

    @pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 2)], ids=str)
    def test_full_resolution_comes_back_at_any_size(self, wave: str, size: tuple[int, int]) -> None:
        x = torch.randn(1, 2, *size, dtype=torch.float64)
        torch.testing.assert_close(iswt2d(swt2d(x, wave, level=3), wave), x)

    def test_a_shift_of_the_map_shifts_the_bands_of_full_resolution(self, wave: str) -> None:
        x = torch.randn(1, 2, 9, 12, dtype=torch.float64)
        shift = {"shifts": (2, -3), "dims": (-2, -1)}
        for plain, shifted in zip(swt2d(x, wave, level=2), swt2d(x.roll(**shift), wave, level=2), strict=True):
            torch.testing.assert_close(plain.roll(**shift), shifted)


def round_trip_decimated(x: Tensor) -> Tensor:
    return waverec2(wavedec2(x, "db2", "reflect", level=2), "db2", "reflect")


def round_trip_undecimated(x: Tensor) -> Tensor:
    return iswt2d([band.tanh() for band in swt2d(x, "db2", level=2)], "db2")


@pytest.mark.parametrize("function", [round_trip_decimated, round_trip_undecimated])
class TestBothKinds:
    def test_gradients_of_any_order_and_both_directions(self, function: Callable[[Tensor], Tensor]) -> None:
        x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(function, x, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(function, x)

    def test_vmap_and_jvp(self, function: Callable[[Tensor], Tensor]) -> None:
        x = torch.randn(3, 1, 2, 6, 8, dtype=torch.float64)
        torch.testing.assert_close(torch.vmap(function)(x), torch.stack([function(image) for image in x]))
        _, slope = torch.func.jvp(function, (x[0],), (x[1],))
        step = 1e-6
        torch.testing.assert_close(
            slope, (function(x[0] + step * x[1]) - function(x[0] - step * x[1])) / (2 * step), atol=1e-7, rtol=1e-6
        )

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_types_come_back_near_float32(self, function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
        x = torch.rand(1, 2, 12, 16)
        y = function(x.to(dtype))
        assert y.dtype is dtype
        torch.testing.assert_close(y.float(), function(x), atol=0.06, rtol=0.06)

    def test_compiles_without_a_break(self, function: Callable[[Tensor], Tensor]) -> None:
        x = torch.randn(1, 2, 12, 16)
        torch.testing.assert_close(torch.compile(function, fullgraph=True, backend="aot_eager")(x), function(x))


def test_wavelets_of_ones_own() -> None:
    x = torch.randn(1, 2, 12, 16, dtype=torch.float64)
    own = pywt.Wavelet("haar", pywt.Wavelet("db3").filter_bank)  # its name says another one
    for mine, named in zip(dwt2d(x, own), dwt2d(x, "db3"), strict=True):
        torch.testing.assert_close(mine, named, atol=0, rtol=0)
    torch.testing.assert_close(idwt2d(*dwt2d(x, own), own), x)
    torch.testing.assert_close(iswt2d(swt2d(x, own, level=2), own), x)
    torch.testing.assert_close(waverec2(wavedec2(x, pywt.Wavelet("sym4")), "sym4"), x)


def test_shrinking_bands_of_full_resolution_denoises_better() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    clean[..., 20:45, 13:50] = 1
    noisy = clean + 0.2 * torch.randn(clean.shape, generator=generator, dtype=torch.float64)

    def shrink(coefficients: list[Tensor]) -> list[Tensor]:
        return [coefficients[0], *(torch.nn.functional.hardshrink(bands, 0.5) for bands in coefficients[1:])]

    decimated = waverec2(shrink(wavedec2(noisy, level=2)))
    undecimated = iswt2d(shrink(swt2d(noisy, level=2)))
    assert (undecimated - clean).square().mean() < 0.8 * (decimated - clean).square().mean()


X = torch.rand(1, 2, 8, 8)
FRACTION: Any = 1.5
NO_WAVE: Any = 3
NO_LIST: Any = X


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: swt2d(X, level=0), ValueError, "level must be >= 1, got 0"),
        (lambda: wavedec2(X, level=-1), ValueError, "level must be >= 0, got -1"),
        (lambda: wavedec2(X, level=FRACTION), TypeError, "level must be an int"),
        (lambda: swt2d(X[0]), ValueError, "x must have shape (B, C, H, W)"),
        (lambda: swt2d(X, "db"), ValueError, "wave must be a discrete wavelet of PyWavelets"),
        (
            lambda: swt2d(X, torch.ones(3, 4)),
            ValueError,
            "even L as a filter bank, got (3, 4)",
        ),
        (lambda: swt2d(X, torch.ones(4, 4, dtype=torch.int64)), TypeError, "got Tensor tensor([[1"),
        (
            lambda: swt2d(X, NO_WAVE),
            TypeError,
            "or a floating-point filter bank (4, L), got int 3",
        ),
        (lambda: wavedec2(X, mode="periodic"), ValueError, "mode must be"),
        (lambda: waverec2([]), ValueError, "coefficients must be [ll, details_J, ..., details_1]"),
        (lambda: iswt2d(NO_LIST), ValueError, "coefficients must be [ll, details_J, ..., details_1]"),
        (lambda: iswt2d([X, X]), ValueError, "coefficients[1] must have shape (1, 2, 3, h, w)"),
        (lambda: iswt2d([X, *swt2d(X.double())[1:]]), TypeError, "coefficients[1] must be a tensor of torch.float32"),
        (lambda: iswt2d(wavedec2(X, level=2)), ValueError, "coefficients[2] must be as large as coefficients[0]"),
    ],
)
def test_errors_name_the_argument(call: Callable[[], Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        call()
