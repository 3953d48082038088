"""Rain streaks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ._base import Degradation, Range, bounds, draw, draw_each, normalize_range, normalize_whole_range, uniform
from ._particle_batch import Layer, scatter_batch, transmittance_batch
from ._particles import Particles, scatter_particles, transmittance

__all__ = ["RainStreaks"]

# Distance layers of the rain (this project's choice): size of the streaks relative to the nearest layer, their number
# (more drops are in view the farther away), and their opacity.
_LAYERS = ((1.0, 0.5, 1.0), (0.6, 1.0, 0.75), (0.35, 2.0, 0.5))
_SPREAD = 2  # degrees to both sides of the fall


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
        angle: direction of the fall in degrees from the vertical, one for the whole image if ``directions`` is 1.
        opacity: opacity of the nearest streaks, in [0, 1].
        light: brightness ``L`` of the drops, in [0, 1].
        veil: strength ``v`` of the veil, in [0, 1].
        directions: how many directions, each drawn from ``angle``, the streaks of an image fall in: a whole number in
            [1, 8], or a pair (low, high). Rain100H mixes up to five.

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
    directions: int | Sequence[int] = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        normalize_range(self, "density", 0, 50)
        normalize_range(self, "length", 0, 500)
        normalize_range(self, "width", 0, 50)
        normalize_range(self, "angle", -60, 60)
        for name in ("opacity", "light", "veil"):
            normalize_range(self, name, 0, 1)
        normalize_whole_range(self, "directions", 1, 8)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        density, length, width, angle, opacity, light, veil = (
            draw(value, generator)
            for value in (self.density, self.length, self.width, self.angle, self.opacity, self.light, self.veil)
        )
        low, high = bounds(self.directions)
        turns = [0.0]
        if high > 1:
            others = int(uniform(1, low, high + 1, generator)) - 1
            turns += [math.radians(draw(self.angle, generator) - angle) for _ in range(others)]
        passed = torch.ones(image.shape[1:], dtype=torch.float64, device=image.device)
        for scale, number, strength in _LAYERS:
            drops = scatter_particles(
                image.shape[1],
                image.shape[2],
                generator,
                per_kilopixel=density * number,
                length=(0.5 * length * scale, length * scale),
                radius=(0.35 * width * scale, 0.5 * width * scale),
                angle=(math.radians(angle - _SPREAD), math.radians(angle + _SPREAD)),
                opacity=(0.4 * opacity * strength, opacity * strength),
            )
            if len(turns) > 1:
                chosen = uniform(drops.angle.numel(), 0, len(turns), generator).long()
                drops = dataclasses.replace(drops, angle=drops.angle + drops.angle.new_tensor(turns)[chosen])
            passed *= transmittance(image.shape[1], image.shape[2], drops, softness=1.0, fade=0.8)
        visible = (passed * (1 - veil)).to(image)
        return image * visible + light * (1 - visible)

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        density, length, width, angle, opacity, light, veil = (
            draw_each(value, images, generator)
            for value in (self.density, self.length, self.width, self.angle, self.opacity, self.light, self.veil)
        )
        steepest = max(abs(end) for end in bounds(self.angle)) + _SPREAD
        layers = [
            Layer(
                scale=scale,
                number=number,
                strength=strength,
                per_kilopixel=bounds(self.density)[1] * number,
                length=bounds(self.length)[1] * scale,
                radius=0.5 * bounds(self.width)[1] * scale,
                angle=math.radians(steepest),
            )
            for scale, number, strength in _LAYERS
        ]
        drops = scatter_batch(
            images,
            generator,
            layers,
            per_kilopixel=density,
            length=(0.5 * length, length),
            radius=(0.35 * width, 0.5 * width),
            angle=(torch.deg2rad(angle - _SPREAD), torch.deg2rad(angle + _SPREAD)),
            opacity=(0.4 * opacity, opacity),
        )
        drops = self._turn(drops, angle, generator)
        visible = transmittance_batch(images, drops, layers, softness=1.0, fade=0.8) * (1 - veil)
        return images * visible + light * (1 - visible)

    def _turn(self, drops: Particles, angle: Tensor, generator: torch.Generator) -> Particles:
        """Give drops ``(B, N)`` that fall at ``angle``, ``(B, 1, 1, 1)``, the other directions of their image."""
        low, high = bounds(self.directions)
        if high == 1:
            return drops
        count = draw_each((low, high + 1), angle, generator).flatten(1).floor()
        others = [draw_each(self.angle, angle, generator) - angle for _ in range(int(high) - 1)]
        turns = torch.deg2rad(torch.cat([torch.zeros_like(angle), *others], 1)).flatten(1)
        chosen = (torch.empty_like(drops.angle).uniform_(generator=generator) * count).long()
        return dataclasses.replace(drops, angle=drops.angle + turns.gather(1, chosen))
