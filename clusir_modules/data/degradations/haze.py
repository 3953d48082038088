"""Haze and fog by atmospheric scattering."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops.checks import check_positive
from ._base import Degradation, Range, check_number, draw, draw_each, normalize_range, uniform

__all__ = ["Haze", "HazeMaps"]

_NEAREST = 0.25  # depth of the nearest point: also what is near lies in the haze
_OBJECTS = 10  # in a scene that has some
_OBJECT_SIZE = (0.08, 0.5)  # half width and half height, where a scene reaches from -1 to 1
_OBJECT_FARTHEST = 0.75
_OBJECT_TILT = 30  # degrees to both sides
_PIXELS_AT_ONCE = 1 << 24  # bounds the memory for large images


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
    of a larger scene, so that it shows no more range of depth than a patch of a whole hazy image does. Scenes may have
    objects in front: tilted ellipses and rectangles of constant depth, whose sharp borders are edges of the haze too.

    Args:
        beta: scattering coefficient; the transmission is ``exp(-beta)`` at the farthest point. RESIDE indoor: 0.6..1.8;
            4 hides what is far.
        airlight: brightness of the haze, in [0, 1]. RESIDE: 0.7..1.0.
        tint: largest difference of a color channel of the airlight from its brightness; 0 is gray haze.
        scene_size: shortest side in pixels of the scene the depth map is made for, when the image is smaller.
        objects: share of scenes with objects in front, in [0, 1].

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    beta: Range = (0.8, 2.4)
    _: KW_ONLY
    airlight: Range = (0.7, 0.98)
    tint: float = 0.03
    scene_size: int = 320
    objects: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings."""
        normalize_range(self, "beta", 0, 20)
        normalize_range(self, "airlight", 0, 1)
        check_number(self, "tint", 0, 1)
        check_positive("scene_size", self.scene_size)
        check_number(self, "objects", 0, 1)

    def sample_maps(self, image: Tensor, generator: torch.Generator) -> HazeMaps:
        """Draw transmission and airlight for an image ``(C, H, W)``; only its shape, type and device count."""
        channels, height, width = image.shape
        beta = draw(self.beta, generator)
        brightness = draw(self.airlight, generator)
        shift = uniform(channels, -self.tint, self.tint, generator) if channels > 1 else torch.zeros(1)
        airlight = (brightness + shift.to(image)).clamp(0, 1)[:, None, None]
        depth = self._sample_depth((1, height, width), generator, torch.float64).to(image)
        return HazeMaps(torch.exp(-beta * depth), airlight)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        transmission, airlight = self.sample_maps(image, generator)
        return image * transmission + airlight * (1 - transmission)

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        batch, channels, height, width = images.shape
        beta, brightness = (draw_each(value, images, generator) for value in (self.beta, self.airlight))
        if channels > 1:
            shift = images.new_empty((batch, channels, 1, 1))
            brightness = brightness + shift.uniform_(-self.tint, self.tint, generator=generator)
        depth = self._sample_depth((batch, height, width), generator, images.dtype)[:, None]
        transmission = torch.exp(-beta * depth)
        return images * transmission + brightness.clamp(0, 1) * (1 - transmission)

    def _sample_depth(self, shape: tuple[int, int, int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Depths ``(B, H, W)`` in [0.25, 1]: for each image a random window of a synthetic scene of its own."""
        batch, height, width = shape
        scale = max(1.0, self.scene_size / min(height, width))
        settings = uniform((batch, 6), 0, 1, generator, dtype)[..., None, None]
        top, left, near, steepness, tilt, relief = settings.unbind(1)
        rows = _positions(height, scale, top).transpose(1, 2)
        columns = _positions(width, scale, left)
        # Distance along a ground plane seen in perspective rises fast towards the horizon: a power between 1 and 2.
        plane = (0.5 - rows / 2).pow(1 + steepness) + (tilt - 0.5) * 0.6 * columns
        grid = torch.stack([columns.expand(shape), rows.expand(shape)], dim=-1)
        waves = torch.zeros_like(plane)
        for cells in (3, 6):
            knots = uniform((batch, 1, cells, cells), -1, 1, generator, dtype)
            smooth = F.grid_sample(knots, grid, mode="bicubic", padding_mode="border", align_corners=True)[:, 0]
            waves += smooth / cells
        depth = (0.3 * near + 0.7 * plane + (0.3 + 0.6 * relief) * waves).clamp(_NEAREST, 1)
        return _put_in_front(depth, rows, columns, self.objects, generator) if self.objects else depth


def _positions(size: int, scale: float, offset: Tensor) -> Tensor:
    """Coordinates in [-1, 1], ``(B, 1, size)``, of pixels that lie at ``offset`` in a scene ``scale`` times as long."""
    pixels = torch.arange(size, dtype=offset.dtype, device=offset.device)
    length = math.ceil(size * scale)
    centered: Tensor = (pixels + 0.5 + offset * (length - size)) / length * 2 - 1
    return centered


def _put_in_front(depth: Tensor, rows: Tensor, columns: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Depth ``(B, H, W)`` with objects, each of one depth, where they are nearer; in a ``share`` of the images.

    Args:
        depth: of the scenes without objects.
        rows: coordinates of the pixels in the scenes, ``(B, H, 1)``.
        columns: likewise ``(B, 1, W)``.
        share: of the images that have objects.
        generator: source of every random choice.
    """
    batch, dtype = len(depth), depth.dtype
    wanted = uniform((batch, 1, 1), 0, 1, generator, dtype) < share
    drawn = uniform((batch, 7, _OBJECTS), 0, 1, generator, dtype)[..., None, None]
    low, high = _OBJECT_SIZE
    half_height, half_width = (low * (high / low) ** drawn[:, number] for number in (0, 1))
    row, column = (2 * drawn[:, number] - 1 for number in (2, 3))
    angle = (2 * drawn[:, 4] - 1) * math.radians(_OBJECT_TILT)
    distance = _NEAREST + (_OBJECT_FARTHEST - _NEAREST) * drawn[:, 5].square()
    is_round = drawn[:, 6] < 0.5
    at_once = max(1, _PIXELS_AT_ONCE // depth.numel())
    for start in range(0, _OBJECTS, at_once):
        part = slice(start, start + at_once)
        down, right = rows[:, None] - row[:, part], columns[:, None] - column[:, part]
        sine, cosine = angle[:, part].sin(), angle[:, part].cos()
        across = ((right * cosine + down * sine) / half_width[:, part]).square()
        along = ((down * cosine - right * sine) / half_height[:, part]).square()
        extent = torch.where(is_round[:, part], across + along, torch.maximum(across, along))
        nearest = torch.where(extent < 1, distance[:, part], math.inf).amin(1)
        depth = torch.where(wanted, torch.minimum(depth, nearest), depth)
    return depth
