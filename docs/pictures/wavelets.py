"""Bands of the wavelet transform, and how strong the details are under each degradation."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

import clusir_modules as cm
from clusir_modules.data import GaussianNoise

from ._common import FIVE, degraded, photograph, save, sheet


def draw(folder: Path) -> None:
    """Write ``bands.png`` and ``detail_strength.png``."""
    image = photograph("coffee", 60, 180, 256)
    ll, details = cm.dwt2d(image[None])
    pictures = [("photograph", image), ("LL / 2", ll[0] / 2)]
    for number, name in enumerate(("LH", "HL", "HH")):
        pictures.append((f"{name}, 4 times as strong", 0.5 + 4 * details[0, :, number].mean(0).clamp(-0.125, 0.125)))
    sheet(pictures, 5, folder / "bands.png")

    photographs = [photograph(name, 20, 60, 256) for name in ("chelsea", "coffee", "astronaut", "rocket")]
    kinds = {"clean": None, "noise 15": GaussianNoise(15), "noise 25": FIVE["noise"], "noise 50": GaussianNoise(50)}
    kinds |= {name: kind for name, kind in FIVE.items() if name != "noise"}
    figure, axes = plt.subplots(figsize=(7.5, 2.8), layout="constrained")
    for place, kind in enumerate(kinds.values()):
        strengths = [
            float(cm.dwt2d((clean if kind is None else degraded(clean, kind))[None])[1][:, :, 2].std())
            for clean in photographs
        ]
        axes.bar(place, sum(strengths) / len(strengths), color="tab:blue", alpha=0.6)
        axes.scatter([place] * len(strengths), strengths, s=12, color="black", zorder=3)
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set_ylabel("standard deviation of HH")
    save(figure, folder / "detail_strength.png")
