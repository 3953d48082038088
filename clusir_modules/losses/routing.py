"""Regularizers of the router, pure functions of the routing values and of the prototypes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.routing.routing import Routing
from ..ops.checks import check_not_empty
from ..ops.precision import widen

__all__ = ["cluster_information_loss", "load_balance_loss", "orthogonality_loss", "router_z_loss"]


def _as_sequence(routings: Routing | Sequence[Routing]) -> Sequence[Routing]:
    if not isinstance(routings, Sequence):
        raise TypeError(f"routings must be a Routing or a sequence of them, got {type(routings).__name__}")
    sequence: Sequence[Routing] = (routings,) if isinstance(routings, Routing) else routings
    if not sequence:
        raise ValueError("routings must hold at least one Routing, got none")
    for routing in sequence:
        if not isinstance(routing, Routing):
            raise TypeError(f"routings must hold Routings, got {type(routing).__name__}")
        check_not_empty(routing.expert_probs, "routings")
    return sequence


def _batch_means(probs: Sequence[Tensor], *, all_reduce: bool) -> list[Tensor]:
    """Mean over the batch of each tensor of shape (B, n), over those of all processes with ``all_reduce``."""
    means = [p.mean(dim=0) for p in probs]
    if not all_reduce or not dist.is_available() or not dist.is_initialized():
        return means
    own = torch.cat([mean.detach() for mean in means])
    shared = own.clone()
    dist.all_reduce(shared)
    # Every process computes the same function of the shared mean, and the gradients are averaged over the processes
    # later, so that the gradient by the own part is all that is left to take here: no exchange in the backward pass.
    shifts = (shared / dist.get_world_size() - own).split([mean.numel() for mean in means])
    return [mean + shift for mean, shift in zip(means, shifts)]


def load_balance_loss(routings: Routing | Sequence[Routing], *, all_reduce: bool = False) -> Tensor:
    r"""Squared coefficient of variation of the mean expert distribution, averaged over the routers.

    .. math:: \frac{1}{E} \sum_e (E \bar p_e - 1)^2, \quad \bar p_e = \operatorname{mean}_b p(e|x_b)

    Args:
        routings: one :class:`Routing` or one for each router.
        all_reduce: average :math:`\bar p_e` over all processes of the default group, which must all call this with
            batches of one size. With ``DistributedDataParallel``, which averages gradients, value and gradient are then
            those of one process with the union of the batches. Without a process group it changes nothing.

    Returns:
        A scalar in ``[0, E - 1]``, 0 if all experts are used alike.

    Raises:
        TypeError: what is given is neither a routing nor a sequence of them.
        ValueError: an empty sequence, or an empty batch.

    Note: a statistic of the batch at hand. Under gradient accumulation, and over several processes without
    ``all_reduce``, each part is balanced by itself, which differs from balancing their union. This project's choice,
    after Shazeer et al., ICLR 2017, sec. 4.

    Example:
        >>> from clusir_modules import choose_experts
        >>> even, uneven = torch.full((2, 4), 0.25), torch.tensor([[1.0, 0, 0, 0]])
        >>> load_balance_loss(choose_experts(even, 2)), load_balance_loss(choose_experts(uneven, 2))
        (tensor(0.), tensor(3.))
    """
    means = _batch_means([routing.expert_probs for routing in _as_sequence(routings)], all_reduce=all_reduce)
    return torch.stack([(mean * mean.numel() - 1).square().mean() for mean in means]).mean()


def _entropy(probs: Tensor) -> Tensor:
    return torch.special.entr(probs.clamp_min(torch.finfo(probs.dtype).tiny)).sum(dim=-1)


def _label_means(probs: Tensor, labels: Tensor) -> Tensor:
    """For each image the mean over the images that share its label; both ``(B, L)``."""
    same = (labels[:, None] == labels[None, :]).to(probs.dtype)
    return same @ probs / same.sum(dim=1, keepdim=True)


def cluster_information_loss(
    routings: Routing | Sequence[Routing], labels: Tensor | None = None, *, all_reduce: bool = False
) -> Tensor:
    r"""Negative mutual information between image and cluster, as a share of its maximum, averaged over the routers.

    .. math:: \frac{\operatorname{mean}_b H(p(c|x_b)) - H(\operatorname{mean}_b p(c|x_b))}{\log L}

    Minimal where each image is sure of its cluster and the batch uses all clusters alike. With ``labels`` it is the
    information between *label* and cluster: :math:`p(c|x_b)` in the first term is replaced by its mean over the images
    with the label of :math:`x_b`. Images of one label are then to share a cluster. The router is told the labels in
    training; the network never sees them.

    Args:
        routings: one :class:`Routing` or one for each router.
        labels: what each image shows, such as the number of its degradation: integers ``(B,)`` on the routing's device,
            compared with each other only. None: each image is a label of its own.
        all_reduce: take the mean over the batches of all processes inside the second entropy, as in
            :func:`load_balance_loss`. The first term stays this process's, which averaging over the processes makes
            the mean of all.

    Returns:
        A scalar in ``[-1, 0]``; always 0 for a batch of one image or of one label, or a router of one cluster. With
        ``all_reduce`` this holds for the mean over the processes and the union of their batches.

    Raises:
        TypeError: what is given is neither a routing nor a sequence of them, or ``labels`` are not integers.
        ValueError: an empty sequence, an empty batch, or ``labels`` of another shape than ``(B,)``.

    Note: a statistic of the batch at hand, see :func:`load_balance_loss`. In a batch with few images of a label the
    information is over-estimated: a label that comes up once counts as its image. This project's choice, after Bridle
    et al., "Unsupervised classifiers, mutual information and 'phantom targets'", NIPS 1991.

    Example:
        >>> from clusir_modules import choose_experts
        >>> routing = choose_experts(torch.full((4, 2), 0.5), 1, cluster_probs=torch.eye(4))
        >>> cluster_information_loss(routing)  # each image in a cluster of its own
        tensor(-1.)
    """
    clusters = [routing.cluster_probs for routing in _as_sequence(routings)]
    if labels is not None:
        _check_labels(labels, len(clusters[0]))
    terms = []
    for probs, mean in zip(clusters, _batch_means(clusters, all_reduce=all_reduce)):
        given = probs if labels is None else _label_means(probs, labels)
        information = _entropy(mean) - _entropy(given).mean()
        terms.append(-information / math.log(max(probs.shape[1], 2)))
    return torch.stack(terms).mean()


def _check_labels(labels: Tensor, batch: int) -> None:
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        given = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels must be a tensor of integers, got {given}")
    if labels.shape != (batch,):
        raise ValueError(f"labels must have shape (B,), here ({batch},), got {tuple(labels.shape)}")


def router_z_loss(routings: Routing | Sequence[Routing]) -> Tensor:
    r"""Mean square of the log of the partition function of the expert logits, averaged over the routers.

    .. math:: \operatorname{mean}_b \sum_c p(c|x_b) \Big(\log \sum_e \exp a_{bce}\Big)^2, \quad
        p(e|c, x) = \operatorname{softmax}_e a_c

    It keeps the logits small, which softmaxes would let drift. In :class:`PCGRM` they are those of the experts in each
    cluster, :math:`a_c = G_c z + b_c`. A cluster counts as much as it has to do with the image, and this weight has no
    gradient: the loss is to fall by smaller logits, not by a change of cluster. With one cluster it is ST-MoE's. The
    logits of the clusters need no such loss: cosines over a bounded temperature.

    Args:
        routings: one :class:`Routing` or one for each router.

    Returns:
        A scalar, at least 0.

    Raises:
        TypeError: what is given is neither a routing nor a sequence of them.
        ValueError: an empty sequence, an empty batch, or a router that hands on no ``expert_logits``.

    Note: a mean over the images, the same whatever the batches are cut into.

    Example:
        >>> from clusir_modules import choose_experts
        >>> routing = choose_experts(torch.full((1, 2), 0.5), 1, expert_logits=torch.zeros(1, 1, 2))
        >>> router_z_loss(routing)  # the square of log 2
        tensor(0.4805)

    Reference: Zoph et al., "ST-MoE", arXiv:2202.08906, router z-loss, weight 0.001; the mean over clusters is
    this project's choice.
    """
    terms = []
    for routing in _as_sequence(routings):
        if routing.expert_logits is None:
            raise ValueError("routings must hold expert_logits, got None; a router gives them to choose_experts")
        squares = routing.expert_logits.logsumexp(dim=-1).square()
        terms.append((routing.cluster_probs.detach() * squares).sum(dim=-1).mean())
    return torch.stack(terms).mean()


def orthogonality_loss(net: nn.Module) -> Tensor:
    r"""Mean squared cosine between different prototypes of a router, averaged over all routers in ``net``.

    .. math:: \frac{1}{L (L - 1)} \sum_{i \ne j} \cos(P_i, P_j)^2

    Args:
        net: a module that holds at least one router with ``prototypes`` ``(L, D)``, as :class:`PCGRM`, or is one.

    Returns:
        A scalar in ``[0, 1]``.

    Raises:
        TypeError: ``net`` is not a module.
        ValueError: no module of ``net`` has prototypes.

    Example:
        >>> from clusir_modules import PCGRM
        >>> router = PCGRM(32, num_clusters=8)
        >>> orthogonality_loss(router) < 0.1
        tensor(True)

    Reference: ClusIR, arXiv:2512.10948 (prototypes nearly orthogonal); the form of the penalty is this project's
    choice.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    terms = []
    for module in net.modules():
        own = getattr(module, "prototypes", None)
        if isinstance(own, Tensor):
            prototypes = F.normalize(widen(own), dim=-1)
            cosines = prototypes @ prototypes.t()
            count = cosines.shape[0]
            off_diagonal = cosines - torch.diag_embed(cosines.diagonal())
            terms.append(off_diagonal.square().sum() / max(count * (count - 1), 1))
    if not terms:
        raise ValueError(f"net must hold a router with prototypes, got {type(net).__name__} without one")
    return torch.stack(terms).mean()
