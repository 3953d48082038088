"""A photograph under five degradations and what the trained network makes of them."""

from __future__ import annotations

from pathlib import Path

import clusir_modules as cm

from ._common import FIVE, degraded, photograph, psnr, sheet, trained_tiny


def draw(folder: Path) -> None:
    """Write ``restored.png``."""
    clean = photograph("chelsea", 20, 90, 256)
    inputs = {name: degraded(clean, kind) for name, kind in FIVE.items()}
    above = [(f"{name}, {psnr(image, clean):.1f} dB", image) for name, image in inputs.items()]
    below = []
    for image in inputs.values():
        restored = cm.restore(trained_tiny(), image, progress=False)
        below.append((f"restored, {psnr(restored, clean):.1f} dB", restored))
    sheet(above + below, 5, folder / "restored.png")
