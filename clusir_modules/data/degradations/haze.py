"""Haze and fog by atmospheric scattering."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops.checks import check_positive
from ._base import Degradation, Range, check_number, draw, normalize_range, uniform

__all__ = ["Haze", "HazeMaps"]

_NEAREST = 0.25  # depth of the nearest point: also what is near lies in the haze


class HazeMaps(NamedTuple):
    """What turns a clean image into a hazy one."""

    transmission: Tensor
    """``(1, H, W)`` in (0, 1], the fraction of the scene's light that arrives."""
    airlight: Tensor
    """``(C, 1, 1)`` in [0, 1], the color of infinitely thick haze."""


@dataclass(frozen=True)
class Haze(Degradation):
    r"""Veil the image with haze that grows with the distance of the scene.

    .. math:: y = x\, t + A\,(1 - t), \qquad t = e^{-\beta d}

    the atmospheric scattering model (Koschmieder 1924; the RESIDE data sets use the same). There is no measured depth,
    so ``d`` in [0.25, 1] is synthetic (this project's choice): a ground plane that recedes towards the top of the
    image, tilted at random, and smooth relief of a few low frequencies. A patch gets a random window of the depth map
    of a larger scene, so that it shows no more range of depth than a patch of a whole hazy image does.

    Args:
        beta: scattering coefficient; the transmission is ``exp(-beta)`` at the farthest point. RESIDE indoor: 0.6..1.8.
        airlight: brightness of the haze, in [0, 1]. RESIDE: 0.7..1.0.
        tint: largest difference of a color channel of the airlight from its brightness; 0 is gray haze.
        scene_size: shortest side in pixels of the scene the depth map is made for, when the image is smaller.

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    beta: Range = (0.8, 2.4)
    _: KW_ONLY
    airlight: Range = (0.7, 0.98)
    tint: float = 0.03
    scene_size: int = 320

    def __post_init__(self) -> None:
        """Check the settings."""
        normalize_range(self, "beta", 0, 20)
        normalize_range(self, "airlight", 0, 1)
        check_number(self, "tint", 0, 1)
        check_positive("scene_size", self.scene_size)

    def sample_maps(self, image: Tensor, generator: torch.Generator) -> HazeMaps:
        """Draw transmission and airlight for an image ``(C, H, W)``; only its shape, type and device count."""
        channels, height, width = image.shape
        beta = draw(self.beta, generator)
        brightness = draw(self.airlight, generator)
        shift = uniform(channels, -self.tint, self.tint, generator) if channels > 1 else torch.zeros(1)
        airlight = (brightness + shift.to(image)).clamp(0, 1)[:, None, None]
        depth = _depth(height, width, self.scene_size, generator).to(image)
        return HazeMaps(torch.exp(-beta * depth)[None], airlight)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        transmission, airlight = self.sample_maps(image, generator)
        return image * transmission + airlight * (1 - transmission)


def _depth(height: int, width: int, scene_size: int, generator: torch.Generator) -> Tensor:
    """Depth ``(H, W)`` in [0.25, 1]: a random window of a synthetic scene."""
    scale = max(1.0, scene_size / min(height, width))
    top, left, near, steepness, tilt, relief = uniform(6, 0, 1, generator).tolist()
    rows = _positions(height, scale, top, generator.device)
    columns = _positions(width, scale, left, generator.device)
    # Distance along a ground plane seen in perspective rises fast towards the horizon: a power between 1 and 2.
    plane = (0.5 - rows / 2).pow(1 + steepness)[:, None] + (tilt - 0.5) * 0.6 * columns[None, :]
    grid = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)], dim=-1)[None]
    waves = torch.zeros(height, width, dtype=torch.float64, device=generator.device)
    for cells in (3, 6):
        knots = uniform(cells * cells, -1, 1, generator).view(1, 1, cells, cells)
        smooth = F.grid_sample(knots, grid, mode="bicubic", padding_mode="border", align_corners=True)[0, 0]
        waves += smooth / cells
    depth: Tensor = 0.3 * near + 0.7 * plane + (0.3 + 0.6 * relief) * waves
    return depth.clamp(_NEAREST, 1)


def _positions(size: int, scale: float, offset: float, device: torch.device) -> Tensor:
    """Coordinates in [-1, 1] of ``size`` pixels that lie at ``offset`` in a scene ``scale`` times as long."""
    pixels = torch.arange(size, dtype=torch.float64, device=device)
    length = math.ceil(size * scale)
    centered: Tensor = (pixels + 0.5 + offset * (length - size)) / length * 2 - 1
    return centered
