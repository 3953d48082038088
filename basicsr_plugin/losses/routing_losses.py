"""Losses on routings, by the names that ``train.losses`` gives them: functions (routings, net) -> scalar.

One with a keyword ``tasks`` also gets the number of each sample's task, integers (B,), as ``AllInOneDataset`` gives it
in ``task_id``. A project adds its own by ``@ROUTING_LOSS_REGISTRY.register()`` in a module that ``imports:`` names.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from basicsr.utils.registry import Registry
from torch import Tensor, nn

from clusir_modules import Routing
from clusir_modules.losses.routing import cluster_information_loss, load_balance_loss, orthogonality_loss, router_z_loss

__all__ = [
    "ROUTING_LOSS_REGISTRY",
    "cluster_information",
    "cluster_task_information",
    "load_balance",
    "orthogonality",
    "returns_routing",
    "router_z",
]

ROUTING_LOSS_REGISTRY = Registry("routing_loss")


def returns_routing(net: nn.Module) -> bool:
    """Whether a network returns its routings when it is asked to, by ``return_routing=True``."""
    return "return_routing" in inspect.signature(net.forward).parameters


@ROUTING_LOSS_REGISTRY.register()
def load_balance(routings: Sequence[Routing], net: nn.Module, *, all_reduce: bool = False) -> Tensor:
    """Even use of the experts, see ``clusir_modules.load_balance_loss``."""
    return load_balance_loss(routings, all_reduce=all_reduce)


@ROUTING_LOSS_REGISTRY.register()
def orthogonality(routings: Sequence[Routing], net: nn.Module) -> Tensor:
    """Prototypes apart from each other, see ``clusir_modules.orthogonality_loss``."""
    return orthogonality_loss(net)


@ROUTING_LOSS_REGISTRY.register()
def cluster_information(routings: Sequence[Routing], net: nn.Module, *, all_reduce: bool = False) -> Tensor:
    """Each image sure of its cluster, all clusters used, see ``clusir_modules.cluster_information_loss``."""
    return cluster_information_loss(routings, all_reduce=all_reduce)


@ROUTING_LOSS_REGISTRY.register()
def cluster_task_information(
    routings: Sequence[Routing], net: nn.Module, *, tasks: Tensor, all_reduce: bool = False
) -> Tensor:
    """Images of one task in one cluster, see ``clusir_modules.cluster_information_loss`` with labels."""
    return cluster_information_loss(routings, tasks, all_reduce=all_reduce)


@ROUTING_LOSS_REGISTRY.register()
def router_z(routings: Sequence[Routing], net: nn.Module) -> Tensor:
    """Small logits of the experts, see ``clusir_modules.router_z_loss``."""
    return router_z_loss(routings)
