"""One pass of ClusIR from an image to features: encoder, prompts, decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers.basic.resample import Downsample, Upsample
from ..layers.experts.cluster_moe import ClusterMoE
from ..layers.frequency.dafmm import DAFMM
from ..layers.multi_stage.cross_stage_fusion import CSFF
from ..layers.prompts.fusion import PromptFusion
from ..layers.prompts.pgb import PGB
from ..layers.routing.moments import RunningStandardization
from ..layers.routing.pcgrm import Routing
from ..layers.routing.wavelet_evidence import WaveletEvidence
from ..layers.transformer.wtb import WTB
from ..ops.checks import check_feature_map, check_positive
from ..ops.precision import cast_once, convolve

__all__ = ["NUM_LEVELS", "ClusIRStage", "StageFeatures"]

NUM_LEVELS = 4
_Run: TypeAlias = Callable[..., Any]


class StageFeatures(NamedTuple):
    """Features of a :class:`ClusIRStage`, finest level first, and its routing.

    Attributes:
        encoded: of the four encoder levels, ``(B, dim 2**l, H / 2**l, W / 2**l)``, ``l = 0..3``.
        decoded: of the three decoder levels, ``l = 0..2``; the first is what an output convolution reads.
        routings: of the four encoder levels.
    """

    encoded: tuple[Tensor, ...]
    decoded: tuple[Tensor, ...]
    routings: tuple[Routing, ...]


def _at_half_resolution(module: nn.Module, x: Tensor, run: _Run, *args: Any, **kwargs: Any) -> Tensor:
    """Add to ``x`` what a residual module changes in its means of 2x2 pixels (its low-pass Haar band)."""
    low = F.avg_pool2d(x, 2)
    return x + F.interpolate(run(module, low, *args, **kwargs) - low, scale_factor=2.0)


class _EncoderLevel(nn.Module):
    """Wavelet transformer blocks, then the mixture of experts, routed by what came into the level."""

    def __init__(self, blocks: Sequence[WTB], moe: ClusterMoE, *, halved: bool, standardize_evidence: bool) -> None:
        super().__init__()
        self.evidence = WaveletEvidence(moe.dim)
        self.standardization = RunningStandardization(moe.dim) if standardize_evidence else None
        self.blocks = nn.ModuleList(blocks)
        self.moe = moe
        self.halved = halved

    def forward(self, x: Tensor, routing: Routing | None, run: _Run) -> tuple[Tensor, Routing]:
        if routing is None:
            routing = self.route(run(self.evidence, x))
        for block in self.blocks:
            x = run(block, x)
        if self.halved:
            return _at_half_resolution(self.moe, x, run, routing=routing), routing
        return run(self.moe, x, routing=routing), routing

    def route(self, evidence: Tensor) -> Routing:
        """Routing by the evidence of the map that came in; not recomputed in the backward pass, it counts moments."""
        routing: Routing = self.moe.router(evidence if self.standardization is None else self.standardization(evidence))
        return routing


class _DecoderLevel(nn.Module):
    """Double the resolution, add the encoder's features, take in the prompt, then wavelet transformer blocks."""

    def __init__(self, dim: int, blocks: Sequence[WTB], frequency: DAFMM, *, halved: bool) -> None:
        super().__init__()
        self.up = Upsample(2 * dim)
        self.frequency = frequency
        self.blocks = nn.ModuleList(blocks)
        self.halved = halved

    def forward(self, x: Tensor, skip: Tensor, prompt: Tensor, run: _Run) -> Tensor:
        x = self.up(x) + skip
        x = _at_half_resolution(self.frequency, x, run, prompt) if self.halved else run(self.frequency, x, prompt)
        for block in self.blocks:
            x = run(block, x)
        return x


