"""Channel attention layer and block of MPRNet (after RCAN), the unit all of its subnetworks are built from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...ops.checks import check_feature_map, check_positive

__all__ = ["CAB", "CALayer"]


class CALayer(nn.Module):
    r"""Channel attention: every channel is scaled by a gate computed from the channel means.

    .. math:: \mathrm{CA}(x) = x \cdot \sigma(W_2\,\mathrm{ReLU}(W_1\,\mathrm{GAP}(x)))

    The squeeze-and-excitation gate of RCAN without biases by default, as MPRNet uses it. No residual inside.

    Args:
        dim: channels ``C`` of the feature map.
        reduction: the bottleneck has ``dim // reduction`` channels, so it may not exceed ``dim``.
        bias: give both 1x1 convolutions a bias.

    Shape:
        - Input: ``(B, C, H, W)``, any size.
        - Output: ``(B, C, H, W)``.

    Raises:
        TypeError: ``dim`` or ``reduction`` is not an integer; the input is not a floating-point tensor.
        ValueError: ``dim`` or ``reduction`` is below 1, ``reduction > dim``, or the input has another rank or width.

    Example:
        >>> CALayer(8)(torch.rand(1, 8, 5, 7)).shape
        torch.Size([1, 8, 5, 7])

    Reference:
        Zhang et al., "Image Super-Resolution Using Very Deep Residual Channel Attention Networks", ECCV 2018, sec. 3.3;
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021, sec. 3.1.
    """

    def __init__(
        self,
        dim: int,
        *,
        reduction: int = 4,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_positive("reduction", reduction)
        if reduction > dim:
            raise ValueError(f"reduction must be in [1, dim={dim}], got {reduction}")
        self.dim = dim
        hidden = dim // reduction
        self.conv_du = nn.Sequential(
            nn.Conv2d(dim, hidden, 1, bias=bias),
            nn.ReLU(),
            nn.Conv2d(hidden, dim, 1, bias=bias),
            nn.Sigmoid(),
        )

    def gate(self, x: Tensor) -> Tensor:
        """Return the channel gate in (0, 1) of shape ``(B, C, 1, 1)``."""
        gate: Tensor = self.conv_du(x.mean((2, 3), keepdim=True))
        return gate

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of ``x``."""
        check_feature_map(x, self.dim)
        return x * self.gate(x)


class CAB(nn.Module):
    r"""Channel attention block: convolution, activation, convolution, channel attention; residual inside.

    .. math:: y = x + \mathrm{CA}(r),\qquad r = W_2 * \phi(W_1 * x)

    As published: no normalization, no bias by default. Gate and residual are applied in one fused pass.

    Args:
        dim: channels ``C``, kept.
        kernel_size: odd size of both convolutions (paper: 3).
        reduction: bottleneck ratio of the channel attention (paper: 4).
        bias: give all convolutions a bias.
        act: activation between the convolutions. A module that is passed to several blocks is shared by them: MPRNet
            uses one PReLU slope in the whole network. By default the block makes its own ``nn.PReLU``.

    Shape:
        - Input: ``(B, C, H, W)``, any size.
        - Output: ``(B, C, H, W)``.

    Raises:
        TypeError: an integer option is not an integer; the input is not a floating-point tensor.
        ValueError: ``kernel_size`` is even, another option is out of range, or the input has another rank or width.

    Note:
        The attribute ``grad_checkpointing`` (off by default) recomputes the block in the backward pass, which keeps
        one feature map for backward where four are kept otherwise.

    Example:
        >>> CAB(8)(torch.rand(1, 8, 5, 7)).shape
        torch.Size([1, 8, 5, 7])

    Reference:
        Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021, sec. 3.1 and fig. 3.
    """

    def __init__(
        self,
        dim: int,
        *,
        kernel_size: int = 3,
        reduction: int = 4,
        bias: bool = False,
        act: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_positive("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        padding = kernel_size // 2
        self.CA = CALayer(dim, reduction=reduction, bias=bias)
        self.body = nn.Sequential(
            nn.Conv2d(dim, dim, kernel_size, padding=padding, bias=bias),
            nn.PReLU() if act is None else act,
            nn.Conv2d(dim, dim, kernel_size, padding=padding, bias=bias),
        )
        self.dim = dim
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``x``; the residual is inside."""
        check_feature_map(x, self.dim)
        if self.grad_checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(self._refine, x, use_reentrant=False)
            return recomputed
        return self._refine(x)

    def _refine(self, x: Tensor) -> Tensor:
        residual = self.body(x)
        return torch.addcmul(x, residual, self.CA.gate(residual))
