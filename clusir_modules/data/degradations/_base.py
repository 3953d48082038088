"""What all degradations share: the calling convention, checks of settings, and random draws."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ...ops.precision import full_precision, widen

__all__ = [
    "Degradation",
    "LogUniform",
    "Range",
    "bounds",
    "check_number",
    "draw",
    "draw_each",
    "normalize_range",
    "normalize_whole_range",
    "uniform",
]


@dataclass(frozen=True)
class LogUniform:
    """Range of a setting whose logarithm is drawn uniformly: as many values from 0.01 to 0.1 as from 0.1 to 1.

    Option files say ``{log_uniform: [low, high]}``.

    Args:
        low: smallest value, above 0.
        high: largest value.
    """

    low: float
    high: float


Range: TypeAlias = float | Sequence[float] | LogUniform
"""A number, or a pair (low, high) from which one value is drawn uniformly for each image, or a :class:`LogUniform`."""


class Degradation(ABC):
    """A random image degradation that keeps the shape: ``degradation(image, generator) -> Tensor``.

    Instances are immutable. All randomness comes from the generator, so that the same generator state gives the same
    picture. Subclasses implement ``_apply`` and may raise ``margin`` and write ``_apply_batch``.

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
        _check_arguments("image", image, ("(3, H, W)", "(1, H, W)"), generator)
        # The last bits of some functions depend on the layout.
        return self._apply(widen(image).contiguous(), generator).to(image.dtype)

    def degrade_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade every image of a batch, each with settings of its own, on the batch's device; leaves the argument.

        Results are distributed as those of single images, but not equal to them: the random numbers are drawn for the
        whole batch at once. The degradations of this package take 10 (noise) to 420 (JPEG twice) operators for any
        number of images, none of which waits for the device; where a subclass writes no ``_apply_batch``, the images
        take turns.

        Args:
            images: clean images ``(B, 3, H, W)`` or ``(B, 1, H, W)`` in [0, 1].
            generator: source of every random choice, on the device of the images.

        Raises:
            TypeError: no floating-point tensor, or no generator.
            ValueError: not of these shapes, or on another device than the generator.
        """
        _check_arguments("images", images, ("(B, 3, H, W)", "(B, 1, H, W)"), generator)
        if images.shape[0] == 0:
            return images.clone()
        with full_precision(images):
            return self._apply_batch(widen(images).contiguous(), generator).to(images.dtype)

    @abstractmethod
    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade a checked image of at least single precision."""

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade a checked batch of at least one image and of at least single precision."""
        return torch.stack([self._apply(image, generator) for image in images])


def _check_arguments(name: str, image: Tensor, shapes: tuple[str, str], generator: torch.Generator) -> None:
    """Refuse what is no image or batch in [0, 1], and a generator of another device."""
    if not isinstance(image, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(image).__name__}")
    if not torch.is_floating_point(image):
        raise TypeError(f"{name} must be a floating-point tensor in [0, 1], got {image.dtype}")
    dimensions = shapes[0].count(",") + 1
    if image.dim() != dimensions or image.shape[-3] not in (1, 3) or 0 in image.shape[-3:]:
        raise ValueError(f"{name} must have shape {' or '.join(shapes)}, got {tuple(image.shape)}")
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if generator.device.type != image.device.type:
        raise ValueError(f"generator must be on the device of {name}, {image.device}, got one on {generator.device}")


def normalize_range(instance: Degradation, name: str, low: float, high: float = math.inf) -> None:
    """Check the setting ``name`` of a frozen instance; store a pair as a tuple, ``{"log_uniform": pair}`` as its range.

    Raises:
        TypeError: it is neither a number nor a pair of numbers nor a :class:`LogUniform` of numbers.
        ValueError: it is outside ``[low, high]``, not finite, or the pair is not in ascending order; a logarithmic
            range begins at 0.
    """
    given = value = getattr(instance, name)
    if isinstance(value, LogUniform):
        value = {"log_uniform": (value.low, value.high)}
    logarithmic = isinstance(value, Mapping) and list(value) == ["log_uniform"]
    if logarithmic:
        value = value["log_uniform"]
    is_pair = isinstance(value, Sequence) and not isinstance(value, str)
    pair = tuple(value) if is_pair else (value, value)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in pair):
        raise TypeError(f"{name} must be a number or a pair (low, high), plain or log_uniform, got {given!r}")
    ascending = len(pair) == 2 and all(math.isfinite(v) for v in pair) and low <= pair[0] <= pair[1] <= high
    if not ascending or (logarithmic and pair[0] <= 0):
        raise ValueError(
            f"{name} must be a number or an ascending pair (low, high), plain or log_uniform (then above 0), within "
            f"[{low:g}, {high:g}], got {given!r}"
        )
    if logarithmic:
        object.__setattr__(instance, name, LogUniform(*pair))
    elif is_pair:
        object.__setattr__(instance, name, pair)


def normalize_whole_range(instance: Degradation, name: str, low: int, high: int) -> None:
    """Check the setting ``name`` of a frozen instance, whole numbers with both ends included; store a pair as a tuple.

    Raises:
        TypeError: it is no integer or pair of integers.
        ValueError: it is outside ``[low, high]``, or the pair is not in ascending order.
    """
    given = getattr(instance, name)
    pair = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given, given)
    if not all(isinstance(v, int) and not isinstance(v, bool) for v in pair):
        raise TypeError(f"{name} must be an int or a pair of ints, got {given!r}")
    if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
        raise ValueError(
            f"{name} must be an int or an ascending pair (low, high) within [{low}, {high}], got {given!r}"
        )
    if isinstance(given, Sequence):
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
    if isinstance(value, LogUniform):
        return value.low, value.high
    return (value[0], value[1]) if isinstance(value, Sequence) else (value, value)


def uniform(
    shape: int | tuple[int, ...],
    low: float,
    high: float,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Values from U(low, high) on the generator's device."""
    unit = torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)
    return low + (high - low) * unit


def draw(value: Range, generator: torch.Generator) -> float:
    """One value from a range; consumes one random number even for a plain number."""
    low, high = bounds(value)
    if isinstance(value, LogUniform):
        return math.exp(float(uniform(1, math.log(low), math.log(high), generator)))
    return float(uniform(1, low, high, generator))


def draw_each(value: Range, images: Tensor, generator: torch.Generator) -> Tensor:
    """One value from a range for each image of a batch, ``(B, 1, 1, 1)`` in the images' type."""
    low, high = bounds(value)
    drawn = images.new_empty((images.shape[0], 1, 1, 1))
    if isinstance(value, LogUniform):
        return drawn.uniform_(math.log(low), math.log(high), generator=generator).exp_()
    return drawn.uniform_(low, high, generator=generator)
