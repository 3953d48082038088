"""Additive white Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ._base import Degradation, uniform

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
        quantize: clip and truncate as above. ``False`` gives ``x + sigma n / 255`` as is, which leaves [0, 1]: the
            unclipped protocol of single-task denoisers.

    Raises:
        TypeError: ``sigma`` is no number and no sequence of numbers.
        ValueError: ``sigma`` is empty, negative or above 255.
    """

    sigma: float | Sequence[float] = 25.0
    _: KW_ONLY
    quantize: bool = True

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
        levels = self.sigma if isinstance(self.sigma, Sequence) else (self.sigma,)
        sigma = levels[int(uniform(1, 0, len(levels), generator))]
        noise = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
        if not self.quantize:
            return image + noise * (sigma / 255)
        # The 1e-3 of a level keeps 8-bit values, which a float holds only nearly, from losing a level to truncation.
        return (image * 255 + noise * sigma + 1e-3).clamp(0, 255).floor() / 255
