"""Wavelet transformer block."""

from __future__ import annotations

from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_heads
from ...ops.dwt import analyze_stacked, synthesize_stacked
from ...ops.filter_banks import check_wave
from ...ops.padding import crop
from ...ops.precision import cast_once, convolve
from ..basic.norm import LayerNorm2d, NormFactory
from ..basic.small_conv import SmallConv2d
from .feed_forward import GatedFeedForward
from .transposed_attention import TransposedAttention

__all__ = ["WTB"]


class WTB(nn.Module):
    r"""Transform the low-pass wavelet band, let it gate the detail bands, transform back; the residual is inside.

    .. math::
        (\ell, d) &= \operatorname{DWT}(x) \\
        \ell' &= \ell + \operatorname{attention}(n_1(\ell)), \quad \ell'' = \ell' + \operatorname{ffn}(n_2(\ell')) \\
        y &= x + \operatorname{IDWT}\big(W_{LL}\, \ell'',\; W_b ((D_b * d_b) \odot V_b\, n_2(\ell'))\big), \quad
        b \in \{LH, HL, HH\}

    The attention is across channels, ``D`` a depthwise 3x3 convolution, ``V`` and ``W`` are 1x1 convolutions. All of
    it runs at half resolution. The details have no norm: their strength is what tells noise from texture. What gates
    them has one: a product of two maps without would grow as the square of the input from block to block.

    The paper gives the name and the role of the block; its inside is this project's choice, by a training comparison
    (``docs/design.md``).

    Args:
        dim: channels in and out.
        num_heads: heads of the channel attention; each keeps at least 2 channels.
        wave: a discrete wavelet of PyWavelets; "haar" is the fast one.
        hidden_dim: width of the feed-forward network; default ``2 * dim``.
        norm_layer: makes the norms before attention and feed-forward network from their channels.

    Shape:
        Input and output: ``(B, dim, H, W)``, any ``H, W >= 1``.

    Raises:
        ValueError: heads that do not fit, an unknown wavelet; in ``forward`` a wrong shape.
        TypeError: an integer tensor.

    Note: about ``4.3 dim^2`` multiply-adds a pixel, a third of a Restormer block.

    Example:
        >>> WTB(32, 4)(torch.rand(2, 32, 17, 20)).shape
        torch.Size([2, 32, 17, 20])

    Reference: ClusIR, arXiv:2512.10948, method overview (name and role only).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        wave: str = "haar",
        *,
        hidden_dim: int | None = None,
        norm_layer: NormFactory = LayerNorm2d,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        check_wave(wave)
        self.dim = dim
        self.wave = wave
        self.norm1 = norm_layer(dim)
        self.attention = TransposedAttention(dim, num_heads)
        self.norm2 = norm_layer(dim)
        self.feed_forward = GatedFeedForward(dim, hidden_dim=2 * dim if hidden_dim is None else hidden_dim)
        self.detail_depthwise = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim)
        self.detail_gate = nn.Conv2d(dim, 3 * dim, 1)
        self.low_project = SmallConv2d(dim, dim, 1)
        self.detail_project = SmallConv2d(3 * dim, 3 * dim, 1, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        check_feature_map(x, self.dim)
        low, details = analyze_stacked(x, self.wave)
        with cast_once(x, self):
            low = low + self.attention(self.norm1(low))
            normed = self.norm2(low)
            low = low + self.feed_forward(normed)
            gated = convolve(self.detail_depthwise, details) * convolve(self.detail_gate, normed)
            low, details = convolve(self.low_project, low), convolve(self.detail_project, gated)
        y = synthesize_stacked(low, details, self.wave)
        return x + crop(y, x.shape[2], x.shape[3])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, wave={self.wave!r}"
