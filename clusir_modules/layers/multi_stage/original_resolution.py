"""Original-resolution block and subnetwork of MPRNet: no down-sampling, so fine texture survives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_positive
from .cab_encoder_decoder import UpProject, upsample2x
from .channel_attention import CAB
from .cross_stage_fusion import fuse_cross_stage

__all__ = ["ORB", "ORSNet"]


class ORB(nn.Module):
    r"""Original-resolution block: a chain of channel attention blocks and a convolution; residual inside.

    .. math:: y = x + W * \mathrm{CAB}_n(\dots \mathrm{CAB}_1(x))

    Args:
        dim: channels ``C``, kept.
        num_cabs: channel attention blocks in the chain (paper: 8).
        kernel_size: odd kernel size of all convolutions.
        reduction: bottleneck ratio of the channel attention.
        bias: give the convolutions of the blocks a bias (the last convolution never has one, as published).
        act: activation shared by all blocks; by default each block has its own PReLU.

    Shape:
        - Input: ``(B, C, H, W)``, any size.
        - Output: ``(B, C, H, W)``.

    Raises:
        TypeError: an integer option is not an integer; the input is not a floating-point tensor.
        ValueError: an option is out of range; the input has another rank or width.

    Example:
        >>> import torch
        >>> ORB(8, num_cabs=2)(torch.rand(1, 8, 5, 7)).shape
        torch.Size([1, 8, 5, 7])

    Reference:
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021, sec. 3.1 and fig. 3c.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_cabs: int = 8,
        kernel_size: int = 3,
        reduction: int = 4,
        bias: bool = False,
        act: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.dim = check_positive("dim", dim)
        check_positive("num_cabs", num_cabs)
        self.body = nn.Sequential(
            *(CAB(dim, kernel_size=kernel_size, reduction=reduction, bias=bias, act=act) for _ in range(num_cabs)),
            nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``x``; the residual is inside."""
        check_feature_map(x, self.dim)
        y: Tensor = self.body(x) + x
        return y


class ORSNet(nn.Module):
    r"""Original-resolution subnetwork: three blocks at full size, after each the fusion of one U-Net level.

    .. math::
        x_l = \mathrm{ORB}_l(x_{l-1}) + \uparrow^{l-1}\!\left(W_{e,l} E_l + W_{d,l} D_l\right),\quad l = 1, 2, 3

    ``E``, ``D`` are encoder and decoder features of the previous stage, :math:`W_l` the product of the 1x1 convolutions
    of the level, and :math:`\uparrow` doubles the size bilinearly. The published net resizes before every convolution
    and each of ``E``, ``D`` alone; 1x1 convolutions commute with interpolation, so here all of them run at the level's
    own size and the sum is resized once. Equal to float rounding, and cheaper.

    Args:
        dim: channels ``C`` of the first U-Net level.
        unet_step: channels ``S`` that U-Net features gain at each level.
        orsnet_step: the subnetwork is ``dim + orsnet_step`` wide.
        num_cabs: channel attention blocks in each of the three :class:`ORB` (paper: 8).
        kernel_size: odd kernel size of the blocks.
        reduction: bottleneck ratio of the channel attention.
        bias: give the convolutions a bias (those that change the size and the last of each ORB never have one).
        act: activation shared by all blocks; by default each block has its own PReLU.

    Shape:
        - Input: ``x`` ``(B, dim + orsnet_step, H, W)``, ``H`` and ``W`` multiples of 4; encoder and decoder features,
          each three of ``(B, C + l S, H / 2**l, W / 2**l)``, ``l = 0, 1, 2``.
        - Output: ``(B, dim + orsnet_step, H, W)``.

    Raises:
        TypeError: an integer option is not an integer; ``x`` is not a floating-point tensor.
        ValueError: an option is out of range, ``x`` has another rank or width, or there are not three features of each.

    Example:
        >>> import torch
        >>> features = [torch.rand(1, 8 + 4 * l, 8 >> l, 12 >> l) for l in range(3)]
        >>> net = ORSNet(8, unet_step=4, orsnet_step=2, num_cabs=1)
        >>> net(torch.rand(1, 10, 8, 12), features, features).shape
        torch.Size([1, 10, 8, 12])

    Reference:
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021, sec. 3.1, 3.2 and fig. 3c.
    """

    def __init__(
        self,
        dim: int,
        *,
        unet_step: int = 20,
        orsnet_step: int = 16,
        num_cabs: int = 8,
        kernel_size: int = 3,
        reduction: int = 4,
        bias: bool = False,
        act: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_positive("unet_step", unet_step)
        check_positive("orsnet_step", orsnet_step)
        width = dim + orsnet_step
        self.width = width
        orb = partial(ORB, width, num_cabs=num_cabs, kernel_size=kernel_size, reduction=reduction, bias=bias, act=act)
        projection = partial(nn.Conv2d, dim, width, 1, bias=bias)
        wide = dim + unet_step
        self.orb1 = orb()
        self.orb2 = orb()
        self.orb3 = orb()
        self.up_enc1 = UpProject(dim, unet_step)
        self.up_dec1 = UpProject(dim, unet_step)
        self.up_enc2 = nn.Sequential(UpProject(wide, unet_step), UpProject(dim, unet_step))
        self.up_dec2 = nn.Sequential(UpProject(wide, unet_step), UpProject(dim, unet_step))
        self.conv_enc1 = projection()
        self.conv_enc2 = projection()
        self.conv_enc3 = projection()
        self.conv_dec1 = projection()
        self.conv_dec2 = projection()
        self.conv_dec3 = projection()

    def forward(self, x: Tensor, encoder_features: Sequence[Tensor], decoder_features: Sequence[Tensor]) -> Tensor:
        """Refine ``x`` at full size with the features of the previous stage."""
        check_feature_map(x, self.width)
        for name, features in (("encoder_features", encoder_features), ("decoder_features", decoder_features)):
            if len(features) != 3:
                raise ValueError(f"{name} must hold 3 levels, got {len(features)}")
        x = fuse_cross_stage(self.orb1(x), encoder_features[0], decoder_features[0], self.conv_enc1, self.conv_dec1)
        half = self.conv_enc2(self.up_enc1.project(encoder_features[1]))
        half = half + self.conv_dec2(self.up_dec1.project(decoder_features[1]))
        x = self.orb2(x) + upsample2x(half)
        quarter = self.conv_enc3(_project_twice(self.up_enc2, encoder_features[2]))
        quarter = quarter + self.conv_dec3(_project_twice(self.up_dec2, decoder_features[2]))
        return cast(Tensor, self.orb3(x) + upsample2x(upsample2x(quarter)))


def _project_twice(ups: nn.Sequential, x: Tensor) -> Tensor:
    """Apply the 1x1 convolutions of two :class:`UpProject` and leave the resizing to the caller."""
    first, second = cast(UpProject, ups[0]), cast(UpProject, ups[1])
    return second.project(first.project(x))
