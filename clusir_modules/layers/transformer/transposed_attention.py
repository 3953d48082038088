"""Attention between channels instead of pixels: cost linear in the number of pixels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_heads
from ...ops.precision import cast_once, cast_parameters, convolve, full_precision, widen

__all__ = ["TransposedAttention", "channel_similarity", "channels_last_rows", "diagonal_blocks", "mix_channels"]


def channels_last_rows(x: Tensor) -> Tensor:
    """View a channels-last map ``(B, C, H, W)`` as matrices ``(B, H W, C)``; another layout is copied."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _channel_norms(rows: Tensor) -> Tensor:
    """Euclidean norm of each column of ``(B, N, C)``, never below 1e-6, as ``(B, C)`` in float32 or wider."""
    if rows.dtype is torch.float16:  # the gradient of one below 1e-3 would overflow
        return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32).clamp_min(1e-3)
    if rows.dtype is torch.bfloat16:
        return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32) + 1e-6
    return (rows.square().sum(dim=1) + 1e-12).sqrt()  # on CPUs five times as fast as vector_norm


def _channel_cosine(query_key: Tensor) -> Tensor:
    """Cosine between query and key channels over all pixels, 0 where a channel is 0.

    Shape:
        ``(B, N, 2C)`` to ``(B, C, C)`` in float32 or wider.
    """
    query, key = query_key.chunk(2, dim=2)
    query_norms, key_norms = _channel_norms(query_key).chunk(2, dim=1)
    if query.dtype is torch.float16:  # the sum over pixels would overflow
        query, query_norms = query / query_norms.to(query.dtype).unsqueeze(1), torch.ones_like(query_norms)
    # the division widens
    return (query.transpose(1, 2) @ key) / (query_norms.unsqueeze(2) * key_norms.unsqueeze(1))


