"""One pass of ClusIR from an image to features: encoder, prompts, decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from torch import Tensor, nn

from ..layers.basic.norm import LayerNorm2d
from ..layers.basic.resample import Upsample
from ..layers.experts.cluster_moe import DEFAULT_EXPERTS
from ..layers.frequency.dafmm import DAFMM
from ..layers.protocols import (
    BlockFactory,
    EvidenceFactory,
    ExpertsFactory,
    FrequencyFactory,
    NormFactory,
    RouterFactory,
    make_part,
)
from ..layers.routing.pcgrm import PCGRM
from ..layers.routing.routing import Routing
from ..layers.routing.wavelet_evidence import WaveletEvidence
from ..layers.transformer.wtb import WTB
from ..ops.checks import check_positive
from ..ops.precision import cast_once
from .clusir_encoder import ClusIREncoder, check_lengths, run_at_half_resolution, run_block
from .parts import Prompts, check_factories, make_blocks

__all__ = ["ClusIRStage", "StageFeatures"]

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


class _DecoderLevel(nn.Module):
    """Double the resolution, add the encoder's features, take in the prompt, then the blocks."""

    def __init__(self, dim: int, blocks: Sequence[nn.Module], frequency: nn.Module | None, *, halved: bool) -> None:
        super().__init__()
        self.up = Upsample(2 * dim)
        self.frequency = frequency
        self.blocks = nn.ModuleList(blocks)
        self.halved = halved

    def forward(self, x: Tensor, skip: Tensor, prompt: Tensor | None, run: _Run) -> Tensor:
        x = self.up(x) + skip
        if self.frequency is not None and self.halved:
            x = run_at_half_resolution(self.frequency, x, run, prompt)
        elif self.frequency is not None:
            x = run(self.frequency, x, prompt)
        for block in self.blocks:
            x = run_block(run, block, x)
        return x


class ClusIRStage(ClusIREncoder):
    r"""Image to features by ClusIR's encoder and decoder, without an output convolution.

    The encoder's levels are those of :class:`ClusIREncoder`. The prompts of the first three are fused with the fourth
    (:class:`PromptFusion`), turned into prompts (:class:`PGB`) and injected into the decoder (:class:`DAFMM`);
    refinement blocks at full resolution follow. By default the prompts are of one pixel, the same for the whole
    picture: a degradation is not tied to a place (this project's choice).

    Args:
        follows: see :class:`ClusIREncoder`.

    The other arguments are those of :class:`ClusIR`.

    Shape:
        Image ``(B, in_channels, H, W)``, ``H`` and ``W`` multiples of 16, to :class:`StageFeatures`.

    Raises:
        ValueError: sizes that do not fit each other; in ``forward`` a wrong shape, or features of an earlier stage that
            are missing or not wanted.
        TypeError: a setting of a wrong type, a finished module as a part; in ``forward`` an integer image.

    Example:
        >>> stage = ClusIRStage(8, num_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1))
        >>> features = stage(torch.rand(1, 3, 32, 48))
        >>> [tuple(x.shape) for x in features.decoded]
        [(1, 8, 32, 48), (1, 16, 16, 24), (1, 32, 8, 12)]

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
        block: BlockFactory = WTB,
        evidence: EvidenceFactory = WaveletEvidence,
        router: RouterFactory = PCGRM,
        experts: ExpertsFactory = DEFAULT_EXPERTS,
        prompts: Prompts | None = Prompts(),  # noqa: B008 - frozen
        frequency: FrequencyFactory | None = DAFMM,
        norm_layer: NormFactory = LayerNorm2d,
    ) -> None:
        check_lengths(self.num_levels - 1, num_decoder_blocks=num_decoder_blocks)
        check_positive("num_refinement_blocks", num_refinement_blocks, least=0)
        super().__init__(
            dim,
            in_channels=in_channels,
            num_blocks=num_blocks,
            num_heads=num_heads,
            num_experts=num_experts,
            num_clusters=num_clusters,
            top_k=top_k,
            embed_dim=embed_dim,
            wave=wave,
            noise_std=noise_std,
            halved_levels=halved_levels,
            standardize_evidence=standardize_evidence,
            follows=follows,
            block=block,
            evidence=evidence,
            router=router,
            experts=experts,
            norm_layer=norm_layer,
        )
        if prompts is not None and not isinstance(prompts, Prompts):
            raise TypeError(f"prompts must be Prompts or None, got {type(prompts).__name__} {prompts!r}")
        if frequency is not None:
            check_factories(frequency=frequency)
        if prompts is not None:
            check_factories(**{"prompts.fusion": prompts.fusion, "prompts.generation": prompts.generation})
        dims = [dim * 2**level for level in range(self.num_levels - 1)]
        prompted = dims if prompts is not None and frequency is not None else []  # else nothing would read them
        fusion, generation = (prompts or Prompts()).fusion, (prompts or Prompts()).generation
        self.prompt_fusions = nn.ModuleList(
            make_part("prompts.fusion", fusion, embed_dim, num_heads=num_prompt_heads) for _ in prompted
        )
        self.prompt_blocks = nn.ModuleList(
            make_part("prompts.generation", generation, embed_dim, width) for width in prompted
        )
        self.decoder = nn.ModuleList(
            _DecoderLevel(
                width,
                make_blocks(block, width, heads, count, wave=wave, norm_layer=norm_layer),
                None if frequency is None else make_part("frequency", frequency, width, num_heads=2 * heads),
                halved=level < halved_levels,
            )
            for level, (width, heads, count) in enumerate(zip(dims, num_heads, num_decoder_blocks))
        )
        self.refinement = nn.ModuleList(
            make_blocks(block, dim, num_heads[0], num_refinement_blocks, wave=wave, norm_layer=norm_layer)
        )

    def forward(  # type: ignore[override]
        self,
        image: Tensor,
        *,
        routings: Sequence[Routing] | None = None,
        attended: Tensor | None = None,
        earlier: StageFeatures | None = None,
    ) -> StageFeatures:
        with cast_once(image, self):
            encoded, used = self.encode(image, routings=routings, attended=attended, earlier=earlier)
            return StageFeatures(encoded, self._decode(encoded, used), used)

    def _decode(self, encoded: Sequence[Tensor], routings: Sequence[Routing]) -> tuple[Tensor, ...]:
        x = encoded[-1]
        decoded: list[Tensor] = []
        for level in reversed(range(self.num_levels - 1)):
            prompt = self._prompt(level, routings, encoded[level]) if len(self.prompt_fusions) else None
            x = self.decoder[level](x, encoded[level], prompt, self._run)
            decoded.insert(0, x)
        for block in self.refinement:
            x = run_block(self._run, block, x)
        return (x, *decoded[1:])

    def _prompt(self, level: int, routings: Sequence[Routing], skip: Tensor) -> Tensor:
        for number in (level, self.num_levels - 1):
            if routings[number].prompt.shape[-1] == 0:
                raise ValueError(
                    "router must return prompt tokens where the network has prompts, got none from that of level "
                    f"{number + 1}: give choose_experts a prompt (B, L, embed_dim), or the network prompts=None"
                )
        tokens = self.prompt_fusions[level](routings[level].prompt, routings[-1].prompt)
        generation = self.prompt_blocks[level]
        scale = 2 if cast(_DecoderLevel, self.decoder[level]).halved else 1
        size = (1, 1) if getattr(generation, "size", None) == 1 else (skip.shape[2] // scale, skip.shape[3] // scale)
        prompt: Tensor = generation(tokens, size)
        return prompt
