"""Underexposure with sensor noise."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ._base import Degradation, Range, check_number, draw, draw_each, normalize_range, uniform

__all__ = ["LowLight"]

_DISPLAY_GAMMA = 2.2


@dataclass(frozen=True)
class LowLight(Degradation):
    r"""Darken the image as a short exposure does, and add the noise of the sensor.

    .. math::
        d = e\, c\, x^{g}, \qquad y = \big(d^{2.2} + \sqrt{s\, d^{2.2} + r^2}\; n\big)^{1/2.2}, \quad n \sim N(0, 1)

    The first part is the usual synthesis of low light (Lv et al., MBLLEN, BMVC 2018); the second is the
    Poisson-Gaussian model of a sensor (Foi et al., IEEE TIP 2008), in linear light: photons arrive at random
    (variance proportional to the light), and reading them out adds a constant noise. The result is clipped to [0, 1].

    Args:
        exposure: factor ``e`` on the display values. The default gives the mean brightness of LOL's dark images; its
            darkest ones need 0.03 to 0.06.
        gamma: exponent ``g``; above 1 it deepens the shadows.
        shot_noise: ``s``, variance of the photon noise for each unit of linear light.
        read_noise: ``r``, standard deviation of the read-out noise in linear light.
        cast: color cast, the largest difference of a channel's factor ``c`` from 1; dark images of LOL have up to 0.15.

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    exposure: Range = (0.1, 0.35)
    _: KW_ONLY
    gamma: Range = (1.0, 1.8)
    shot_noise: Range = (0.0, 2e-4)
    read_noise: Range = (0.0, 2e-4)
    cast: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings."""
        normalize_range(self, "exposure", 0, 1)
        normalize_range(self, "gamma", 1, 10)
        normalize_range(self, "shot_noise", 0, 1)
        normalize_range(self, "read_noise", 0, 1)
        check_number(self, "cast", 0, 1)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        exposure, gamma, shot, read = (
            draw(value, generator) for value in (self.exposure, self.gamma, self.shot_noise, self.read_noise)
        )
        dark = exposure * image.clamp(0, 1).pow(gamma)
        if self.cast:
            factor = uniform((image.shape[0], 1, 1), 1 - self.cast, 1 + self.cast, generator)
            dark = (dark * factor.to(image)).clamp(0, 1)
        noise = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
        if shot == 0 and read == 0:
            return dark
        light = dark.pow(_DISPLAY_GAMMA)
        light = light + (shot * light + read**2).sqrt() * noise
        return light.clamp(0, 1).pow(1 / _DISPLAY_GAMMA)

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        exposure, gamma, shot, read = (
            draw_each(value, images, generator)
            for value in (self.exposure, self.gamma, self.shot_noise, self.read_noise)
        )
        dark = exposure * images.clamp(0, 1).pow(gamma)
        if self.cast:
            factor = images.new_empty((*images.shape[:2], 1, 1))
            dark = (dark * factor.uniform_(1 - self.cast, 1 + self.cast, generator=generator)).clamp(0, 1)
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        light = dark.pow(_DISPLAY_GAMMA)
        light = light + (shot * light + read.square()).sqrt() * noise
        return light.clamp(0, 1).pow(1 / _DISPLAY_GAMMA)
