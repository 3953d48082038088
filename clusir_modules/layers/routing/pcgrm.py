"""Probabilistic cluster-guided routing mechanism: recognize the degradation first, choose experts second."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_number, check_positive, check_top_k
from ...ops.precision import full_precision, linear_parameters, widen
from ...ops.spatial_mean import spatial_mean
from ...ops.unit import unit
from .routing import Routing, choose_experts

__all__ = ["PCGRM"]

_LOG_TEMPERATURES = (math.log(0.01), math.log(10.0))  # bounds
_SOFTENING = 1e-7  # of the lengths of embeddings


class PCGRM(nn.Module):
    r"""Route an image to experts through a posterior over learned degradation clusters.

    .. math::
        z = \frac{W \operatorname{GAP}(x)}{\lVert W \operatorname{GAP}(x) \rVert}, \quad
        p(c|x) = \operatorname{softmax}_c \frac{\cos(z, P_c)}{\tau}, \quad
        p(e|x) = \sum_c p(c|x)\, p(e|c, x), \quad p(e|c, x) = \operatorname{softmax}_e(G_c z + b_c)

    The two steps and the mixture are the paper's; the form of :math:`p(e|c, x)`, the learned temperature and the prompt
    as tokens are this project's choices. The ``top_k`` largest :math:`p(e|x)` are kept and renormalized to sum 1; with
    ``top_k == num_experts`` all are kept as they are, in the order of the experts.

    Args:
        dim: channels of the feature map.
        num_clusters: prototypes ``L``.
        num_experts: experts ``E`` to choose from.
        top_k: experts ``k`` kept.
        embed_dim: width ``D`` of the embedding and of the prototypes.
        noise_std: standard deviation of Gaussian noise on :math:`\log p(e|x)` that disturbs, in training only, which
            experts are chosen, never their weights.
        fallback: confidence ``t`` in (1 / L, 1] below which the experts step back: their weights are multiplied by
            :math:`\min(1, (\max_c p(c|x) - 1 / L) / (t - 1 / L))`, so that an image of which the router knows nothing
            is left to what always runs, the shared expert of :class:`ClusterMoE`. Continuous, with a gradient to
            the posterior, in training as in eval. By default the weights always sum to 1.

    Shape:
        Input: ``(B, dim, H, W)``. Output: a :class:`Routing`.

    Raises:
        ValueError: a size below 1, ``top_k > num_experts``, a negative ``noise_std``, ``fallback`` out of range; in
            ``forward`` a wrong shape.
        TypeError: an integer tensor.

    Note: computed in float32 or wider whatever the autocast type, and for each image alone.

    Example:
        >>> PCGRM(32, num_clusters=8, num_experts=4)(torch.rand(2, 32, 9, 7)).prompt.shape
        torch.Size([2, 8, 128])

    Reference: ClusIR, arXiv:2512.10948, sec. on PCGRM. A coarse expert where the degradation is not sure:
    UniRestorer, arXiv:2412.20157; the ramp is this project's choice.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_clusters: int = 8,
        num_experts: int = 4,
        top_k: int = 2,
        embed_dim: int = 128,
        noise_std: float = 0.0,
        fallback: float | None = None,
    ) -> None:
        super().__init__()
        self.dim = check_positive("dim", dim)
        self.num_clusters = check_positive("num_clusters", num_clusters)
        check_top_k(top_k, num_experts)
        self.num_experts = num_experts
        self.top_k = top_k
        self.embed_dim = check_positive("embed_dim", embed_dim)
        self.noise_std = check_number("noise_std", noise_std, 0)
        self.fallback = fallback if fallback is None else check_number("fallback", fallback)
        if fallback is not None and not 1 / num_clusters < fallback <= 1:
            raise ValueError(f"fallback must be in (1 / num_clusters, 1] = ({1 / num_clusters:g}, 1], got {fallback}")
        self.embed = nn.Linear(dim, embed_dim)
        self.prototypes = nn.Parameter(torch.empty(num_clusters, embed_dim))
        self.log_temperature = nn.Parameter(torch.empty(()))
        self.expert_weight = nn.Parameter(torch.empty(num_clusters, num_experts, embed_dim))
        self.expert_bias = nn.Parameter(torch.empty(num_clusters, num_experts))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw prototypes as orthogonal as they can be, and experts that differ from cluster to cluster."""
        self.embed.reset_parameters()
        nn.init.orthogonal_(self.prototypes)
        nn.init.constant_(self.log_temperature, math.log(0.2))
        nn.init.normal_(self.expert_weight)
        nn.init.normal_(self.expert_bias)

    def forward(self, x: Tensor) -> Routing:
        check_feature_map(x, self.dim)
        with full_precision(x):
            pooled = spatial_mean(widen(x))
            embedding = F.linear(pooled, *(parameter.to(pooled) for parameter in linear_parameters(self.embed)))
            z, prototypes = unit(embedding, _SOFTENING), unit(self.prototypes.to(embedding), 1e-12)
            log_temperature = F.hardtanh(self.log_temperature.to(z), *_LOG_TEMPERATURES)
            sharpness = torch.pow(1 / math.e, log_temperature)  # a product has a shorter gradient than a quotient
            cluster_probs = (z @ prototypes.t() * sharpness).softmax(dim=-1)
            logits = F.linear(z, self.expert_weight.to(z).flatten(0, 1), self.expert_bias.to(z).flatten())
            logits = logits.unflatten(1, (self.num_clusters, -1))
            expert_probs = (cluster_probs.unsqueeze(1) @ logits.softmax(dim=-1)).squeeze(1)  # of p(e|c, x)
            routing = choose_experts(
                expert_probs,
                self.top_k,
                self.noise_std if self.training else 0.0,
                cluster_probs=cluster_probs,
                prompt=cluster_probs.unsqueeze(-1) * prototypes,
                expert_logits=logits,
            )
            if self.fallback is None:
                return routing
            least = 1 / self.num_clusters
            share = ((cluster_probs.amax(dim=1) - least) / (self.fallback - least)).clamp(0, 1)
            weights = routing.topk_weights * share.unsqueeze(1)
            # not by _replace, which torch 2.8 does not compile
            return Routing(cluster_probs, expert_probs, weights, routing.topk_indices, routing.prompt, logits)

    def extra_repr(self) -> str:
        fallback = "" if self.fallback is None else f", fallback={self.fallback:g}"
        return f"num_clusters={self.num_clusters}, num_experts={self.num_experts}, top_k={self.top_k}{fallback}"
