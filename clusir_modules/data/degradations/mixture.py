"""Several degradations in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ._base import Degradation

__all__ = ["Mixture"]


@dataclass(frozen=True)
class Mixture(Degradation):
    """Apply degradations one after the other, as they meet the light in nature.

    CDD-11's order is low light, then haze, then rain or snow (Guo et al., OneRestore, ECCV 2024). All steps draw from
    the same generator in turn.

    Args:
        steps: the degradations, first one first.

    Raises:
        TypeError: a step is no :class:`Degradation`.
        ValueError: there is no step.
    """

    steps: Sequence[Degradation]

    def __post_init__(self) -> None:
        """Check the steps and store them as a tuple."""
        steps = tuple(self.steps)
        if not steps:
            raise ValueError("steps must hold at least one degradation, got none")
        for step in steps:
            if not isinstance(step, Degradation):
                raise TypeError(f"steps must be Degradation instances, got {type(step).__name__}")
        object.__setattr__(self, "steps", steps)

    @property
    def margin(self) -> int:
        """Sum of the steps' margins."""
        return sum(step.margin for step in self.steps)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        for step in self.steps:
            image = step(image, generator)
        return image

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        for step in self.steps:
            images = step.degrade_batch(images, generator)
        return images
