"""Falling snow."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ._base import Degradation, Range, bounds, draw, draw_each, normalize_range
from ._particle_batch import Layer, scatter_batch, transmittance_batch
from ._particles import scatter_particles, transmittance

__all__ = ["Snow"]

# Distance layers (this project's choice): size of the flakes relative to the nearest layer and their number.
_LAYERS = ((1.0, 0.12), (0.5, 0.6), (0.25, 2.0))
_SPREAD = 15  # degrees to both sides of the fall


@dataclass(frozen=True)
class Snow(Degradation):
    r"""Cover the image with snowflakes and a light veil.

    .. math:: y = b\, T + L\,(1 - T), \qquad b = (1 - v)\, x + v L

    Flakes are opaque and white, unlike rain, and fall slowly, so they stay short (the composition of Snow100K, Liu et
    al., IEEE TIP 2018). Three layers of distance: few large blurred flakes, many small ones.

    Args:
        density: flakes for each 1000 pixels, all layers scaling with it; 0.5 is light, 4 dense.
        radius: radius in pixels of the nearest flakes.
        angle: direction of the fall in degrees from the vertical.
        opacity: opacity of the flakes, in [0, 1].
        light: brightness ``L`` of the flakes, in [0, 1].
        veil: strength ``v`` of the veil of far snow, in [0, 1].

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    density: Range = (0.5, 3.0)
    _: KW_ONLY
    radius: Range = (2.5, 5.0)
    angle: Range = (-40.0, 40.0)
    opacity: Range = (0.75, 1.0)
    light: Range = (0.9, 1.0)
    veil: Range = (0.0, 0.12)

    def __post_init__(self) -> None:
        """Check the settings."""
        normalize_range(self, "density", 0, 50)
        normalize_range(self, "radius", 0, 50)
        normalize_range(self, "angle", -60, 60)
        for name in ("opacity", "light", "veil"):
            normalize_range(self, name, 0, 1)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        density, radius, angle, opacity, light, veil = (
            draw(value, generator)
            for value in (self.density, self.radius, self.angle, self.opacity, self.light, self.veil)
        )
        passed = torch.ones(image.shape[1:], dtype=torch.float64, device=image.device)
        for scale, number in _LAYERS:
            flakes = scatter_particles(
                image.shape[1],
                image.shape[2],
                generator,
                per_kilopixel=density * number,
                length=(0.0, 2 * radius * scale),
                radius=(0.5 * radius * scale, radius * scale),
                angle=(math.radians(angle - _SPREAD), math.radians(angle + _SPREAD)),
                opacity=(0.5 * opacity, opacity),
            )
            passed *= transmittance(image.shape[1], image.shape[2], flakes, softness=0.8, fade=0.0)
        visible = (passed * (1 - veil)).to(image)
        return image * visible + light * (1 - visible)

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        density, radius, angle, opacity, light, veil = (
            draw_each(value, images, generator)
            for value in (self.density, self.radius, self.angle, self.opacity, self.light, self.veil)
        )
        steepest = max(abs(end) for end in bounds(self.angle)) + _SPREAD
        layers = [
            Layer(
                scale=scale,
                number=number,
                strength=1.0,
                per_kilopixel=bounds(self.density)[1] * number,
                length=2 * bounds(self.radius)[1] * scale,
                radius=bounds(self.radius)[1] * scale,
                angle=math.radians(steepest),
            )
            for scale, number in _LAYERS
        ]
        flakes = scatter_batch(
            images,
            generator,
            layers,
            per_kilopixel=density,
            length=(torch.zeros_like(radius), 2 * radius),
            radius=(0.5 * radius, radius),
            angle=(torch.deg2rad(angle - _SPREAD), torch.deg2rad(angle + _SPREAD)),
            opacity=(0.5 * opacity, opacity),
        )
        visible = transmittance_batch(images, flakes, layers, softness=0.8, fade=0.0) * (1 - veil)
        return images * visible + light * (1 - visible)
