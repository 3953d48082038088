"""What all degradations share: the calling convention, checks of settings, and random draws."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Degradation", "Range", "bounds", "check_number", "draw", "normalize_range", "uniform"]

Range: TypeAlias = float | Sequence[float]
"""A number, or a pair (low, high) from which one value is drawn uniformly for each image."""


class Degradation(ABC):
    """A random image degradation that keeps the shape: ``degradation(image, generator) -> Tensor``.

    Instances are immutable. All randomness comes from the generator, so that the same generator state gives the same
    picture. Subclasses implement ``_apply`` and may raise ``margin``.

    Shape:
        Input and output: ``(3, H, W)`` or ``(1, H, W)``, floating point in [0, 1], any ``H, W >= 1``.
    """

    @property
    def margin(self) -> int:
        """How many pixels around an output pixel it depends on; a data set cuts patches with that much context."""
        return 0

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade one image; the argument is left as it is.

        Args:
            image: the clean image, in [0, 1].
            generator: source of every random choice, on the image's device.

        Raises:
            TypeError: no floating-point tensor, or no generator.
            ValueError: not of shape (3, H, W) or (1, H, W), or on another device than the generator.
        """
        if not isinstance(image, Tensor):
            raise TypeError(f"image must be a torch.Tensor, got {type(image).__name__}")
        if not torch.is_floating_point(image):
            raise TypeError(f"image must be a floating-point tensor in [0, 1], got {image.dtype}")
        if image.dim() != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
            raise ValueError(f"image must have shape (3, H, W) or (1, H, W), got {tuple(image.shape)}")
        if not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
        if generator.device.type != image.device.type:
            raise ValueError(f"generator must be on the image's device {image.device}, got one on {generator.device}")
        # The last bits of some functions depend on the layout.
        work = image.to(torch.promote_types(image.dtype, torch.float32)).contiguous()
        return self._apply(work, generator).to(image.dtype)

    @abstractmethod
    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade a checked image of at least single precision."""


def normalize_range(instance: Degradation, name: str, low: float, high: float = math.inf) -> None:
    """Check the setting ``name`` of a frozen instance and store a pair as a tuple.

    Raises:
        TypeError: it is neither a number nor a pair of numbers.
        ValueError: it is outside ``[low, high]``, not finite, or the pair is not in ascending order.
    """
    value = getattr(instance, name)
    pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in pair):
        raise TypeError(f"{name} must be a number or a pair (low, high), got {value!r}")
    accepted = f"{name} must be a number or an ascending pair (low, high) within [{low:g}, {high:g}], got {value!r}"
    if len(pair) != 2 or not all(math.isfinite(v) for v in pair) or not low <= pair[0] <= pair[1] <= high:
        raise ValueError(accepted)
    if isinstance(value, Sequence):
        object.__setattr__(instance, name, pair)


def check_number(instance: Degradation, name: str, low: float, high: float = math.inf) -> None:
    """Check the setting ``name`` of an instance, which may be no pair.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside ``[low, high]`` or not finite.
    """
    value = getattr(instance, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} must be a number within [{low:g}, {high:g}], got {value!r}")


def bounds(value: Range) -> tuple[float, float]:
    """Lower and upper end of a checked range."""
    return (value[0], value[1]) if isinstance(value, Sequence) else (value, value)


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """``count`` float64 values from U(low, high)."""
    unit = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
    return low + (high - low) * unit


def draw(value: Range, generator: torch.Generator) -> float:
    """One value from a range; consumes one random number even for a plain number."""
    low, high = bounds(value)
    return float(uniform(1, low, high, generator))
