"""The training loss: criteria on the picture, stage by stage, and terms on the routing."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from basicsr.losses import build_loss
from torch import Tensor, nn

from clusir_modules.losses.routing import cluster_information_loss, load_balance_loss, orthogonality_loss

__all__ = ["Objective", "final_stage"]

_CRITERIA = {"pixel_opt": "l_pix", "edge_opt": "l_edge"}
_ROUTING_TERMS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "balance_opt": ("l_balance", lambda routings, net, **kw: load_balance_loss(routings, **kw)),
    "orthogonality_opt": ("l_orthogonality", lambda routings, net: orthogonality_loss(net)),
    "information_opt": (
        "l_information",
        lambda routings, net, **kw: cluster_information_loss(routings, **kw),
    ),
}


def final_stage(outputs: Tensor | Sequence[Tensor]) -> Tensor:
    """The picture among what a network returned: the tensor, or the first of a list of stages."""
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def _without_weight(section: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name != "loss_weight"}


class Objective:
    """Sum of the loss terms that the ``train`` section asks for.

    ``pixel_opt`` and ``edge_opt`` are applied to every stage and summed with ``stage_weights`` (all 1 by default),
    ``perceptual_opt`` to the final stage. ``balance_opt``, ``orthogonality_opt`` and ``information_opt`` are logged as
    they are and added times their ``loss_weight``. ``balance_opt`` and ``information_opt`` are statistics of the batch
    at hand, so with accumulation or several processes they are means over the parts, which is not their value for the
    whole batch; with ``all_reduce: true`` the processes share one statistic.

    Args:
        train_opt: The ``train`` section.
        net: The bare network.
        device: Where the criteria live.

    Raises:
        ValueError: There is no criterion on the picture, or a routing term is asked of a network without routing.
    """

    def __init__(self, train_opt: Mapping[str, Any], net: nn.Module, device: torch.device) -> None:
        self.criteria = {
            label: build_loss(train_opt[name]).to(device) for name, label in _CRITERIA.items() if train_opt.get(name)
        }
        perceptual = train_opt.get("perceptual_opt")
        self.perceptual = build_loss(perceptual).to(device) if perceptual else None
        if not self.criteria and self.perceptual is None:
            raise ValueError("train needs at least one of pixel_opt, edge_opt and perceptual_opt")
        self.routing_terms = [
            (label, float(train_opt[name]["loss_weight"]), partial(term, **_without_weight(train_opt[name])))
            for name, (label, term) in _ROUTING_TERMS.items()
            if train_opt.get(name)
        ]
        self.needs_routing = bool(self.routing_terms)
        if self.needs_routing and "return_routing" not in inspect.signature(net.forward).parameters:
            asked = [name for name in _ROUTING_TERMS if train_opt.get(name)]
            raise ValueError(
                f"train.{asked[0]} needs a network with routing, but the forward of {type(net).__name__} takes no "
                "return_routing"
            )
        self.stage_weights: Sequence[float] | None = train_opt.get("stage_weights")

    def __call__(
        self, outputs: Tensor | Sequence[Tensor], target: Tensor, routings: Any, net: nn.Module
    ) -> tuple[Tensor, OrderedDict[str, Tensor]]:
        """Evaluate the loss.

        Args:
            outputs: Picture, shape (B, C, H, W), or a list of stages, the final one first.
            target: Shape (B, C, H, W).
            routings: What the network returned for ``return_routing``, or None.
            net: The bare network.

        Returns:
            The loss, and every term by the name it is logged as, the loss itself included as ``l_total``.

        Raises:
            ValueError: The network has another number of stages than ``stage_weights``.
        """
        stages = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        stage_weights = [1.0] * len(stages) if self.stage_weights is None else self.stage_weights
        if len(stage_weights) != len(stages):
            raise ValueError(
                f"train.stage_weights must have one entry for each of the network's {len(stages)} stages, got "
                f"{list(stage_weights)}"
            )
        terms: OrderedDict[str, Tensor] = OrderedDict()
        for label, criterion in self.criteria.items():
            losses = [weight * criterion(stage, target) for weight, stage in zip(stage_weights, stages, strict=True)]
            terms[label] = torch.stack(losses).sum()
        if self.perceptual is not None:
            for label, loss in zip(("l_percep", "l_style"), self.perceptual(stages[0], target), strict=True):
                if loss is not None:
                    terms[label] = loss
        total = torch.stack(list(terms.values())).sum()
        for label, weight, term in self.routing_terms:
            value = term(routings, net)
            terms[label] = value
            total = total + weight * value
        terms["l_total"] = total
        return total, terms
