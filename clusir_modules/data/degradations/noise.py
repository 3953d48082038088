"""Additive white Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ._base import Degradation, draw_each, uniform

__all__ = ["GaussianNoise"]


@dataclass(frozen=True)
class GaussianNoise(Degradation):
    r"""Add white Gaussian noise, independent for each pixel and channel.

    .. math:: y = \lfloor \mathrm{clip}(255 x + \sigma n,\, 0,\, 255) \rfloor / 255, \qquad n \sim N(0, 1)

    The clipping and the truncation to whole gray levels are the test protocol of the all-in-one papers (PromptIR,
    AdaIR, MoCE-IR); truncation darkens the image by half a level.

    Args:
        sigma: standard deviation on the scale 0..255 (not 0..1), or several levels, one of which is drawn for each
            image with equal probability.
        between: draw instead uniformly between the lowest and the highest level.
        quantize: clip and truncate as above. ``False`` gives ``x + sigma n / 255`` as is, which leaves [0, 1]: the
            unclipped protocol of single-task denoisers.

    Raises:
        TypeError: ``sigma`` is no number and no sequence of numbers.
        ValueError: ``sigma`` is empty, negative or above 255.
    """

    sigma: float | Sequence[float] = 25.0
    _: KW_ONLY
    quantize: bool = True
    between: bool = False

    def __post_init__(self) -> None:
        """Check the levels and store a sequence as a tuple."""
        given = self.sigma
        levels = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in levels):
            raise TypeError(f"sigma must be a number or a sequence of numbers, got {given!r}")
        if not levels or not all(0 <= v <= 255 for v in levels):
            raise ValueError(f"sigma must be one or several levels in [0, 255], got {given!r}")
        if isinstance(given, Sequence):
            object.__setattr__(self, "sigma", levels)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        levels = self._levels
        if self.between:
            sigma = float(uniform(1, min(levels), max(levels), generator))
        else:
            sigma = levels[int(uniform(1, 0, len(levels), generator))]
        noise = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
        return self._add(image, noise, sigma)

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        levels = self._levels
        if self.between:
            sigma = draw_each((min(levels), max(levels)), images, generator)
        else:
            place = draw_each((0, len(levels)), images, generator)
            sigma = torch.full_like(place, levels[0])
            for number, level in enumerate(levels[1:], 1):
                sigma = torch.where(place >= number, level, sigma)
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        return self._add(images, noise, sigma)

    @property
    def _levels(self) -> Sequence[float]:
        return self.sigma if isinstance(self.sigma, Sequence) else (self.sigma,)

    def _add(self, image: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
        if not self.quantize:
            return image + noise * (sigma / 255)
        # The 1e-3 of a level keeps 8-bit values, which a float holds only nearly, from losing a level to truncation.
        return (image * 255 + noise * sigma + 1e-3).clamp(0, 255).floor() / 255
