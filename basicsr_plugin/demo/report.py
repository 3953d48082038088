"""Table and pictures of what a network restored and how it routed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
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


def format_table(results: Sequence[TaskResult]) -> str:
    """Text table: task, PSNR of the input, PSNR restored, gain, all in dB; the last row is the average."""
    rows = [(result.task, result.input_psnr, result.restored_psnr) for result in results]
    rows.append(("average", *(float(np.mean([row[column] for row in rows])) for column in (1, 2))))
    lines = [f"{'task':<12}{'input dB':>10}{'restored dB':>13}{'gain dB':>9}"]
    lines += [f"{task:<12}{before:>10.2f}{after:>13.2f}{after - before:>+9.2f}" for task, before, after in rows]
    return "\n".join(lines)


def write_csv(results: Sequence[TaskResult], path: Path) -> None:
    """Write the numbers of :func:`format_table`, without the average, for other programs."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("task", "input_psnr_db", "restored_psnr_db"))
        writer.writerows((result.task, result.input_psnr, result.restored_psnr) for result in results)


def contact_sheet(results: Sequence[TaskResult], path: Path, *, size: int = 256) -> None:
    """Write a picture with a row for each task: input, restored, ground truth, cut to the middle ``size`` pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.7 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 3, squeeze=False)
    for row, result in zip(axes, results):
        titles = (
            f"{result.task}: {result.input_psnr:.1f} dB",
            f"restored: {result.restored_psnr:.1f} dB",
            "ground truth",
        )
        for axis, title, image in zip(row, titles, result.example):
            top, left = ((length - min(length, size)) // 2 for length in image.shape[1:])
            axis.imshow(image[:, top : top + size, left : left + size].permute(1, 2, 0).numpy())
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
