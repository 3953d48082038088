"""Noise of a camera's sensor."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ._base import Degradation, LogUniform, Range, check_number, draw_each, normalize_range
from ._bayer import draw_mosaic
from ._filter import pad_batch

__all__ = ["CameraNoise"]

_DISPLAY_GAMMA = 2.2
_SHOT_NOISE = LogUniform(1e-4, 1.2e-2)
_READ_NOISE = LogUniform(1e-4, 1.5e-2)


@dataclass(frozen=True)
class CameraNoise(Degradation):
    r"""Add the noise of a sensor: of the photons, which grows with the light, and of reading them out.

    .. math::
        y = \big(\mathrm{clip}(x^{2.2} + \sqrt{s\, x^{2.2} + r^2}\; n,\, 0,\, 1)\big)^{1/2.2}, \quad n \sim N(0, 1)

    the Poisson-Gaussian model in linear light (Foi et al., IEEE TIP 2008; the default ranges span those of Brooks et
    al., "Unprocessing Images", CVPR 2019). A sensor sees one color in each pixel; what is filled in between is a mean
    of the neighbors, and so is its noise: it is correlated and, at the filled places, weaker. With white balance, color
    matrix and tone curve of real cameras: :class:`RawNoise`.

    Args:
        shot_noise: ``s``, variance of the photon noise for each unit of linear light.
        read_noise: ``r``, standard deviation of the read-out noise in linear light.
        mosaic: share of color images, in [0, 1], whose noise comes from a Bayer mosaic with linear interpolation; in
            the others, and in gray images, it is independent for each pixel and channel.

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    shot_noise: Range = _SHOT_NOISE
    _: KW_ONLY
    read_noise: Range = _READ_NOISE
    mosaic: float = 0.5

    def __post_init__(self) -> None:
        """Check the settings."""
        normalize_range(self, "shot_noise", 0, 1)
        normalize_range(self, "read_noise", 0, 1)
        check_number(self, "mosaic", 0, 1)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return self._apply_batch(image[None], generator)[0]

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        shot, read = (draw_each(value, images, generator) for value in (self.shot_noise, self.read_noise))
        light = images.clamp(0, 1).pow(_DISPLAY_GAMMA)
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        noise = noise * (shot * light + read.square()).sqrt()
        if images.shape[1] == 3 and self.mosaic:
            from_mosaic = draw_each((0, 1), images, generator) < self.mosaic
            noise = torch.where(from_mosaic, _interpolate_mosaic(noise, generator), noise)
        return (light + noise).clamp(0, 1).pow(1 / _DISPLAY_GAMMA)


def _interpolate_mosaic(noise: Tensor, generator: torch.Generator) -> Tensor:
    """Keep of ``(B, 3, H, W)`` what a Bayer mosaic measures, and fill the rest by the mean of the nearest measured."""
    rows, columns = draw_mosaic(noise, generator)
    red = (1 - rows) * (1 - columns)
    blue = rows * columns
    measured = pad_batch(noise * torch.cat([red, 1 - red - blue, blue], 1), 1)
    sides = measured[:, :, 1:-1, :-2] + measured[:, :, 1:-1, 2:]
    above = measured[:, :, :-2] + measured[:, :, 2:]
    corners = above[..., :-2] + above[..., 2:]
    middle, cross = measured[:, :, 1:-1, 1:-1], sides + above[..., 1:-1]
    green = middle + cross / 4
    others = middle + cross / 2 + corners / 4
    return torch.cat([others[:, :1], green[:, 1:2], others[:, 2:]], 1)
