"""Drops or flakes over every image of a batch, without a number that the host would have to wait for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ._particles import Particles

__all__ = ["Layer", "scatter_batch", "transmittance_batch"]

_PIXELS_AT_ONCE = 1 << 22  # of the particles' windows; bounds the memory
_FRACTION = 2.0**32  # logarithms are summed as whole multiples of its inverse: their order does not count


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Particles at one distance. Their largest possible values fix what is computed, before any value is drawn."""

    scale: float
    """Size relative to the nearest layer."""
    number: float
    """Density relative to the setting."""
    strength: float
    """Opacity relative to the nearest layer."""
    per_kilopixel: float
    length: float
    radius: float
    angle: float
    """The largest possible values, in this layer; the angle is in radians."""

    @property
    def border(self) -> int:
        """Pixels outside the image from which a particle can reach into it."""
        return math.ceil(self.length / 2 + self.radius) + 1

    def most(self, images: Tensor) -> int:
        """Largest number of particles of an image."""
        height, width = images.shape[2:]
        return int(self.per_kilopixel * (height + 2 * self.border) * (width + 2 * self.border) / 1000) + 1


def scatter_batch(
    images: Tensor,
    generator: torch.Generator,
    layers: Sequence[Layer],
    *,
    per_kilopixel: Tensor,
    length: tuple[Tensor, Tensor],
    radius: tuple[Tensor, Tensor],
    angle: tuple[Tensor, Tensor],
    opacity: tuple[Tensor, Tensor],
) -> Particles:
    """``scatter_particles`` for each image of a batch ``(B, C, H, W)``.

    Args:
        images: only their shape, type and device count.
        generator: source of every random choice.
        layers: what each layer has of the settings.
        per_kilopixel: ``(B, 1, 1, 1)``, of a layer with ``number`` 1.
        length: lowest and highest value of the nearest layer, each ``(B, 1, 1, 1)``.
        radius: likewise.
        angle: likewise.
        opacity: likewise.

    Returns:
        Fields ``(B, N)``, the particles of all layers one after the other, ``layer.most(images)`` of each; those beyond
        an image's number have an opacity of 0.
    """
    batch, _, height, width = images.shape
    counts = [layer.most(images) for layer in layers]

    def each(setting: Callable[[Layer], float]) -> Tensor:
        return torch.cat([images.new_full((count,), setting(layer)) for layer, count in zip(layers, counts)])

    def unit(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator, device=images.device, dtype=images.dtype)

    def between(ends: tuple[Tensor, Tensor], place: Tensor) -> Tensor:
        return torch.lerp(ends[0].flatten(1), ends[1].flatten(1), place)

    scale = each(lambda layer: layer.scale)
    border = ((length[1] / 2 + radius[1]).flatten(1) * scale).ceil() + 1
    high, wide = height + 2 * border, width + 2 * border
    expected = per_kilopixel.flatten(1) * each(lambda layer: layer.number / 1000) * high * wide
    number = torch.cat([torch.arange(count, device=images.device) for count in counts])
    more = torch.cat([unit(1).expand(-1, count) for count in counts], 1)  # rounds the number up or down at random
    filled = number < (expected + more).floor()
    places = unit(6, len(number)).unbind(1)
    return Particles(
        x=places[0] * wide - border,
        y=places[1] * high - border,
        length=between(length, places[2]) * scale,
        radius=between(radius, places[3]) * scale,
        angle=between(angle, places[4]),
        opacity=between(opacity, places[5]) * each(lambda layer: layer.strength) * filled,
    )


