"""A stack of gated convolution experts; each image runs only those that were chosen for it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_not_empty, check_number, check_positive
from ...ops.dynamic_depthwise import dynamic_depthwise
from ...ops.gate import gate
from ...ops.precision import eager_autocast_type
from ..transformer.transposed_attention import channels_last_rows, mix_channels

__all__ = ["GatedConvExperts"]


class GatedConvExperts(nn.Module):
    r"""Weighted sum of the chosen experts of each image, each ``1x1 expand, depthwise kxk, gate, 1x1``; no residual.

    .. math:: y_b = \sum_{j=1}^{k} w_{bj} f_{i_{bj}}(x_b), \quad
        f_e(x) = W^e_2 (a \odot c) + \beta^e, \quad (a, c) = \operatorname{split}(D^e * W^e_1 x)

    The weights of all experts are stacked along a leading axis. Those chosen are gathered and applied as batched matrix
    products and one grouped convolution: static shapes, no loop, cost ``k / E`` of all experts, and a zero rather than
    a missing gradient for experts that were not chosen (this project's choice).

    Args:
        dim: channels in and out.
        num_experts: experts ``E``.
        hidden_dim: channels of each half of an expert; default ``dim``.
        kernel_size: odd width of the depthwise convolution, pixels.
        init_scale: factor of the start values of the last step; a small one starts the experts near zero.

    Shape:
        ``x`` ``(B, dim, H, W)``, ``weights`` ``(B, k)``, ``indices`` ``(B, k)`` int64 to ``(B, dim, H, W)``.

    Raises:
        ValueError: a size below 1 or an even ``kernel_size``; in ``forward`` a wrong shape.
        TypeError: an integer ``x``.

    Example:
        >>> weights, indices = torch.tensor([[0.7, 0.3]]), torch.tensor([[2, 0]])
        >>> GatedConvExperts(16, num_experts=4)(torch.rand(1, 16, 9, 7), weights, indices).shape
        torch.Size([1, 16, 9, 7])
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        *,
        hidden_dim: int | None = None,
        kernel_size: int = 3,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.dim = check_positive("dim", dim)
        self.num_experts = check_positive("num_experts", num_experts)
        self.hidden_dim = check_positive("hidden_dim", dim if hidden_dim is None else hidden_dim)
        if check_positive("kernel_size", kernel_size) % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        self.kernel_size = kernel_size
        self.init_scale = check_number("init_scale", init_scale)
        self.expand_weight = nn.Parameter(torch.empty(num_experts, 2 * self.hidden_dim, dim))
        self.depthwise_weight = nn.Parameter(torch.empty(num_experts, 2 * self.hidden_dim, kernel_size, kernel_size))
        self.depthwise_bias = nn.Parameter(torch.empty(num_experts, 2 * self.hidden_dim))
        self.project_weight = nn.Parameter(torch.empty(num_experts, self.hidden_dim, dim))
        self.project_bias = nn.Parameter(torch.empty(num_experts, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each expert as torch draws convolutions of its shapes, the last step times ``init_scale``."""
        for weight, fan_in in (
            (self.expand_weight, self.dim),
            (self.depthwise_weight, self.kernel_size**2),
            (self.depthwise_bias, self.kernel_size**2),
            (self.project_weight, self.hidden_dim),
            (self.project_bias, self.hidden_dim),
        ):
            bound = 1 / math.sqrt(fan_in)
            nn.init.uniform_(weight, -bound, bound)
        with torch.no_grad():
            self.project_weight.mul_(self.init_scale)
            self.project_bias.mul_(self.init_scale)

    def forward(self, x: Tensor, weights: Tensor, indices: Tensor) -> Tensor:
        check_feature_map(x, self.dim)
        check_not_empty(x)
        if indices.dim() != 2 or indices.shape[0] != x.shape[0]:
            raise ValueError(f"indices must have shape ({x.shape[0]}, k), got {tuple(indices.shape)}")
        if weights.shape != indices.shape:
            raise ValueError(
                f"weights must have the shape of indices, {tuple(indices.shape)}, got {tuple(weights.shape)}"
            )
        size = (x.shape[2], x.shape[3])
        expand, depthwise, depthwise_bias, project, bias = self._gather(indices, eager_autocast_type(x))
        hidden = dynamic_depthwise(
            mix_channels(channels_last_rows(x), rearrange(expand, "b k hidden c -> b c (k hidden)"), None, size),
            depthwise.flatten(1, 2),
            depthwise_bias.flatten(1, 2),
            padding=self.kernel_size // 2,
        )
        # pixels first, so that the gradient of the two halves is put together in the layout of the convolution
        halves = rearrange(hidden, "b (k two hidden) h w -> h w b k two hidden", two=2, hidden=self.hidden_dim)
        gated = rearrange(gate(halves, 4), "h w b k hidden -> b (h w) (k hidden)")
        weights = rearrange(weights.to(project.dtype), "b k -> b k 1")
        project = rearrange(project * weights.unsqueeze(3), "b k hidden c -> b (k hidden) c")
        return mix_channels(gated, project, weights.mT @ bias, size)

    def _gather(self, indices: Tensor, dtype: torch.dtype | None) -> list[Tensor]:
        """Parameters ``(B, k, ...)`` of the chosen experts, for ``dtype`` all cast by one kernel."""
        stacked = [*self.parameters(recurse=False)]
        if dtype is None:
            return [p[indices] for p in stacked]
        # not by [indices], whose gradient takes two kernels
        rows = F.embedding(indices, torch.cat([p.flatten(1) for p in stacked], dim=1)).to(dtype)
        parts = rows.split([p[0].numel() for p in stacked], dim=2)
        return [part.unflatten(2, p.shape[1:]) for part, p in zip(parts, stacked)]

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_experts={self.num_experts}, hidden_dim={self.hidden_dim}"
