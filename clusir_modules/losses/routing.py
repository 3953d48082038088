"""Regularizers of the router, pure functions of the routing values and of the prototypes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._precision import widen
from ..routing.pcgrm import PCGRM, Routing

__all__ = ["cluster_information_loss", "load_balance_loss", "orthogonality_loss"]


def _as_sequence(routings: Routing | Sequence[Routing]) -> Sequence[Routing]:
    routings = (routings,) if isinstance(routings, Routing) else routings
    if not routings:
        raise ValueError("routings must hold at least one Routing, got none")
    return routings


def load_balance_loss(routings: Routing | Sequence[Routing]) -> Tensor:
    r"""Squared coefficient of variation of the mean expert distribution, averaged over the routers.

    .. math:: \frac{1}{E} \sum_e (E \bar p_e - 1)^2, \quad \bar p_e = \operatorname{mean}_b p(e|x_b)

    Args:
        routings: one :class:`Routing` or one for each router.

    Returns:
        A scalar in ``[0, E - 1]``, 0 if all experts are used alike.

    Raises:
        ValueError: an empty sequence.

    Note: a statistic of the batch at hand. Under gradient accumulation or several processes each part is balanced by
    itself, which differs from balancing their union. This project's choice, after Shazeer et al., ICLR 2017, sec. 4.
    """
    terms = [
        (routing.expert_probs.mean(dim=0) * routing.expert_probs.shape[1] - 1).square().mean()
        for routing in _as_sequence(routings)
    ]
    return torch.stack(terms).mean()


def _entropy(probs: Tensor) -> Tensor:
    return torch.special.entr(probs.clamp_min(torch.finfo(probs.dtype).tiny)).sum(dim=-1)


def cluster_information_loss(routings: Routing | Sequence[Routing]) -> Tensor:
    r"""Negative mutual information between image and cluster, as a share of its maximum, averaged over the routers.

    .. math:: \frac{\operatorname{mean}_b H(p(c|x_b)) - H(\operatorname{mean}_b p(c|x_b))}{\log L}

    Minimal where each image is sure of its cluster and the batch uses all clusters alike.

    Args:
        routings: one :class:`Routing` or one for each router.

    Returns:
        A scalar in ``[-1, 0]``; always 0 for a batch of one image or a router of one cluster.

    Raises:
        ValueError: an empty sequence.

    Note: a statistic of the batch at hand, see :func:`load_balance_loss`. This project's choice, after Bridle et al.,
    "Unsupervised classifiers, mutual information and 'phantom targets'", NIPS 1991.
    """
    terms = []
    for routing in _as_sequence(routings):
        probs = routing.cluster_probs
        information = _entropy(probs.mean(dim=0)) - _entropy(probs).mean()
        terms.append(-information / math.log(max(probs.shape[1], 2)))
    return torch.stack(terms).mean()


def orthogonality_loss(net: nn.Module) -> Tensor:
    r"""Mean squared cosine between different prototypes of a router, averaged over all routers in ``net``.

    .. math:: \frac{1}{L (L - 1)} \sum_{i \ne j} \cos(P_i, P_j)^2

    Args:
        net: a module that holds at least one :class:`PCGRM`, or is one.

    Returns:
        A scalar in ``[0, 1]``.

    Raises:
        ValueError: ``net`` holds no :class:`PCGRM`.

    Reference: ClusIR, arXiv:2512.10948 (prototypes nearly orthogonal); the form of the penalty is this project's
    choice.
    """
    terms = []
    for module in net.modules():
        if isinstance(module, PCGRM):
            prototypes = F.normalize(widen(module.prototypes), dim=-1)
            cosines = prototypes @ prototypes.t()
            count = cosines.shape[0]
            off_diagonal = cosines - torch.diag_embed(cosines.diagonal())
            terms.append(off_diagonal.square().sum() / max(count * (count - 1), 1))
    if not terms:
        raise ValueError(f"net must hold a PCGRM, got {type(net).__name__} without one")
    return torch.stack(terms).mean()
