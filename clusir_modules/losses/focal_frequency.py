"""Focal frequency loss: squared distance of two spectra, mostly where they differ most."""

from __future__ import annotations

from torch import Tensor, nn

from ..ops.checks import check_feature_map, check_number
from ..ops.precision import full_precision, widen
from .charbonnier import check_pair
from .fft import half_spectrum

__all__ = ["FocalFrequencyLoss"]

_SMALLEST = 1e-12  # of the largest difference: equal images have none


class FocalFrequencyLoss(nn.Module):
    r"""Mean squared difference of two spectra, weighted by how large it is.

    .. math:: L(x, y) = \frac{1}{B C H W} \sum_{b, c, f} w_f\, \lvert F(x - y)_f \rvert^2, \quad
        w_f = \Big(\frac{\lvert F(x - y)_f \rvert}{\max_g \lvert F(x - y)_g \rvert}\Big)^\alpha

    with the orthonormal Fourier transform; the weights, in [0, 1] for each image and channel, get no gradient. The
    authors' defaults: no patches, no logarithm, no mean over the batch.

    Args:
        alpha: how much the weights favor large differences; 0 gives the mean squared error.

    Shape:
        - Input: ``pred`` and ``target`` ``(B, C, H, W)``, any size and channel count.
        - Output: scalar, at least 0.

    Raises:
        TypeError: an input is not a floating-point tensor, ``alpha`` is no number.
        ValueError: an input is not 4-D; the shapes differ, or hold no image; ``alpha`` is negative.

    Note:
        Works in float32 for half-precision inputs and under autocast; the scalar is then float32.

    Example:
        >>> float(FocalFrequencyLoss()(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)))  # all at frequency 0
        1.0

    Reference:
        Jiang et al., "Focal Frequency Loss for Image Reconstruction and Synthesis", ICCV 2021, eq. 8.
    """

    def __init__(self, *, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = check_number("alpha", alpha, 0)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``pred`` against ``target``."""
        check_feature_map(pred, name="pred")
        check_pair(pred, target)
        with full_precision(pred):
            spectrum, columns = half_spectrum(widen(pred) - widen(target), "ortho")
            squared = spectrum.square().sum(0)
            size = squared.detach().sqrt()
            weight = (size / size.amax((2, 3), keepdim=True).clamp_min(_SMALLEST)).pow(self.alpha)
            return (weight * squared * columns).sum() / pred.numel()

    def extra_repr(self) -> str:
        """Show the options."""
        return f"alpha={self.alpha}"
