"""ClusIR: cluster-guided all-in-one image restoration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, overload

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .._checks import check_feature_map, check_positive
from ..blocks.padding import pad_to_multiple
from ..blocks.resample import Downsample, Upsample
from ..experts.cluster_moe import ClusterMoE, expand_routing
from ..frequency.dafmm import DAFMM
from ..prompts.fusion import PromptFusion
from ..prompts.pgb import PGB
from ..routing.pcgrm import Routing
from ..wavelets.wtb import WTB

__all__ = ["ClusIR", "clusir_base", "clusir_small", "clusir_tiny"]

_STAGES = 4
_Run: TypeAlias = Callable[..., Any]


class _EncoderStage(nn.Module):
    """Wavelet transformer blocks, then the cluster-guided mixture of experts."""

    def __init__(self, blocks: Sequence[WTB], moe: ClusterMoE) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.moe = moe

    def forward(self, x: Tensor, routing: Routing | None, run: _Run) -> tuple[Tensor, Routing]:
        for block in self.blocks:
            x = run(block, x)
        y, routing = run(self.moe, x, routing=routing, return_routing=True)
        return y, routing


class _DecoderStage(nn.Module):
    """Double the resolution, take in the encoder's features and the prompt, then wavelet transformer blocks."""

    def __init__(self, dim: int, blocks: Sequence[WTB], frequency: DAFMM) -> None:
        super().__init__()
        self.up = Upsample(2 * dim)
        self.reduce = nn.Conv2d(2 * dim, dim, 1)
        self.frequency = frequency
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, skip: Tensor, prompt: Tensor, run: _Run) -> Tensor:
        x = self.reduce(torch.cat((self.up(x), skip), dim=1))
        x = run(self.frequency, x, prompt)
        for block in self.blocks:
            x = run(block, x)
        return x


