"""What the routings of a network say: clusters and experts of each level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..layers.routing.routing import Routing

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

__all__ = ["describe_routing", "draw_routings", "summarize_routing"]

_SHOWN = 3


def describe_routing(level: int, routing: Routing) -> str:
    """Say in a line which clusters an image belongs to most and which experts run.

    Args:
        level: number of the level, for the line.
        routing: of a batch whose first image is meant.

    Example:
        >>> from clusir_modules import choose_experts
        >>> describe_routing(1, choose_experts(torch.tensor([[0.5, 0.25, 0.25]]), top_k=1))
        'level 1: clusters 0 (100%) of 1; experts 0 (100%) of 3'
    """
    clusters = routing.cluster_probs[0]
    order = clusters.argsort(descending=True)[:_SHOWN].tolist()
    recognized = ", ".join(f"{number} ({clusters[number]:.0%})" for number in order)
    chosen = zip(routing.topk_indices[0].tolist(), routing.topk_weights[0].tolist(), strict=True)
    used = ", ".join(f"{number} ({weight:.0%})" for number, weight in chosen)
    return f"level {level}: clusters {recognized} of {len(clusters)}; experts {used} of {routing.expert_probs.shape[1]}"


def draw_routings(pixels: npt.NDArray[Any], routings: Sequence[Routing]) -> Figure:
    """Draw a picture and, for each level, the probabilities of clusters and experts; those that run are colored.

    Args:
        pixels: the picture, ``H x W x 3`` or ``H x W``, uint8.
        routings: of each level, of a batch whose first image is meant.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    count = len(routings)
    figure = Figure(figsize=(3.2 + 2.6 * count, 4.2), layout="constrained")
    grid = figure.add_gridspec(2, count + 1, width_ratios=[1.3] + [1] * count)
    picture = figure.add_subplot(grid[:, 0])
    picture.imshow(pixels, cmap="gray")
    picture.set_axis_off()
    for column, routing in enumerate(routings, start=1):
        clusters, experts = (values[0].tolist() for values in (routing.cluster_probs, routing.expert_probs))
        chosen = set(routing.topk_indices[0].tolist())
        for row, (name, values, active) in enumerate(
            (("clusters", clusters, set(range(len(clusters)))), ("experts", experts, chosen))
        ):
            axes = figure.add_subplot(grid[row, column])
            colors = ["tab:blue" if number in active else "lightgray" for number in range(len(values))]
            axes.bar(range(len(values)), values, color=colors)
            axes.set_ylim(0, 1)
            axes.set_title(f"level {column}: {name}", fontsize=9)
            axes.tick_params(labelsize=7)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def summarize_routing(
    watched: Sequence[tuple[Sequence[str], Sequence[tuple[Tensor, Tensor]]]], num_experts: Sequence[int]
) -> dict[str, float]:
    """Take means over the images of each task.

    Args:
        watched: for each iteration the tasks of its ``B`` images, and for each router the probabilities of the
            clusters, ``(B, L)``, and the experts that ran, ``(B, k)``.
        num_experts: of each router.

    Returns:
        By tag: ``experts/level<l>/<task>/<e>``, the share of the images that ran an expert, and
        ``clusters/level<l>/<task>/<c>``, the mean probability of a cluster.
    """
    names = [name for tasks, _ in watched for name in tasks]
    summary: dict[str, float] = {}
    for number, experts in enumerate(num_experts):
        clusters = torch.cat([levels[number][0].float().cpu() for _, levels in watched])
        indices = torch.cat([levels[number][1].cpu() for _, levels in watched])
        used = torch.zeros(len(indices), experts).scatter_(1, indices, 1.0)
        for task in sorted(set(names)):
            rows = torch.tensor([name == task for name in names])
            for kind, values in (("experts", used), ("clusters", clusters)):
                means = values[rows].mean(dim=0).tolist()
                summary.update({f"{kind}/level{number + 1}/{task}/{i}": mean for i, mean in enumerate(means)})
    return summary
