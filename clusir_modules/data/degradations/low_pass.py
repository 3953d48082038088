"""The blur kernels of the Real-ESRGAN chain: Gaussian and its relatives, and the sinc filter that makes edges ring."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import torch
from torch import Tensor

from ...ops.checks import check_choice
from ._base import (
    Degradation,
    LogUniform,
    Range,
    bounds,
    check_number,
    draw_each,
    normalize_range,
    normalize_whole_range,
)
from ._filter import blur_batch

__all__ = ["GaussianBlur", "SincFilter"]

_SMALLEST_SIGMA = 1e-3  # of a pixel: a kernel with one tap


@dataclass(frozen=True, kw_only=True)
class _LowPass(Degradation):
    """Filter by a kernel with an odd side: of one image and of a batch, from kernels that a subclass draws."""

    size: int | Sequence[int] = (7, 21)
    gamma: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings that all kernels share."""
        normalize_whole_range(self, "size", 1, 61)
        if any(side % 2 == 0 for side in bounds(self.size)):
            raise ValueError(f"size must be odd, or a pair of odd numbers, got {self.size!r}")
        check_number(self, "gamma", 1, 4)

    @property
    def margin(self) -> int:
        """Radius of the largest kernel."""
        return int(bounds(self.size)[1]) // 2

    def sample_kernel(self, generator: torch.Generator) -> Tensor:
        """Draw a kernel ``(K, K)``, float64, of sum 1; ``K`` is the largest size, a smaller one has zeros around it."""
        return self._sample_kernels(torch.empty(1, device=generator.device, dtype=torch.float64), generator)[0]

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return self._apply_batch(image[None], generator)[0]  # the kernels have too many taps for a direct sum

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return blur_batch(images, self._sample_kernels(images, generator), self.gamma)

    def _sample_kernels(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """One kernel for each image of a batch, in its type and on its device: ``(B, K, K)``."""
        smallest, largest = (int(side) // 2 for side in bounds(self.size))
        reach = draw_each((smallest, largest + 1), images, generator).floor().clamp_max(largest)[:, 0]
        offsets = torch.arange(-largest, largest + 1, dtype=images.dtype, device=images.device)
        inside = (offsets.abs() <= reach) & (offsets[:, None].abs() <= reach)
        kernels = self._shape(offsets, images, generator) * inside
        return kernels / kernels.sum((1, 2), keepdim=True)

    @abstractmethod
    def _shape(self, offsets: Tensor, images: Tensor, generator: torch.Generator) -> Tensor:
        """Heights of the kernels over a square of ``(K,)`` whole offsets from the center, ``(B, K, K)``."""


@dataclass(frozen=True)
class GaussianBlur(_LowPass):
    r"""Blur by a Gaussian kernel, or by one with heavier tails or a flat top.

    .. math:: k = e^{-q / 2}, \quad e^{-q^\beta / 2} \quad\text{or}\quad 1 / (1 + q^\beta), \qquad
        q = \frac{(u \cos a + v \sin a)^2}{\sigma_1^2} + \frac{(v \cos a - u \sin a)^2}{\sigma_2^2}

    for columns ``u`` and rows ``v`` from the center, divided by its sum: the kernels "gaussian", "generalized" and
    "plateau" of Real-ESRGAN (Wang et al., ICCV workshops 2021, section 3.2). Its default ranges are those of the first
    round there, with :math:`\beta` in [0.5, 4] for "generalized" and in [1, 2] for "plateau".

    Args:
        sigma: standard deviation in pixels. The two of an anisotropic kernel are drawn independently.
        profile: which of the three kernels.
        isotropic: whether the kernel is round.
        angle: direction of the first deviation in degrees; 0 is horizontal, 90 vertical. For anisotropic kernels.
        beta: exponent of "generalized" and "plateau"; 1 is the Gaussian, and 1 / (1 + q). A pair that holds 1 is drawn
            below 1 for half of the images, as there. None: the range of the profile.
        size: side of the kernel in pixels, odd, or a pair from which an odd number is drawn, both ends included.
        gamma: exponent from display values to linear light; 1 blurs the stored values.

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    sigma: Range = (0.2, 3.0)
    _: KW_ONLY
    profile: Literal["gaussian", "generalized", "plateau"] = "gaussian"
    isotropic: bool = True
    angle: Range = (0.0, 180.0)
    beta: Range | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        normalize_range(self, "sigma", 0, 30)
        check_choice("profile", self.profile, ("gaussian", "generalized", "plateau"))
        if not isinstance(self.isotropic, bool):
            raise TypeError(f"isotropic must be a bool, got {self.isotropic!r}")
        normalize_range(self, "angle", -360, 360)
        if self.beta is not None:
            if self.profile == "gaussian":
                raise ValueError(f"beta must be None for the profile 'gaussian', got {self.beta!r}")
            normalize_range(self, "beta", 0.1, 10)

    def _shape(self, offsets: Tensor, images: Tensor, generator: torch.Generator) -> Tensor:
        first = second = draw_each(self.sigma, images, generator)[:, 0].clamp_min(_SMALLEST_SIGMA)
        columns, rows = offsets, offsets[:, None]
        if not self.isotropic:
            second = draw_each(self.sigma, images, generator)[:, 0].clamp_min(_SMALLEST_SIGMA)
            angle = torch.deg2rad(draw_each(self.angle, images, generator)[:, 0])
            cosine, sine = angle.cos(), angle.sin()
            columns, rows = columns * cosine + rows * sine, rows * cosine - columns * sine
        q = (columns / first).square() + (rows / second).square()
        if self.profile == "gaussian":
            return torch.exp(-q / 2)
        q = q.pow(self._draw_beta(images, generator))
        return torch.exp(-q / 2) if self.profile == "generalized" else 1 / (1 + q)

    def _draw_beta(self, images: Tensor, generator: torch.Generator) -> Tensor:
        beta = self.beta
        if beta is None:
            beta = (0.5, 4.0) if self.profile == "generalized" else (1.0, 2.0)
        low, high = bounds(beta)
        if isinstance(beta, LogUniform) or not low <= 1 <= high:
            return draw_each(beta, images, generator)[:, 0]
        place = draw_each((-1, 1), images, generator)[:, 0]
        return 1 + place * torch.where(place < 0, 1 - low, high - 1)


@dataclass(frozen=True)
class SincFilter(_LowPass):
    r"""Cut off high frequencies sharply, so that edges ring, as after a strong JPEG compression or a sharpening resize.

    .. math:: k = \frac{\omega}{2 \pi r} J_1(\omega r), \qquad \omega = 2 \pi f

    within a square, divided by its sum: the ideal low-pass filter that is the same in all directions, cut off by the
    square (Real-ESRGAN, Wang et al., ICCV workshops 2021, section 3.3). The result is clipped to [0, 1].

    Args:
        cutoff: ``f``, the highest frequency that passes, in cycles per pixel, at most 0.5. Real-ESRGAN gives
            ``omega`` in radians per pixel; its ranges are 1/6 .. 1/2 for sizes below 13 and 1/10 .. 1/2 above.
        size: side of the kernel in pixels, odd, or a pair from which an odd number is drawn, both ends included.
        gamma: exponent from display values to linear light; 1 filters the stored values.

    Raises:
        TypeError: a setting is of the wrong type.
        ValueError: a setting is out of range.
    """

    cutoff: Range = (1 / 6, 0.5)

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        normalize_range(self, "cutoff", 0.01, 0.5)

    def _shape(self, offsets: Tensor, images: Tensor, generator: torch.Generator) -> Tensor:
        omega = 2 * math.pi * draw_each(self.cutoff, images, generator)[:, 0]
        radius = torch.hypot(offsets[:, None], offsets)
        away = radius.clamp_min(1)
        ring = torch.special.bessel_j1(omega * away) / away
        return torch.where(radius > 0, ring, omega / 2)  # both divided by omega / (2 pi)
