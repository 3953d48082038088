"""Clusters, experts and prompt mixtures of the trained network under five degradations."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import clusir_modules as cm

from ._common import FIVE, degraded, photograph, save, trained_tiny


def _pictures() -> list[Tensor]:
    """Photographs that the network was not trained on."""
    return [photograph("chelsea", 20, 90, 256), photograph("coffee", 60, 180, 256), photograph("rocket", 60, 200, 256)]


def _heat_maps(rows: list[tuple[str, list[Tensor]]], label: str, path: Path) -> None:
    """One panel for each level: degradation by cluster or expert."""
    levels = len(rows[0][1])
    widths = [values.numel() for values in rows[0][1]]
    figure, grid = plt.subplots(
        1, levels, figsize=(11, 2.5), layout="constrained", sharey=True, width_ratios=[max(w, 4) for w in widths]
    )
    for level, axes in enumerate(grid):
        table = torch.stack([values[level] for _, values in rows])
        drawn = axes.imshow(table, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axes.set_title(f"level {level + 1}", fontsize=9)
        axes.set_xlabel(label, fontsize=8)
        axes.set_xticks(range(0, table.shape[1], 2))
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    figure.colorbar(drawn, ax=grid, label="mean over 3 photographs", shrink=0.9)
    save(figure, path)


def draw(folder: Path) -> None:
    """Write ``clusters.png``, ``experts.png``, ``prompts.png`` and ``prompt_note.md``."""
    net = trained_tiny()
    weights: list[Tensor] = []
    hooks = [
        block.mix.register_forward_hook(lambda *call: weights.append(call[2].softmax(dim=-1).mean(0)))
        for block in net.stages[0].prompt_blocks
    ]
    clusters, experts, mixtures = [], [], []
    with torch.no_grad():
        for name, kind in {"clean": None, **FIVE}.items():
            batch = torch.stack([p if kind is None else degraded(p, kind) for p in _pictures()])
            routings = net.route(batch)
            clusters.append((name, [routing.cluster_probs.mean(0) for routing in routings]))
            experts.append((name, [_use(routing) for routing in routings]))
            net(batch, routings=routings)
            mixtures.append((name, list(reversed(weights))))  # the decoder starts at the deepest level
            weights.clear()
    for hook in hooks:
        hook.remove()
    _heat_maps(clusters, "cluster", folder / "clusters.png")
    _heat_maps(experts, "expert", folder / "experts.png")
    _heat_maps(mixtures, "component", folder / "prompts.png")
    (folder / "prompt_note.md").write_text(_describe(mixtures), encoding="utf-8")


def _describe(rows: list[tuple[str, list[Tensor]]]) -> str:
    """How much the mixtures of the degradations differ, so that nobody reads more into them than there is."""
    spreads = []
    for level in range(len(rows[0][1])):
        table = torch.stack([values[level] for _, values in rows])
        spreads.append(f"{float((table.max(0).values - table.min(0).values).max()):.3f}")
    text = f"Largest difference of a weight between two rows, level by level: {', '.join(spreads)}."
    if max(map(float, spreads)) < 0.01:
        text += " In these weights, of a training of minutes, the prompt maps do not depend on the picture."
    return text + "\n"


def _use(routing: cm.Routing) -> Tensor:
    """Weight of each expert, 0 for those that did not run, mean over the batch."""
    weights = torch.zeros_like(routing.expert_probs)
    return weights.scatter(1, routing.topk_indices, routing.topk_weights).mean(0)
