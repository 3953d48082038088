"""Mixture of experts whose router recognizes degradation clusters."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Literal, overload

from torch import Tensor, nn

from ...ops.checks import check_feature_map, check_not_empty
from ..basic.norm import LayerNorm2d, NormFactory
from ..basic.small_conv import START_SCALE
from ..protocols import ExpertsFactory, RouterFactory, make_part
from ..routing.pcgrm import PCGRM
from ..routing.routing import Routing, expand_routing
from ..transformer.feed_forward import GatedFeedForward
from .dispatch import DispatchedExperts
from .gated_conv_experts import GatedConvExperts

__all__ = ["DEFAULT_EXPERTS", "ClusterMoE"]

DEFAULT_EXPERTS: ExpertsFactory = partial(GatedConvExperts, init_scale=START_SCALE)
"""Gated convolutions that start near zero."""


class ClusterMoE(nn.Module):
    r"""Run a shared expert and the experts that the router chose for each image; the residual is inside.

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
        noise_std: routing noise in training, see :class:`PCGRM`. It is handed to the router only where it is not 0.
        router: makes the router, or is one; see :class:`~clusir_modules.layers.protocols.RouterFactory`.
        experts: makes the experts, or is the finished module, see
            :class:`~clusir_modules.layers.protocols.ExpertsFactory`; or ``num_experts`` modules of one's own
            ``(b, dim, H, W) -> (b, dim, H, W)``, which :class:`DispatchedExperts` runs.
        norm_layer: makes the norm from ``dim``.

    Shape:
        Input and output: ``(B, dim, H, W)``. With ``return_routing=True`` the output is ``(y, Routing)``.

    Raises:
        ValueError: sizes that do not fit each other, another number of experts than ``num_experts``; in ``forward`` a
            wrong shape, or a routing of another batch or other experts.
        TypeError: an integer tensor, a part that is neither a module nor makes one, or no :class:`Routing`.

    Note: in eval an image's output does not depend on its batch mates.

    Example:
        >>> y, routing = ClusterMoE(16, num_experts=4)(torch.rand(2, 16, 8, 8), return_routing=True)
        >>> y.shape, routing.topk_indices.shape
        (torch.Size([2, 16, 8, 8]), torch.Size([2, 2]))

    Reference: ClusIR, arXiv:2512.10948, sec. on PCGRM.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_experts: int = 4,
        num_clusters: int = 8,
        top_k: int = 2,
        embed_dim: int = 128,
        hidden_dim: int | None = None,
        noise_std: float = 0.0,
        router: RouterFactory | nn.Module = PCGRM,
        experts: ExpertsFactory | nn.Module | Iterable[nn.Module] = DEFAULT_EXPERTS,
        norm_layer: NormFactory = LayerNorm2d,
    ) -> None:
        super().__init__()
        self.dim = dim
        if not isinstance(router, nn.Module):
            noise = {"noise_std": noise_std} if noise_std != 0 else {}
            router = make_part(
                "router",
                router,
                dim,
                num_experts=num_experts,
                num_clusters=num_clusters,
                top_k=top_k,
                embed_dim=embed_dim,
                **noise,
            )
        if getattr(router, "num_experts", None) != num_experts:
            given = getattr(router, "num_experts", "no such attribute")
            raise ValueError(f"router must have the attribute num_experts={num_experts}, got {given}")
        self.router = router
        self.norm = make_part("norm_layer", norm_layer, dim)
        self.shared_expert = GatedFeedForward(dim, hidden_dim=hidden_dim, starts_small=True)
        self.experts = _make_experts(experts, dim, num_experts, hidden_dim)

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
        routed = self.experts(normed, routing.topk_weights, routing.topk_indices)
        y = x + self.shared_expert(normed) + routed
        return (y, routing) if return_routing else y


def _make_experts(
    experts: ExpertsFactory | nn.Module | Iterable[nn.Module], dim: int, num_experts: int, hidden_dim: int | None
) -> nn.Module:
    if isinstance(experts, nn.Module) and not isinstance(experts, nn.ModuleList):
        return experts
    if isinstance(experts, Iterable):
        modules = DispatchedExperts(experts)
        if len(modules) != num_experts:
            raise ValueError(f"experts must hold num_experts={num_experts} modules, got {len(modules)}")
        return modules
    if not callable(experts):
        raise TypeError(f"experts must be modules or make them, got {type(experts).__name__}")
    return make_part("experts", experts, dim, num_experts=num_experts, hidden_dim=hidden_dim)
