"""Rain streaks."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ._base import Degradation, Range, draw, normalize_range
from ._particles import scatter_particles, transmittance

__all__ = ["RainStreaks"]

# Distance layers of the rain (this project's choice): size of the streaks relative to the nearest layer, their number
# (more drops are in view the farther away), and their opacity.
_LAYERS = ((1.0, 0.5, 1.0), (0.6, 1.0, 0.75), (0.35, 2.0, 0.5))


@dataclass(frozen=True)
class RainStreaks(Degradation):
    r"""Cover the image with falling drops, drawn out to bright streaks by the exposure.

    .. math:: y = b\, T + L\,(1 - T), \qquad b = (1 - v)\, x + v L

    A drop shows the light ``L`` of the sky, and during the exposure it hides the background for a part of the time
    only, so it adds with an opacity (Garg and Nayar, IJCV 2007); ``T`` is what passes between all drops. Streaks lie
    in three layers of distance, the farther the smaller, fainter and more numerous. ``v`` is the even veil of the
    drops too far to be seen singly (rain accumulation).

    Args:
        density: streaks for each 1000 pixels, in the middle layer; 0.5 is light rain, 5 a downpour.
        length: length in pixels of the nearest streaks.
        width: width in pixels of the nearest streaks.
        angle: direction of the fall in degrees from the vertical, one for the whole image.
        opacity: opacity of the nearest streaks, in [0, 1].
        light: brightness ``L`` of the drops, in [0, 1].
        veil: strength ``v`` of the veil, in [0, 1].

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    density: Range = (1.0, 5.0)
    _: KW_ONLY
    length: Range = (20.0, 50.0)
    width: Range = (1.4, 2.6)
    angle: Range = (-25.0, 25.0)
    opacity: Range = (0.35, 0.7)
    light: Range = (0.8, 1.0)
    veil: Range = (0.0, 0.1)

    def __post_init__(self) -> None:
        """Check the settings."""
        normalize_range(self, "density", 0, 50)
        normalize_range(self, "length", 0, 500)
        normalize_range(self, "width", 0, 50)
        normalize_range(self, "angle", -60, 60)
        for name in ("opacity", "light", "veil"):
            normalize_range(self, name, 0, 1)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        density, length, width, angle, opacity, light, veil = (
            draw(value, generator)
            for value in (self.density, self.length, self.width, self.angle, self.opacity, self.light, self.veil)
        )
        passed = torch.ones(image.shape[1:], dtype=torch.float64, device=image.device)
        for scale, number, strength in _LAYERS:
            drops = scatter_particles(
                image.shape[1],
                image.shape[2],
                generator,
                per_kilopixel=density * number,
                length=(0.5 * length * scale, length * scale),
                radius=(0.35 * width * scale, 0.5 * width * scale),
                angle=(math.radians(angle - 2), math.radians(angle + 2)),
                opacity=(0.4 * opacity * strength, opacity * strength),
            )
            passed *= transmittance(image.shape[1], image.shape[2], drops, softness=1.0, fade=0.8)
        visible = (passed * (1 - veil)).to(image)
        return image * visible + light * (1 - visible)
