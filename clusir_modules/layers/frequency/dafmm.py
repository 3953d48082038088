"""Degradation-aware frequency modulation module."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_heads, check_not_empty, check_number, check_positive
from ...ops.dynamic_depthwise import dynamic_depthwise
from ...ops.padding import extend_by_edge
from ...ops.precision import cast_once, convolve, full_precision, linear_parameters, widen
from ...ops.spatial_mean import spatial_mean
from ..transformer.transposed_attention import diagonal_blocks, mix_channels
from .spectral_gate import NUM_BANDS, SpectralGate

__all__ = ["DAFMM"]


class _Gram(torch.autograd.Function):
    """``rows^T rows`` of each image, with one product in the gradient where autograd takes two and adds them."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor) -> Tensor:
        return rows.transpose(1, 2).bmm(rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        return rows.bmm(grad + grad.transpose(1, 2))

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        half = rows.transpose(1, 2).bmm(tangent)
        return half + half.transpose(1, 2)


def _gram(rows: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return rows.transpose(1, 2).bmm(rows)
    gram: Tensor = _Gram.apply(rows)
    return gram


class DAFMM(nn.Module):
    r"""Split a map into structure and texture, modulate each by the prompt, let them talk; the residual is inside.

    .. math::
        K &= \operatorname{softmax}(A [\operatorname{GAP}(x), \operatorname{GAP}(m)]), \quad
        l = K * x, \quad h = x - l \\
        l' &= \mathcal{F}^{-1}(g(x, m) \odot \mathcal{F}(l)), \quad h' = (D * h) \odot \sigma(V m) \\
        y &= x + \gamma \odot W[l' + \operatorname{attention}(l' \to h'),\; h' + \operatorname{attention}(h' \to l')]

    Adaptive decomposition by the prior, modulation of both bands and their interaction are the paper's; the form of
    each is this project's choice. One low-pass kernel for each image and group of channels, softmax-normalized, so
    that it keeps constants; ``h`` is the exact complement. The two attentions go across channels and share one
    similarity matrix, normalized by its rows for one and by its columns for the other. The layer scale :math:`\gamma`
    starts small: the module starts nearly as the identity and can be put into a trained network.

    Args:
        dim: channels in and out.
        prompt_dim: channels of the prompt map; default ``dim``.
        num_heads: heads of the channel attention and groups of the kernels; each keeps at least 2 channels.
        kernel_size: odd width of the low-pass kernels, pixels.
        layer_scale: start value of :math:`\gamma`.

    Shape:
        ``x`` ``(B, dim, H, W)`` and prompt ``(B, prompt_dim, H, W)``, or one that broadcasts over ``(H, W)``, to
        ``(B, dim, H, W)``. Without a prompt (``None``) a zero one is used: a plain frequency module.

    Raises:
        ValueError: heads that do not fit, an even ``kernel_size``; in ``forward`` wrong shapes.
        TypeError: an integer tensor.

    Note: the Fourier transforms run in float32 or wider whatever the autocast type. Cost ``O(H W log(H W))`` a channel
    beside ``6 dim^2`` multiply-adds a pixel.

    Example:
        >>> DAFMM(32)(torch.rand(2, 32, 17, 20)).shape
        torch.Size([2, 32, 17, 20])

    Reference: ClusIR, arXiv:2512.10948, sec. on DAFMM.
    """

    own_types = ("fuse",)

    def __init__(
        self,
        dim: int,
        prompt_dim: int | None = None,
        num_heads: int = 4,
        *,
        kernel_size: int = 3,
        layer_scale: float = 0.1,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        if check_positive("kernel_size", kernel_size) % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        self.dim = dim
        self.prompt_dim = check_positive("prompt_dim", dim if prompt_dim is None else prompt_dim)
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.kernel_predictor = nn.Linear(dim + self.prompt_dim, num_heads * kernel_size**2)
        self.gain_predictor = nn.Linear(dim + self.prompt_dim, num_heads * NUM_BANDS)
        self.spectral_gate = SpectralGate()
        self.high_depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.high_gate = nn.Conv2d(self.prompt_dim, dim, 1)
        self.temperature = nn.Parameter(torch.empty(num_heads, 1, 1))
        self.low_query_value = nn.Linear(dim, 2 * dim, bias=False)
        self.high_key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.fuse = nn.Conv2d(2 * dim, dim, 1)
        self.start_scale = float(check_number("layer_scale", layer_scale))
        self.layer_scale = nn.Parameter(torch.empty(dim, 1, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set temperatures and layer scale to their start values."""
        nn.init.ones_(self.temperature)
        nn.init.constant_(self.layer_scale, self.start_scale)

    def decompose(self, x: Tensor, prompt: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the low and the high band of ``x``, both ``(B, dim, H, W)``; their sum is ``x``."""
        kernels, _ = self._predict(x, self._check(x, prompt))
        return self._split(x, kernels)

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        prompt = self._check(x, prompt)
        kernels, gains = self._predict(x, prompt)
        low, high = self._split(x, kernels)
        with full_precision(x):
            low = self.spectral_gate(widen(low), gains)
        with cast_once(x, self.high_depthwise, self.high_gate):
            high = convolve(self.high_depthwise, high) * convolve(self.high_gate, prompt).sigmoid()
        return x + self._interact_and_fuse(low, high)

    def _check(self, x: Tensor, prompt: Tensor | None) -> Tensor:
        check_feature_map(x, self.dim)
        check_not_empty(x)
        if prompt is None:
            return x.new_zeros(x.shape[0], self.prompt_dim, 1, 1)
        check_feature_map(prompt, self.prompt_dim, "prompt")
        if prompt.shape[0] != x.shape[0] or any(p not in (1, s) for p, s in zip(prompt.shape[2:], x.shape[2:])):
            raise ValueError(
                f"prompt must have the batch, height and width of x {tuple(x.shape)}, got {tuple(prompt.shape)}"
            )
        return prompt

    def _predict(self, x: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Kernels ``(B, num_heads, k * k)`` of sum 1 and gains ``(B, num_heads, NUM_BANDS)``, in float32 or wider."""
        wide = torch.float64 if x.dtype is torch.float64 else torch.float32
        summary = torch.cat((spatial_mean(x, wide), spatial_mean(prompt, wide)), dim=1)
        predictors = (self.kernel_predictor, self.gain_predictor)
        with full_precision(x):
            weights, biases = zip(*(linear_parameters(predictor) for predictor in predictors))
            weight, bias = (torch.cat([widen(part) for part in parts]) for parts in (weights, biases))
            logits, gains = F.linear(summary, weight, bias).split([p.out_features for p in predictors], dim=1)
            kernels = logits.unflatten(1, (self.num_heads, -1)).softmax(dim=-1)
        return kernels, gains.unflatten(1, (self.num_heads, NUM_BANDS))

    def _split(self, x: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
        width = self.dim // self.num_heads  # a head has one kernel for all its channels
        kernels = repeat(kernels.to(x.dtype), "b head (h w) -> b (head c) h w", c=width, h=self.kernel_size)
        with full_precision(x):  # autocast would convolve in its own type, and low + high is x in its type
            low = dynamic_depthwise(extend_by_edge(x, self.kernel_size // 2), kernels)
        return low, x - low

    def _interact_and_fuse(self, low: Tensor, high: Tensor) -> Tensor:
        """Exchange between the bands, fusion and layer scale as one matrix over channels for each image.

        All of it is linear in the maps once the similarity is known, and that follows from their Gram matrix.
        """
        with full_precision(low):
            # both bands side by side, (B, H W, 2 C), in float32 or wider
            rows = torch.cat((low.permute(0, 2, 3, 1), high.permute(0, 2, 3, 1)), dim=3).flatten(1, 2)
            query, low_value = widen(linear_parameters(self.low_query_value)[0]).chunk(2)
            key, high_value = widen(linear_parameters(self.high_key_value)[0]).chunk(2)
            similarity = self._similarity(rows, query, key) * widen(self.temperature)
            # first what goes to the high band from the low one, then the other way round
            attention = torch.stack((similarity.transpose(-2, -1), similarity), dim=1).softmax(dim=-1)
            value = torch.stack((low_value, high_value)).unflatten(1, (self.num_heads, -1))
            exchanged = (attention @ value).flatten(2, 3)  # (B, 2, C, C)
            scale = widen(self.layer_scale).view(-1, 1)
            fuse = (scale * widen(self.fuse.weight).flatten(1)).unflatten(1, (2, -1)).permute(1, 2, 0)
            weight = (fuse + exchanged.transpose(2, 3) @ fuse.flip(0)).flatten(1, 2)  # (B, 2 C, C)
            bias = scale.flatten() * cast(Tensor, self.fuse.bias)
            size = (low.shape[2], low.shape[3])
            if high.dtype is not torch.float16:  # gains may lift the low band beyond its range
                rows = rows.to(high.dtype)
            return mix_channels(rows, weight, bias, size).to(high.dtype)

    def _similarity(self, rows: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """Cosine between the query channels of the low and the key channels of the high band, head by head."""
        project = torch.block_diag(query, key).expand(rows.shape[0], -1, -1)
        gram = project.bmm(_gram(rows)).bmm(project.transpose(1, 2))  # (B, 2 C, 2 C)
        query_scale, key_scale = (gram.diagonal(dim1=1, dim2=2) + 1e-12).rsqrt().chunk(2, dim=1)
        cosine = gram[..., : self.dim, self.dim :] * (query_scale.unsqueeze(2) * key_scale.unsqueeze(1))
        return diagonal_blocks(cosine, self.num_heads)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, prompt_dim={self.prompt_dim}, num_heads={self.num_heads}"
