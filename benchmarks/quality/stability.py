"""How often an image's first expert changes: under a little noise, in a crop, from one checkpoint to another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import clusir_modules as cm

from .known import degraded
from .reports import write_report

__all__ = ["changed", "stability_report"]

_EVERY = 4  # of the images of a task
_NOISE = 2 / 255


def changed(first: tuple[cm.Routing, ...], second: tuple[cm.Routing, ...]) -> list[bool]:
    """Whether the most probable expert of one image differs, level by level."""
    return [
        bool(a.expert_probs.argmax(dim=1) != b.expert_probs.argmax(dim=1)) for a, b in zip(first, second, strict=True)
    ]


def _noisy(image: Tensor) -> Tensor:
    return (image + _NOISE * torch.randn_like(image)).clamp(0, 1)


def _cropped(image: Tensor) -> Tensor:
    """The middle three quarters of height and width."""
    height, width = image.shape[2:]
    return image[:, :, height // 8 : height - height // 8, width // 8 : width - width // 8]


@torch.inference_mode()
def stability_report(net: cm.ClusIR, data: Path, results: Path, earlier: cm.ClusIR | None = None) -> None:
    """Write ``quality_stability`` (JSON and table) over single degradations of every fourth image of CBSD68."""
    torch.manual_seed(0)
    variants: dict[str, Callable[[Tensor], tuple[cm.Routing, ...]]] = {
        "noise of sigma 2": lambda image: net.route(_noisy(image)),
        "middle 3/4 of height and width": lambda image: net.route(_cropped(image)),
    }
    if earlier is not None:
        variants["earlier checkpoint"] = earlier.eval().route
    net.eval()
    dataset = degraded(data / "cbsd68", mixtures=False)
    found: dict[str, list[list[bool]]] = {name: [] for name in variants}
    numbers = range(0, len(dataset), _EVERY)
    for number in tqdm(numbers, unit="image", desc="stability"):
        image = dataset[number]["lq"][None]
        reference = net.route(image)
        for name, route in variants.items():
            found[name].append(changed(reference, route(image)))
    rows = {name: torch.tensor(rows).float().mean(dim=0).tolist() for name, rows in found.items()}
    lines = [
        f"Share of {len(numbers)} degraded images (every {_EVERY}th of CBSD68) whose most probable expert changes.",
        "",
        f"| | {' | '.join(f'level {level}' for level in range(1, len(next(iter(rows.values()))) + 1))} |",
        "|---" * (len(next(iter(rows.values()))) + 1) + "|",
    ]
    lines += [f"| {name} | {' | '.join(f'{share:.0%}' for share in shares)} |" for name, shares in rows.items()]
    write_report(results / "quality_stability", rows, lines)
