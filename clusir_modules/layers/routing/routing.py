"""What a router decides, and the choice of experts that routers share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.checks import check_top_k
from ...ops.shares import shares

__all__ = ["Routing", "choose_experts", "expand_routing"]


class Routing(NamedTuple):
    """What a router decided for each image of a batch; probabilities in float32 or wider, each row summing to 1.

    Attributes:
        cluster_probs: posterior ``p(c|x)``, ``(B, L)``.
        expert_probs: mixture ``p(e|x)``, ``(B, E)``.
        topk_weights: weights of the active experts, ``(B, k)``, summing to 1, or to less where a router with
            ``fallback`` is not sure of the image.
        topk_indices: the active experts, ``(B, k)``, int64.
        prompt: tokens ``p(c|x) P_c``, ``(B, L, D)``.
        expert_logits: of which ``p(e|c, x)`` is the softmax, ``(B, L, E)`` or for all clusters the same ``(B, 1, E)``;
            None from a router that does not hand them on.

    Example:
        >>> routing = choose_experts(torch.tensor([[0.5, 0.2, 0.3]]), top_k=2)
        >>> routing.cluster_probs.shape, routing.topk_weights.shape
        (torch.Size([1, 1]), torch.Size([1, 2]))
    """

    cluster_probs: Tensor
    expert_probs: Tensor
    topk_weights: Tensor
    topk_indices: Tensor
    prompt: Tensor
    expert_logits: Tensor | None = None

    @property
    def confidence(self) -> Tensor:
        """Posterior of the most probable cluster, ``(B,)`` in [1 / L, 1]: how sure the router is of what it sees.

        The routers of the shipped weights are too sure: 0.96 to 0.99 on average, where 0.67 to 0.83 of their clusters
        name the degradation (``benchmarks/results/quality_confidence.md``, by ``make quality``).
        """
        return self.cluster_probs.amax(dim=1)


def choose_experts(
    expert_probs: Tensor,
    top_k: int,
    noise_std: float = 0.0,
    *,
    cluster_probs: Tensor | None = None,
    prompt: Tensor | None = None,
    expert_logits: Tensor | None = None,
) -> Routing:
    r"""Keep the ``top_k`` most probable experts of each image and let their weights sum to 1.

    With ``top_k`` equal to the number of experts all are kept as they are, in their own order.

    Args:
        expert_probs: probability of each expert, ``(B, E)``, each row summing to 1.
        top_k: experts ``k`` that an image runs.
        noise_std: standard deviation of Gaussian noise on :math:`\log p(e|x)`. The noise decides only which experts
            are kept, never their weights. Routers pass it in training only.
        cluster_probs: probability of each cluster, ``(B, L)``. By default there is one cluster.
        prompt: tokens that describe the degradation, ``(B, L, D)``. By default tokens of width 0, for a router
            without clusters: :class:`PromptFusion` refuses them, so the network must have ``prompts=None``.
        expert_logits: logits of the experts in each cluster, ``(B, L, E)``, or for all clusters the same ``(B, 1, E)``,
            for :func:`router_z_loss`.

    Raises:
        ValueError: ``expert_probs`` is not a matrix, or ``top_k`` is not in ``[1, E]``; ``expert_logits`` do not fit
            the probabilities.

    Example:
        >>> routing = choose_experts(torch.tensor([[0.5, 0.2, 0.3]]), top_k=2)
        >>> routing.topk_indices.tolist(), routing.topk_weights.tolist()
        ([[0, 2]], [[0.625, 0.375]])
    """
    if expert_probs.dim() != 2:
        raise ValueError(f"expert_probs must have shape (B, E), got {tuple(expert_probs.shape)}")
    num_experts = int(expert_probs.shape[1])  # torch.jit.trace makes a tensor of it
    check_top_k(top_k, num_experts)
    if top_k == num_experts:
        weights = expert_probs
        indices = torch.arange(num_experts, device=expert_probs.device).expand_as(expert_probs)
    else:
        if noise_std > 0:
            scores = expert_probs.detach().log()
            indices = (scores + noise_std * torch.randn_like(scores)).topk(top_k, dim=-1).indices
            weights = expert_probs.gather(-1, indices)
        else:
            weights, indices = expert_probs.topk(top_k, dim=-1)
        weights = shares(weights)
    if cluster_probs is None:
        cluster_probs = torch.ones_like(expert_probs[:, :1])
    if prompt is None:
        prompt = expert_probs.new_empty(expert_probs.shape[0], 1, 0)
    batch, num_clusters = cluster_probs.shape
    if expert_logits is not None and expert_logits.shape not in (
        (batch, num_clusters, num_experts),
        (batch, 1, num_experts),
    ):
        raise ValueError(
            f"expert_logits must have shape ({batch}, {num_clusters}, {num_experts}) or ({batch}, 1, {num_experts}), "
            f"got {tuple(expert_logits.shape)}"
        )
    return Routing(cluster_probs, expert_probs, weights, indices, prompt, expert_logits)


def expand_routing(routing: Routing, batch: int) -> Routing:
    """Repeat the routing of one image for ``batch`` images (its tiles); leave one that fits as it is.

    Raises:
        TypeError: it is no :class:`Routing`.
        ValueError: it belongs to another number of images.
    """
    if not isinstance(routing, Routing):
        raise TypeError(f"routing must be a Routing, got {type(routing).__name__}")
    given = routing.topk_indices.shape[0]
    if given == batch:
        return routing
    if given != 1:
        raise ValueError(f"routing must belong to 1 or to {batch} images, got {given}")
    expanded = [None if value is None else value.expand(batch, *value.shape[1:]) for value in routing]
    return Routing(*expanded)  # type: ignore[arg-type]  # the last field may be None