class _ChannelCosine(torch.autograd.Function):
    """:func:`_channel_cosine` with the gradient as one product: autograd goes over the maps six times.

    The products of the norms of any two of all ``2C`` channels are kept beside it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(query_key: Tensor) -> tuple[Tensor, Tensor]:
        query, key = query_key.chunk(2, dim=2)
        norms = _channel_norms(query_key)
        products = norms.unsqueeze(2) * norms.unsqueeze(1)
        channels = query.shape[2]
        return (query.transpose(1, 2) @ key) / products[:, :channels, channels:], products

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, *output)
        ctx.save_for_forward(*inputs, *output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, by_cosine: Tensor | None, by_products: Tensor | None) -> Tensor:
        query_key, cosine, products = ctx.saved_tensors
        if by_cosine is None:
            by_cosine = torch.zeros_like(cosine)
        channels = cosine.shape[1]
        corners = F.pad(torch.stack((by_cosine, by_cosine * cosine)), (channels, 0, 0, channels))
        symmetric = corners + corners.transpose(2, 3)
        mix, own = symmetric[0], symmetric[1].sum(dim=2)
        if by_products is not None:  # in a second derivative
            own = own - ((by_products + by_products.transpose(1, 2)) * products).sum(dim=2)
        mix.diagonal(dim1=1, dim2=2).sub_(own)
        return query_key @ (mix / products).to(query_key.dtype)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> tuple[Tensor, Tensor]:
        query_key, cosine, products = ctx.saved_tensors
        squares = products.diagonal(dim1=1, dim2=2)
        shares = (query_key * tangent).sum(dim=1) / squares  # by which the norms grow
        query_share, key_share = shares.chunk(2, dim=1)
        (query, key), (query_tangent, key_tangent) = query_key.chunk(2, dim=2), tangent.chunk(2, dim=2)
        change = query_tangent.transpose(1, 2) @ key + query.transpose(1, 2) @ key_tangent
        channels = cosine.shape[1]
        lost = cosine * (query_share.unsqueeze(2) + key_share.unsqueeze(1))
        by_products = products * (shares.unsqueeze(2) + shares.unsqueeze(1))
        return change / products[:, :channels, channels:] - lost, by_products


def diagonal_blocks(matrix: Tensor, count: int) -> Tensor:
    """Cut the ``count`` diagonal blocks out of ``(B, C, C)``: ``(B, count, C / count, C / count)``."""
    if count == 1:
        return matrix.unsqueeze(1)
    blocks = matrix.unflatten(2, (count, -1)).unflatten(1, (count, -1))
    return blocks.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)


def channel_similarity(query_key: Tensor, num_heads: int) -> Tensor:
    """Cosine between query and key channels of each head, over all pixels; 0 where a channel is 0.

    Shape:
        Query and key side by side ``(B, N, 2C)`` to ``(B, num_heads, C / num_heads, C / num_heads)`` in float32 or
        wider.
    """
    plain = torch.compiler.is_compiling() or query_key.dtype is torch.float16  # whose gradient must stay in its range
    cosine = _channel_cosine(query_key) if plain else _ChannelCosine.apply(query_key)[0]
    # all heads at once and the diagonal blocks kept: cutting the maps into heads would copy them
    return diagonal_blocks(cosine, num_heads)


def mix_channels(rows: Tensor, weight: Tensor, bias: Tensor | None, size: tuple[int, int]) -> Tensor:
    """A 1x1 convolution of its own for each image, from and to channels last.

    Shape:
        ``rows`` ``(B, H W, C)``, ``weight`` ``(B, C, D)``, ``bias`` ``(D)`` or ``(B, 1, D)`` to ``(B, D, H, W)``.
    """
    weight = weight.to(rows.dtype)
    y = rows @ weight if bias is None else torch.baddbmm(bias.to(rows.dtype), rows, weight)
    return rearrange(y, "b (h w) d -> b d h w", h=size[0], w=size[1])


class TransposedAttention(nn.Module):
    r"""Multi-head attention across channels; no residual inside.

    .. math:: y = W_o \operatorname{softmax}(\alpha_h \cos(q_h, k_h)) v_h, \quad (q, k, v) = D * W x

    Args:
        dim: channels in and out.
        num_heads: heads; each keeps at least 2 channels.

    Shape:
        Input and output: ``(B, dim, H, W)``.

    Raises:
        ValueError: ``num_heads`` does not divide ``dim`` or leaves one channel a head; in ``forward`` a wrong shape.
        TypeError: an integer tensor.

    Note: the similarity and its softmax are computed in float32 or wider. Cost ``5 dim^2`` multiply-adds a
    pixel. Fastest channels last.

    Example:
        >>> TransposedAttention(16, num_heads=4)(torch.rand(2, 16, 9, 7)).shape
        torch.Size([2, 16, 9, 7])

    Reference: Zamir et al., "Restormer", CVPR 2022, sec. 3.1 (multi-Dconv head transposed attention).
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.dim = dim
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.empty(num_heads, 1, 1))
        self.reset_parameters()
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.depthwise = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1)

    def reset_parameters(self) -> None:
        """Set the temperatures to 1."""
        nn.init.ones_(self.temperature)

    def forward(self, x: Tensor) -> Tensor:
        check_feature_map(x, self.dim)
        with cast_once(x, self):
            rows = channels_last_rows(convolve(self.depthwise, convolve(self.qkv, x)))
            project, bias = cast_parameters(self.project_out)
        query_key, value = rows.split((2 * self.dim, self.dim), dim=2)
        with full_precision(x):  # what follows chooses its types
            similarity = channel_similarity(query_key, self.num_heads)
            attention = (similarity * widen(self.temperature)).softmax(dim=-1).to(project.dtype)
            # attention and output projection are both matrices over channels: one product instead of two passes
            project = rearrange(project, "out (head c) 1 1 -> head c out", head=self.num_heads)
            weight = rearrange(attention.mT @ project, "b head c out -> b (head c) out")
            return mix_channels(value, weight, bias, (x.shape[2], x.shape[3]))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_heads={self.num_heads}"
