"""Table and pictures of what a network restored and how it routed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from clusir_modules import ClusIR
from clusir_modules.data import AllInOneDataset
from clusir_modules.metrics import psnr

__all__ = ["TaskResult", "average", "contact_sheet", "evaluate", "format_table", "routing_picture", "write_csv"]


class TaskResult(NamedTuple):
    """Results of one task, averaged over its images; the first image is kept as an example.

    Attributes:
        task: its name.
        input_psnr: of the degraded images, dB.
        restored_psnr: of the restored ones, dB.
        example: degraded, restored and clean image, each ``(3, H, W)``.
        cluster_probs: mean posterior of each level, ``(L_l,)``.
        expert_probs: mean expert distribution of each level, ``(E,)``.
    """

    task: str
    input_psnr: float
    restored_psnr: float
    example: tuple[Tensor, Tensor, Tensor]
    cluster_probs: tuple[Tensor, ...]
    expert_probs: tuple[Tensor, ...]


def _psnr(image: Tensor, target: Tensor) -> float:
    return psnr(image.permute(1, 2, 0).numpy(), target.permute(1, 2, 0).numpy())


@torch.inference_mode()
def evaluate(net: ClusIR, dataset: AllInOneDataset) -> list[TaskResult]:
    """Restore every image of ``dataset``; PSNR in RGB on floats in [0, 1], the mean of the images' values."""
    net.eval()
    found: dict[str, list[TaskResult]] = {name: [] for name in dataset.task_names}
    for index in tqdm(range(len(dataset)), desc="restoring kept-out photographs", unit="image"):
        item = dataset[index]
        lq, gt = item["lq"], item["gt"]
        restored, routings = net(lq.unsqueeze(0), return_routing=True)
        found[item["task"]].append(
            TaskResult(
                item["task"],
                _psnr(lq, gt),
                _psnr(restored[0], gt),
                (lq, restored[0].clamp(0, 1), gt),
                tuple(routing.cluster_probs[0] for routing in routings),
                tuple(routing.expert_probs[0] for routing in routings),
            )
        )
    return [average(results) for results in found.values()]


def average(results: Sequence[TaskResult]) -> TaskResult:
    """Mean of several results of one task; the first gives the example."""
    return TaskResult(
        results[0].task,
        float(np.mean([result.input_psnr for result in results])),
        float(np.mean([result.restored_psnr for result in results])),
        results[0].example,
        tuple(torch.stack(level).mean(dim=0) for level in zip(*(result.cluster_probs for result in results))),
        tuple(torch.stack(level).mean(dim=0) for level in zip(*(result.expert_probs for result in results))),
    )


def _columns(results: Mapping[str, Sequence[TaskResult]]) -> list[tuple[str, list[float]]]:
    """Title and PSNR of each column: of the inputs, and of what each network restored."""
    first = next(iter(results.values()))
    restored = [(title, [result.restored_psnr for result in found]) for title, found in results.items()]
    return [("input", [result.input_psnr for result in first]), *restored]


def format_table(results: Mapping[str, Sequence[TaskResult]]) -> str:
    """Text table: a row for each task, PSNR in dB of the input and of what each network restored.

    Args:
        results: what each network restored of the same pictures, by its title.
    """
    columns = _columns(results)
    lines = ["".join([f"{'PSNR in dB':<12}", *(f"{title:>18}" for title, _ in columns)])]
    for row, result in enumerate(next(iter(results.values()))):
        lines.append("".join([f"{result.task:<12}", *(f"{values[row]:>18.2f}" for _, values in columns)]))
    return "\n".join(lines)


def write_csv(results: Mapping[str, Sequence[TaskResult]], path: Path) -> None:
    """Write the numbers of :func:`format_table` for other programs."""
    columns = _columns(results)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("task", *(f"{title.replace(' ', '_')}_psnr_db" for title, _ in columns)))
        for row, result in enumerate(next(iter(results.values()))):
            writer.writerow((result.task, *(values[row] for _, values in columns)))


def contact_sheet(results: Mapping[str, Sequence[TaskResult]], path: Path, *, size: int = 256) -> None:
    """Write a picture with a row for each task: input, what each network restored, and the clean picture.

    Args:
        results: what each network restored of the same pictures, by its title.
        path: of the picture.
        size: pixels of the middle that are shown.
    """
    from matplotlib.figure import Figure

    columns = _columns(results)
    shown = list(zip(*results.values()))
    figure = Figure(figsize=(2.7 * (len(columns) + 1), 2.9 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), len(columns) + 1, squeeze=False)
    for number, (row, found) in enumerate(zip(axes, shown)):
        titles = [f"{title}: {values[number]:.1f} dB" for title, values in columns]
        titles[0] = f"{found[0].task}, {titles[0]}"
        pictures = [found[0].example[0], *(result.example[1] for result in found), found[0].example[2]]
        for axis, title, picture in zip(row, [*titles, "clean"], pictures):
            top, left = ((length - min(length, size)) // 2 for length in picture.shape[1:])
            axis.imshow(picture[:, top : top + size, left : left + size].permute(1, 2, 0).numpy())
            axis.set_title(title, fontsize=9)
            axis.set_axis_off()
    figure.savefig(path, dpi=110)


def routing_picture(results: Sequence[TaskResult], path: Path) -> None:
    """Write a picture of the cluster posterior and of the expert use, for each level and task."""
    from matplotlib.figure import Figure

    levels = len(results[0].cluster_probs)
    figure = Figure(figsize=(3.4 * levels, 5.6), layout="constrained")
    axes = figure.subplots(2, levels, squeeze=False)
    rows = (("cluster", "p(c|x)", "cluster_probs"), ("expert", "p(e|x)", "expert_probs"))
    for line, (kind, title, field) in zip(axes, rows):
        for level, axis in enumerate(line):
            table = torch.stack([getattr(result, field)[level] for result in results]).numpy()
            image = axis.imshow(table, vmin=0, vmax=max(table.max(), 1e-6), aspect="auto", cmap="magma")
            axis.set_title(f"level {level + 1}: {title}", fontsize=9)
            axis.set_xlabel(kind)
            axis.set_xticks(range(table.shape[1]), [str(number) for number in range(table.shape[1])], fontsize=6)
            axis.set_yticks(range(len(results)), [result.task for result in results] if level == 0 else [], fontsize=8)
            figure.colorbar(image, ax=axis, shrink=0.8)
    figure.savefig(path, dpi=110)
