"""What a state dict of ClusIR tells of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from ..serialization.configuration import count_modules
from ..serialization.pretrained import Pretrained, read_record
from ..serialization.registry import Registry
from .clusir_encoder import ClusIREncoder
from .parts import PARTS

__all__ = ["PretrainedClusIR"]

_STAGE = "stages.0."
_SKELETON = (
    f"{_STAGE}head.weight",
    f"{_STAGE}encoder.0.moe.shared_expert.project_in.weight",
    f"{_STAGE}downs.0.0.weight",
    f"{_STAGE}decoder.0.up.0.weight",
    "tail.weight",
)


class PretrainedClusIR(Pretrained):
    """Base class of ClusIR: recognizes its state dicts by what all have, whatever their parts."""

    parts: ClassVar[Mapping[str, Registry]] = PARTS
    shapeless: ClassVar[tuple[str, ...]] = ("top_k", "num_prompt_heads", "wave", "halved_levels")
    skeleton: ClassVar[tuple[str, ...]] = _SKELETON

    @classmethod
    def settings_of(cls, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Settings of the network. ``noise_std``, which acts in training only, is found where parts are custom.

        Raises:
            KeyError: an entry is missing.
            ValueError: the record is damaged.
        """
        record = read_record(weights)
        if cls.part_settings(record):
            return record  # the whole configuration: shapes of other parts tell other things
        count = ClusIREncoder.num_levels
        levels = [f"{_STAGE}encoder.{level}." for level in range(count)]
        dim, in_channels = weights[f"{_STAGE}head.weight"].shape[:2]
        decoder = [f"{_STAGE}decoder.{level}." for level in range(count - 1)]
        num_heads = [weights[f"{level}frequency.temperature"].shape[0] // 2 for level in decoder]
        deepest = weights.get(f"{levels[-1]}blocks.0.attention.temperature")
        return {
            "dim": dim,
            "in_channels": in_channels,
            "supervised_stages": count_modules(weights, "stages."),
            "num_blocks": [count_modules(weights, f"{level}blocks.") for level in levels],
            "num_decoder_blocks": [count_modules(weights, f"{level}blocks.") for level in decoder],
            "num_refinement_blocks": count_modules(weights, f"{_STAGE}refinement."),
            "num_heads": [*num_heads, 1 if deepest is None else deepest.shape[0]],
            "num_experts": weights[f"{levels[0]}moe.experts.expand_weight"].shape[0],
            "num_clusters": [weights[f"{level}moe.router.prototypes"].shape[0] for level in levels],
            "embed_dim": weights[f"{levels[0]}moe.router.prototypes"].shape[1],
            "standardize_evidence": f"{levels[0]}standardization.mean" in weights,
            "gain": weights["tail.weight"].shape[0] == 2 * in_channels,
            **record,
        }
