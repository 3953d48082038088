"""The result files: everything as JSON, and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .timings import FORMS

__all__ = ["write"]


def write(
    where: Mapping[str, Any], answers: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], folder: Path
) -> None:
    """Write ``gpu.json`` and ``gpu.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"machine": where, "answers": answers, "rows": rows}
    (folder / "gpu.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "gpu.md").write_text(_tables(where, answers, rows), encoding="utf-8")


def _tables(where: Mapping[str, Any], answers: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"{where['device']}, torch {where['torch']}. Milliseconds of one call of many in a row, and the share of it in",
        "which the device computes. bf16 autocast, channels last; training steps of 16 patches of 128x128 with losses,",
        "clipping and AdamW, inference of 256x256.",
        "",
        f"| network | work | {' | '.join(FORMS)} |",
        f"|{'---|' * (2 + len(FORMS))}",
    ]
    cells = {(row["network"], row["work"], row["form"]): _cell(row) for row in rows}
    for network, work in dict.fromkeys((row["network"], row["work"]) for row in rows):
        row = " | ".join(cells.get((network, work, form), "not measured") for form in FORMS)
        lines.append(f"| {network} | {work} | {row} |")
    lines += ["", "| question | answer | error |", "|---|---|---|"]
    lines += [f"| {answer['question']} | {answer['verdict']} | {answer['detail']} |" for answer in answers]
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, Any]) -> str:
    if "device_busy" not in row:
        return f"{row['milliseconds']}"
    return f"{row['in_a_row_milliseconds']} ({row['device_busy']:.0%})"
