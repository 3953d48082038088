"""Restoration in tiles: where they lie, and what global routing changes."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle

import clusir_modules as cm
from clusir_modules.inference.tiles import tile_spans

from ._common import FIVE, degraded, photograph, save, show, trained_tiny


def draw(folder: Path) -> None:
    """Write ``tiles.png``."""
    net = trained_tiny()
    noisy = degraded(photograph("chelsea", 0, 20, 300), FIVE["noise"])
    tile, overlap = 128, 24
    with torch.no_grad():
        whole = net(noisy[None])[0]
    differences = {
        routing: (cm.restore(net, noisy, tile=tile, overlap=overlap, routing=routing, progress=False) - whole).abs()
        for routing in ("global", "tile")
    }
    figure, grid = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
    show(grid[0], noisy, f"tiles of {tile} pixels, {overlap} shared")
    spans = [tile_spans(length, tile, overlap, net.size_multiple) for length in noisy.shape[1:]]
    colors = ("tab:red", "tab:cyan", "tab:orange", "tab:green")
    for i, row in enumerate(spans[0]):
        for j, column in enumerate(spans[1]):
            corner, width, height = (column.start, row.start), column.stop - column.start, row.stop - row.start
            color = colors[2 * (i % 2) + j % 2]
            grid[0].add_patch(Rectangle(corner, width, height, fill=False, color=color, linewidth=1.5))
    for axes, (routing, difference) in zip(grid[1:], differences.items()):
        title = f'routing="{routing}": mean {float(difference.mean()):.4f}'
        drawn = axes.imshow(difference.mean(0), cmap="magma", vmin=0, vmax=float(differences["tile"].mean(0).max()))
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.colorbar(drawn, ax=grid[1:], shrink=0.8, label="difference from the whole picture at once")
    save(figure, folder / "tiles.png")