class ClusIRStage(nn.Module):
    r"""Image to features by ClusIR's encoder and decoder, without an output convolution.

    Shallow 3x3 convolution; four encoder levels of :class:`WTB` and one :class:`ClusterMoE`, routed by the
    :class:`WaveletEvidence` of what comes into the level; the prompts of the first three are fused with the fourth
    (:class:`PromptFusion`), turned into prompts (:class:`PGB`) and injected into the decoder (:class:`DAFMM`);
    refinement blocks at full resolution. The prompts are of one pixel, the same for the whole picture: a degradation
    is nowhere at home in it (this project's choice).

    Args:
        dim: channels at full resolution; level ``l`` has ``dim * 2**l`` at ``1 / 2**l`` of it.
        in_channels: channels of the image.
        num_blocks: wavelet transformer blocks of the four encoder levels.
        num_decoder_blocks: those of the three decoder levels, full resolution first.
        num_refinement_blocks: those behind the decoder, at full resolution.
        num_heads: heads of the channel attentions of the four levels; each keeps at least 2 channels.
        num_experts: experts of a level.
        num_clusters: prototypes of the four levels.
        top_k: experts that an image runs in each level.
        embed_dim: width of embeddings, prototypes and prompt tokens.
        num_prompt_heads: heads of the prompt fusion.
        wave: wavelet of the transformer blocks.
        noise_std: routing noise in training, see :class:`PCGRM`.
        halved_levels: levels, from the finest, whose experts and frequency module work at half of the level's
            resolution.
        standardize_evidence: center the evidence of each router by its running mean, see
            :class:`RunningStandardization`.
        follows: take in the features of an earlier stage of the same ``dim``: those that :class:`SAM` let pass, joined
            to the shallow ones by a 3x3 convolution, and those of encoder and decoder by :class:`CSFF`.

    Shape:
        Image ``(B, in_channels, H, W)``, ``H`` and ``W`` multiples of 16, to :class:`StageFeatures`.

    Raises:
        ValueError: sizes that do not fit each other; in ``forward`` a wrong shape, or features of an earlier stage that
            are missing or not wanted.
        TypeError: a setting of a wrong type; in ``forward`` an integer image.

    References: ClusIR, arXiv:2512.10948; Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021 (the
    connection of stages).
    """

    def __init__(
        self,
        dim: int = 48,
        *,
        in_channels: int = 3,
        num_blocks: Sequence[int] = (2, 4, 8, 3),
        num_decoder_blocks: Sequence[int] = (2, 4, 4),
        num_refinement_blocks: int = 2,
        num_heads: Sequence[int] = (1, 2, 4, 8),
        num_experts: int = 8,
        num_clusters: Sequence[int] = (16, 12, 8, 4),
        top_k: int = 2,
        embed_dim: int = 128,
        num_prompt_heads: int = 4,
        wave: str = "haar",
        noise_std: float = 0.0,
        halved_levels: int = 0,
        standardize_evidence: bool = False,
        follows: bool = False,
    ) -> None:
        super().__init__()
        check_positive("dim", dim)
        check_positive("in_channels", in_channels)
        check_positive("num_refinement_blocks", num_refinement_blocks, least=0)
        if check_positive("halved_levels", halved_levels, least=0) > NUM_LEVELS:
            raise ValueError(f"halved_levels must be at most {NUM_LEVELS}, got {halved_levels}")
        for name, values, length in (
            ("num_blocks", num_blocks, NUM_LEVELS),
            ("num_decoder_blocks", num_decoder_blocks, NUM_LEVELS - 1),
            ("num_heads", num_heads, NUM_LEVELS),
            ("num_clusters", num_clusters, NUM_LEVELS),
        ):
            if not isinstance(values, Sequence):
                raise TypeError(f"{name} must be a sequence of {length} ints, got {type(values).__name__} {values!r}")
            if len(values) != length:
                raise ValueError(f"{name} must have {length} entries, got {tuple(values)}")
            for value in values:
                check_positive(name, value, least=0 if name.endswith("blocks") else 1)
        self.in_channels = in_channels
        self.grad_checkpointing = False
        dims = [dim * 2**level for level in range(NUM_LEVELS)]

        def blocks(level: int, count: int) -> list[WTB]:
            return [WTB(dims[level], num_heads[level], wave) for _ in range(count)]

        self.head = nn.Conv2d(in_channels, dim, 3, padding=1)
        self.join = nn.Conv2d(2 * dim, dim, 3, padding=1) if follows else None
        self.cross_stage = nn.ModuleList(CSFF(width) for width in dims[:-1]) if follows else None
        self.encoder = nn.ModuleList(
            _EncoderLevel(
                blocks(level, num_blocks[level]),
                ClusterMoE(
                    dims[level],
                    num_experts,
                    num_clusters[level],
                    top_k,
                    embed_dim,
                    hidden_dim=dims[level] // 2,
                    noise_std=noise_std,
                ),
                halved=level < halved_levels,
                standardize_evidence=standardize_evidence,
            )
            for level in range(NUM_LEVELS)
        )
        self.downs = nn.ModuleList(Downsample(width) for width in dims[:-1])
        self.prompt_fusions = nn.ModuleList(PromptFusion(embed_dim, num_prompt_heads) for _ in dims[:-1])
        self.prompt_blocks = nn.ModuleList(PGB(embed_dim, width, num_components=8, size=1) for width in dims[:-1])
        self.decoder = nn.ModuleList(
            _DecoderLevel(
                dims[level],
                blocks(level, num_decoder_blocks[level]),
                DAFMM(dims[level], num_heads=2 * num_heads[level]),
                halved=level < halved_levels,
            )
            for level in range(NUM_LEVELS - 1)
        )
        self.refinement = nn.ModuleList(blocks(0, num_refinement_blocks))

    def forward(
        self,
        image: Tensor,
        *,
        routings: Sequence[Routing] | None = None,
        attended: Tensor | None = None,
        earlier: StageFeatures | None = None,
    ) -> StageFeatures:
        resampling = (*self.downs, *(cast(_DecoderLevel, level).up for level in self.decoder))
        with cast_once(image, self.head, *resampling):
            encoded, used = self.encode(image, routings=routings, attended=attended, earlier=earlier)
            return StageFeatures(encoded, self._decode(encoded, used), used)

    def encode(
        self,
        image: Tensor,
        *,
        routings: Sequence[Routing] | None = None,
        attended: Tensor | None = None,
        earlier: StageFeatures | None = None,
    ) -> tuple[tuple[Tensor, ...], tuple[Routing, ...]]:
        """Return the features and the routings of the encoder levels."""
        check_feature_map(image, self.in_channels, "image")
        for name, given in (("attended", attended), ("earlier", earlier)):
            if (given is not None) != (self.join is not None):
                raise ValueError(f"{name} must be given to a stage with follows=True and to no other")
        x = convolve(self.head, image)
        if self.join is not None and attended is not None:
            x = self.join(torch.cat((attended, x), dim=1))
        encoded, used = [], []
        for number, level in enumerate(self.encoder):
            x, routing = level(x, None if routings is None else routings[number], self._run)
            if self.cross_stage is not None and earlier is not None and number < NUM_LEVELS - 1:
                x = self.cross_stage[number](x, earlier.encoded[number], earlier.decoded[number])
            encoded.append(x)
            used.append(routing)
            if number < NUM_LEVELS - 1:
                x = self.downs[number](x)
        return tuple(encoded), tuple(used)

    def route_parts(self, images: Sequence[Tensor], handed_on: Sequence[Mapping[str, Any]]) -> tuple[Routing, ...]:
        """Return the routings of a picture of which ``images`` are parts, by the mean of the parts' evidence.

        One map of each part is kept from level to level: the features behind a level depend on its routing.

        Args:
            images: parts of one size, each as for :meth:`forward`.
            handed_on: for each part the further arguments of :meth:`forward`.
        """
        maps = [self.head(image) for image in images]
        if self.join is not None:
            maps = [self.join(torch.cat((given["attended"], x), dim=1)) for x, given in zip(maps, handed_on)]
        used: list[Routing] = []
        for number, level in enumerate(cast(Iterable[_EncoderLevel], self.encoder)):
            evidence = torch.stack([level.evidence(x) for x in maps]).mean(dim=0)
            used.append(level.route(evidence))
            if number == NUM_LEVELS - 1:
                break
            for part, given in enumerate(handed_on):
                x, _ = level(maps[part], used[-1], self._run)
                if self.cross_stage is not None:
                    earlier = given["earlier"]
                    x = self.cross_stage[number](x, earlier.encoded[number], earlier.decoded[number])
                maps[part] = self.downs[number](x)
        return tuple(used)

    def _run(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(module, *args, use_reentrant=False, **kwargs)
        return module(*args, **kwargs)

    def _decode(self, encoded: Sequence[Tensor], routings: Sequence[Routing]) -> tuple[Tensor, ...]:
        x = encoded[-1]
        decoded: list[Tensor] = []
        for level in reversed(range(NUM_LEVELS - 1)):
            tokens = self.prompt_fusions[level](routings[level].prompt, routings[-1].prompt)
            prompt = self.prompt_blocks[level](tokens, (1, 1))
            x = self.decoder[level](x, encoded[level], prompt, self._run)
            decoded.insert(0, x)
        for block in self.refinement:
            x = self._run(block, x)
        return (x, *decoded[1:])
