"""Mixture of experts whose router recognizes degradation clusters."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_not_empty
from ..basic.initial import start_small
from ..basic.norm import layer_norm_2d
from ..routing.pcgrm import PCGRM, Routing
from ..transformer.feed_forward import GatedFeedForward
from .dispatch import dispatch
from .gated_conv_experts import GatedConvExperts

__all__ = ["ClusterMoE", "expand_routing"]


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
    return Routing(*(value.expand(batch, *value.shape[1:]) for value in routing))


class ClusterMoE(nn.Module):
    r"""Run a shared expert and the experts that :class:`PCGRM` chose for each image; the residual is inside.

    .. math:: y = x + f_{shared}(n) + \sum_{e \in \operatorname{top-k}} w_e f_e(n), \quad n = \operatorname{norm}(x)

    Only the chosen experts run, each image has its own (paper). Form of the experts, norm, shared expert and residual
    are this project's choices.

    Args:
        dim: channels in and out.
        num_experts: experts ``E``.
        num_clusters: prototypes of the router.
        top_k: experts that an image runs.
        embed_dim: width of the router's embedding.
        hidden_dim: width of each expert and of the shared one; default ``dim``.
        experts: ``num_experts`` modules ``(b, dim, H, W) -> (b, dim, H, W)`` of one's own in place of the gated
            convolutions; they are called once each with the images that chose them, an idle one with an empty batch.
        noise_std: routing noise in training, see :class:`PCGRM`.

    Shape:
        Input and output: ``(B, dim, H, W)``. With ``return_routing=True`` the output is ``(y, Routing)``.

    Raises:
        ValueError: sizes that do not fit each other, ``len(experts) != num_experts``; in ``forward`` a wrong shape, or
            a routing of another batch or other experts.
        TypeError: an integer tensor, ``experts`` that are no module list, or no :class:`Routing`.

    Note: in eval an image's output does not depend on its batch mates. ``experts`` of one's own have shapes that depend
    on the routing, which ``torch.compile`` captures with ``capture_dynamic_output_shape_ops``; the default ones are
    static.

    Example:
        >>> y, routing = ClusterMoE(16, num_experts=4)(torch.rand(2, 16, 8, 8), return_routing=True)
        >>> y.shape, routing.topk_indices.shape
        (torch.Size([2, 16, 8, 8]), torch.Size([2, 2]))

    Reference: ClusIR, arXiv:2512.10948, sec. on PCGRM.
    """

    def __init__(
        self,
        dim: int,
        num_experts: int = 4,
        num_clusters: int = 8,
        top_k: int = 2,
        embed_dim: int = 128,
        *,
        hidden_dim: int | None = None,
        experts: nn.ModuleList | None = None,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__()
        self.router = PCGRM(dim, num_clusters, num_experts, top_k, embed_dim, noise_std=noise_std)
        if experts is not None and not isinstance(experts, nn.ModuleList):
            raise TypeError(f"experts must be a torch.nn.ModuleList, got {type(experts).__name__}")
        if experts is not None and len(experts) != num_experts:
            raise ValueError(f"experts must hold num_experts={num_experts} modules, got {len(experts)}")
        self.dim = dim
        self.norm = layer_norm_2d(dim)
        self.shared_expert = GatedFeedForward(dim, hidden_dim=hidden_dim)
        self.experts = GatedConvExperts(dim, num_experts, hidden_dim=hidden_dim) if experts is None else experts
        start_small(self.shared_expert.project_out)
        if isinstance(self.experts, GatedConvExperts):
            start_small(self.experts.project_weight, self.experts.project_bias)

    @overload
    def forward(self, x: Tensor, *, routing: Routing | None = ..., return_routing: Literal[False] = ...) -> Tensor: ...

    @overload
    def forward(
        self, x: Tensor, *, routing: Routing | None = ..., return_routing: Literal[True]
    ) -> tuple[Tensor, Routing]: ...

    def forward(
        self, x: Tensor, *, routing: Routing | None = None, return_routing: bool = False
    ) -> Tensor | tuple[Tensor, Routing]:
        check_feature_map(x, self.dim)
        check_not_empty(x)
        routing = self.router(x) if routing is None else expand_routing(routing, x.shape[0])
        if routing.expert_probs.shape[1] != self.router.num_experts:
            raise ValueError(
                f"routing must be over num_experts={self.router.num_experts} experts, "
                f"got {routing.expert_probs.shape[1]}"
            )
        if routing.topk_weights.shape != routing.topk_indices.shape:
            raise ValueError(
                f"routing must have topk_weights of the shape of topk_indices, {tuple(routing.topk_indices.shape)}, "
                f"got {tuple(routing.topk_weights.shape)}"
            )
        normed = self.norm(x)
        if isinstance(self.experts, GatedConvExperts):
            routed = self.experts(normed, routing.topk_weights, routing.topk_indices)
        else:
            routed = dispatch(self.experts, normed, routing.topk_weights, routing.topk_indices)
        y = x + self.shared_expert(normed) + routed
        return (y, routing) if return_routing else y
