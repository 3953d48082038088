"""Edge loss: Charbonnier distance of Laplacian residuals."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.checks import check_feature_map
from ..ops.constants import constants
from ..ops.padding import extend_by_edge
from ..ops.precision import full_precision, widen
from .charbonnier import charbonnier, check_eps

__all__ = ["EdgeLoss", "laplacian_residual"]

# Burt and Adelson's generating kernel with a = 0.4; it sums to 1.
_TAPS = (0.05, 0.25, 0.4, 0.25, 0.05)


def laplacian_residual(image: Tensor) -> Tensor:
    r"""Return what the coarse level of a Laplacian pyramid cannot represent: the edges and fine texture of an image.

    .. math:: \Delta(x) = x - g * (4 \cdot \uparrow\downarrow (g * x))

    with the 5x5 Gaussian-like kernel ``g``, edge-replicating padding, and :math:`\uparrow\downarrow` setting all but
    every second row and column (from the first on) to zero. MPRNet's variant: the padding before the second convolution
    replicates the thinned image, so near the border the result is not zero even on a constant image.

    Args:
        image: ``(B, C, H, W)``, any size and channel count.

    Returns:
        The residual, ``(B, C, H, W)``; float32 for half-precision images, otherwise of their type.

    Raises:
        TypeError: ``image`` is no floating-point tensor.
        ValueError: ``image`` is not 4-D.

    Examples:
        >>> laplacian_residual(torch.ones(1, 1, 9, 9))[0, 0, 4, 4].abs() < 1e-6
        tensor(True)

    Reference:
        Burt and Adelson, "The Laplacian Pyramid as a Compact Image Code", IEEE Trans. Communications, 1983.
    """
    check_feature_map(image, name="image")
    image = widen(image)
    # Autocast would run the convolutions in half precision, where the residual of a smooth image is mostly rounding.
    with full_precision(image):
        return image - _blur(_blur(image) * _thinning_mask(image))


class EdgeLoss(nn.Module):
    r"""Edge loss: Charbonnier distance between the Laplacian residuals of two images.

    .. math:: L(x, y) = \frac{1}{n}\sum_i \sqrt{(\Delta(x)_i - \Delta(y)_i)^2 + \varepsilon^2}

    with :func:`laplacian_residual` :math:`\Delta`. MPRNet adds it, times 0.05, to the Charbonnier loss of each stage.

    Args:
        eps: Width of the smooth zone around 0, in units of the images, > 0 (paper: 1e-3 for images in [0, 1]).

    Shape:
        - Input: ``pred`` and ``target`` ``(B, C, H, W)``, any size and channel count.
        - Output: scalar, at least ``eps``.

    Raises:
        TypeError: An input is no floating-point tensor.
        ValueError: ``eps`` is not positive and finite; an input is not 4-D; the shapes differ, or hold no image.

    Note:
        Works in float32 for half-precision inputs and under autocast; the scalar is then float32.

    Examples:
        >>> float(EdgeLoss(eps=0.5)(torch.ones(1, 1, 5, 5), torch.ones(1, 1, 5, 5)))
        0.5

    Reference:
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021, eq. 3.
    """

    def __init__(self, *, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = check_eps(eps)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``pred`` against ``target``."""
        check_feature_map(pred, name="pred")
        check_feature_map(target, pred.shape[1], "target")
        return charbonnier(laplacian_residual(pred), laplacian_residual(target), eps=self.eps)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"eps={self.eps}"


def _blur(image: Tensor) -> Tensor:
    """Convolve each channel with the 5x5 kernel, edge values replicated."""
    channels, radius = image.shape[1], len(_TAPS) // 2
    taps = constants(_TAPS, image)
    kernel = torch.outer(taps, taps).expand(channels, 1, -1, -1)
    padded = extend_by_edge(image, radius)
    return F.conv2d(padded, kernel, groups=channels)


def _thinning_mask(image: Tensor) -> Tensor:
    """Return 4 where row and column are even and 0 elsewhere, shape ``(H, W)``."""
    height, width = image.shape[2:]
    rows = 2 * (torch.arange(height, device=image.device) % 2 == 0)
    columns = 2 * (torch.arange(width, device=image.device) % 2 == 0)
    return (rows[:, None] * columns).to(image.dtype)
