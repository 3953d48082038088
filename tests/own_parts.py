"""Parts of a person's own, for every keyword of ClusIR, and networks with them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import clusir_modules as cm

SMALL: dict[str, Any] = {
    "dim": 4,
    "num_blocks": (1, 0, 1, 1),
    "num_decoder_blocks": (1, 0, 1),
    "num_refinement_blocks": 0,
    "num_heads": (1, 1, 1, 1),
    "num_experts": 3,
    "num_clusters": (5, 4, 3, 2),
    "embed_dim": 8,
    "num_prompt_heads": 2,
}


class SoftmaxRouter(nn.Module):
    """Softmax over pooled features, constant tokens."""

    def __init__(self, dim, *, num_experts, num_clusters, top_k, embed_dim):
        super().__init__()
        self.num_experts, self.top_k = num_experts, top_k
        self.choose = nn.Linear(dim, num_experts)
        self.tokens = nn.Parameter(torch.randn(num_clusters, embed_dim))

    def forward(self, x: Tensor) -> cm.Routing:
        probs = self.choose(x.mean((2, 3)).to(self.tokens)).softmax(-1)
        return cm.choose_experts(probs, self.top_k, prompt=self.tokens.expand(len(x), -1, -1))


class UniformRouter(nn.Module):
    """All experts alike, whatever the image."""

    def __init__(self, dim, *, num_experts, num_clusters, top_k, embed_dim):
        super().__init__()
        self.num_experts = num_experts

    def forward(self, x: Tensor) -> cm.Routing:
        return cm.choose_experts(x.new_full((len(x), self.num_experts), 1 / self.num_experts), self.num_experts)


class PlainBlock(nn.Module):
    def __init__(self, dim, *, num_heads, width=2):
        super().__init__()
        self.expand, self.project = nn.Conv2d(dim, width * dim, 3, padding=1), nn.Conv2d(width * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(torch.nn.functional.gelu(self.expand(x)))


class MeanEvidence(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.mean((2, 3), keepdim=True)


class ConvExperts(cm.DispatchedExperts):
    def __init__(self, dim, *, num_experts, hidden_dim):
        super().__init__(nn.Conv2d(dim, dim, 3, padding=1) for _ in range(num_experts))


class OwnTokens(nn.Module):
    def __init__(self, embed_dim, *, num_heads):
        super().__init__()

    def forward(self, p_l: Tensor, _: Tensor) -> Tensor:
        return nn.functional.rms_norm(p_l, p_l.shape[1:], eps=1e-8)


class TokenMap(nn.Module):
    """The mean token at each pixel."""

    def __init__(self, embed_dim, dim):
        super().__init__()
        self.project = nn.Linear(embed_dim, dim)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        return self.project(tokens.mean(1))[..., None, None].expand(-1, -1, *size)


class HighPass(nn.Module):
    def __init__(self, dim, *, num_heads):
        super().__init__()
        self.mix = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, prompt: Tensor | None) -> Tensor:
        high = x - nn.functional.avg_pool2d(x, 3, 1, 1)
        return x + self.mix(high if prompt is None else high * prompt.sigmoid())


class ScaleNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * nn.functional.normalize(x, dim=1)


OWN = {
    "block": (PlainBlock,),
    "evidence": (MeanEvidence,),
    "router": (SoftmaxRouter, UniformRouter),
    "experts": (ConvExperts,),
    "prompts.fusion": (OwnTokens,),
    "prompts.generation": (TokenMap,),
    "frequency": (HighPass,),
    "norm_layer": (ScaleNorm,),
}
SWAPS: dict[str, dict[str, Any]] = {
    "softmax router": {"router": SoftmaxRouter},
    "uniform router": {"router": UniformRouter, "evidence": nn.Identity, "prompts": None},
    "own block": {"block": PlainBlock},
    "own block with a setting": {"block": partial(PlainBlock, width=3)},
    "another wavelet": {"block": partial(cm.WTB, wave="db2")},
    "own evidence": {"evidence": MeanEvidence},
    "no evidence": {"evidence": nn.Identity},
    "own experts": {"experts": ConvExperts},
    "large experts": {"experts": partial(cm.GatedConvExperts, kernel_size=5)},
    "own tokens": {"prompts": cm.Prompts(fusion=OwnTokens)},
    "own prompt map": {"prompts": cm.Prompts(generation=TokenMap)},
    "prompts of some size": {"prompts": cm.Prompts(generation=partial(cm.PGB, num_components=3, size=4))},
    "no prompts": {"prompts": None},
    "own frequency module": {"frequency": HighPass},
    "no frequency path": {"frequency": None},
    "own norm": {"norm_layer": ScaleNorm},
    "three: router, block, frequency": {"router": SoftmaxRouter, "block": PlainBlock, "frequency": HighPass},
    "three: evidence, experts, prompts": {"evidence": MeanEvidence, "experts": ConvExperts, "prompts": None},
    "three: prompts, norm, wavelet": {
        "prompts": cm.Prompts(fusion=OwnTokens, generation=TokenMap),
        "norm_layer": ScaleNorm,
        "block": partial(cm.WTB, wave="db2"),
    },
    "all at once": {
        "router": SoftmaxRouter,
        "block": cm.WTB,
        "evidence": MeanEvidence,
        "experts": ConvExperts,
        "prompts": cm.Prompts(fusion=OwnTokens, generation=TokenMap),
        "frequency": HighPass,
        "norm_layer": ScaleNorm,
    },
}


def swapped(name: str, **settings: Any) -> cm.ClusIR:
    """A small network with the parts of a swap."""
    return cm.ClusIR(**{**SMALL, **SWAPS[name], **settings})


def register() -> None:
    """Make all parts of one's own known to files."""
    for kind, objects in OWN.items():
        for obj in objects:
            cm.PARTS[kind].register(obj)
