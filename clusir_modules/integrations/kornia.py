"""Degradations in kornia's augmentation containers."""

from __future__ import annotations

from typing import Any

import torch
from kornia.augmentation import IntensityAugmentationBase2D
from torch import Tensor

from ..data.degradations import Degradation

__all__ = ["RandomDegradation"]


class RandomDegradation(IntensityAugmentationBase2D):  # type: ignore[misc]
    """A degradation as an augmentation of kornia: of each image with a probability, and again with the same parameters.

    In ``AugmentationSequential(..., data_keys=["input", "mask"])`` the second of two equal batches stays clean and is
    flipped and cropped with the first: pairs for training.

    Args:
        degradation: what is done to an image.
        same_on_batch: draw the same random numbers for all images.
        p: probability that an image is degraded.
        keepdim: give a single image ``(C, H, W)`` back without a batch dimension.

    Shape:
        ``(B, C, H, W)`` or ``(C, H, W)`` with 1 or 3 channels in [0, 1] to ``(B, C, H, W)``.

    Raises:
        TypeError: ``degradation`` is none.
        ValueError: in ``forward`` a wrong shape or values outside.
    """

    def __init__(
        self, degradation: Degradation, *, same_on_batch: bool = False, p: float = 1.0, keepdim: bool = False
    ) -> None:
        if not isinstance(degradation, Degradation):
            raise TypeError(f"degradation must be a Degradation, got {type(degradation).__name__}")
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self.degradation = degradation

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """A seed for each image, by torch's global generator."""
        count = batch_shape[0]
        seeds = torch.randint(2**31, (1 if self.same_on_batch else count,))
        return {"seed": seeds.expand(count)}

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Degrade each image with a generator of its own seed."""
        seeds = params["seed"].tolist()
        images = [
            self.degradation(image, torch.Generator(image.device).manual_seed(seed))
            for image, seed in zip(input, seeds, strict=True)
        ]
        return torch.stack(images) if images else input
