"""Fusion of a level's degradation prompt with the deepest one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.checks import check_heads
from ...ops.precision import full_precision
from ...ops.unit import unit

__all__ = ["PromptFusion", "check_tokens"]


def check_tokens(tokens: Tensor, dim: int, name: str) -> None:
    """Refuse what is no floating-point ``(B, L, dim)`` tensor, ``L >= 1``.

    Raises:
        TypeError: it is not a tensor, or not floating point.
        ValueError: the shape is another.
    """
    if not isinstance(tokens, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tokens).__name__}")
    if not tokens.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {tokens.dtype}")
    if tokens.dim() != 3 or tokens.shape[1] < 1 or tokens.shape[2] != dim:
        raise ValueError(f"{name} must have shape (B, L, {dim}) with L >= 1, got {tuple(tokens.shape)}")


class _CrossAttention(nn.MultiheadAttention):
    """Torch's attention with a public reset, which meta devices and FSDP call."""

    def reset_parameters(self) -> None:
        """Draw the joint weight of query, key and value as the constructor does."""
        nn.init.xavier_uniform_(self.in_proj_weight)


class PromptFusion(nn.Module):
    r"""Make semantic prompt tokens: a level's prompt asks the deepest prompt by multi-head cross-attention.

    .. math:: s_l = n(p_l) + \operatorname{MHCA}(n(p_l), n(p_4), n(p_4))

    The cross-attention is the paper's; residual and norms are this project's choices. The norm runs over all tokens of
    an image together, because the length of a token says how probable its cluster is: a norm of each token alone
    would erase that.

    Args:
        embed_dim: width ``D`` of the tokens.
        num_heads: attention heads; each keeps at least 2 channels.

    Shape:
        ``p_l`` ``(B, L_l, D)`` and ``p_4`` ``(B, L_4, D)`` to ``(B, L_l, D)``.

    Raises:
        ValueError: heads that do not fit; in ``forward`` a wrong shape.
        TypeError: integer tokens.

    Note: computed in the type of the weights whatever the autocast type; there are few tokens.

    Example:
        >>> PromptFusion(128, 4)(torch.rand(2, 16, 128), torch.rand(2, 4, 128)).shape
        torch.Size([2, 16, 128])

    Reference: ClusIR, arXiv:2512.10948, method overview.
    """

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        check_heads(embed_dim, num_heads, "embed_dim")
        self.embed_dim = embed_dim
        self.attention = _CrossAttention(embed_dim, num_heads, bias=False, batch_first=True)

    def forward(self, p_l: Tensor, p_4: Tensor) -> Tensor:
        check_tokens(p_l, self.embed_dim, "p_l")
        check_tokens(p_4, self.embed_dim, "p_4")
        if p_4.shape[0] != p_l.shape[0]:
            raise ValueError(f"p_4 must have the batch of p_l, {p_l.shape[0]}, got {p_4.shape[0]}")
        with full_precision(p_l):
            query, key = (self._norm(tokens) for tokens in (p_l, p_4))
            return self._add_attended(query, key)

    def _add_attended(self, query: Tensor, key: Tensor) -> Tensor:
        """The query and what ``self.attention`` adds to it, in fewer steps: its key is its value.

        Written out, because torch's fused attention has no second derivative and no forward-mode one.
        """
        query_weight, key_value_weight = self.attention.in_proj_weight.split((self.embed_dim, 2 * self.embed_dim))
        count, width = self.attention.num_heads, self.attention.head_dim
        q = F.linear(query, query_weight).unflatten(2, (count, width)).transpose(1, 2).flatten(0, 1)
        k, v = F.linear(key, key_value_weight).unflatten(2, (2, count, width)).permute(2, 0, 3, 1, 4).flatten(1, 2)
        attended = (q.bmm(k.transpose(1, 2)) * width**-0.5).softmax(dim=-1).bmm(v)
        rows = attended.unflatten(0, (-1, count)).transpose(1, 2).flatten(2).flatten(0, 1)
        return torch.addmm(query.flatten(0, 1), rows, self.attention.out_proj.weight.t()).view_as(query)

    def _norm(self, tokens: Tensor) -> Tensor:
        tokens = tokens.to(self.attention.out_proj.weight.dtype)
        size = (
            tokens.shape[1] * tokens.shape[2]
        )  # root mean square 1, as F.rms_norm(tokens, tokens.shape[1:], eps=1e-8)
        return (unit(tokens.flatten(1), (1e-8 * size) ** 0.5) * size**0.5).view_as(tokens)