def transmittance_batch(
    images: Tensor, particles: Particles, layers: Sequence[Layer], *, softness: float, fade: float
) -> Tensor:
    """``transmittance`` over each image of a batch ``(B, C, H, W)``: ``(B, 1, H, W)``.

    Bit-equal for equal input on every device, since whole numbers are summed.

    Args:
        images: only their shape, type and device count.
        particles: what :func:`scatter_batch` gives.
        layers: the same as there.
        softness: as in ``transmittance``.
        fade: likewise.
    """
    batch, _, height, width = images.shape
    # No particle's window leaves a canvas with so much around the image, so nothing has to be cut.
    around = 1 + max(
        layer.border + max(rows, columns + math.ceil(layer.length / 2))
        for layer in layers
        for rows, columns in [_window(layer, softness)]
    )
    high, wide = height + 2 * around, width + 2 * around
    canvas = torch.zeros(batch * high * wide, dtype=torch.int64, device=images.device)
    origin = ((torch.arange(batch, device=images.device) * high + around) * wide + around)[:, None, None]

    capsules = _Capsules.of(particles, softness)
    end = 0
    for layer in layers:
        rows, columns = (torch.arange(-reach, reach + 1, device=images.device) for reach in _window(layer, softness))
        start, end = end, end + layer.most(images)
        at_once = max(1, _PIXELS_AT_ONCE // (batch * len(rows) * len(columns)))
        for first in range(start, end, at_once):
            part = slice(first, min(first + at_once, end))
            row, column, absorbed = _draw(_Capsules(*(value[:, part] for value in capsules)), rows, columns, fade)
            index = (row.long() * wide + column.long() + origin)[..., None] + columns
            canvas.index_add_(0, index.flatten(), absorbed.flatten())
    absorbed = canvas.view(batch, 1, high, wide)[:, :, around:-around, around:-around]
    return (absorbed.to(images.dtype) / _FRACTION).exp_()


def _window(layer: Layer, softness: float) -> tuple[int, int]:
    """How many rows around its center a particle can reach, and how many columns around its axis in one of them."""
    reach = layer.radius * (1 + softness / 2) + 0.5
    return math.ceil(layer.length / 2 + reach), math.ceil(reach / math.cos(layer.angle))


class _Capsules(NamedTuple):
    """What drawing needs of each particle, ``(B, N, 1)``."""

    x: Tensor
    y: Tensor
    half: Tensor
    """Of the length."""
    sine: Tensor
    cosine: Tensor
    slope: Tensor
    """The coverage is ``onset + slope * distance`` within [0, 1]."""
    onset: Tensor
    opacity: Tensor

    @classmethod
    def of(cls, particles: Particles, softness: float) -> _Capsules:
        x, y, length, radius, angle, opacity = (value[..., None] for value in vars(particles).values())
        slope = -1 / (radius * softness).clamp_min(1)
        opacity = (2 * radius).clamp_max(1) * opacity
        return cls(x, y, length / 2, angle.sin(), angle.cos(), slope, 0.5 - radius * slope, opacity)


def _draw(capsules: _Capsules, rows: Tensor, columns: Tensor, fade: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithms of the transmittance, in whole numbers, in windows around the particles.

    Returns:
        Rows of the image ``(B, N, R)``, columns of the windows' middle in each of them ``(B, N, R)``, and the
        logarithms ``(B, N, R, C)``.
    """
    x, y, half, sine, cosine, slope, onset, opacity = capsules
    row = y.round() + rows
    down = row - y
    column = torch.addcmul(x, torch.clamp(down / cosine, -half, half), sine).round_()
    right = (column - x)[..., None] + columns
    # In the axes of the capsule: along its sweep and across it.
    along = torch.addcmul((down * cosine)[..., None], right, sine[..., None])
    across = torch.addcmul((down * -sine)[..., None], right, cosine[..., None])
    half = half[..., None]
    nearest = torch.clamp(along, -half, half)
    distance = torch.hypot(along.sub_(nearest), across)
    coverage = torch.addcmul(onset[..., None], distance, slope[..., None]).clamp_(0, 1)
    if fade:
        coverage.mul_(1 - fade * (nearest / half.clamp_min(1e-6)).square_())
    alpha = coverage.mul_(opacity[..., None]).clamp_max_(0.999)
    return row, column, torch.log1p(alpha.neg_()).mul_(_FRACTION).round_().long()
