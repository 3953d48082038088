"""What the edge loss compares, and the shape of the Charbonnier loss."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import clusir_modules as cm
from clusir_modules.losses.charbonnier import charbonnier
from clusir_modules.losses.edge import laplacian_residual

from ._common import FIVE, degraded, photograph, save, sheet


def draw(folder: Path) -> None:
    """Write ``edges.png`` and ``charbonnier.png``."""
    clean = photograph("coffee", 60, 180, 256)
    pictures = []
    for name in ("clean", "noise", "blur"):
        image = clean if name == "clean" else degraded(clean, FIVE[name])
        loss = float(cm.EdgeLoss()(image[None], clean[None]))
        residual = laplacian_residual(image[None])[0].mean(0)
        pictures += [(name, image), (f"residual; EdgeLoss {loss:.4f}", 0.5 + 3 * residual.clamp(-0.16, 0.16))]
    sheet(pictures, 6, folder / "edges.png")

    error = torch.linspace(-0.01, 0.01, 401)
    values = {
        "|d|": error.abs(),
        "Charbonnier, eps = 1e-3": torch.stack([charbonnier(e[None], torch.zeros(1)) for e in error]),
        "100 d^2": 100 * error.square(),
    }
    figure, axes = plt.subplots(figsize=(5, 2.8), layout="constrained")
    for name, value in values.items():
        axes.plot(error, value, label=name)
    axes.set_xlabel("difference d of two pixels")
    axes.set_ylabel("loss")
    axes.legend(fontsize=8)
    save(figure, folder / "charbonnier.png")
