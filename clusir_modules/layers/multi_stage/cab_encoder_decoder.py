"""Three-level encoder and decoder of channel attention blocks: the contextual subnetwork of MPRNet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_positive
from .channel_attention import CAB
from .cross_stage_fusion import fuse_cross_stage

__all__ = ["CABDecoder", "CABEncoder", "DownProject", "UpProject", "upsample2x"]


def upsample2x(x: Tensor) -> Tensor:
    """Double height and width by bilinear interpolation (half-pixel centers, edge values repeated)."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class DownProject(nn.Module):
    """Halve the size by averaging 2x2 pixels and widen by a 1x1 convolution without bias.

    The 2x2 mean is what bilinear resizing by 0.5, the published formulation, computes.

    Args:
        dim: channels of the input.
        step: channels added.

    Shape:
        - Input: ``(B, dim, H, W)``.
        - Output: ``(B, dim + step, H // 2, W // 2)``; an odd last row or column is left out.

    Raises:
        TypeError: an option is not an integer.
        ValueError: an option is below 1.

    Example:
        >>> import torch
        >>> DownProject(8, 4)(torch.rand(1, 8, 6, 10)).shape
        torch.Size([1, 12, 3, 5])

    Reference:
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021, sec. 3.1.
    """

    def __init__(self, dim: int, step: int) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_positive("step", step)
        self.down = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(dim, dim + step, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` at half size and ``step`` channels wider."""
        y: Tensor = self.down(x)
        return y


class UpProject(nn.Module):
    """Narrow by a 1x1 convolution without bias and double the size bilinearly.

    The published order is resize, then convolve. A 1x1 convolution mixes channels, interpolation mixes pixels, so they
    commute; this order convolves a quarter of the pixels and resizes fewer channels. Equal to float rounding.

    Args:
        dim: channels of the output.
        step: channels removed.

    Shape:
        - Input: ``(B, dim + step, H, W)``.
        - Output: ``(B, dim, 2 H, 2 W)``.

    Raises:
        TypeError: an option is not an integer.
        ValueError: an option is below 1.

    Example:
        >>> import torch
        >>> UpProject(8, 4)(torch.rand(1, 12, 3, 5)).shape
        torch.Size([1, 8, 6, 10])

    Reference:
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021, sec. 3.1.
    """

    def __init__(self, dim: int, step: int) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_positive("step", step)
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False),
            nn.Conv2d(dim + step, dim, 1, bias=False),
        )

    def project(self, x: Tensor) -> Tensor:
        """Return ``x`` with ``dim`` channels at its own size."""
        y: Tensor = self.up[1](x)
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` at double size and ``step`` channels narrower."""
        y: Tensor = self.up[0](self.project(x))
        return y


class CABEncoder(nn.Module):
    r"""Encoder of three levels with two channel attention blocks each; optional fusion with an earlier stage.

    .. math::
        e_1 = B_1(x) + f_1,\qquad e_{l+1} = B_{l+1}(D_l e_l) + f_{l+1},\qquad f_l = W_{e,l} E_l + W_{d,l} D'_l

    ``E``, ``D'`` are the earlier stage's encoder and decoder features; without fusion :math:`f_l = 0`.

    Args:
        dim: channels ``C`` of the first level.
        unet_step: channels ``S`` added at each level.
        fuse: make the convolutions of the cross-stage fusion (``csff_enc1`` ... ``csff_dec3``); ``forward`` then needs
            the earlier stage's features.
        kernel_size: odd kernel size of the blocks.
        reduction: bottleneck ratio of the channel attention.
        bias: give the convolutions a bias (those that change the size never have one).
        act: activation shared by all blocks; by default each block has its own PReLU.

    Shape:
        - Input: ``(B, C, H, W)``, ``H`` and ``W`` multiples of 4 if a decoder follows.
        - Output: list of ``(B, C + l S, H / 2**l, W / 2**l)`` for ``l = 0, 1, 2``; an earlier stage's features have
          the same shapes.

    Raises:
        TypeError: an integer option is not an integer; the input is not a floating-point tensor.
        ValueError: an option is out of range, the input has another rank or width, or the features of an earlier stage
            are missing where ``fuse`` asks for them or given where it does not.

    Example:
        >>> import torch
        >>> [tuple(f.shape) for f in CABEncoder(8, unet_step=4)(torch.rand(1, 8, 8, 12))]
        [(1, 8, 8, 12), (1, 12, 4, 6), (1, 16, 2, 3)]

    Reference:
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021, sec. 3.1, 3.2, fig. 3; two blocks a level
        as in the authors' code.
    """

    def __init__(
        self,
        dim: int,
        *,
        unet_step: int = 20,
        fuse: bool = False,
        kernel_size: int = 3,
        reduction: int = 4,
        bias: bool = False,
        act: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.dim = check_positive("dim", dim)
        self.fuse = fuse
        widths = _level_widths(dim, unet_step)

        block = partial(CAB, kernel_size=kernel_size, reduction=reduction, bias=bias, act=act)
        self.encoder_level1 = nn.Sequential(block(widths[0]), block(widths[0]))
        self.encoder_level2 = nn.Sequential(block(widths[1]), block(widths[1]))
        self.encoder_level3 = nn.Sequential(block(widths[2]), block(widths[2]))
        self.down12 = DownProject(widths[0], unet_step)
        self.down23 = DownProject(widths[1], unet_step)
        if fuse:
            self.csff_enc1 = nn.Conv2d(widths[0], widths[0], 1, bias=bias)
            self.csff_enc2 = nn.Conv2d(widths[1], widths[1], 1, bias=bias)
            self.csff_enc3 = nn.Conv2d(widths[2], widths[2], 1, bias=bias)
            self.csff_dec1 = nn.Conv2d(widths[0], widths[0], 1, bias=bias)
            self.csff_dec2 = nn.Conv2d(widths[1], widths[1], 1, bias=bias)
            self.csff_dec3 = nn.Conv2d(widths[2], widths[2], 1, bias=bias)

    def forward(
        self,
        x: Tensor,
        encoder_features: Sequence[Tensor] | None = None,
        decoder_features: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Return the features of the three levels, finest first."""
        check_feature_map(x, self.dim)
        first, second, third = self.encoder_level1, self.encoder_level2, self.encoder_level3
        if not self.fuse:
            if encoder_features is not None or decoder_features is not None:
                raise ValueError("encoder_features and decoder_features must be None for an encoder with fuse=False")
            enc1 = first(x)
            enc2 = second(self.down12(enc1))
            return [enc1, enc2, third(self.down23(enc2))]
        if encoder_features is None or decoder_features is None:
            raise ValueError("encoder_features and decoder_features must be given for an encoder with fuse=True")
        earlier = list(zip(encoder_features, decoder_features, strict=True))
        enc1 = fuse_cross_stage(first(x), *earlier[0], self.csff_enc1, self.csff_dec1)
        enc2 = fuse_cross_stage(second(self.down12(enc1)), *earlier[1], self.csff_enc2, self.csff_dec2)
        enc3 = fuse_cross_stage(third(self.down23(enc2)), *earlier[2], self.csff_enc3, self.csff_dec3)
        return [enc1, enc2, enc3]


class CABDecoder(nn.Module):
    r"""Decoder of three levels with two channel attention blocks each and attended skip connections.

    .. math:: d_3 = B_3(e_3),\qquad d_l = B_l(U_l d_{l+1} + S_l(e_l)),\quad l = 2, 1

    ``S`` is one channel attention block, ``U`` the 1x1 convolution and bilinear upsampling of :class:`UpProject`.

    Args:
        dim: channels ``C`` of the first level.
        unet_step: channels ``S`` added at each level.
        kernel_size: odd kernel size of the blocks.
        reduction: bottleneck ratio of the channel attention.
        bias: give the convolutions a bias (those that change the size never have one).
        act: activation shared by all blocks; by default each block has its own PReLU.

    Shape:
        - Input: the three features of :class:`CABEncoder`, ``(B, C + l S, H / 2**l, W / 2**l)``.
        - Output: list of three features of the same shapes, finest first.

    Raises:
        TypeError: an integer option is not an integer; a feature is not a floating-point tensor.
        ValueError: an option is out of range, there are not three features, or a feature has another rank or width.

    Example:
        >>> import torch
        >>> features = CABEncoder(8, unet_step=4)(torch.rand(1, 8, 8, 12))
        >>> [tuple(f.shape) for f in CABDecoder(8, unet_step=4)(features)]
        [(1, 8, 8, 12), (1, 12, 4, 6), (1, 16, 2, 3)]

    Reference:
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021, sec. 3.1 and fig. 3.
    """

    def __init__(
        self,
        dim: int,
        *,
        unet_step: int = 20,
        kernel_size: int = 3,
        reduction: int = 4,
        bias: bool = False,
        act: nn.Module | None = None,
    ) -> None:
        super().__init__()
        widths = _level_widths(dim, unet_step)

        block = partial(CAB, kernel_size=kernel_size, reduction=reduction, bias=bias, act=act)
        self.decoder_level1 = nn.Sequential(block(widths[0]), block(widths[0]))
        self.decoder_level2 = nn.Sequential(block(widths[1]), block(widths[1]))
        self.decoder_level3 = nn.Sequential(block(widths[2]), block(widths[2]))
        self.skip_attn1 = block(widths[0])
        self.skip_attn2 = block(widths[1])
        self.up21 = UpProject(widths[0], unet_step)
        self.up32 = UpProject(widths[1], unet_step)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the decoded features of the three levels, finest first."""
        if len(features) != 3:
            raise ValueError(f"features must hold 3 levels, got {len(features)}")
        enc1, enc2, enc3 = features
        dec3 = self.decoder_level3(enc3)
        dec2 = self.decoder_level2(self.up32(dec3) + self.skip_attn2(enc2))
        dec1 = self.decoder_level1(self.up21(dec2) + self.skip_attn1(enc1))
        return [dec1, dec2, dec3]


def _level_widths(dim: int, unet_step: int) -> tuple[int, int, int]:
    check_positive("dim", dim)
    check_positive("unet_step", unet_step)
    return dim, dim + unet_step, dim + 2 * unet_step
