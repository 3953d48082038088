"""What the shipped weights can and cannot do: figures from the evaluation, pictures of what fails."""

from __future__ import annotations

import json
import math
import re
import textwrap
from pathlib import Path

import clusir_modules as cm
from clusir_modules.data import Degradation, MotionBlur, build_degradation
from clusir_modules.networks.clusir import SHIPPED_WEIGHTS

from ._common import degraded, photograph, psnr, sheet, trained_tiny
from .results import SOURCE

FAILURES: dict[str, Degradation] = {
    "motion blur": MotionBlur(),
    "low light, haze, rain": build_degradation(["low_light", "haze", "rain"]),
    "snow, never seen": build_degradation({"type": "Snow"}),
}


def _table() -> str:
    """Mean PSNR of input and result, task by task."""
    rows = json.loads((SOURCE / "quality_cbsd68.json").read_text(encoding="utf-8"))["rows"]
    lines = ["| task | input, dB | restored, dB | gain, dB |", "|---|---|---|---|"]
    for row in rows:
        before, after = row["input"][0], row["restored"][0]
        first, last = ("unharmed", "") if math.isinf(before) else (f"{before:.2f}", f"{after - before:+.2f}")
        lines.append(f"| {row['task']} | {first} | {after:.2f} | {last} |")
    return "\n".join(lines) + "\n"


def _card(point: str) -> str:
    """One point of the card that lies beside the weights, from its bold word on."""
    text = (SHIPPED_WEIGHTS.parent / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^- (\*\*{point}\*\*.*?)(?=^- \*\*|\Z)", text, re.DOTALL | re.MULTILINE)
    return textwrap.dedent("  " + found)


def draw(folder: Path) -> None:
    """Write ``weights.md``, ``weights_trained.md``, ``weights_fails.md`` and ``failures.png``."""
    (folder / "weights.md").write_text(_table(), encoding="utf-8")
    (folder / "weights_trained.md").write_text(_card("Trained"), encoding="utf-8")
    (folder / "weights_fails.md").write_text(_card("Fails"), encoding="utf-8")
    clean = photograph("chelsea", 20, 90, 256)
    pictures = []
    for name, kind in FAILURES.items():
        image = degraded(clean, kind)
        restored = cm.restore(trained_tiny(), image, progress=False)
        pictures += [
            (f"{name}, {psnr(image, clean):.1f} dB", image),
            (f"restored, {psnr(restored, clean):.1f} dB", restored),
            ("clean", clean),
        ]
    sheet(pictures, 3, folder / "failures.png")
