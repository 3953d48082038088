"""A student's routing beside its teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layers.routing.routing import Routing
from ..ops.precision import widen
from .routing import _as_sequence

__all__ = ["distillation_loss"]


def distillation_loss(student: Routing | Sequence[Routing], teacher: Routing | Sequence[Routing]) -> Tensor:
    r"""Kullback-Leibler divergence of the student's clusters from the teacher's, averaged over images and routers.

    .. math:: \operatorname{mean}_b \sum_c t_{bc} (\log t_{bc} - \log s_{bc}), \quad
        t = p_{\text{teacher}}(c|x), \; s = p_{\text{student}}(c|x)

    The student learns to see the same degradation in the same cluster; how many experts it has does not matter. The
    teacher gets no gradient. Probabilities below the smallest normal number of their type count as that.

    Args:
        student: one :class:`Routing` or one for each router.
        teacher: as many, for the same images and with the same numbers of clusters.

    Returns:
        A scalar, at least 0; 0 where both route alike.

    Raises:
        TypeError: what is given is neither a routing nor a sequence of them.
        ValueError: an empty sequence, an empty batch, or routings that differ in number, images or clusters.

    Example:
        >>> from clusir_modules import choose_experts
        >>> sure = choose_experts(torch.full((4, 2), 0.5), 1, cluster_probs=torch.eye(4))
        >>> unsure = choose_experts(torch.full((4, 2), 0.5), 1, cluster_probs=torch.full((4, 4), 0.25))
        >>> distillation_loss(unsure, sure)  # log(4)
        tensor(1.3863)

    Reference: Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, at temperature 1;
    taking the clusters of a router for the classes is this project's choice.
    """
    students, teachers = _as_sequence(student), _as_sequence(teacher)
    shapes = [[tuple(routing.cluster_probs.shape) for routing in routings] for routings in (students, teachers)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"student and teacher must route the same images to equal numbers of clusters, got cluster_probs of the "
            f"shapes {shapes[0]} and {shapes[1]}"
        )
    pairs = zip(students, teachers)
    return torch.stack([_divergence(own.cluster_probs, shown.cluster_probs.detach()) for own, shown in pairs]).mean()


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = widen(student), widen(teacher)
    logs = [probs.clamp_min(torch.finfo(probs.dtype).tiny).log() for probs in (teacher, student)]
    return (teacher * (logs[0] - logs[1])).sum(dim=1).mean()
