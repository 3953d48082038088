"""Raindrops on the lens or on a pane before it."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ._base import Degradation, Range, bounds, draw_each, normalize_range
from ._filter import pad_batch

__all__ = ["Raindrops"]

_DISPLAY_GAMMA = 2.2
_MINIFICATION = 2  # real drops show a wider view, of which a patch does not have the surroundings
_BLUR = 2  # pixels to each side, of what is seen through a drop; against aliasing too


@dataclass(frozen=True)
class Raindrops(Degradation):
    r"""Cover the image with drops on the lens, out of focus, which show the scene small and upside down.

    .. math:: y = \big((1 - \alpha)\, x^{2.2} + \alpha\, r^{2.2}\big)^{1/2.2}

    the composition of Qian et al. ("Attentive Generative Adversarial Network for Raindrop Removal", CVPR 2018) in
    linear light. What is seen through a drop, ``r``, is computed as a small lens shows it: a pixel at the offset ``u``
    from the center of a drop shows the scene at ``-2 u``, blurred, and darker towards the rim. ``alpha`` is 1 within a
    drop and falls off softly. All of it but the formula is this project's choice.

    Args:
        density: how likely there is a drop in each square of a grid, in [0, 1]; the sides of the squares are as long as
            the largest radius with its soft edge.
        radius: radius of a drop in pixels, drawn for each drop.
        softness: width of the edge in units of the radius, in [0, 2], at least a pixel; the nearer the drops are to the
            lens, the softer.
        shade: how much darker the rim is, in [0, 1].

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    density: Range = (0.15, 0.6)
    _: KW_ONLY
    radius: Range = (3.0, 12.0)
    softness: Range = (0.2, 0.8)
    shade: Range = (0.1, 0.5)

    def __post_init__(self) -> None:
        """Check the settings."""
        normalize_range(self, "density", 0, 1)
        normalize_range(self, "radius", 0.5, 100)
        normalize_range(self, "softness", 0, 2)
        normalize_range(self, "shade", 0, 1)

    @property
    def margin(self) -> int:
        """How far the largest drop takes a view from."""
        return (1 + _MINIFICATION) * self._reach + _BLUR + 1

    @property
    def _reach(self) -> int:
        """Radius of the largest drop with its edge, and the side of the squares that hold one drop at most."""
        radius, softness = bounds(self.radius)[1], bounds(self.softness)[1]
        return math.ceil(radius + max(1, radius * softness) / 2)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return self.degrade_batch(image[None], generator)[0]

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        softness, shade = (draw_each(value, images, generator) for value in (self.softness, self.shade))
        down, right, radius, depth = self._find_drops(images, softness, generator)
        light = images.clamp(0, 1).pow(_DISPLAY_GAMMA)
        blurred = F.avg_pool2d(pad_batch(light, _BLUR), 2 * _BLUR + 1, 1)
        seen = _sample(blurred, -(1 + _MINIFICATION) * down, -(1 + _MINIFICATION) * right)
        outward = ((down.square() + right.square()) / radius.square()).clamp_max(1)
        alpha = depth.clamp(0, 1)
        mixed = torch.lerp(light, seen * (1 - shade * outward), alpha).clamp(0, 1).pow(1 / _DISPLAY_GAMMA)
        return torch.where(alpha > 0, mixed, images)

    def _find_drops(self, images: Tensor, softness: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Offsets from the center, radius, and opacity before clamping of the drop that covers each pixel most.

        A drop reaches from its square into the next ones at most, so nine squares are looked at, however many drops
        there are.

        Returns:
            Four tensors ``(B, 1, H, W)``; where there is no drop the opacity is ``-inf``.
        """
        batch, _, height, width = images.shape
        side = self._reach
        rows, columns = ((length - 1) // side + 4 for length in (height, width))
        squares = images.new_empty((batch * rows * columns, 1, 1, 1))
        each = (batch, 1, rows * columns)
        present = draw_each((0, 1), squares, generator).view(each) < draw_each(self.density, images, generator)[..., 0]
        radius = draw_each(self.radius, squares, generator).view(each)
        radius = torch.where(present, radius, -math.inf)
        centers = [draw_each((0, side), squares, generator).view(each) for _ in range(2)]
        drops = torch.cat([*centers, radius], 1)

        start = [draw_each((0, side), images, generator) + side for _ in range(2)]
        y = torch.arange(height, device=images.device, dtype=images.dtype)[:, None] + start[0]
        x = torch.arange(width, device=images.device, dtype=images.dtype) + start[1]
        square = (y / side).floor(), (x / side).floor()
        best = y.new_zeros((3, batch, 1, height, width))
        depth = torch.full_like(best[0], -math.inf)
        for row in (-1, 0, 1):
            for column in (-1, 0, 1):
                at = square[0] + row, square[1] + column
                index = (at[0] * columns + at[1]).long().flatten(2).expand(-1, 3, -1)
                center_y, center_x, size = drops.gather(2, index).view(batch, 3, 1, height, width).unbind(1)
                down, right = y - at[0] * side - center_y, x - at[1] * side - center_x
                inside = (size - torch.hypot(down, right)) / (softness * size).clamp_min(1) + 0.5
                nearer = inside > depth
                best = torch.where(nearer, torch.stack([down, right, size]), best)
                depth = torch.where(nearer, inside, depth)
        return *best, depth


def _sample(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Values of ``(B, C, H, W)`` so many pixels ``(B, 1, H, W)`` below and to the right; borders are mirrors."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device, dtype=images.dtype)[:, None] + down[:, 0]
    columns = torch.arange(width, device=images.device, dtype=images.dtype) + right[:, 0]
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
