"""Networks of about 1.26 M parameters: clusir_tiny, peers, and clusir_tiny with one part replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

import clusir_modules as cm
from clusir_modules.ops.precision import widen

__all__ = ["CONTESTANTS", "PEERS"]


class _SoftmaxRouter(nn.Module):
    """A plain softmax over experts, of the size of the PCGRM in whose place it stands; its prompt is constant."""

    def __init__(self, router: cm.PCGRM) -> None:
        super().__init__()
        self.num_experts, self.top_k = router.num_experts, router.top_k
        size = sum(parameter.numel() for parameter in router.parameters())
        dim = router.dim
        self.hidden = nn.Linear(dim, (size - router.prototypes.numel()) // (dim + router.num_experts))
        self.choose = nn.Linear(self.hidden.out_features, router.num_experts)
        self.prompt = nn.Parameter(router.prototypes.detach().clone())

    def forward(self, x: Tensor) -> cm.Routing:
        probs = self.choose(torch.nn.functional.gelu(self.hidden(widen(x).mean(dim=(2, 3))))).softmax(dim=-1)
        weights, indices = probs.topk(self.top_k, dim=-1)
        clusters = probs.new_full((x.shape[0], self.prompt.shape[0]), 1 / self.prompt.shape[0])
        return cm.Routing(
            clusters,
            probs,
            weights / weights.sum(dim=-1, keepdim=True),
            indices,
            clusters[..., None] * nn.functional.normalize(self.prompt, dim=-1),
        )


class _Pass(nn.Module):
    def forward(self, x: Tensor, *_: Any) -> Tensor:
        return x


class _RestormerBlock(nn.Module):
    """Transposed attention and gated feed-forward at full resolution, about as large as the WTB it stands for."""

    def __init__(self, block: cm.WTB) -> None:
        super().__init__()
        size = sum(parameter.numel() for parameter in block.parameters())
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.attention = cm.TransposedAttention(block.dim, block.attention.num_heads)
        left = size - sum(parameter.numel() for parameter in self.attention.parameters())
        self.feed_forward = cm.GatedFeedForward(block.dim, hidden_dim=max(left // (3 * block.dim + 20), 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return cast(Tensor, x + self.feed_forward(self.norm2(x)))


def _replace(net: nn.Module, kind: type[nn.Module], make: Callable[[Any], nn.Module]) -> nn.Module:
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, make(child))
    return net


class _OwnTokens(nn.Module):
    """Prompt tokens of a level without those of the deepest one."""

    def forward(self, p_l: Tensor, _: Tensor) -> Tensor:
        return nn.functional.rms_norm(p_l, p_l.shape[1:], eps=1e-8)


class _PooledFeatures(nn.Module):
    """What a router saw before there was wavelet evidence: the map as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return widen(x)


def _restormer() -> nn.Module:
    from spandrel_extra_arches.architectures.Restormer import Restormer

    return Restormer(dim=16, num_blocks=[1, 2, 3, 2], num_refinement_blocks=1)


def _nafnet() -> nn.Module:
    from spandrel.architectures.NAFNet import NAFNet

    return NAFNet(width=16, enc_blk_nums=[1, 1, 1, 2], middle_blk_num=1, dec_blk_nums=[1, 1, 1, 1])


def _without(kind: type[nn.Module], make: Callable[[Any], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: _replace(cm.clusir_tiny(), kind, make)


CONTESTANTS: dict[str, Callable[[], nn.Module]] = {
    "ClusIR": cm.clusir_tiny,
    "Restormer": _restormer,
    "NAFNet": _nafnet,
    "softmax router": _without(cm.PCGRM, _SoftmaxRouter),
    "no DAFMM": _without(cm.DAFMM, lambda module: _Pass()),
    "attention block for WTB": _without(cm.WTB, _RestormerBlock),
    "prompts not fused": _without(cm.PromptFusion, lambda module: _OwnTokens()),
    "no MS-SSIM": cm.clusir_tiny,
    "plain mean": cm.clusir_tiny,
    "no wavelet evidence": _without(cm.WaveletEvidence, lambda module: _PooledFeatures()),
}
"""By name; "no MS-SSIM" and "plain mean" differ in their loss alone."""
PEERS = ("ClusIR", "Restormer", "NAFNet")
