"""What `FFTLoss` and the fallback of the router bring: short trainings with and without, three seeds, PSNR gained.

Each network, a `clusir_tiny`, learns noise, rain, blur and low light for so many steps on 64-pixel patches, batches of
8, as in `contest.py`. Haze, JPEG, snow and noise in rain are kept out: they show what becomes of a degradation that the
router never saw. Trained networks are kept in ``NETWORKS`` and not trained again; the report is of all that are there.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

import clusir_modules as cm
from clusir_modules.data import AllInOneDataset
from clusir_modules.metrics import psnr

from .contest import RESULTS, train
from .known import middle
from .reports import write_report

BASE = {
    "with FFTLoss": "ClusIR",
    "with fallback": "ClusIR",
    "fallback after training": "ClusIR",
    "L1 with FFTLoss": "L1",
}
"""What each network is compared with, seed by seed."""
THRESHOLD = 0.9  # of the fallback, set before anything was measured
_SHOWN = 192
_NOISE = {"type": "GaussianNoise", "sigma": 25}
_LEARNED: dict[str, Any] = {
    "noise 15": {"type": "GaussianNoise", "sigma": 15},
    "noise 25": _NOISE,
    "noise 50": {"type": "GaussianNoise", "sigma": 50},
    "rain": {"type": "RainStreaks"},
    "blur": {"type": "MotionBlur"},
    "low light": {"type": "LowLight"},
}
_UNSEEN: dict[str, Any] = {
    "haze": {"type": "Haze"},
    "JPEG": {"type": "JPEG", "quality": 20},
    "snow": {"type": "Snow"},
    "rain + noise": [{"type": "RainStreaks"}, _NOISE],
}


def _with_spectra(loss: Callable[[Tensor, Tensor], Tensor], output: Tensor, gt: Tensor) -> Tensor:
    return loss(output, gt) + 0.1 * cm.FFTLoss()(output, gt)


_OBJECTIVE = cm.L1MSSSIMLoss(0.02, knee=0.02)
_FALLBACK = partial(cm.PCGRM, fallback=THRESHOLD)
ARMS: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor, Tensor], Tensor]]] = {
    "ClusIR": (cm.clusir_tiny, _OBJECTIVE),
    "with FFTLoss": (cm.clusir_tiny, partial(_with_spectra, _OBJECTIVE)),
    "with fallback": (partial(cm.clusir_tiny, router=_FALLBACK), _OBJECTIVE),
    "L1": (cm.clusir_tiny, l1_loss),
    "L1 with FFTLoss": (cm.clusir_tiny, partial(_with_spectra, l1_loss)),
}
"""How to make the network, and its loss, by name."""


class Shown(NamedTuple):
    """A kept-out picture: its task, and the middle of input and target."""

    task: str
    lq: Tensor
    gt: Tensor


def training_set(photographs: Path) -> AllInOneDataset:
    """Noise of three strengths three times as often as each of the others."""
    noise = {"type": "GaussianNoise", "sigma": [15, 25, 50]}
    others = {name: kind for name, kind in _LEARNED.items() if "noise" not in name}
    tasks = [{"name": "noise", "dataroot_gt": photographs, "degradation": noise, "repeat": 3}]
    tasks += [{"name": name, "dataroot_gt": photographs, "degradation": kind} for name, kind in others.items()]
    return AllInOneDataset(tasks, patch_size=64)


def kept_out_pictures(folder: Path) -> list[Shown]:
    """Every photograph under every degradation, learned or not."""
    tasks = [{"name": n, "dataroot_gt": folder, "degradation": kind} for n, kind in {**_LEARNED, **_UNSEEN}.items()]
    data = AllInOneDataset(tasks, center_crop=16)
    items = (data[number] for number in range(len(data)))
    return [Shown(item["task"], *(middle(item[key], _SHOWN) for key in ("lq", "gt"))) for item in items]


@torch.inference_mode()
def evaluate(net: nn.Module, pictures: Sequence[Shown]) -> dict[str, dict[str, float]]:
    """PSNR gained over the input in dB, and mean confidence of the routers, by task."""
    found: dict[str, list[tuple[float, float]]] = {}
    for task, lq, gt in pictures:
        output, routings = net.eval()(lq[None], return_routing=True)
        before, after = (
            psnr(x.clamp(0, 1).permute(1, 2, 0).numpy(), gt.permute(1, 2, 0).numpy()) for x in (lq, output[0])
        )
        confidence = statistics.fmean(float(routing.confidence) for routing in routings)
        found.setdefault(task, []).append((after - before, confidence))
    means = {task: [statistics.fmean(column) for column in zip(*rows, strict=True)] for task, rows in found.items()}
    return {task: {"gain": gain, "confidence": confidence} for task, (gain, confidence) in means.items()}


def fall_back(net: nn.Module, threshold: float | None) -> None:
    """Give all routers of a network that threshold."""
    for module in net.modules():
        if isinstance(module, cm.PCGRM):
            module.fallback = threshold


def report(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the figures, a table of means over the seeds, and one of the differences within them."""
    groups = {
        name: {row["seed"]: row["tasks"] for row in rows if row["network"] == name}
        for name in dict.fromkeys(row["network"] for row in rows)
    }
    tasks = (*_LEARNED, *_UNSEEN)
    lines = [
        f"PSNR gained over the input in dB after {rows[0]['steps']} steps, mean over the seeds, ± standard deviation "
        f"between them; {', '.join(_UNSEEN)} were not trained. Confidence: mean over levels and pictures.",
        "",
        *_table(["network", "seeds", "learned", "unseen", *tasks, "confidence: learned", "unseen"]),
    ]
    for name, seeds in groups.items():
        cells = [_spread([_mean(found, "gain", kinds) for found in seeds.values()]) for kinds in (_LEARNED, _UNSEEN)]
        cells += [f"{statistics.fmean(found[task]['gain'] for found in seeds.values()):.2f}" for task in tasks]
        cells += [
            f"{statistics.fmean(_mean(found, 'confidence', kinds) for found in seeds.values()):.2f}"
            for kinds in (_LEARNED, _UNSEEN)
        ]
        lines.append(f"| {' | '.join([name, str(len(seeds)), *cells])} |")
    lines += ["", "Gain minus that of the same seed without, mean ± standard deviation of the difference.", ""]
    lines += _table(["network", "without", "learned", "unseen", *tasks])
    for name, base in BASE.items():
        seeds = sorted(groups.get(name, {}).keys() & groups.get(base, {}).keys())
        if seeds:
            pairs = [(groups[name][seed], groups[base][seed]) for seed in seeds]
            kinds = (_LEARNED, _UNSEEN, *([task] for task in tasks))
            cells = [_spread([_mean(a, "gain", kind) - _mean(b, "gain", kind) for a, b in pairs]) for kind in kinds]
            lines.append(f"| {' | '.join([name, base, *cells])} |")
    write_report(path, list(rows), lines)


