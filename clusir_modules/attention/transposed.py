"""Attention between channels instead of pixels: cost linear in the number of pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._checks import check_feature_map, check_heads
from .._precision import widen

__all__ = ["TransposedAttention", "apply_channel_attention", "channel_similarity"]


def channel_similarity(query: Tensor, key: Tensor, num_heads: int) -> Tensor:
    r"""Cosine between every query channel and every key channel of a head, over all pixels.

    The Gram matrix is divided by the norms afterwards, which never writes normalized copies of the maps; only the query
    is scaled first, so that half precision does not overflow.

    Shape:
        ``query`` and ``key`` ``(B, C, H, W)`` to ``(B, num_heads, C / num_heads, C / num_heads)`` in float32 or wider.
    """
    query, key = (t.flatten(2).unflatten(1, (num_heads, -1)) for t in (query, key))
    query_norm, key_norm = (
        torch.linalg.vector_norm(t, dim=-1, dtype=torch.promote_types(t.dtype, torch.float32)).clamp_min(1e-6)
        for t in (query, key)
    )
    gram = (query / query_norm.to(query.dtype).unsqueeze(-1)) @ key.transpose(-2, -1)
    return widen(gram) / key_norm.unsqueeze(-2)


def apply_channel_attention(attention: Tensor, value: Tensor) -> Tensor:
    """Mix the channels of ``value`` ``(B, C, H, W)`` by ``(B, num_heads, C / num_heads, C / num_heads)`` weights."""
    heads = value.flatten(2).unflatten(1, (attention.shape[1], -1))
    return (attention.to(value.dtype) @ heads).flatten(1, 2).unflatten(2, value.shape[2:])


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

    Note: the similarity and its softmax are computed in float32 or wider. Cost ``4 dim^2 + 2 dim^2 / num_heads``
    multiply-adds a pixel.

    Reference: Zamir et al., "Restormer", CVPR 2022, sec. 3.1 (multi-Dconv head transposed attention).
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.dim = dim
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.depthwise = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_feature_map(x, self.dim)
        query, key, value = self.depthwise(self.qkv(x)).chunk(3, dim=1)
        similarity = channel_similarity(query, key, self.num_heads)
        attention = (similarity * widen(self.temperature)).softmax(dim=-1)
        y: Tensor = self.project_out(apply_channel_attention(attention, value))
        return y

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_heads={self.num_heads}"
