"""FFT loss: L1 distance of the spectra of two images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..ops.checks import check_feature_map
from ..ops.precision import full_precision, widen
from .charbonnier import check_pair

__all__ = ["FFTLoss", "half_spectrum"]


def half_spectrum(image: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """Two-dimensional spectrum of real maps as real numbers, and how often each column stands in the whole spectrum.

    A mean over the whole spectrum, which is symmetric, is ``(values * columns).sum()`` over half of it, divided by
    ``H * W``.

    Args:
        image: ``(B, C, H, W)``, float32 or wider.
        norm: as in :func:`torch.fft.rfft2`.

    Returns:
        Real and imaginary parts ``(2, B, C, H, W // 2 + 1)``, and 1 or 2 for each column, ``(W // 2 + 1,)``.
    """
    width = image.shape[3]
    spectrum = torch.view_as_real(torch.fft.rfft2(image, norm=norm)).movedim(-1, 0)
    number = torch.arange(width // 2 + 1, device=image.device)
    return spectrum, 2 - ((2 * number) % width == 0).to(image.dtype)


class FFTLoss(nn.Module):
    r"""Mean absolute difference of the real and imaginary parts of two spectra.

    .. math:: L(x, y) = \frac{1}{2 B C H W} \sum_{b, c, f}
        \lvert \operatorname{Re} F(x - y) \rvert + \lvert \operatorname{Im} F(x - y) \rvert

    with the plain, unnormed discrete Fourier transform :math:`F`, so the value grows as the side of the images where
    they differ by noise. Usually added to an L1 loss with a weight of 0.1 or less.

    Shape:
        - Input: ``pred`` and ``target`` ``(B, C, H, W)``, any size and channel count.
        - Output: scalar, at least 0.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: an input is not 4-D; the shapes differ, or hold no image.

    Note:
        Works in float32 for half-precision inputs and under autocast; the scalar is then float32.

    Example:
        >>> float(FFTLoss()(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)))  # 4 at frequency 0, in 8 numbers
        0.5

    Reference:
        Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring" (MIMO-UNet), ICCV 2021, eq. 8.
    """

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``pred`` against ``target``."""
        check_feature_map(pred, name="pred")
        check_pair(pred, target)
        with full_precision(pred):
            spectrum, columns = half_spectrum(widen(pred) - widen(target), "backward")
            return (spectrum.abs() * columns).sum() / (2 * pred.numel())
