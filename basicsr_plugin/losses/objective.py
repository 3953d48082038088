"""The training loss: terms on the picture, stage by stage, and terms on the routing."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn

from basicsr_plugin.losses.distillation import DISTILLATION, Answer, Distillation, Teachers
from basicsr_plugin.losses.routing_losses import ROUTING_LOSS_REGISTRY, returns_routing
from basicsr_plugin.options.schema import LossOptions
from clusir_modules import distillation_loss

__all__ = ["Objective"]

_NAMES = {
    **dict.fromkeys(("L1Loss", "MSELoss", "CharbonnierLoss", "L1MSSSIMLoss"), "l_pix"),
    "EdgeLoss": "l_edge",
    "FFTLoss": "l_fft",
    "FocalFrequencyLoss": "l_frequency",
    "PerceptualLoss": "l_percep",
    "load_balance": "l_balance",
    "orthogonality": "l_orthogonality",
    "cluster_information": "l_information",
    "cluster_task_information": "l_task_information",
    "router_z": "l_z",
}


class Objective(nn.Module):
    """Sum of the terms in a list of losses.

    A term on the picture is a loss of BasicSR's registry, called with (prediction, target) for every stage; its value
    is the sum over the stages, each times its weight in ``stages``. A term on the routing is a function of
    ``ROUTING_LOSS_REGISTRY``, called with (routings, net), and with ``tasks`` if it has that keyword. Every term is
    logged as it is and added times its ``weight``. Statistics of a batch, such as ``load_balance``, are means over the
    parts with accumulation or several processes, which is not their value for the whole batch; with ``all_reduce`` the
    processes share one statistic.

    Args:
        losses: The terms; at least one is on the picture.
        net: The bare network.

    Raises:
        ValueError: There is no term on the picture, a loss is not registered, or one on the routing is asked of a
            network without.
    """

    def __init__(self, losses: Sequence[LossOptions], net: nn.Module) -> None:
        super().__init__()
        self.criteria = nn.ModuleList()
        self.pictures: list[tuple[str, LossOptions]] = []
        self.routings: list[tuple[str, float, Callable[..., Tensor], bool]] = []
        used: dict[str, int] = {}
        self.taught: list[tuple[str, LossOptions, Distillation]] = []
        for loss in losses:
            if loss.type == DISTILLATION:
                term = Distillation(**loss.settings)
                self.taught.append((_numbered(loss.name or f"l_teacher_{term.of}", used), loss, term))
                continue
            name = _numbered(loss.name or _NAMES.get(loss.type, f"l_{loss.type}"), used)
            if loss.type in ROUTING_LOSS_REGISTRY:
                function = ROUTING_LOSS_REGISTRY.get(loss.type)
                told = "tasks" in inspect.signature(function).parameters
                self.routings.append((name, loss.weight, partial(function, **loss.settings), told))
                _require_routing(loss, net)
            else:
                self.criteria.append(LOSS_REGISTRY.get(loss.type)(**loss.settings))
                self.pictures.append((name, loss))
        if not self.pictures:
            raise ValueError("train.losses needs at least one loss on the picture")
        self.teachers = Teachers([term for _, _, term in self.taught], net)

    @property
    def needs_routing(self) -> bool:
        """Whether a term is on the routing."""
        return bool(self.routings) or any(term.of == "clusters" for _, _, term in self.taught)

    def ask_teachers(self, lq: Tensor) -> dict[str, Answer]:
        """What the teachers make of an input, by their names, for :meth:`forward`; nothing without teachers."""
        answers: dict[str, Answer] = self.teachers(lq)
        return answers

    def forward(
        self,
        outputs: Tensor | Sequence[Tensor],
        target: Tensor,
        routings: Any,
        net: nn.Module,
        tasks: Tensor | None = None,
        answers: Mapping[str, Answer] | None = None,
    ) -> tuple[Tensor, OrderedDict[str, Tensor]]:
        """Evaluate the loss.

        Args:
            outputs: Picture, shape (B, C, H, W), or a list of stages, the final one first.
            target: Shape (B, C, H, W).
            routings: What the network returned for ``return_routing``, or None.
            net: The bare network.
            tasks: Number of each sample's task, shape (B,), for terms on the routing that ask for it.
            answers: Of the teachers, see :meth:`ask_teachers`.

        Returns:
            The loss, and every term by the name it is logged as, the loss itself included as ``l_total``.

        Raises:
            ValueError: The network has another number of stages than an entry of ``stages``, or a term asks for tasks
                and the data set names none.
        """
        stages = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        terms: OrderedDict[str, Tensor] = OrderedDict()
        parts: list[Tensor] = []
        for (name, loss), criterion in zip(self.pictures, self.criteria, strict=True):
            for label, raw, weighted in _on_pictures(name, loss, criterion, stages, target):
                terms[label] = raw
                parts.append(weighted)
        for label, raw, weighted in self._beside_teachers(stages, routings, answers or {}):
            terms[label] = raw
            parts.append(weighted)
        total = torch.stack(parts).sum()
        for name, weight, term, told in self.routings:
            more = {"tasks": _require_tasks(name, tasks)} if told else {}
            terms[name] = term(routings, net, **more)
            total = total + weight * terms[name]
        terms["l_total"] = total
        return total, terms

    def _beside_teachers(
        self, stages: Sequence[Tensor], routings: Any, answers: Mapping[str, Answer]
    ) -> list[tuple[str, Tensor, Tensor]]:
        """Name, value and share in the total of each term beside a teacher."""
        found: list[tuple[str, Tensor, Tensor]] = []
        for name, loss, term in self.taught:
            picture, decided = answers[term.teacher]
            if term.of == "pictures":
                found += _on_pictures(name, loss, term, stages, picture)
            else:
                value = distillation_loss(routings, decided)
                found.append((name, value.detach(), loss.weight * value))
        return found


def _on_pictures(
    name: str, loss: LossOptions, criterion: nn.Module, stages: Sequence[Tensor], target: Tensor
) -> list[tuple[str, Tensor, Tensor]]:
    """Name, value and share in the total of one term; two for a loss that returns two, such as BasicSR's perceptual."""
    weights = _stage_weights(loss, len(stages))
    values = [(weight, criterion(stage, target)) for weight, stage in zip(weights, stages, strict=False)]
    if not isinstance(values[0][1], tuple):
        return [(name, *_summed([(weight, value) for weight, value in values], loss.weight))]
    style = "l_style" if name == "l_percep" else f"{name}_style"
    found = []
    for place, label in enumerate((name, style)):
        if values[0][1][place] is not None:
            found.append((label, *_summed([(weight, pair[place]) for weight, pair in values], loss.weight)))
    return found


