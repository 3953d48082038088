"""The parts of ClusIR: their names in files, and how a network makes one for each level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import nn

from ..layers.basic.norm import LayerNorm2d
from ..layers.experts.gated_conv_experts import GatedConvExperts
from ..layers.frequency.dafmm import DAFMM
from ..layers.prompts.fusion import PromptFusion
from ..layers.prompts.pgb import PGB
from ..layers.protocols import BlockFactory, FusionFactory, GenerationFactory, NormFactory, make_part
from ..layers.routing.pcgrm import PCGRM
from ..layers.routing.wavelet_evidence import WaveletEvidence
from ..layers.transformer.wtb import WTB
from ..serialization.registry import Registry

__all__ = ["PARTS", "Prompts", "check_factories", "make_blocks"]

_ONE_PIXEL = partial(PGB, num_components=8, size=1)


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """How ClusIR turns the prompt tokens of its routers into the prompt maps of its frequency modules.

    Attributes:
        fusion: makes the module that joins the tokens of a level and of the deepest one.
        generation: makes the module that turns tokens into a map.

    Example:
        >>> from clusir_modules import clusir_tiny
        >>> net = clusir_tiny(prompts=Prompts(generation=partial(PGB, size=8)))
        >>> net.stages[0].prompt_blocks[0].components.shape  # maps of 8x8 pixels
        torch.Size([5, 16, 8, 8])
    """

    fusion: FusionFactory = PromptFusion
    generation: GenerationFactory = _ONE_PIXEL


class _Kinds(dict[str, Registry]):
    def __missing__(self, kind: str) -> Registry:
        raise KeyError(f"unknown part {kind!r}; accepted: {', '.join(self)}")


PARTS: Mapping[str, Registry] = MappingProxyType(
    _Kinds(
        (registry.kind, registry)
        for registry in (
            Registry("block", WTB),
            Registry("evidence", WaveletEvidence, nn.Identity),
            Registry("router", PCGRM),
            Registry("experts", GatedConvExperts),
            Registry("prompts.fusion", PromptFusion),
            Registry("prompts.generation", PGB),
            Registry("frequency", DAFMM),
            Registry("norm_layer", LayerNorm2d, nn.Identity),
        )
    )
)
"""Parts that files may name, by the keyword of :class:`ClusIR`; register one's own before saving or loading."""


def check_factories(**parts: object) -> None:
    """Refuse what makes no modules; a finished module too, which all levels would share.

    Raises:
        TypeError: the message names the keyword.
    """
    for keyword, part in parts.items():
        if isinstance(part, nn.Module):
            raise TypeError(
                f"{keyword} must be a class or a function that makes a module for each level, "
                f"got a finished {type(part).__name__}"
            )
        if not callable(part):
            raise TypeError(
                f"{keyword} must be a class or a function that makes a module, got {type(part).__name__} {part!r}"
            )


def make_blocks(
    block: BlockFactory, dim: int, num_heads: int, count: int, *, wave: str, norm_layer: NormFactory
) -> list[nn.Module]:
    """Make the blocks of a level; ``wave`` and ``norm_layer`` go to them where they are not the default."""
    settings: dict[str, Any] = {"wave": wave} if wave != "haar" else {}
    if norm_layer is not LayerNorm2d:
        settings["norm_layer"] = norm_layer
    return [make_part("block", block, dim, num_heads=num_heads, **settings) for _ in range(count)]
