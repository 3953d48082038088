"""Cross-stage feature fusion: features of an earlier stage join those of a later one."""

from __future__ import annotations

from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_positive

__all__ = ["CSFF", "fuse_cross_stage"]


def fuse_cross_stage(
    x: Tensor, encoder_feature: Tensor, decoder_feature: Tensor, encoder_conv: nn.Module, decoder_conv: nn.Module
) -> Tensor:
    """Return ``x + encoder_conv(encoder_feature) + decoder_conv(decoder_feature)``.

    The functional form of :class:`CSFF`, for networks that hold the convolutions under names of their own.
    """
    context: Tensor = encoder_conv(encoder_feature) + decoder_conv(decoder_feature)
    return x + context


class CSFF(nn.Module):
    r"""Cross-stage feature fusion of one level: add projected encoder and decoder features of an earlier stage.

    .. math:: y = x + W_e E + W_d D

    with 1x1 convolutions ``W_e``, ``W_d``; the residual is inside. It makes up for what the repeated down- and
    upsampling of the earlier stage loses and gives its parameters a shorter way to the later losses.

    Args:
        dim: channels ``C`` of ``x``.
        context_dim: channels ``K`` of the earlier stage's features; ``dim`` by default.
        bias: give the convolutions a bias.

    Shape:
        - Input: ``x`` ``(B, C, H, W)``, ``encoder_feature`` and ``decoder_feature`` ``(B, K, H, W)``.
        - Output: ``(B, C, H, W)``.

    Raises:
        TypeError: an integer option is not an integer; an input is not a floating-point tensor.
        ValueError: an option is below 1, an input has another rank or width, or the sizes differ.

    Example:
        >>> import torch
        >>> CSFF(8)(torch.rand(1, 8, 5, 7), torch.rand(1, 8, 5, 7), torch.rand(1, 8, 5, 7)).shape
        torch.Size([1, 8, 5, 7])

    Reference:
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021, sec. 3.2 and fig. 3b.
    """

    def __init__(
        self,
        dim: int,
        *,
        context_dim: int | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.dim = check_positive("dim", dim)
        self.context_dim = dim if context_dim is None else check_positive("context_dim", context_dim)
        self.encoder_conv = nn.Conv2d(self.context_dim, dim, 1, bias=bias)
        self.decoder_conv = nn.Conv2d(self.context_dim, dim, 1, bias=bias)

    def forward(self, x: Tensor, encoder_feature: Tensor, decoder_feature: Tensor) -> Tensor:
        """Add the projected features of the earlier stage to ``x``."""
        check_feature_map(x, self.dim)
        for name, feature in (("encoder_feature", encoder_feature), ("decoder_feature", decoder_feature)):
            check_feature_map(feature, self.context_dim, name)
            if feature.shape[0] != x.shape[0] or feature.shape[2:] != x.shape[2:]:
                raise ValueError(
                    f"{name} must have the batch, height and width of x, "
                    f"got {tuple(feature.shape)} and {tuple(x.shape)}"
                )
        return fuse_cross_stage(x, encoder_feature, decoder_feature, self.encoder_conv, self.decoder_conv)