def _summed(values: Sequence[tuple[float, Tensor]], factor: float) -> tuple[Tensor, Tensor]:
    raw = torch.stack([weight * value.detach() for weight, value in values]).sum()
    return raw, torch.stack([weight * (factor * value) for weight, value in values]).sum()


def _stage_weights(loss: LossOptions, stages: int) -> list[float]:
    if loss.stages is None:
        return [1.0] * stages
    if loss.stages == "final":
        return [1.0]
    if len(loss.stages) != stages:
        raise ValueError(
            f"stages of the loss {loss.type} must have one weight for each of the network's {stages} stages, got "
            f"{list(loss.stages)}"
        )
    return list(loss.stages)


def _numbered(name: str, used: dict[str, int]) -> str:
    used[name] = used.get(name, 0) + 1
    return name if used[name] == 1 else f"{name}_{used[name]}"


def _require_tasks(name: str, tasks: Tensor | None) -> Tensor:
    if tasks is None:
        raise ValueError(
            f"the loss {name} needs the task of each sample, task_id, which AllInOneDataset gives; got none"
        )
    return tasks


def _require_routing(loss: LossOptions, net: nn.Module) -> None:
    if not returns_routing(net):
        raise ValueError(
            f"the loss {loss.type} in train.losses needs a network with routing, but the forward of "
            f"{type(net).__name__} takes no return_routing"
        )
