"""Supervised attention between two stages of a multi-stage restoration network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_positive

__all__ = ["SAM"]


class SAM(nn.Module):
    r"""Supervised attention: restore the image from the features, then gate the features by the restored image.

    .. math::
        X = I + W_2 F,\qquad A = \sigma(W_3 X),\qquad F' = F + A \odot W_1 F

    ``I`` is the degraded image, ``X`` the restored one, which a loss against the ground truth supervises; only features
    that help to restore pass on to the next stage. The residual is inside.

    Args:
        dim: channels ``C`` of the features.
        in_channels: channels ``N`` of the image (paper: 3).
        kernel_size: odd size of the three convolutions (paper: 1).
        bias: give the convolutions a bias.

    Shape:
        - Input: features ``(B, C, H, W)`` and image ``(B, N, H, W)``, values in [0, 1], any size.
        - Output: features ``(B, C, H, W)`` and restored image ``(B, N, H, W)``, not clamped.

    Raises:
        TypeError: an integer option is not an integer; an input is not a floating-point tensor.
        ValueError: ``kernel_size`` is even, an option is below 1, an input has another rank or width, or features and
            image differ in size.

    Example:
        >>> features, restored = SAM(8)(torch.rand(1, 8, 5, 7), torch.rand(1, 3, 5, 7))
        >>> features.shape, restored.shape
        (torch.Size([1, 8, 5, 7]), torch.Size([1, 3, 5, 7]))

    Reference:
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021, sec. 3.3 and fig. 4.
    """

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        kernel_size: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_positive("in_channels", in_channels)
        check_positive("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        self.dim = dim
        self.in_channels = in_channels
        padding = kernel_size // 2
        self.conv1 = nn.Conv2d(dim, dim, kernel_size, padding=padding, bias=bias)
        self.conv2 = nn.Conv2d(dim, in_channels, kernel_size, padding=padding, bias=bias)
        self.conv3 = nn.Conv2d(in_channels, dim, kernel_size, padding=padding, bias=bias)

    def attention(self, restored: Tensor) -> Tensor:
        """Return the attention maps in (0, 1), shape ``(B, C, H, W)``, that a restored image causes."""
        check_feature_map(restored, self.in_channels, "restored")
        return torch.sigmoid(self.conv3(restored))

    def forward(self, feat: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gated features and the restored image."""
        check_feature_map(feat, self.dim, "feat")
        check_feature_map(image, self.in_channels, "image")
        if feat.shape[0] != image.shape[0] or feat.shape[2:] != image.shape[2:]:
            raise ValueError(
                f"feat and image must have the same batch, height and width, "
                f"got {tuple(feat.shape)} and {tuple(image.shape)}"
            )
        restored = self.conv2(feat) + image
        return torch.addcmul(feat, self.conv1(feat), self.attention(restored)), restored
