"""Networks of about 1.26 M parameters: clusir_tiny, peers, and clusir_tiny with one part replaced."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import clusir_modules as cm
from clusir_modules.ops.precision import widen

__all__ = ["CONTESTANTS", "PEERS", "STUDENTS", "TAUGHT"]


class SoftmaxRouter(nn.Module):
    """A plain softmax over experts, of the size of the PCGRM in whose place it stands; its prompt is constant."""

    def __init__(self, dim: int, *, num_experts: int, num_clusters: int, top_k: int, embed_dim: int) -> None:
        super().__init__()
        self.num_experts, self.top_k = num_experts, top_k
        size = (
            (dim + 1) * embed_dim + num_clusters * num_experts * (embed_dim + 1) + 1
        )  # of PCGRM beside its prototypes
        self.hidden = nn.Linear(dim, size // (dim + num_experts))
        self.choose = nn.Linear(self.hidden.out_features, num_experts)
        self.prompt = nn.Parameter(nn.init.orthogonal_(torch.empty(num_clusters, embed_dim)))

    def forward(self, x: Tensor) -> cm.Routing:
        probs = self.choose(nn.functional.gelu(self.hidden(widen(x).mean(dim=(2, 3))))).softmax(dim=-1)
        clusters = probs.new_full((x.shape[0], self.prompt.shape[0]), 1 / self.prompt.shape[0])
        tokens = clusters[..., None] * nn.functional.normalize(self.prompt, dim=-1)
        return cm.choose_experts(probs, self.top_k, cluster_probs=clusters, prompt=tokens)


class AttentionBlock(nn.Module):
    """Transposed attention and gated feed-forward at full resolution, about as large as the WTB it stands for."""

    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        size = sum(parameter.numel() for parameter in cm.WTB(dim, num_heads).parameters())
        self.norm1, self.norm2 = cm.LayerNorm2d(dim), cm.LayerNorm2d(dim)
        self.attention = cm.TransposedAttention(dim, num_heads)
        left = size - sum(parameter.numel() for parameter in self.attention.parameters())
        self.feed_forward = cm.GatedFeedForward(dim, hidden_dim=max(left // (3 * dim + 20), 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class OwnTokens(nn.Module):
    """Prompt tokens of a level without those of the deepest one."""

    def __init__(self, embed_dim: int, *, num_heads: int) -> None:
        super().__init__()

    def forward(self, p_l: Tensor, _: Tensor) -> Tensor:
        return nn.functional.rms_norm(p_l, p_l.shape[1:], eps=1e-8)


def _restormer() -> nn.Module:
    from spandrel_extra_arches.architectures.Restormer import Restormer

    return Restormer(dim=16, num_blocks=[1, 2, 3, 2], num_refinement_blocks=1)


def _nafnet() -> nn.Module:
    from spandrel.architectures.NAFNet import NAFNet

    return NAFNet(width=16, enc_blk_nums=[1, 1, 1, 2], middle_blk_num=1, dec_blk_nums=[1, 1, 1, 1])


def _student() -> nn.Module:
    return cm.clusir_tiny(dim=8, embed_dim=32)


CONTESTANTS: dict[str, Callable[[], nn.Module]] = {
    "ClusIR": cm.clusir_tiny,
    "Restormer": _restormer,
    "NAFNet": _nafnet,
    "softmax router": lambda: cm.clusir_tiny(router=SoftmaxRouter),
    "no frequency path": lambda: cm.clusir_tiny(frequency=None),
    "no prompts": lambda: cm.clusir_tiny(prompts=None),
    "attention block for WTB": lambda: cm.clusir_tiny(block=AttentionBlock),
    "prompts not fused": lambda: cm.clusir_tiny(prompts=cm.Prompts(fusion=OwnTokens)),
    "no wavelet evidence": lambda: cm.clusir_tiny(evidence=nn.Identity),
    "no MS-SSIM": cm.clusir_tiny,
    "plain mean": cm.clusir_tiny,
    "small ClusIR": _student,
    "small ClusIR, taught pictures": _student,
    "small ClusIR, taught pictures and clusters": _student,
}
"""By name; "no MS-SSIM" and "plain mean" differ in their loss alone, "no frequency path" has no prompts either."""
PEERS = ("ClusIR", "Restormer", "NAFNet")
TAUGHT: dict[str, tuple[float, float]] = {
    "small ClusIR, taught pictures": (1.0, 0.0),
    "small ClusIR, taught pictures and clusters": (1.0, 0.05),
}
"""Pupils of the shipped clusir_tiny: weights of the distance of pictures and of the divergence of clusters."""
STUDENTS = ("small ClusIR", *TAUGHT)
