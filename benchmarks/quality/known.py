"""PSNR and SSIM on the benchmarks that people know, beside what large networks are published to reach."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

import clusir_modules as cm
from basicsr_plugin.demo.report import TaskResult, contact_sheet
from clusir_modules.data import AllInOneDataset
from clusir_modules.metrics import psnr, ssim

from .classics import CLASSICS, kernel_of
from .reports import write_report

__all__ = ["Evaluation", "degraded", "known_benchmarks", "middle", "restore_all"]

_SYNTHETIC: dict[str, Any] = {
    "clean": {"type": "GaussianNoise", "sigma": 0},
    "noise 15": {"type": "GaussianNoise", "sigma": 15},
    "noise 25": {"type": "GaussianNoise", "sigma": 25},
    "noise 50": {"type": "GaussianNoise", "sigma": 50},
    "rain": {"type": "RainStreaks"},
    "haze": {"type": "Haze"},
    "blur": {"type": "MotionBlur"},
    "low light": {"type": "LowLight"},
    "haze + rain": [{"type": "Haze"}, {"type": "RainStreaks"}],
    "low light + rain": [{"type": "LowLight"}, {"type": "RainStreaks"}],
    "low light + haze + rain": [{"type": "LowLight"}, {"type": "Haze"}, {"type": "RainStreaks"}],
}
_REAL = {
    "Rain100H part": ("rain100h_part", "same_name"),
    "SOTS indoor part": ("sots_indoor_part", "dehaze"),
    "LOL part": ("lol_part", "lol"),
}
_SHOWN = 320  # pixels, nearly a whole image of CBSD68
_CLASSIC_EVERY = 4
"""Classics see every fourth image: BM3D takes a minute for one."""
PUBLISHED = {
    "noise 15": "33.9 to 34.1",
    "noise 25": "31.3 to 31.5",
    "noise 50": "28.0 to 28.2",
    "Rain100H part": "30.4 (whole set, luma: MPRNet)",
    "SOTS indoor part": "37.8 (whole set: DehazeFormer-B, trained on its kind)",
    "LOL part": "25.2 (whole set: Retinexformer, trained on its kind)",
}
"""PSNR of networks trained for days on GPUs; of noise: PromptIR, AdaIR and MoCE-IR with 25 to 36 M parameters."""


class Evaluation(NamedTuple):
    """One image: PSNR in dB and SSIM of input and result, how it was routed, and the middle of the pictures.

    ``seconds`` of all cores together were spent for each megapixel;
    ``classic`` is the PSNR of the task's classic method where it was run.
    """

    task: str
    before: tuple[float, float]
    after: tuple[float, float]
    routings: tuple[cm.Routing, ...]
    images: tuple[Tensor, Tensor, Tensor]
    seconds: float
    classic: float | None = None

    def cluster(self, level: int) -> int:
        """The most probable cluster of an encoder level, counted from 0."""
        return int(self.routings[level].cluster_probs.argmax())

    def result(self) -> TaskResult:
        """As the tables and pictures of the demo take it."""
        clusters, experts = (
            tuple(getattr(r, field)[0] for r in self.routings) for field in ("cluster_probs", "expert_probs")
        )
        return TaskResult(self.task, self.before[0], self.after[0], self.images, clusters, experts)


def degraded(photographs: Path, *, mixtures: bool = True) -> AllInOneDataset:
    """Every photograph under every degradation, with or without those of several kinds at once."""
    kinds = {name: kind for name, kind in _SYNTHETIC.items() if mixtures or "+" not in name}
    tasks = [{"name": name, "dataroot_gt": photographs, "degradation": kind} for name, kind in kinds.items()]
    return AllInOneDataset(tasks, center_crop=16)


@torch.inference_mode()
def restore_all(net: cm.ClusIR, dataset: AllInOneDataset, *, classics: bool = False) -> list[Evaluation]:
    """Restore every image of a data set, and some of them by classic methods too."""
    net.eval()
    results = []
    per_task = len(dataset) // len(dataset.tasks)
    for number in tqdm(range(len(dataset)), unit="image"):
        item = dataset[number]
        start = time.process_time()
        output, routings = net(item["lq"][None], return_routing=True)
        seconds = (time.process_time() - start) / (output[0, 0].numel() / 1e6)
        lq, restored, gt = item["lq"], output[0].clamp(0, 1), item["gt"]
        pixels = gt.permute(1, 2, 0).numpy()
        before, after = (
            (psnr(picture, pixels), ssim(picture, pixels))
            for picture in (image.permute(1, 2, 0).numpy() for image in (lq, restored))
        )
        shown = (middle(lq, _SHOWN), middle(restored, _SHOWN), middle(gt, _SHOWN))
        classic = None
        if classics and item["task"] in CLASSICS and number % per_task % _CLASSIC_EVERY == 0:
            kernel = kernel_of(dataset, number, item["task"])
            found = CLASSICS[item["task"]].run(lq.permute(1, 2, 0).double().numpy(), kernel)
            classic = psnr(found.clip(0, 1).astype("float32"), pixels)
        results.append(Evaluation(item["task"], before, after, routings, shown, seconds, classic))
    return results


def middle(image: Tensor, size: int) -> Tensor:
    """Copy of the middle ``size`` pixels, fewer where the image is smaller."""
    top, left = (max(length - size, 0) // 2 for length in image.shape[1:])
    return image[:, top : top + size, left : left + size].clone()


def known_benchmarks(net: cm.ClusIR, data: Path, results: Path) -> list[Evaluation]:
    """Write ``quality_cbsd68`` and ``quality_real`` (JSON, table, contact sheet); return what was found on CBSD68."""
    synthetic = restore_all(net, degraded(data / "cbsd68"), classics=True)
    _write(synthetic, results / "quality_cbsd68", net)
    real = [
        {"name": name, "dataroot_lq": data / folder / "input", "dataroot_gt": data / folder / "target", "pairing": rule}
        for name, (folder, rule) in _REAL.items()
        if (data / folder).is_dir()
    ]
    if real:
        _write(restore_all(net, AllInOneDataset(real, center_crop=16), classics=True), results / "quality_real", net)
    return synthetic


def _mean(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    first, second = zip(*values, strict=True)
    return sum(first) / len(first), sum(second) / len(second)


def _write(evaluations: Sequence[Evaluation], path: Path, net: cm.ClusIR) -> None:
    """Write ``path`` as ``.md`` (table), ``.json`` (figures) and ``.png`` (best and worst image of each task)."""
    parameters = sum(parameter.numel() for parameter in net.parameters())
    rows: list[dict[str, Any]] = []
    sheet = []
    for task in dict.fromkeys(e.task for e in evaluations):
        found = [e for e in evaluations if e.task == task]
        before, after = _mean([e.before for e in found]), _mean([e.after for e in found])
        row: dict[str, Any] = {"task": task, "images": len(found), "input": before, "restored": after}
        both = [(e.classic, e.after[0]) for e in found if e.classic is not None]
        if both:
            classic, ours = _mean(both)
            row["classic"] = {"name": CLASSICS[task].name, "images": len(both), "psnr": classic, "restored": ours}
        rows.append(row)
        by_gain = sorted(found, key=lambda e: e.after[0] - (e.before[0] if math.isfinite(e.before[0]) else 0))
        for label, e in (("best", by_gain[-1]), ("worst", by_gain[0])):
            sheet.append(e.result()._replace(task=f"{task}, {label}"))
    seconds = statistics.median(e.seconds for e in evaluations)
    lines = [
        f"clusir_tiny, {parameters / 1e6:.2f} M parameters, {seconds:.1f} CPU seconds per megapixel; PSNR in dB / "
        f"SSIM, mean over the images. Classics on every {_CLASSIC_EVERY}th image, beside ours on the same.",
        "",
        "| task | images | input | restored | gain | classic method: its PSNR, ours | large networks, published |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        (p0, s0), (p1, s1) = row["input"], row["restored"]
        gain = f"{p1 - p0:+.2f}" if math.isfinite(p0) else ""
        beside = "{name}: {psnr:.2f}, {restored:.2f}".format(**row["classic"]) if "classic" in row else ""
        cells = (row["task"], row["images"], f"{p0:.2f} / {s0:.3f}", f"{p1:.2f} / {s1:.3f}", gain, beside)
        lines.append(f"| {' | '.join(map(str, cells))} | {PUBLISHED.get(row['task'], '')} |")
    write_report(path, {"parameters": parameters, "seconds_per_megapixel": seconds, "rows": rows}, lines)
    contact_sheet({"restored": sheet}, path.with_suffix(".png"), size=_SHOWN)
