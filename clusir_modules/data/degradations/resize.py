"""Loss of resolution: to another size and back, with other degradations at that size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops.checks import check_choice
from ._base import Degradation, LogUniform, Range, bounds, draw, draw_each, normalize_range, uniform
from .mixture import check_steps

__all__ = ["Resize"]

_MODES = ("area", "bilinear", "bicubic")
_SCALE = LogUniform(0.25, 1.0)


@dataclass(frozen=True)
class Resize(Degradation):
    """Resize the image by a random factor, degrade it at that size, and resize it back.

    With blur, noise and JPEG as ``steps`` and around it this is the chain of Real-ESRGAN (Wang et al., ICCV workshops
    2021), for one size of input and output. Each way takes an interpolation of its own; all are those of
    ``torch.nn.functional.interpolate`` without antialiasing, as there.

    Args:
        scale: factor on both sides, in [0.05, 4]; the size is rounded to whole pixels, one at least.
        modes: one or several of "area", "bilinear" and "bicubic", one of which is drawn for each way.
        steps: degradations at the other size, first one first. Settings in pixels count in pixels of that size.

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    scale: Range = _SCALE
    _: KW_ONLY
    modes: str | Sequence[str] = _MODES
    steps: Sequence[Degradation] = ()

    def __post_init__(self) -> None:
        """Check the settings and store sequences as tuples."""
        normalize_range(self, "scale", 0.05, 4)
        modes = (self.modes,) if isinstance(self.modes, str) else self.modes
        if not isinstance(modes, Sequence) or not modes:
            raise ValueError(f"modes must be one or several of {', '.join(_MODES)}, got {self.modes!r}")
        for mode in modes:
            check_choice("modes", mode, _MODES)
        object.__setattr__(self, "modes", tuple(modes))
        check_steps(self)

    @property
    def margin(self) -> int:
        """Reach of both interpolations and, in pixels of the smallest size, of the steps."""
        smallest = min(1.0, bounds(self.scale)[0])
        return math.ceil((3 + sum(step.margin for step in self.steps)) / smallest) + 2

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        scale = draw(self.scale, generator)
        there, back = (self.modes[int(uniform(1, 0, len(self.modes), generator))] for _ in range(2))
        size = [max(1, round(length * scale)) for length in image.shape[1:]]
        resized = _interpolate(image, size, there)
        for step in self.steps:
            resized = step(resized, generator)
        return _interpolate(resized, image.shape[1:], back)

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        scale = draw_each(self.scale, images, generator).view(-1, 1)
        there, back = (draw_each((0, len(self.modes)), images, generator).view(-1, 1, 1) for _ in range(2))
        # Every image lies in the corner of a canvas that the largest factor needs, continued by its last pixels.
        ways = []
        for length in images.shape[2:]:
            most = max(1, round(length * bounds(self.scale)[1]))
            full = scale.new_full(scale.shape, length).long()
            size = (length * scale).round().clamp(1, most).long()
            ways.append((self._weights(full, length, size, most, there), self._weights(size, most, full, length, back)))
        (rows, rows_back), (columns, columns_back) = ways
        resized = _multiply(rows, images, columns)
        for step in self.steps:
            resized = step.degrade_batch(resized, generator)
        return _multiply(rows_back, resized, columns_back)

    def _weights(self, old: Tensor, most_old: int, new: Tensor, most_new: int, drawn: Tensor) -> Tensor:
        """:func:`_weights` in the mode of each image, drawn as a number ``(B, 1, 1)``."""
        kinds = [_MODES.index(mode) for mode in self.modes]
        kind = torch.full_like(drawn, kinds[0])
        for number, other in enumerate(kinds[1:], 1):
            kind = torch.where(drawn >= number, other, kind)
        return _weights(old, most_old, new, most_new, kind)


def _interpolate(image: Tensor, size: Sequence[int], mode: str) -> Tensor:
    options: dict[str, Any] = {} if mode == "area" else {"align_corners": False}
    return F.interpolate(image[None], size=tuple(size), mode=mode, **options)[0].clamp(0, 1)


def _multiply(rows: Tensor, images: Tensor, columns: Tensor) -> Tensor:
    """Weight the rows of ``(B, C, H, W)`` by ``(B, R, H)`` and its columns by ``(B, S, W)``: ``(B, C, R, S)``."""
    batch, channels, height, width = images.shape
    across = (images.view(batch, -1, width) @ columns.mT).view(batch, channels, height, -1)
    down = rows @ across.transpose(1, 2).reshape(batch, height, -1)
    return down.view(batch, rows.shape[1], channels, -1).transpose(1, 2).clamp(0, 1).contiguous()


def _weights(old: Tensor, most_old: int, new: Tensor, most_new: int, kind: Tensor) -> Tensor:
    """Weights ``(B, most_new, most_old)`` that interpolate ``old`` samples to ``new``, whole numbers ``(B, 1)``.

    What lies beyond the new samples repeats the last of them; what lies beyond the old ones has no weight. ``kind`` is
    the place of the mode in ``_MODES``, ``(B, 1, 1)``.
    """
    place = torch.arange(most_new, device=old.device).minimum(new - 1)
    column = torch.arange(most_old, device=old.device)
    first, end = place * old // new, ((place + 1) * old + new - 1) // new
    area = ((column >= first[..., None]) & (column < end[..., None])) / (end - first)[..., None].to(kind)
    position = (place + 0.5).to(kind) * (old.to(kind) / new) - 0.5
    taps = position.floor()[..., None] + torch.arange(-1, 3, device=old.device)
    distance = (position[..., None] - taps).abs()
    linear = (1 - distance).clamp_min(0)
    weights = torch.where(kind == _MODES.index("bilinear"), linear, _cubic(distance))
    taken = taps.long().clamp_min(0).minimum(old[..., None] - 1)
    smooth = (weights[..., None] * (column == taken[..., None])).sum(2)
    return torch.where(kind == _MODES.index("area"), area, smooth)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' kernel with the parameter -0.75, within a distance of 2."""
    near = (1.25 * distance - 2.25) * distance.square() + 1
    far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
    return torch.where(distance <= 1, near, far)