def _table(header: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]


def _mean(found: dict[str, dict[str, float]], figure: str, tasks: Iterable[str]) -> float:
    return statistics.fmean(found[task][figure] for task in tasks)


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.additions", description=__doc__)
    parser.add_argument("--photographs", type=Path, required=True, help="folder to train on")
    parser.add_argument("--kept-out", type=Path, required=True, help="folder to evaluate on")
    parser.add_argument(
        "--networks", type=Path, required=True, metavar="NETWORKS", help="folder of the trained networks"
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: evaluate what is there")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.networks.mkdir(parents=True, exist_ok=True)
    training = training_set(arguments.photographs)
    for seed in arguments.seeds:
        for name in arguments.arms:
            path = arguments.networks / f"{name}, {arguments.steps} steps, seed {seed}.pth"
            if not path.is_file():
                make, loss_of = ARMS[name]
                net, _, seconds = train(name, make, loss_of, training, arguments.steps, "steps", seed)
                torch.save({"weights": net.state_dict(), "seconds": seconds}, path)
    pictures, rows = kept_out_pictures(arguments.kept_out), []
    for name in arguments.arms:
        for path in sorted(arguments.networks.glob(f"{name}, {arguments.steps} steps, seed *.pth")):
            kept = torch.load(path)
            net = ARMS[name][0]()
            net.load_state_dict(kept["weights"])
            about = {"steps": arguments.steps, "seed": int(path.stem.split()[-1]), "seconds": kept["seconds"]}
            rows.append({"network": name, **about, "tasks": evaluate(net, pictures)})
            if name == "ClusIR":
                fall_back(net, THRESHOLD)
                rows.append({"network": "fallback after training", **about, "tasks": evaluate(net, pictures)})
    report(rows, arguments.results / "quality_additions")


if __name__ == "__main__":
    main()
