"""What passes between the stages of a trained MPRNet on a rainy photograph."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch

from clusir_modules.data import RainStreaks

from ._common import degraded, photograph, psnr, sheet, trained_mprnet


def draw(folder: Path) -> None:
    """Write ``stages.png`` and ``sam.png``."""
    clean = photograph("chelsea", 20, 90, 256)
    rainy = degraded(clean, RainStreaks(30.0, light=1.0, opacity=0.6, veil=0.0))
    net = trained_mprnet()
    with torch.no_grad():
        stages = net(rainy[None])
    pictures = [(f"rainy, {psnr(rainy, clean):.1f} dB", rainy)]
    pictures += [(f"stage {3 - i}, {psnr(stages[i][0], clean):.1f} dB", stages[i][0]) for i in (2, 1, 0)]
    pictures.append(("clean", clean))
    steps = [rainy, *(stage[0] for stage in reversed(stages))]
    changes = [(after - before).mean(0) for before, after in pairwise(steps)] + [(clean - rainy).mean(0)]
    scale = 2 * float(changes[-1].abs().quantile(0.995))
    names = ("done by stage 1", "by stage 2", "by stage 3", "what was to do")
    pictures += [(name, (0.5 + change / scale).clamp(0, 1)) for name, change in zip(names, changes)]
    sheet(pictures, 5, folder / "stages.png")

    maps = []
    for name, sam, stage in (("1 to 2", net.sam12, stages[2]), ("2 to 3", net.sam23, stages[1])):
        attention = sam.attention(stage)[0].detach()
        liveliest = attention.std(dim=(1, 2)).topk(4).indices.sort().values.tolist()
        maps.append((f"{name}: mean of all channels", attention.mean(0)))
        maps += [(f"{name}: channel {channel}", attention[channel]) for channel in liveliest]
    sheet(maps, 5, folder / "sam.png")
