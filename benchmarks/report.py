"""The result files: JSON, a Markdown table and a plot for each kind of machine."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch

from .measure import ALLOCATOR
from .rows import Setting

__all__ = ["machine", "write"]


def machine(at: Setting, arguments: argparse.Namespace) -> dict[str, Any]:
    """Where the figures come from."""
    cpus = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    cuda = at.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(at.device)
        if cuda
        else cpus[0].split(": ")[1]
        if cpus
        else platform.machine(),
        "dtype": str(at.dtype).removeprefix("torch."),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "torch": torch.__version__,
        "allocator": " ".join(f"{key}={value}" for key, value in ALLOCATOR.items()),
    }


def write(results: list[dict[str, Any]], where: dict[str, Any], folder: Path) -> str:
    """Merge the rows into the files of this kind of machine and return the table.

    Rows that were not measured this time stay as they are in the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{'cpu' if 'NVIDIA' not in where['device'] else 'cuda'}_{where['dtype']}"
    path = folder / f"{name}.json"
    known = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    merged = {row["row"]: row for row in [*known, *results]}
    rows = list(merged.values())
    path.write_text(json.dumps({"machine": where, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    table = _table(rows, where)
    (folder / f"{name}.md").write_text(table, encoding="utf-8")
    _plot(rows, folder / f"{name}.png")
    return table


def _verdict(row: dict[str, Any]) -> str:
    missed = [kind for kind in ("time", "memory") if row.get(f"{kind}_ratio", 0) > row.get(f"{kind}_target", 0)]
    return "pass" if not missed else f"miss: {' and '.join(missed)}"


def _cell(row: dict[str, Any], kind: str) -> str:
    return f"{row[f'{kind}_ratio']:.3f} (<= {row[f'{kind}_target']:g})" if f"{kind}_ratio" in row else ""


def _table(rows: list[dict[str, Any]], where: dict[str, Any]) -> str:
    lines = [
        f"{where['device']}, {where['dtype']}, {where['threads']} threads, median of {where['rounds']} turns, torch "
        f"{where['torch']}, {where['allocator']}",
        "",
        "| work | ours | against | time ratio (target) | memory ratio (target) | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        memory = _cell(row, "memory") + (f", {row['memory']}" if "memory" in row else "")
        lines.append(
            f"| {row['work']} | {row['ours']} | {row['peer']} | {_cell(row, 'time')} | {memory} | {_verdict(row)} |"
        )
    return "\n".join(lines) + "\n"


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    bars = [
        (f"{row['ours']} / {row['peer']}\n{row['work']}, {kind}", row[f"{kind}_ratio"], row[f"{kind}_target"])
        for row in rows
        for kind in ("time", "memory")
        if f"{kind}_ratio" in row
    ]
    figure, axes = plt.subplots(figsize=(9, 0.6 * len(bars) + 1), layout="constrained")
    colors = ["tab:green" if ratio <= target else "tab:red" for _, ratio, target in bars]
    axes.barh([label for label, _, _ in bars], [ratio for _, ratio, _ in bars], color=colors)
    axes.scatter([target for _, _, target in bars], range(len(bars)), marker="|", s=300, color="black", label="target")
    axes.invert_yaxis()
    axes.set_xlabel("ratio, less is better")
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
