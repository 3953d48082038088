"""Losses on spectra against the whole complex spectrum, as their papers write them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import clusir_modules as cm

SIZES = [(1, 1), (1, 4), (5, 1), (2, 2), (7, 9), (8, 6), (6, 7)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pair(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(2, 3, height, width).double(), torch.rand(2, 3, height, width).double()


@pytest.mark.parametrize("size", SIZES)
def test_the_fft_loss_is_the_mean_over_both_parts_of_the_whole_spectrum(size: tuple[int, int]) -> None:
    pred, target = pair(*size)
    difference = np.fft.fft2(pred.numpy()) - np.fft.fft2(target.numpy())
    expected = np.stack([np.abs(difference.real), np.abs(difference.imag)]).mean()
    assert cm.FFTLoss()(pred, target).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("size", SIZES)
def test_the_focal_frequency_loss_is_that_of_the_paper(size: tuple[int, int], alpha: float) -> None:
    pred, target = pair(*size)
    distance = np.abs(np.fft.fft2(pred.numpy(), norm="ortho") - np.fft.fft2(target.numpy(), norm="ortho"))
    weight = distance**alpha
    weight = weight / weight.max(axis=(2, 3), keepdims=True)
    expected = (weight * distance**2).mean()
    assert cm.FocalFrequencyLoss(alpha=alpha)(pred, target).item() == pytest.approx(expected, rel=1e-10)


def test_without_focus_it_is_the_mean_squared_error() -> None:
    pred, target = pair(7, 10)
    expected = torch.nn.functional.mse_loss(pred, target)
    torch.testing.assert_close(cm.FocalFrequencyLoss(alpha=0)(pred, target), expected)


def test_the_weights_get_no_gradient() -> None:
    """The gradient is that of the weighted sum with constant weights, in the whole complex spectrum."""
    pred, target = pair(6, 5)
    pred.requires_grad_()
    difference = torch.fft.fft2(pred - target, norm="ortho")
    size = difference.detach().abs()
    weight = size / size.amax((2, 3), keepdim=True)
    (expected,) = torch.autograd.grad((weight * (difference.real.square() + difference.imag.square())).mean(), pred)
    (found,) = torch.autograd.grad(cm.FocalFrequencyLoss()(pred, target), pred)
    torch.testing.assert_close(found, expected)


def test_gradients_of_the_fft_loss() -> None:
    pred, target = pair(5, 6)
    assert torch.autograd.gradcheck(cm.FFTLoss(), (pred.requires_grad_(), target))


@pytest.mark.parametrize("loss", [cm.FFTLoss(), cm.FocalFrequencyLoss()])
def test_equal_images_have_no_loss_and_no_gradient(loss: torch.nn.Module) -> None:
    image = torch.rand(2, 3, 9, 8, requires_grad=True)
    value = loss(image, image.detach().clone())
    value.backward()
    assert value == 0
    assert image.grad is not None
    assert torch.equal(image.grad, torch.zeros_like(image))


@pytest.mark.parametrize("loss", [cm.FFTLoss(), cm.FocalFrequencyLoss()])
def test_halves_are_computed_in_float32(loss: torch.nn.Module) -> None:
    pred, target = torch.rand(2, 3, 16, 15).bfloat16(), torch.rand(2, 3, 16, 15).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(pred, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(pred.float(), target.float()))


@pytest.mark.parametrize("loss", [cm.FFTLoss(), cm.FocalFrequencyLoss()])
def test_bad_input_is_named(loss: torch.nn.Module) -> None:
    image = torch.rand(1, 3, 4, 4)
    with pytest.raises(ValueError, match="same shape"):
        loss(image, image[..., :3])
    with pytest.raises(ValueError, match="pred"):
        loss(image[0], image[0])
    with pytest.raises(TypeError, match="target"):
        loss(image, image.int())
    with pytest.raises(ValueError, match="alpha"):
        cm.FocalFrequencyLoss(alpha=-1)
