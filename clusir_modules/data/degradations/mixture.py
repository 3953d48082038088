"""Several degradations: one after the other, or one of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from ._base import Degradation, draw_each, uniform

__all__ = ["Mixture", "OneOf", "check_steps"]


@dataclass(frozen=True)
class Mixture(Degradation):
    """Apply degradations one after the other, as they meet the light in nature.

    CDD-11's order is low light, then haze, then rain or snow (Guo et al., OneRestore, ECCV 2024). All steps draw from
    the same generator in turn.

    Args:
        steps: the degradations, first one first.
        shuffle: draw the order for each image instead. A batch then takes each of the K steps K times.

    Raises:
        TypeError: a step is no :class:`Degradation`, or ``shuffle`` no bool.
        ValueError: there is no step.
    """

    steps: Sequence[Degradation]
    _: KW_ONLY
    shuffle: bool = False

    def __post_init__(self) -> None:
        """Check the steps and store them as a tuple."""
        check_steps(self, least=1)
        if not isinstance(self.shuffle, bool):
            raise TypeError(f"shuffle must be a bool, got {self.shuffle!r}")

    @property
    def margin(self) -> int:
        """Sum of the steps' margins."""
        return sum(step.margin for step in self.steps)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        order: Sequence[int] = range(len(self.steps))
        if self.shuffle:
            order = uniform(len(self.steps), 0, 1, generator).argsort().tolist()
        for number in order:
            image = self.steps[number](image, generator)
        return image

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if not self.shuffle:
            for step in self.steps:
                images = step.degrade_batch(images, generator)
            return images
        order = torch.cat([draw_each((0, 1), images, generator) for _ in self.steps], 1).argsort(1)
        for place in range(len(self.steps)):
            before = images
            for number, step in enumerate(self.steps):
                images = torch.where(order[:, place, None] == number, step.degrade_batch(before, generator), images)
        return images


@dataclass(frozen=True)
class OneOf(Degradation):
    """Apply one of several degradations, drawn for each image, or none. A batch takes all of them, and keeps one each.

    Args:
        steps: the degradations to choose from.
        probabilities: how likely each of them is, as many as ``steps``; what is missing to a sum of 1 leaves images
            as they are. None: all are equally likely.

    Raises:
        TypeError: a step is no :class:`Degradation`, or the probabilities are no sequence of numbers.
        ValueError: there is no step, or the probabilities are not as many, negative, or of a sum above 1.
    """

    steps: Sequence[Degradation]
    _: KW_ONLY
    probabilities: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the settings and store sequences as tuples."""
        check_steps(self, least=1)
        given = self.probabilities
        if given is None:
            return
        if not isinstance(given, Sequence) or not all(
            isinstance(p, int | float) and not isinstance(p, bool) for p in given
        ):
            raise TypeError(f"probabilities must be a sequence of numbers, got {given!r}")
        if len(given) != len(self.steps) or not all(p >= 0 for p in given) or not sum(given) <= 1 + 1e-6:
            raise ValueError(
                f"probabilities must be {len(self.steps)} numbers of at least 0, one for each step, with a sum of at "
                f"most 1, got {given!r}"
            )
        object.__setattr__(self, "probabilities", tuple(given))

    @property
    def margin(self) -> int:
        """Largest of the steps' margins."""
        return max(step.margin for step in self.steps)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        place = float(uniform(1, 0, 1, generator))
        for step, (start, end) in zip(self.steps, self._intervals()):
            if start <= place < end:
                return step(image, generator)
        return image.clone()

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        place = draw_each((0, 1), images, generator)
        result = images
        for step, (start, end) in zip(self.steps, self._intervals()):
            chosen = (start <= place) & (place < end)
            result = torch.where(chosen, step.degrade_batch(images, generator), result)
        return result

    def _intervals(self) -> list[tuple[float, float]]:
        """Which part of [0, 1) stands for each step."""
        count = len(self.steps)
        shares = [1 / count] * count if self.probabilities is None else self.probabilities
        ends = [0.0, *itertools.accumulate(shares)]
        ends = [1.0 + 1e-6 if end > 1 - 1e-6 else end for end in ends]  # a sum of 1, but for rounding, leaves no gap
        return list(itertools.pairwise(ends))


def check_steps(instance: Degradation, *, least: int = 0) -> None:
    """Check the setting ``steps`` of a frozen instance, degradations, and store them as a tuple.

    Raises:
        TypeError: it is no sequence of :class:`Degradation`.
        ValueError: there are too few.
    """
    given = getattr(instance, "steps")  # noqa: B009 - a name that not every degradation has
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise TypeError(f"steps must be a sequence of degradations, got {given!r}")
    if len(given) < least:
        raise ValueError("steps must hold at least one degradation, got none")
    for step in given:
        if not isinstance(step, Degradation):
            raise TypeError(f"steps must be Degradation instances, got {type(step).__name__}")
    object.__setattr__(instance, "steps", tuple(given))
