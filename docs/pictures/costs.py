"""Parameters and multiply-adds of every component, counted on shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import clusir_modules as cm


class _Row(NamedTuple):
    text: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    pixels: int


def _map(channels: int, side: int = 64) -> Tensor:
    return torch.zeros(1, channels, side, side)


def _on_map(text: str, build: Callable[[], nn.Module], channels: int, *more: int, side: int = 64) -> _Row:
    return _Row(text, build, lambda: tuple(_map(c, side) for c in (channels, *more)), side * side)


def _pyramid() -> list[Tensor]:
    return [_map(40 + 20 * level, 64 >> level) for level in range(3)]


TABLES: dict[str, list[_Row]] = {
    "pcgrm": [
        _on_map("PCGRM(48)", lambda: cm.PCGRM(48), 48),
        _on_map("PCGRM(48, num_clusters=16, num_experts=8)", lambda: cm.PCGRM(48, num_clusters=16, num_experts=8), 48),
        _on_map("PCGRM(384, num_clusters=4, num_experts=8)", lambda: cm.PCGRM(384, num_clusters=4, num_experts=8), 384),
    ],
    "cluster_moe": [
        _on_map(f"ClusterMoE(48, {e}, top_k={k})", lambda e=e, k=k: cm.ClusterMoE(48, num_experts=e, top_k=k), 48)
        for e, k in ((4, 1), (4, 2), (4, 4), (8, 2), (16, 2))
    ],
    "prompts": [
        _Row(
            "PromptFusion(128, 4)",
            lambda: cm.PromptFusion(128, 4),
            lambda: (torch.zeros(1, 16, 128), torch.zeros(1, 4, 128)),
            0,
        ),
        _Row("PGB(128, 48)", lambda: cm.PGB(128, 48), lambda: (torch.zeros(1, 16, 128), (64, 64)), 4096),
        _Row("PGB(128, 192)", lambda: cm.PGB(128, 192), lambda: (torch.zeros(1, 16, 128), (64, 64)), 4096),
    ],
    "wtb": [
        _on_map("WTB(48, 1)", lambda: cm.WTB(48, 1), 48),
        _on_map("WTB(192, 4)", lambda: cm.WTB(192, 4), 192),
        _on_map('WTB(48, 1, "db2")', lambda: cm.WTB(48, 1, "db2"), 48),
        _on_map("TransposedAttention(48, 1)", lambda: cm.TransposedAttention(48, 1), 48),
        _on_map("GatedFeedForward(48)", lambda: cm.GatedFeedForward(48), 48),
    ],
    "dafmm": [
        _on_map("DAFMM(48)", lambda: cm.DAFMM(48), 48, 48),
        _on_map("DAFMM(48, kernel_size=7)", lambda: cm.DAFMM(48, kernel_size=7), 48, 48),
        _on_map("DAFMM(192, num_heads=8)", lambda: cm.DAFMM(192, num_heads=8), 192, 192),
    ],
    "mprnet_parts": [
        _on_map("CAB(40)", lambda: cm.CAB(40), 40),
        _on_map("SAM(40)", lambda: cm.SAM(40), 40, 3),
        _on_map("CSFF(40)", lambda: cm.CSFF(40), 40, 40, 40),
        _on_map("ORB(56)", lambda: cm.ORB(56), 56),
        _Row("ORSNet(40)", lambda: cm.ORSNet(40), lambda: (_map(56), _pyramid(), _pyramid()), 4096),
    ],
    "networks": [
        _on_map("clusir_tiny()", cm.clusir_tiny, 3, side=256),
        _on_map("clusir_small()", cm.clusir_small, 3, side=256),
        _on_map("clusir_base()", cm.clusir_base, 3, side=256),
        _on_map("clusir_tiny(supervised_stages=2)", lambda: cm.clusir_tiny(supervised_stages=2), 3, side=256),
        _on_map("mprnet_deraining()", cm.mprnet_deraining, 3, side=256),
        _on_map("mprnet_denoising()", cm.mprnet_denoising, 3, side=256),
        _on_map("mprnet_deblurring()", cm.mprnet_deblurring, 3, side=256),
    ],
}


def _line(row: _Row) -> str:
    with torch.device("meta"), torch.no_grad():
        module = row.build().eval()
        inputs = row.inputs()
        with FlopCounterMode(display=False) as counter:
            module(*inputs)
    count = sum(parameter.numel() for parameter in module.parameters())
    operations = counter.get_total_flops()
    each = f"{operations / 2 / row.pixels:,.0f}" if row.pixels else ""
    side = f"{int(row.pixels**0.5)}x{int(row.pixels**0.5)}" if row.pixels else "16 and 4 tokens"
    return f"| `{row.text}` | {count:,} | {side} | {operations / 1e9:,.4g} | {each} |"


def draw(folder: Path) -> None:
    """Write ``cost_NAME.md`` for each table."""
    for name, rows in TABLES.items():
        head = ["| | parameters | input | GFLOPs | multiply-adds a pixel |", "|---|---:|---|---:|---:|"]
        note = (
            "Counted by `torch.utils.flop_counter` when these pages were built: 2 for each multiply-add of matrix "
            "products and convolutions; Fourier transforms and elementwise work are not in it."
        )
        text = "\n".join([*head, *(_line(row) for row in rows), "", note, ""])
        (folder / f"cost_{name}.md").write_text(text, encoding="utf-8")
