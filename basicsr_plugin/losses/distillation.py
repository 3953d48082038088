"""Losses beside a teacher: a frozen network whose picture or clusters the trained one is to come near."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import clusir_modules as cm
from basicsr_plugin.losses.routing_losses import returns_routing
from clusir_modules.inference.network import channels_of, evaluating, final_image
from clusir_modules.serialization.network_files import load_network

__all__ = ["DISTILLATION", "Answer", "Distillation", "Teachers", "check_teacher"]

DISTILLATION = "distillation"
"""What entries of ``train.losses`` are called that are made here."""
_SHIPPED = "clusir_tiny"
_PROBE = 16  # pixels; one multiple of ClusIR's sides

Answer = tuple[Tensor, Any]
"""Picture and routings of a teacher; the latter are None where nobody asks for them."""


class Distillation(nn.Module):
    """One term: the distance from what the teacher says.

    Of pictures it is the mean absolute difference, of every stage as for any loss on pictures; of clusters
    ``clusir_modules.distillation_loss``.

    Args:
        teacher: ``clusir_tiny`` for the shipped weights, or a file or folder that ``load_network`` reads.
        of: What is compared.
    """

    def __init__(self, teacher: str, of: Literal["pictures", "clusters"] = "pictures") -> None:
        super().__init__()
        self.teacher = teacher
        self.of = of

    def forward(self, student: Tensor, shown: Tensor) -> Tensor:
        if student.shape != shown.shape:
            raise ValueError(
                f"the teacher {self.teacher} must give pictures of the student's shape, got {tuple(shown.shape)} for "
                f"{tuple(student.shape)}"
            )
        return (student - shown).abs().mean()


def check_teacher(teacher: str) -> None:
    """Refuse what no teacher can be made of, before it is loaded.

    Raises:
        ValueError: It is neither the name of shipped weights nor a file or folder.
    """
    if teacher != _SHIPPED and not Path(teacher).exists():
        raise ValueError(
            f"teacher must be {_SHIPPED}, whose weights are shipped, or a file or folder of weights, got {teacher!r}, "
            "which is not there"
        )


class Teachers(nn.Module):
    """The teachers of a run, each loaded and asked once for all terms that name it.

    They are frozen and in evaluation mode, and belong to the loss: neither the network's weights nor its moving average
    nor a checkpoint holds them.

    Args:
        terms: The terms.
        net: The bare network that is trained.

    Raises:
        ValueError: A teacher cannot be loaded, takes other channels, or routes to other numbers of clusters.
    """

    def __init__(self, terms: Sequence[Distillation], net: nn.Module) -> None:
        super().__init__()
        self.names = list(dict.fromkeys(term.teacher for term in terms))
        self.networks = nn.ModuleList(_load(name) for name in self.names)
        self._routed = {term.teacher for term in terms if term.of == "clusters"}
        for name, teacher in zip(self.names, self.networks, strict=True):
            _require_alike(name, teacher, net, routed=name in self._routed)

    def train(self, mode: bool = True) -> Teachers:
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, lq: Tensor) -> dict[str, Answer]:
        """What each teacher makes of inputs, by its name; in float32 or wider."""
        answers: dict[str, Answer] = {}
        for name, teacher in zip(self.names, self.networks, strict=True):
            if name in self._routed:
                output, routings = teacher(lq, return_routing=True)
            else:
                output, routings = teacher(lq), None
            answers[name] = final_image(output).float(), routings
        return answers


def _load(name: str) -> nn.Module:
    check_teacher(name)
    net = cm.clusir_tiny(pretrained=True) if name == _SHIPPED else load_network(name)
    return net.eval().requires_grad_(False)


def _require_alike(name: str, teacher: nn.Module, net: nn.Module, *, routed: bool) -> None:
    taken, given = channels_of(teacher), channels_of(net)
    if None not in (taken, given) and taken != given:
        raise ValueError(f"the teacher {name} must take images of {given} channels as the network, got {taken}")
    if not routed:
        return
    for whose, network in ((f"the teacher {name}", teacher), ("the network", net)):
        if not returns_routing(network):
            raise ValueError(f"distillation of clusters needs routing, but {whose}, {type(network).__name__}, has none")
    shown, own = _count_clusters(teacher), _count_clusters(net)
    if shown != own:
        raise ValueError(
            f"distillation of clusters needs equal numbers of clusters, level by level: the teacher {name} has "
            f"{shown}, the network {own}"
        )


@torch.no_grad()
def _count_clusters(net: nn.Module) -> list[int]:
    weight = next(net.parameters())
    image = weight.new_zeros(1, channels_of(net) or 3, _PROBE, _PROBE)
    with evaluating(net), torch.compiler.set_stance("force_eager"):
        _, routings = net(image, return_routing=True)
    return [routing.cluster_probs.shape[1] for routing in routings]
