"""Noise of a camera's sensor, developed to a picture as a camera does it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ._base import Degradation, LogUniform, Range, check_number, draw_each, normalize_range
from ._bayer import demosaic, draw_mosaic

__all__ = ["RawNoise"]

_DISPLAY_GAMMA = 2.2
_SHOT_NOISE = LogUniform(1e-4, 1.2e-2)
# XYZ to the colors of four cameras, and sRGB to XYZ, row by row (Brooks et al., CVPR 2019, from the files of DND).
_CAMERAS = (
    (1.0234, -0.2969, -0.2266, -0.5625, 1.6328, -0.0469, -0.0703, 0.2188, 0.6406),
    (0.4913, -0.0541, -0.0202, -0.613, 1.3513, 0.2906, -0.1564, 0.2151, 0.7183),
    (0.838, -0.263, -0.0639, -0.2887, 1.0725, 0.2496, -0.0627, 0.1427, 0.5438),
    (0.6596, -0.2079, -0.0562, -0.4782, 1.3016, 0.1933, -0.097, 0.1581, 0.5181),
)
_TO_XYZ = (0.4124564, 0.3575761, 0.1804375, 0.2126729, 0.7151522, 0.0721750, 0.0193339, 0.1191920, 0.9503041)


@dataclass(frozen=True)
class RawNoise(Degradation):
    r"""Take the picture back to what a sensor measured, add its noise there, and develop it again.

    .. math::
        y = D\big(r + \sqrt{s\, r + \rho^2}\; n\big), \qquad r = D^{-1}(x), \quad n \sim N(0, 1)

    ``D`` is a camera after "Unprocessing Images for Learned Raw Denoising" (Brooks et al., CVPR 2019): filling in of a
    Bayer mosaic, gains of the white balance, the camera's color matrix (a random mean of four cameras), gamma 2.2 and
    the tone curve :math:`3 z^2 - 2 z^3`. So the noise is what photographs have: correlated between neighbors and
    colors, stronger in red and blue, and strongest where the tone curve is steep. A noise of 0 gives the picture back,
    but for fine structure that the mosaic does not catch. Unlike there, no pixel of the sensor saturates, and the
    mosaic is filled in by the filters of Malvar et al. Cameras go on to write JPEG: ``[raw_noise, jpeg]``.

    Args:
        shot_noise: ``s``, variance of the photon noise for each unit of raw light, where the sensor's full scale is 1.
        read_noise: standard deviation ``rho`` of the read-out noise in raw light; None draws it for the drawn ``s`` as
            cameras of the DND data set have it, :math:`\log \rho^2 \sim N(2.18 \log s + 1.2,\, 0.26^2)`.
        gain: factor from raw light to display for all colors, in [1, 16].
        red_gain: further factor for red, the white balance, in [1, 16].
        blue_gain: likewise for blue.
        mosaic: share of color images, in [0, 1], whose sensor has a Bayer mosaic; the others measure all colors in each
            pixel. Gray images have neither mosaic nor colors.

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    shot_noise: Range = _SHOT_NOISE
    _: KW_ONLY
    read_noise: Range | None = None
    gain: Range = (1.0, 1.6)
    red_gain: Range = (1.9, 2.4)
    blue_gain: Range = (1.5, 1.9)
    mosaic: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        normalize_range(self, "shot_noise", 0, 1)
        if self.read_noise is not None:
            normalize_range(self, "read_noise", 0, 1)
        for name in ("gain", "red_gain", "blue_gain"):
            normalize_range(self, name, 1, 16)
        check_number(self, "mosaic", 0, 1)

    @property
    def margin(self) -> int:
        """Reach of the filters that fill in the mosaic."""
        return 2 if self.mosaic else 0

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return self.degrade_batch(image[None], generator)[0]

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        shot = draw_each(self.shot_noise, images, generator)
        variance = self._draw_read_variance(shot, generator)
        gains = draw_each(self.gain, images, generator)
        tones = (0.5 - torch.sin(torch.asin(1 - 2 * images.clamp(0, 1)) / 3)).clamp_min(0)
        raw = tones.pow(_DISPLAY_GAMMA)
        colored = images.shape[1] == 3
        if colored:
            red, blue = (draw_each(value, images, generator) for value in (self.red_gain, self.blue_gain))
            gains = gains * torch.cat([red, torch.ones_like(red), blue], 1)
            camera = _draw_camera(images, generator)
            raw = _mix(camera, raw)
        raw = raw / gains
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        raw = raw + (shot * raw.clamp_min(0) + variance).sqrt() * noise
        if colored and self.mosaic:
            has_mosaic = draw_each((0, 1), images, generator) < self.mosaic
            raw = torch.where(has_mosaic, demosaic(raw, *draw_mosaic(images, generator)), raw)
        light = raw * gains
        if colored:
            light = _mix(_inverse(camera), light)
        tones = light.clamp(0, 1).pow(1 / _DISPLAY_GAMMA)
        return (tones.square() * (3 - 2 * tones)).clamp(0, 1)

    def _draw_read_variance(self, shot: Tensor, generator: torch.Generator) -> Tensor:
        if self.read_noise is not None:
            return draw_each(self.read_noise, shot, generator).square()
        spread = torch.randn(shot.shape, generator=generator, device=shot.device, dtype=shot.dtype)
        return torch.exp(2.18 * shot.log() + 1.2 + 0.26 * spread)


def _draw_camera(images: Tensor, generator: torch.Generator) -> Tensor:
    """Matrices ``(B, 3, 3)`` from linear sRGB to the colors of a camera, which sees white as (1, 1, 1)."""
    numbers = torch.tensor([*_CAMERAS, _TO_XYZ], dtype=images.dtype).to(images.device, non_blocking=True)
    weights = images.new_empty((len(images), len(_CAMERAS))).uniform_(generator=generator)
    mean = weights @ numbers[:-1] / weights.sum(1, keepdim=True)
    matrix = mean.view(-1, 3, 3) @ numbers[-1].view(3, 3)
    return matrix / matrix.sum(2, keepdim=True)


def _mix(matrix: Tensor, images: Tensor) -> Tensor:
    """Multiply the colors of each image ``(B, 3, H, W)`` by its matrix ``(B, 3, 3)``."""
    return (matrix @ images.flatten(2)).view_as(images)


def _inverse(matrix: Tensor) -> Tensor:
    """Inverse of ``(B, 3, 3)`` by the cross products of the rows; that of ``torch.linalg`` waits for the device."""
    first, second, third = matrix.unbind(1)
    pairs = ((second, third), (third, first), (first, second))
    columns = torch.stack([torch.linalg.cross(a, b) for a, b in pairs], 2)
    return columns / (first * columns[..., 0]).sum(1)[:, None, None]
