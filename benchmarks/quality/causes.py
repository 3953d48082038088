"""What routing and deep levels cause: the PSNR that it costs to give an image another's, or to leave them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

import clusir_modules as cm
from clusir_modules.metrics import psnr

from .known import degraded
from .reports import write_report

__all__ = ["causes_report", "uniform"]

_EVERY = 8  # of the photographs
_STEPS = (1, 3)  # from the image's own degradation to the others whose routing it gets
_Routings = tuple[cm.Routing, ...]


def uniform(routing: cm.Routing) -> cm.Routing:
    """The routing that knows nothing: every cluster and every expert as probable as the others."""
    clusters, experts = (torch.full_like(p, 1 / p.shape[1]) for p in (routing.cluster_probs, routing.expert_probs))
    # a prompt token is p(c|x) P_c
    prompt = routing.prompt / routing.cluster_probs.clamp_min(1e-12).unsqueeze(2) / clusters.shape[1]
    return cm.choose_experts(experts, routing.topk_indices.shape[1], cluster_probs=clusters, prompt=prompt)


@contextmanager
def _without(features: nn.Module) -> Iterator[None]:
    """Let a module give zeros."""
    handle = features.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    try:
        yield
    finally:
        handle.remove()


@torch.inference_mode()
def causes_report(net: cm.ClusIR, data: Path, results: Path) -> None:
    """Write ``quality_causes`` (JSON and table) over single degradations of every eighth photograph of CBSD68."""
    net.eval()
    dataset = degraded(data / "cbsd68", mixtures=False)
    tasks = [task.name for task in dataset.tasks]
    photographs = len(dataset) // len(tasks)
    costs: dict[str, dict[str, list[float]]] = {task: {} for task in tasks}
    for photograph in tqdm(range(0, photographs, _EVERY), unit="photograph", desc="causes"):
        items = [dataset[number * photographs + photograph] for number in range(len(tasks))]
        next_one = [dataset[number * photographs + (photograph + 1) % photographs] for number in range(len(tasks))]
        routings = [net.route(item["lq"][None]) for item in items]
        others = [net.route(item["lq"][None]) for item in next_one]
        for number, task in enumerate(tasks):
            swaps = [routings[(number + step) % len(tasks)] for step in _STEPS]
            for name, cost in _costs(net, items[number], routings[number], swaps, others[number]).items():
                costs[task].setdefault(name, []).append(cost)
    rows = {task: {name: sum(found) / len(found) for name, found in by.items()} for task, by in costs.items()}
    write_report(results / "quality_causes", rows, _table(rows, len(range(0, photographs, _EVERY))))


def _costs(
    net: cm.ClusIR, item: dict[str, Any], own: _Routings, swaps: Sequence[_Routings], other: _Routings
) -> dict[str, float]:
    """PSNR in dB of one image with its own routing, less that with each change."""
    pixels = item["gt"].permute(1, 2, 0).numpy()

    def quality(routings: _Routings) -> float:
        restored: Tensor = net(item["lq"][None], routings=routings)[0].clamp(0, 1)
        return psnr(restored.permute(1, 2, 0).numpy(), pixels)

    best = quality(own)
    costs: dict[str, float] = {}
    for level in range(len(own)):
        changed = [quality((*own[:level], swap[level], *own[level + 1 :])) for swap in swaps]
        costs[f"level {level + 1}: another's"] = best - sum(changed) / len(changed)
    costs["all levels: another's"] = best - sum(map(quality, swaps)) / len(swaps)
    costs["all levels: same degradation, other picture"] = best - quality(other)
    costs["all levels: uniform"] = best - quality(tuple(map(uniform, own)))
    stage = cast(cm.ClusIRStage, net.stages[-1])
    for level, decoder in enumerate(cast("Sequence[Any]", stage.decoder), start=2):
        with _without(decoder.up):
            costs[f"no features of level {level} and below"] = best - quality(own)
    return costs


def _table(rows: dict[str, dict[str, float]], photographs: int) -> Iterator[str]:
    names = list(next(iter(rows.values())))
    yield (
        f"PSNR in dB that a change costs, {photographs} photographs of CBSD68. *Another's*: the "
        "routing of the same picture under another degradation, mean of two. *Uniform*: all clusters and experts "
        "alike. *No features*: the decoder gets zeros from that level. What costs nothing does nothing."
    )
    yield ""
    yield f"| | {' | '.join(rows)} |"
    yield "|---" * (len(rows) + 1) + "|"
    for name in names:
        yield f"| {name} | {' | '.join(f'{by[name]:.2f}' for by in rows.values())} |"
