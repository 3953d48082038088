"""A router that separates degradations and one that does not, seen by their posteriors."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import clusir_modules as cm

from ._common import FIVE, degraded, photograph, save, trained_tiny


def _posterior(net: cm.ClusIR) -> tuple[list[str], Tensor]:
    """Mean posterior of the first level, kind by cluster, over three photographs."""
    places = (("chelsea", 20, 90), ("coffee", 60, 180), ("rocket", 60, 200))
    pictures = [photograph(name, top, left, 256) for name, top, left in places]
    rows = []
    with torch.no_grad():
        for kind in (None, *FIVE.values()):
            batch = torch.stack([p if kind is None else degraded(p, kind) for p in pictures])
            rows.append(net.route(batch)[0].cluster_probs.mean(0))
    return ["clean", *FIVE], torch.stack(rows)


def draw(folder: Path) -> None:
    """Write ``separation.png``."""
    torch.manual_seed(0)
    nets = {"separates: the shipped weights": trained_tiny(), "does not: before any training": cm.clusir_tiny().eval()}
    figure, grid = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained", sharey=True)
    for axes, (title, net) in zip(grid, nets.items()):
        names, table = _posterior(net)
        drawn = axes.imshow(table, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("cluster, level 1")
        axes.set_yticks(range(len(names)), names)
    figure.colorbar(drawn, ax=grid, label="mean probability")
    save(figure, folder / "separation.png")
