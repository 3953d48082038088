"""What DAFMM's split makes of a photograph, and what its trained gate does to the spectrum."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import clusir_modules as cm
from clusir_modules.layers.frequency.spectral_gate import frequency_bands

from ._common import FIVE, degraded, photograph, save, sheet, trained_tiny


def _spectrum(image: Tensor) -> Tensor:
    """Logarithm of the spectrum's magnitude, frequency 0 in the middle, scaled to [0, 1]."""
    gray = image.mean(0) * torch.outer(torch.hann_window(image.shape[1]), torch.hann_window(image.shape[2]))
    return ((torch.fft.fftshift(torch.fft.fft2(gray)).abs() + 1e-3).log10() + 2) / 6


def _draw_split(folder: Path) -> None:
    torch.manual_seed(0)
    image = photograph("chelsea", 20, 90, 256)
    module = cm.DAFMM(6, num_heads=3, kernel_size=9)
    with torch.no_grad():
        low, high = (band[0, :3] for band in module.decompose(image.repeat(1, 2, 1, 1).view(1, 6, 256, 256)))
    pictures = [("x", image), ("low = K * x", low), ("high = x - low, shifted", 0.5 + 2 * high)]
    for name, band in (("x", image), ("low", low), ("high", high)):
        pictures.append((f"spectrum of {name}", _spectrum(band).clamp(0, 1)))
    sheet(pictures, 6, folder / "split.png")


def _draw_gate(folder: Path) -> None:
    clean = photograph("chelsea", 20, 90, 256)
    net = trained_tiny()
    stage = net.stages[0]
    gains: list[Tensor] = []
    gate = stage.decoder[0].frequency.spectral_gate
    hook = gate.register_forward_pre_hook(lambda module, inputs: gains.append(inputs[1]))
    with torch.no_grad():
        for kind in FIVE.values():
            net(degraded(clean, kind)[None])
    hook.remove()
    side = 128
    bands = frequency_bands(side, side, torch.device("cpu"), torch.float32)
    gates = [1 + torch.einsum("gj,jhw->ghw", g[0].float(), bands) for g in gains]
    groups = gates[0].shape[0]
    figure, grid = plt.subplots(
        groups, len(FIVE), figsize=(10, 2.0 * groups + 0.5), layout="constrained", squeeze=False
    )
    spread = max(float((shown - 1).abs().max()) for shown in gates)
    for column, (name, shown) in enumerate(zip(FIVE, gates)):
        for group in range(groups):
            half = torch.fft.fftshift(shown[group], dim=0)
            whole = torch.cat((half.flip(0, 1)[:, :-1].roll(1, 0), half), dim=1)
            axes = grid[group, column]
            drawn = axes.imshow(whole, cmap="coolwarm", vmin=1 - spread, vmax=1 + spread, extent=(-0.5, 0.5, -0.5, 0.5))
            axes.set_xticks([-0.5, 0, 0.5])
            axes.set_yticks([])
            axes.tick_params(labelsize=7)
            if group == 0:
                axes.set_title(name, fontsize=9)
            if column == 0:
                axes.set_ylabel(f"channels, group {group}", fontsize=8)
    figure.colorbar(drawn, ax=grid, shrink=0.8, label="gain")
    save(figure, folder / "gate.png")


def draw(folder: Path) -> None:
    """Write ``split.png`` and ``gate.png``."""
    _draw_split(folder)
    _draw_gate(folder)
