"""Every degradation on one photograph."""

from __future__ import annotations

from pathlib import Path

from clusir_modules.data import TASK_DEGRADATIONS, Haze, LowLight, Mixture, RainStreaks

from ._common import degraded, photograph, sheet


def draw(folder: Path) -> None:
    """Write ``degradations.png``."""
    image = photograph("coffee", 20, 130, 320)
    pictures = [("clean", image)]
    pictures += [(name, degraded(image, kind)) for name, kind in TASK_DEGRADATIONS.items()]
    mixture = Mixture([LowLight(), Haze(), RainStreaks()])
    pictures.append(("low_light, haze, rain", degraded(image, mixture)))
    sheet(pictures, 5, folder / "degradations.png")
