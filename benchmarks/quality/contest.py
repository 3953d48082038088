"""Train small networks on the same data for the same seconds of one core or the same steps, and compare the results.

Noise 15, 25 and 50, rain, haze, blur and low light on 64-pixel patches, batches of 8, AdamW with warm-up and cosine
over the budget, moving average of the weights; PSNR on the kept-out photographs, cut to their middle 192 pixels. A
result of a network, seed and budget is kept in ``contest.json`` and not measured again. Seconds are of the processor,
and a busy neighbor makes them shorter: compare networks by seconds where they ran in turns, parts of one by steps.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

import clusir_modules as cm
from clusir_modules.data import AllInOneDataset
from clusir_modules.inference.network import final_image
from clusir_modules.metrics import psnr

from .contestants import CONTESTANTS, PEERS, STUDENTS, TAUGHT
from .known import middle

RESULTS = Path(__file__).parents[1] / "results"
_RATE, _BATCH, _PATCH, _SHOWN = 4e-3, 8, 64, 192  # of 2e-3 and 4e-3 the better rate for ClusIR and for NAFNet
_OTHERS = {"rain": "RainStreaks", "haze": "Haze", "blur": "MotionBlur", "low light": "LowLight"}


def _datasets(photographs: Path, kept_out: Path) -> tuple[AllInOneDataset, AllInOneDataset]:
    def tasks(folder: Path, noises: dict[str, Any], repeat: int) -> list[dict[str, Any]]:
        noise = [
            {"name": n, "dataroot_gt": folder, "degradation": {"type": "GaussianNoise", "sigma": s}, "repeat": repeat}
            for n, s in noises.items()
        ]
        return noise + [{"name": n, "dataroot_gt": folder, "degradation": {"type": t}} for n, t in _OTHERS.items()]

    train = AllInOneDataset(tasks(photographs, {"noise": [15, 25, 50]}, 3), patch_size=_PATCH)
    return train, AllInOneDataset(tasks(kept_out, {f"noise {s}": s for s in (15, 25, 50)}, 1), center_crop=16)


def train(
    label: str,
    make: Callable[[], nn.Module],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    data: AllInOneDataset,
    budget: float,
    unit: str,
    seed: int,
) -> tuple[nn.Module, int, float]:
    """Return the averaged network, the number of its steps and its seconds; ``unit`` is ``"s"`` or ``"steps"``."""
    torch.manual_seed(seed)
    net = make()
    average = copy.deepcopy(net).eval()
    routed = isinstance(net, cm.ClusIR)
    teacher = cm.clusir_tiny(pretrained=True).eval().requires_grad_(False) if label in TAUGHT else None
    optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=1e-4, betas=(0.9, 0.99))
    draw = np.random.default_rng(seed)
    start, step, seconds, share = time.process_time(), 0, 0.0, 0.0
    with tqdm(total=round(budget), desc=f"{label}, seed {seed}", unit=unit) as bar:
        while share < 1:
            optimizer.param_groups[0]["lr"] = (
                _RATE * min(1, (step + 1) / 50) * (0.01 + 0.99 * math.cos(share * math.pi / 2) ** 2)
            )
            batch = [data[step, int(index)] for index in draw.integers(0, len(data), _BATCH)]
            lq, gt = (torch.stack([sample[key] for sample in batch]) for key in ("lq", "gt"))
            if routed:
                output, routings = net(lq, return_routing=True)
                loss = loss_of(output, gt) + 0.005 * cm.load_balance_loss(routings)
                loss = loss + 0.02 * cm.cluster_information_loss(routings)
                if teacher is not None:
                    shown, decided = teacher(lq, return_routing=True)
                    pictures, clusters = TAUGHT[label]
                    loss = loss + pictures * nn.functional.l1_loss(output, shown)
                    loss = loss + clusters * cm.distillation_loss(routings, decided)
            else:
                loss = loss_of(final_image(net(lq)), gt)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            step += 1
            with torch.no_grad():
                for kept, parameter in zip(average.parameters(), net.parameters(), strict=True):
                    kept.lerp_(parameter, max(0.02, 1 / step))
                for kept, buffer in zip(average.buffers(), net.buffers(), strict=True):
                    kept.copy_(buffer)  # moments of the evidence
            seconds = time.process_time() - start
            share = (seconds if unit == "s" else step) / budget
            bar.update(min(round(share * budget), round(budget)) - bar.n)
    return average, step, seconds


@torch.inference_mode()
def evaluate(net: nn.Module, data: AllInOneDataset) -> dict[str, float]:
    """PSNR gained over the input by task, dB."""
    gains: dict[str, list[float]] = {}
    for number in range(len(data)):
        item = data[number]
        lq, gt = (middle(item[key], _SHOWN)[None] for key in ("lq", "gt"))
        target, before, after = (
            image.clamp(0, 1)[0].permute(1, 2, 0).numpy() for image in (gt, lq, final_image(net(lq)))
        )
        gains.setdefault(item["task"], []).append(psnr(after, target) - psnr(before, target))
    return {task: statistics.fmean(values) for task, values in gains.items()}


def _table(results: list[dict[str, Any]]) -> str:
    lines = [
        "PSNR gained over the input in dB, mean over the seeds, ± standard deviation between them; one core each.",
        "",
        f"| network | budget | parameters | seconds | seeds | steps | average | {' | '.join(results[0]['gain'])} |",
        "|---" * (7 + len(results[0]["gain"])) + "|",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["budget"], result["network"]), []).append(result)
    for (budget, name), group in groups.items():
        averages = [statistics.fmean(result["gain"].values()) for result in group]
        spread = f" ± {statistics.stdev(averages):.2f}" if len(averages) > 1 else ""
        cells = [f"{statistics.fmean(r['gain'][task] for r in group):.2f}" for task in group[0]["gain"]]
        steps, seconds = (round(statistics.fmean(result[key] for result in group)) for key in ("steps", "seconds"))
        head = (name, budget, f"{group[0]['parameters'] / 1e6:.2f} M", seconds, len(group), steps)
        lines.append(
            f"| {' | '.join(map(str, head))} | {statistics.fmean(averages):.2f}{spread} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.contest", description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True, help="folder to train on")
    parser.add_argument("--kept-out", type=Path, required=True, help="folder to evaluate on")
    parser.add_argument("--budget", type=float, default=180, help="for each network and seed, in --unit")
    parser.add_argument("--unit", choices=("s", "steps"), default="s", help="seconds of one core, or training steps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=CONTESTANTS,
        metavar="NAME",
        help=f"of {', '.join(CONTESTANTS)}; by default those that --unit suits",
    )
    arguments = parser.parse_args()
    suited = PEERS if arguments.unit == "s" else [name for name in CONTESTANTS if name not in PEERS[1:] + STUDENTS]
    names = arguments.networks or suited
    torch.set_num_threads(1)
    training, kept_out = _datasets(arguments.photographs, arguments.kept_out)
    path = arguments.results / "contest.json"
    for seed in arguments.seeds:
        for name in names:
            key = {"network": name, "budget": f"{arguments.budget:g} {arguments.unit}", "seed": seed}
            known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
            if any(key.items() <= result.items() for result in known):
                continue
            loss = cm.L1MSSSIMLoss(0 if name == "no MS-SSIM" else 0.02, knee=math.inf if name == "plain mean" else 0.02)
            net, steps, seconds = train(name, CONTESTANTS[name], loss, training, arguments.budget, arguments.unit, seed)
            parameters = sum(parameter.numel() for parameter in net.parameters())
            cost = {"parameters": parameters, "steps": steps, "seconds": seconds}
            known.append({**key, **cost, "gain": evaluate(net, kept_out)})
            arguments.results.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
            path.with_suffix(".md").write_text(_table(known), encoding="utf-8")
    print(path.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
