"""Drawing of many moving drops or flakes at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._base import uniform

__all__ = ["Particles", "scatter_particles", "transmittance"]

_AT_ONCE = 8192  # particles; bounds the memory for large images


@dataclass(frozen=True, kw_only=True)
class Particles:
    """``N`` soft capsules: disks of ``radius`` swept over ``length`` pixels; all fields are ``(N,)`` float64."""

    x: Tensor
    y: Tensor
    length: Tensor
    radius: Tensor
    angle: Tensor
    """Direction of the movement in radians from the vertical, within (-pi/2, pi/2)."""
    opacity: Tensor


def scatter_particles(
    height: int,
    width: int,
    generator: torch.Generator,
    *,
    per_kilopixel: float,
    length: tuple[float, float],
    radius: tuple[float, float],
    angle: tuple[float, float],
    opacity: tuple[float, float],
) -> Particles:
    """Place particles uniformly over the image and a border from which they can still reach into it."""
    border = math.ceil(length[1] / 2 + radius[1]) + 1
    area = (height + 2 * border) * (width + 2 * border)
    expected = per_kilopixel * area / 1000
    count = int(expected + float(uniform(1, 0, 1, generator)))
    return Particles(
        x=uniform(count, -border, width + border, generator),
        y=uniform(count, -border, height + border, generator),
        length=uniform(count, *length, generator),
        radius=uniform(count, *radius, generator),
        angle=uniform(count, *angle, generator),
        opacity=uniform(count, *opacity, generator),
    )


def transmittance(height: int, width: int, particles: Particles, *, softness: float, fade: float) -> Tensor:
    """Fraction of the background's light that passes between the particles, ``(H, W)`` in (0, 1].

    Overlapping particles multiply. The sum runs in a fixed order, so equal input gives bit-equal output.

    Args:
        height: rows of the result.
        width: columns of the result.
        particles: what to draw.
        softness: width of the blurred edge in units of the radius, at least one pixel is blurred.
        fade: how much of the opacity is lost towards both ends of the sweep, in [0, 1].
    """
    absorbed = torch.zeros(height * width, dtype=torch.float64, device=particles.x.device)
    for start in range(0, particles.x.numel(), _AT_ONCE):
        part = Particles(**{name: value[start : start + _AT_ONCE] for name, value in vars(particles).items()})
        absorbed += _log_transmittance(height, width, part, softness, fade)
    return absorbed.exp().view(height, width)


def _log_transmittance(height: int, width: int, particles: Particles, softness: float, fade: float) -> Tensor:
    """Logarithm of the transmittance, ``(H * W,)``, from a window around each particle."""
    device = particles.x.device
    half = particles.length / 2
    sine, cosine = particles.angle.sin(), particles.angle.cos()
    reach = particles.radius * (1 + softness / 2) + 0.5
    row_reach = math.ceil(float((half * cosine + reach).max()))
    column_reach = math.ceil(float((reach / cosine).max()))

    rows = particles.y.round()[:, None] + torch.arange(-row_reach, row_reach + 1, device=device)
    down = rows - particles.y[:, None]
    drift = (down / cosine[:, None]).clamp(-half[:, None], half[:, None]) * sine[:, None]
    columns = (particles.x[:, None] + drift).round()[:, :, None] + torch.arange(
        -column_reach, column_reach + 1, device=device
    )
    right = columns - particles.x[:, None, None]
    down = down[:, :, None]
    half, sine, cosine = half[:, None, None], sine[:, None, None], cosine[:, None, None]
    along = torch.minimum(torch.maximum(right * sine + down * cosine, -half), half)
    distance = torch.hypot(right - along * sine, down - along * cosine)
    radius = particles.radius[:, None, None]
    edge = (radius * softness).clamp_min(1)
    coverage = ((radius - distance) / edge + 0.5).clamp(0, 1) * (2 * radius).clamp_max(1)
    coverage = coverage * (1 - fade * (along / half.clamp_min(1e-6)).square())
    alpha = (coverage * particles.opacity[:, None, None]).clamp_max(0.999)

    rows = rows[:, :, None].expand_as(columns)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width) & (alpha > 0)
    index = (rows * width + columns)[inside].long()
    return torch.bincount(index, torch.log1p(-alpha[inside]), minlength=height * width)