class ClusIR(nn.Module):
    r"""Restore images of any of the learned degradations, recognized from the image itself.

    Shallow 3x3 convolution; four encoder stages of :class:`WTB` and one :class:`ClusterMoE`; the prompts of the first
    three are fused with the fourth (:class:`PromptFusion`), drawn as maps (:class:`PGB`) and injected into the decoder
    (:class:`DAFMM`); 3x3 convolution. That much is the paper's. Residual to the input, resampling, depths and widths
    and the refinement blocks at full resolution are this project's choices.

    Args:
        dim: channels at full resolution; stage ``l`` has ``dim * 2**(l - 1)`` at ``1 / 2**(l - 1)`` of it.
        in_channels: channels of the image, in and out.
        num_blocks: wavelet transformer blocks of the four encoder stages.
        num_decoder_blocks: those of decoder stages 1 to 3, full resolution first.
        num_refinement_blocks: those behind the decoder, at full resolution.
        num_heads: heads of the channel attentions of stages 1 to 4; each keeps at least 2 channels.
        num_experts: experts of a stage.
        num_clusters: prototypes of stages 1 to 4.
        top_k: experts that an image runs in each stage.
        embed_dim: width of embeddings, prototypes and prompt tokens.
        num_prompt_heads: heads of the prompt fusion.
        wave: wavelet of the transformer blocks.
        noise_std: routing noise in training, see :class:`PCGRM`.

    Shape:
        Input and output: ``(B, in_channels, H, W)`` in [0, 1], any ``H, W >= 1``. Inside, the image is extended to
        multiples of :attr:`size_multiple` by reflection. With ``return_routing=True`` the output is
        ``(image, routings)``, one :class:`Routing` for each encoder stage. The output is not clamped.

    Raises:
        ValueError: sizes that do not fit each other; in ``forward`` a wrong shape or routings that do not fit.
        TypeError: an integer image.

    Note: activations run channels last. In eval an image's output does not depend on its batch mates.

    Example:
        >>> net = clusir_tiny()
        >>> image = torch.rand(1, 3, 37, 50)
        >>> routings = net.route(image)
        >>> net(image, routings=routings).shape, len(routings)
        (torch.Size([1, 3, 37, 50]), 4)

    Reference: ClusIR, arXiv:2512.10948.
    """

    size_multiple = 16

    def __init__(
        self,
        dim: int = 48,
        *,
        in_channels: int = 3,
        num_blocks: Sequence[int] = (4, 6, 7, 3),
        num_decoder_blocks: Sequence[int] = (2, 4, 4),
        num_refinement_blocks: int = 4,
        num_heads: Sequence[int] = (1, 2, 4, 8),
        num_experts: int = 8,
        num_clusters: Sequence[int] = (16, 12, 8, 4),
        top_k: int = 2,
        embed_dim: int = 128,
        num_prompt_heads: int = 4,
        wave: str = "haar",
        noise_std: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_positive("in_channels", in_channels)
        for name, values, length in (
            ("num_blocks", num_blocks, _STAGES),
            ("num_decoder_blocks", num_decoder_blocks, _STAGES - 1),
            ("num_heads", num_heads, _STAGES),
            ("num_clusters", num_clusters, _STAGES),
        ):
            if len(values) != length:
                raise ValueError(f"{name} must have {length} entries, got {tuple(values)}")
        self.in_channels = in_channels
        self.grad_checkpointing = False
        dims = [dim * 2**level for level in range(_STAGES)]

        def blocks(level: int, count: int) -> list[WTB]:
            return [WTB(dims[level], num_heads[level], wave) for _ in range(count)]

        self.head = nn.Conv2d(in_channels, dim, 3, padding=1)
        self.encoder = nn.ModuleList(
            _EncoderStage(
                blocks(level, num_blocks[level]),
                ClusterMoE(dims[level], num_experts, num_clusters[level], top_k, embed_dim, noise_std=noise_std),
            )
            for level in range(_STAGES)
        )
        self.downs = nn.ModuleList(Downsample(width) for width in dims[:-1])
        self.prompt_fusions = nn.ModuleList(PromptFusion(embed_dim, num_prompt_heads) for _ in dims[:-1])
        self.prompt_blocks = nn.ModuleList(PGB(embed_dim, width) for width in dims[:-1])
        self.decoder = nn.ModuleList(
            _DecoderStage(
                dims[level],
                blocks(level, num_decoder_blocks[level]),
                DAFMM(dims[level], num_heads=2 * num_heads[level]),
            )
            for level in range(_STAGES - 1)
        )
        self.refinement = nn.ModuleList(blocks(0, num_refinement_blocks))
        self.tail = nn.Conv2d(dim, in_channels, 3, padding=1)
        with torch.no_grad():  # start near the identity: most degradations leave most of the image right
            for parameter in self.tail.parameters():
                parameter.mul_(0.1)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the activations of each block in the backward pass instead of keeping them."""
        self.grad_checkpointing = enable

    def route(self, x: Tensor) -> tuple[Routing, ...]:
        """Return the routing of each encoder stage for images ``(B, in_channels, H, W)`` without decoding them."""
        check_feature_map(x, self.in_channels)
        return self._encode(self._prepare(x), None)[1]

    @overload
    def forward(
        self, x: Tensor, *, routings: Sequence[Routing] | None = ..., return_routing: Literal[False] = ...
    ) -> Tensor: ...

    @overload
    def forward(
        self, x: Tensor, *, routings: Sequence[Routing] | None = ..., return_routing: Literal[True]
    ) -> tuple[Tensor, tuple[Routing, ...]]: ...

    def forward(
        self, x: Tensor, *, routings: Sequence[Routing] | None = None, return_routing: bool = False
    ) -> Tensor | tuple[Tensor, tuple[Routing, ...]]:
        check_feature_map(x, self.in_channels)
        if routings is not None:
            if len(routings) != _STAGES:
                raise ValueError(f"routings must hold one Routing for each of {_STAGES} stages, got {len(routings)}")
            routings = tuple(expand_routing(routing, x.shape[0]) for routing in routings)
        features, used = self._encode(self._prepare(x), routings)
        y = self._decode(features, used)[..., : x.shape[2], : x.shape[3]]
        y = x + y
        return (y, used) if return_routing else y

    def _prepare(self, x: Tensor) -> Tensor:
        return pad_to_multiple(x, self.size_multiple).contiguous(memory_format=torch.channels_last)

    def _run(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(module, *args, use_reentrant=False, **kwargs)
        return module(*args, **kwargs)

    def _encode(self, x: Tensor, routings: Sequence[Routing] | None) -> tuple[list[Tensor], tuple[Routing, ...]]:
        x = self.head(x)
        features, used = [], []
        for level, stage in enumerate(self.encoder):
            x, routing = stage(x, None if routings is None else routings[level], self._run)
            features.append(x)
            used.append(routing)
            if level < _STAGES - 1:
                x = self.downs[level](x)
        return features, tuple(used)

    def _decode(self, features: list[Tensor], routings: Sequence[Routing]) -> Tensor:
        x = features[-1]
        for level in reversed(range(_STAGES - 1)):
            skip = features[level]
            tokens = self.prompt_fusions[level](routings[level].prompt, routings[-1].prompt)
            prompt = self.prompt_blocks[level](tokens, skip.shape[2:])
            x = self.decoder[level](x, skip, prompt, self._run)
        for block in self.refinement:
            x = self._run(block, x)
        y: Tensor = self.tail(x)
        return y


def clusir_tiny(**overrides: Any) -> ClusIR:
    """ClusIR of at most 1.5 M parameters, for CPUs, demonstrations and tests; ``overrides`` go to :class:`ClusIR`."""
    settings: dict[str, Any] = {
        "dim": 16,
        "num_blocks": (1, 2, 2, 1),
        "num_decoder_blocks": (1, 1, 1),
        "num_refinement_blocks": 0,
        "num_experts": 4,
        "embed_dim": 64,
    }
    return ClusIR(**{**settings, **overrides})


def clusir_small(**overrides: Any) -> ClusIR:
    """ClusIR of at most 10 M parameters; ``overrides`` go to :class:`ClusIR`."""
    settings: dict[str, Any] = {
        "dim": 32,
        "num_blocks": (2, 3, 4, 3),
        "num_decoder_blocks": (1, 2, 2),
        "num_refinement_blocks": 2,
    }
    return ClusIR(**{**settings, **overrides})


def clusir_base(**overrides: Any) -> ClusIR:
    """ClusIR of at most 26 M parameters, the size of the field's networks; ``overrides`` go to :class:`ClusIR`."""
    return ClusIR(**overrides)
