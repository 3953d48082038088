"""Motion blur and defocus blur."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import torch
from torch import Tensor

from ...ops.checks import check_choice
from ._base import Degradation, Range, bounds, check_number, draw, draw_each, normalize_range, uniform
from ._filter import blur, blur_batch

__all__ = ["DefocusBlur", "MotionBlur"]

_SAMPLES_PER_PIXEL = 8  # points on a path for each pixel of its length; the kernels no longer change above about 4


@dataclass(frozen=True)
class MotionBlur(Degradation):
    r"""Blur by a movement of the camera during the exposure, the same over the whole image.

    .. math:: y = (k * x^\gamma)^{1/\gamma}

    The kernel ``k`` is the path of a point on the sensor, drawn with bilinear weights, of sum 1 and centered on its
    centroid, so that the image does not shift. ``"shake"`` follows a random path: its direction turns smoothly, with
    tremor and a sudden jerk now and then, and its speed varies (in the manner of Boracchi and Foi, IEEE TIP 2012; the
    constants are this project's choice). ``"linear"`` is a straight line at even speed.

    Args:
        path: shape of the movement.
        length: length of the path in pixels.
        angle: direction in degrees; 0 is horizontal, 90 vertical. A shake starts in that direction.
        gamma: exponent from display values to linear light, in which exposure adds up; 1 blurs the stored values.

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    path: Literal["shake", "linear"] = "shake"
    _: KW_ONLY
    length: Range = (8.0, 28.0)
    angle: Range = (0.0, 360.0)
    gamma: float = 2.2

    def __post_init__(self) -> None:
        """Check the settings."""
        check_choice("path", self.path, ("shake", "linear"))
        normalize_range(self, "length", 0, 200)
        normalize_range(self, "angle", -360, 360)
        check_number(self, "gamma", 1, 4)

    @property
    def margin(self) -> int:
        """Radius of the largest possible kernel."""
        longest = bounds(self.length)[1]
        return math.ceil(longest / 2 if self.path == "linear" else longest) + 1

    def sample_kernel(self, generator: torch.Generator) -> Tensor:
        """Draw a kernel ``(2R+1, 2R+1)``, float64, non-negative, of sum 1."""
        length = draw(self.length, generator)
        angle = math.radians(draw(self.angle, generator))
        count = max(2, math.ceil(length * _SAMPLES_PER_PIXEL))
        heading = torch.full((count,), angle, dtype=torch.float64, device=generator.device)
        speed = torch.ones_like(heading)
        if self.path == "shake":
            heading = heading + _turns(count, generator)
            speed = torch.exp(1.2 * _walk(count, generator))
        path = (torch.stack([heading.sin(), heading.cos()]) * (speed * length / speed.sum())).cumsum(1)
        return _draw_path(path - path.mean(dim=1, keepdim=True))

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return blur(image, self.sample_kernel(generator), self.gamma)

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        length = draw_each(self.length, images, generator).flatten(1)
        heading = torch.deg2rad(draw_each(self.angle, images, generator).flatten(1))
        # All paths have as many points as the longest needs; turns and speed do not depend on their number.
        shape = len(images), max(2, math.ceil(bounds(self.length)[1] * _SAMPLES_PER_PIXEL))
        speed = images.new_ones(shape)
        if self.path == "shake":
            heading = heading + _turns(shape, generator, images.dtype)
            speed = torch.exp(1.2 * _walk(shape, generator, images.dtype))
        steps = torch.stack([heading.sin(), heading.cos()], 1) * (speed * length / speed.sum(1, keepdim=True))[:, None]
        path = _running_sum(steps)
        return blur_batch(images, _draw_paths(path - path.mean(dim=2, keepdim=True), self.margin), self.gamma)


@dataclass(frozen=True)
class DefocusBlur(Degradation):
    r"""Blur by a lens focused at another distance: convolution with a uniform disk in linear light.

    .. math:: y = (k * x^\gamma)^{1/\gamma}, \qquad k(u, v) \propto [u^2 + v^2 \le r^2]

    the circle of confusion of an ideal lens with a round aperture, with anti-aliased edge.

    Args:
        radius: radius of the disk in pixels.
        gamma: exponent from display values to linear light; 1 blurs the stored values.

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    radius: Range = (1.5, 5.0)
    _: KW_ONLY
    gamma: float = 2.2

    def __post_init__(self) -> None:
        """Check the settings."""
        normalize_range(self, "radius", 0, 30)
        check_number(self, "gamma", 1, 4)

    @property
    def margin(self) -> int:
        """Radius of the largest kernel."""
        return math.ceil(bounds(self.radius)[1])

    def sample_kernel(self, generator: torch.Generator) -> Tensor:
        """Draw a kernel ``(2R+1, 2R+1)``, float64, non-negative, of sum 1."""
        radius = draw(self.radius, generator)
        reach = math.ceil(radius)
        offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
        distance = torch.hypot(offsets[:, None], offsets[None, :])
        kernel = (radius + 0.5 - distance).clamp(0, 1)
        return kernel / kernel.sum()

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return blur(image, self.sample_kernel(generator), self.gamma)

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        radius = draw_each(self.radius, images, generator)[:, 0]
        offsets = torch.arange(-self.margin, self.margin + 1, dtype=images.dtype, device=images.device)
        kernels = (radius + 0.5 - torch.hypot(offsets[:, None], offsets)).clamp(0, 1)
        return blur_batch(images, kernels / kernels.sum((1, 2), keepdim=True), self.gamma)


def _running_sum(x: Tensor) -> Tensor:
    """Cumulative sum of one row, or of each row of a batch: there by a product, deterministic on every device."""
    return torch.cumsum(x, 0) if x.dim() == 1 else x @ x.new_ones(x.shape[-1], x.shape[-1]).triu()


def _walk(shape: int | tuple[int, int], generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random walks along the last axis, whose ends have variance 1; one walk, or a batch of them."""
    steps = torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
    return _running_sum(steps) / math.sqrt(steps.shape[-1])


def _turns(shape: int | tuple[int, int], generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    """Change of heading in radians along shakes: a smooth turn, tremor, and about two jerks."""
    walk = _walk(shape, generator, dtype)
    count = walk.shape[-1]
    smooth = _running_sum(walk) / count
    jerk_at = uniform(shape, 0, 1, generator, dtype) < 2 / count
    jerks = jerk_at * uniform(shape, -math.pi, math.pi, generator, dtype)
    return 4 * smooth + 1.2 * _walk(shape, generator, dtype) + _running_sum(jerks)


def _draw_path(path: Tensor) -> Tensor:
    """Spread points ``(2, N)`` (row, column, relative to the center) over a kernel with bilinear weights."""
    radius = math.floor(float(path.abs().max())) + 1
    size = 2 * radius + 1
    position = path + radius
    corner = position.floor()
    fraction = position - corner
    kernel = torch.zeros(size * size, dtype=torch.float64, device=path.device)
    for down in (0, 1):
        for right in (0, 1):
            row_weight = fraction[0] if down else 1 - fraction[0]
            column_weight = fraction[1] if right else 1 - fraction[1]
            index = ((corner[0] + down) * size + corner[1] + right).long()
            kernel += torch.bincount(index, row_weight * column_weight, minlength=size * size)
    kernel[kernel < kernel.max() * 1e-3] = 0  # taps nobody sees, but that each cost a pass over the image
    return (kernel / kernel.sum()).view(size, size)


def _draw_paths(paths: Tensor, radius: int) -> Tensor:
    """:func:`_draw_path` for a batch ``(B, 2, N)``: kernels ``(B, 2R+1, 2R+1)`` of one size."""
    cells = torch.arange(-radius, radius + 1, dtype=paths.dtype, device=paths.device)
    rows, columns = (1 - (paths[..., None] - cells).abs()).clamp_min(0).unbind(1)  # bilinear weights, (B, N, 2R+1)
    kernels = rows.transpose(1, 2) @ columns
    kernels = torch.where(kernels < kernels.amax((1, 2), keepdim=True) * 1e-3, 0, kernels)
    return kernels / kernels.sum((1, 2), keepdim=True)
