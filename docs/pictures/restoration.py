"""A photograph under five degradations and what the trained network makes of them."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from torch import Tensor

import clusir_modules as cm

from ._common import FIVE, degraded, photograph, psnr, sheet, trained_tiny

_PAIRS = {
    "noise": "slider_noise.md",
    "rain": "slider_rain.md",
    "haze": "slider_haze.md",
    "blur": "slider_blur.md",
    "low light": "slider_low_light.md",
}


def _write(image: Tensor, path: Path) -> None:
    plt.imsave(path, image.clamp(0, 1).permute(1, 2, 0).numpy())


def _slider(folder: Path, name: str, image: Tensor, restored: Tensor, clean: Tensor) -> None:
    """Two pictures under a slider, with their PSNR."""
    stem = Path(_PAIRS[name]).stem
    _write(image, folder / f"{stem}_before.png")
    _write(restored, folder / f"{stem}_after.png")
    text = f"""```{{before-after}}
![A cat under {name}](/_generated/{stem}_before.png)
![The same cat restored](/_generated/{stem}_after.png)

*{name.capitalize()}: {psnr(image, clean):.1f} dB degraded, {psnr(restored, clean):.1f} dB restored.*
```
"""
    (folder / _PAIRS[name]).write_text(text, encoding="utf-8")


def draw(folder: Path) -> None:
    """Write ``restored.png``, and a pair of pictures with a slider for each degradation."""
    clean = photograph("chelsea", 20, 90, 256)
    above, below = [], []
    for name, kind in FIVE.items():
        image = degraded(clean, kind)
        restored = cm.restore(trained_tiny(), image, progress=False)
        above.append((f"{name}, {psnr(image, clean):.1f} dB", image))
        below.append((f"restored, {psnr(restored, clean):.1f} dB", restored))
        _slider(folder, name, image, restored, clean)
    sheet(above + below, 5, folder / "restored.png")
