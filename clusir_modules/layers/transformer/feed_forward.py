"""Gated depthwise-convolution feed-forward network."""

from __future__ import annotations

from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_positive
from ...ops.gate import gate
from ...ops.precision import cast_once, convolve
from ..basic.small_conv import SmallConv2d

__all__ = ["GatedFeedForward"]


class GatedFeedForward(nn.Module):
    r"""Mix channels, look at the neighbors and let one half of the channels gate the other; no residual inside.

    .. math:: y = W_2 (a \odot b), \quad (a, b) = \operatorname{split}(D * W_1 x)

    The gated-dconv feed-forward of Restormer with the product alone as gate, as in NAFNet (this project's choice: one
    activation less to compute and to keep, and the product is a nonlinearity of its own).

    Args:
        dim: channels in and out.
        hidden_dim: channels ``h`` of each half; default ``dim``.
        kernel_size: odd width of the depthwise convolution, pixels.
        starts_small: let the last step be a :class:`SmallConv2d`, for a residual branch.

    Shape:
        Input and output: ``(B, dim, H, W)``.

    Raises:
        ValueError: a width below 1, a ``kernel_size`` below 1 or even; in ``forward`` a wrong shape.
        TypeError: an integer tensor.

    Example:
        >>> GatedFeedForward(16)(torch.rand(2, 16, 9, 7)).shape
        torch.Size([2, 16, 9, 7])

    References: Zamir et al., "Restormer", CVPR 2022, sec. 3.2; Chen et al., "Simple Baselines for Image Restoration",
    ECCV 2022, sec. 3.3.
    """

    def __init__(
        self, dim: int, *, hidden_dim: int | None = None, kernel_size: int = 3, starts_small: bool = False
    ) -> None:
        super().__init__()
        self.dim = check_positive("dim", dim)
        hidden_dim = check_positive("hidden_dim", dim if hidden_dim is None else hidden_dim)
        if check_positive("kernel_size", kernel_size) % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        self.project_in = nn.Conv2d(dim, 2 * hidden_dim, 1)
        self.depthwise = nn.Conv2d(
            2 * hidden_dim, 2 * hidden_dim, kernel_size, padding=kernel_size // 2, groups=2 * hidden_dim
        )
        self.project_out = (SmallConv2d if starts_small else nn.Conv2d)(hidden_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_feature_map(x, self.dim)
        with cast_once(x, self):
            halves = convolve(self.depthwise, convolve(self.project_in, x)).unflatten(1, (2, -1))
            return convolve(self.project_out, gate(halves, 1))
