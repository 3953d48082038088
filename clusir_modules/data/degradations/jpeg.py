"""JPEG compression artifacts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ._base import Degradation, bounds, draw_each, normalize_whole_range, uniform
from ._block_transform import code_batch

__all__ = ["JPEG"]


@dataclass(frozen=True)
class JPEG(Degradation):
    """Compress and decompress the image with Pillow's JPEG codec.

    The image is rounded to 8 bits, encoded (color with 4:2:0 chroma, Pillow's default; one channel as gray) and
    decoded. A batch goes through the same arithmetic in tensor operators, without the entropy coding, which loses
    nothing: within one or two gray levels of Pillow's result.

    Args:
        quality: quality setting of the codec, a whole number in [1, 100], or a pair (low, high) from which a whole
            number is drawn, both ends included. 10..40 is the usual range of artifact removal.

    Raises:
        TypeError: ``quality`` is no integer or pair of integers.
        ValueError: ``quality`` is out of range.
    """

    quality: int | Sequence[int] = (10, 40)

    def __post_init__(self) -> None:
        """Check the quality and store a pair as a tuple."""
        normalize_whole_range(self, "quality", 1, 100)

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        low, high = bounds(self.quality)
        quality = int(uniform(1, low, high + 1, generator))
        levels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        picture = Image.fromarray(levels[:, :, 0] if image.shape[0] == 1 else levels)
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=quality)
        with Image.open(buffer) as decoded:
            array = np.array(decoded).reshape(levels.shape)
        return torch.from_numpy(array).permute(2, 0, 1).to(image) / 255

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        low, high = bounds(self.quality)
        quality = draw_each((low, high + 1), images, generator).floor()
        return code_batch((images.clamp(0, 1) * 255).round(), quality) / 255
