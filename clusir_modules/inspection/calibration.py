"""How sure a router should be: the temperature that makes its confidence true."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["fit_temperature"]

_BOUNDS = (math.log(0.01), math.log(100.0))  # of the logarithm of the temperature
_HALVINGS = 60


@torch.no_grad()
def fit_temperature(probs: Tensor, labels: Tensor) -> float:
    r"""Return the temperature with which the probabilities of kept-out images explain their labels best.

    .. math:: T = \arg\min_T \sum_n -\log \operatorname{softmax} \Big(\frac{\log p_n}{T}\Big)_{y_n}

    Above 1 the probabilities were too sure, below 1 not sure enough; which one is the largest does not change.
    ``(probs.log() / T).softmax(1)`` are the calibrated ones, also of other images. The sum is convex in :math:`1 / T`;
    its minimum is found by bisection in float64.

    Args:
        probs: of images that the network was not trained on, ``(N, K)``, each row summing to 1. For ``K`` kinds of
            degradation: the posterior of a router, summed over the clusters that stand for each of them.
        labels: the true kinds, ``(N,)``, int64 in ``[0, K)``.

    Returns:
        A temperature in [0.01, 100]; a bound if the minimum lies beyond, as where all labels are right.

    Raises:
        ValueError: wrong shapes, no image, or a label out of range.

    Example:
        >>> probs = torch.tensor([[0.9, 0.1]] * 10)  # nine tenths sure, but right seven times of ten
        >>> labels = torch.tensor([0] * 7 + [1] * 3)
        >>> round(fit_temperature(probs, labels), 2)
        2.59

    Reference: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, sec. 4.2.
    """
    if probs.dim() != 2 or not probs.numel():
        raise ValueError(f"probs must have shape (N, K) with at least one image, got {tuple(probs.shape)}")
    if labels.shape != probs.shape[:1]:
        raise ValueError(f"labels must have shape ({len(probs)},), got {tuple(labels.shape)}")
    if labels.min() < 0 or labels.max() >= probs.shape[1]:
        raise ValueError(
            f"labels must be in [0, {probs.shape[1]}), got from {int(labels.min())} to {int(labels.max())}"
        )
    probs = probs.double()
    logs = probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
    right = logs.gather(1, labels.unsqueeze(1)).mean()
    low, high = _BOUNDS
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        expected = ((logs / math.exp(middle)).softmax(dim=1) * logs).sum(dim=1).mean()
        low, high = (middle, high) if expected > right else (low, middle)  # too sure, or not sure enough
    return math.exp((low + high) / 2)
