"""Do clusters stand for degradations? Mutual information, expert use, and a map of the prompts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import normalize

import clusir_modules as cm
from basicsr_plugin.demo.report import average, routing_picture

from .known import Evaluation
from .reports import write_report

__all__ = ["cluster_report", "kind_of", "normalized_mutual_information"]


def _entropy(labels: Sequence[Hashable]) -> float:
    return -sum(n / len(labels) * math.log(n / len(labels)) for n in Counter(labels).values())


def normalized_mutual_information(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Mutual information over the mean of the two entropies, in [0, 1]; 0 if both are constant."""
    entropies = _entropy(first) + _entropy(second)
    joint = _entropy(list(zip(first, second, strict=True)))
    return 2 * (entropies - joint) / entropies if entropies > 0 else 0.0


def kind_of(task: str) -> str:
    """What a task of several strengths is called: "noise" for "noise 25"."""
    return "noise" if task.startswith("noise") else task


def cluster_report(net: cm.ClusIR, evaluations: Sequence[Evaluation], results: Path) -> None:
    """Write ``quality_clusters`` (JSON, table, heat maps) and ``quality_prompts.png``, for single degradations."""
    single = [e for e in evaluations if "+" not in e.task and e.task != "clean"]
    kinds, levels = [kind_of(e.task) for e in single], range(len(single[0].routings))
    rows = []
    for level in levels:
        clusters = [e.cluster(level) for e in single]
        load = torch.cat([e.routings[level].expert_probs for e in single]).mean(dim=0)
        rows.append(
            {
                "level": level + 1,
                "information": normalized_mutual_information(clusters, kinds),
                "information with noise strength": normalized_mutual_information(clusters, [e.task for e in single]),
                "clusters used": len(set(clusters)),
                "largest and smallest expert load": [float(load.max()), float(load.min())],
            }
        )
    lines = [
        "Normalized mutual information between the cluster with the largest posterior and the degradation, "
        f"{len(single)} images of CBSD68.",
        "",
        "| level | 5 kinds | 7 tasks | clusters used | largest, smallest mean expert probability |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        largest, smallest = row["largest and smallest expert load"]
        lines.append(
            f"| {row['level']} | {row['information']:.2f} | {row['information with noise strength']:.2f} "
            f"| {row['clusters used']} | {largest:.2f}, {smallest:.2f} |"
        )
    write_report(results / "quality_clusters", rows, lines)
    by_task = [[e.result() for e in single if e.task == task] for task in dict.fromkeys(e.task for e in single)]
    routing_picture([average(found) for found in by_task], results / "quality_clusters.png")
    prototypes = [module.prototypes.detach() for module in net.modules() if isinstance(module, cm.PCGRM)]
    _prompt_map(single, prototypes, results / "quality_prompts.png")


def _prompt_map(evaluations: Sequence[Evaluation], prototypes: Sequence[Tensor], path: Path) -> None:
    """The two first principal components of each level's prompt, a point for each image, a cross for each prototype."""
    levels = len(evaluations[0].routings)
    figure = Figure(figsize=(4.2 * levels, 4.2), layout="constrained")
    for level, axis in enumerate(figure.subplots(1, levels)):
        prompts = torch.cat([e.routings[level].prompt.sum(dim=1) for e in evaluations])
        center = prompts.mean(dim=0)
        plane = torch.linalg.svd(prompts - center, full_matrices=False).Vh[:2].T
        points = ((prompts - center) @ plane).numpy()
        corners = ((normalize(prototypes[level], dim=1) - center) @ plane).numpy()
        axis.scatter(corners[:, 0], corners[:, 1], s=40, c="black", marker="x", label="prototypes")
        for task in dict.fromkeys(e.task for e in evaluations):
            chosen = [number for number, e in enumerate(evaluations) if e.task == task]
            axis.scatter(points[chosen, 0], points[chosen, 1], s=8, label=task)
        axis.set_title(f"level {level + 1}: prompts, principal components", fontsize=9)
    axis.legend(fontsize=7)
    figure.savefig(path, dpi=100)
