"""JPEG compression artifacts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ._base import Degradation, bounds, draw_each, normalize_whole_range, uniform
from ._block_transform import code_batch

__all__ = ["JPEG"]

_CELL = 16  # pixels on each side that are coded together, with chroma at half the resolution


@dataclass(frozen=True)
class JPEG(Degradation):
    """Compress and decompress the image with Pillow's JPEG codec.

    The image is rounded to 8 bits, encoded (color with 4:2:0 chroma, Pillow's default; one channel as gray) and
    decoded. A batch goes through the same arithmetic in tensor operators, without the entropy coding, which loses
    nothing: within one or two gray levels of Pillow's result.

    Args:
        quality: quality setting of the codec, a whole number in [1, 100], or a pair (low, high) from which a whole
            number is drawn, both ends included. 10..40 is the usual range of artifact removal.
        shifted: whether the image is a part of a larger one that is compressed (continued by its border), so that the
            grid of blocks begins at a random place. ``[JPEG(shifted=True), JPEG()]`` compresses twice with two grids.

    Raises:
        TypeError: ``quality`` is no integer or pair of integers, or ``shifted`` no bool.
        ValueError: ``quality`` is out of range.
    """

    quality: int | Sequence[int] = (10, 40)
    _: KW_ONLY
    shifted: bool = False

    def __post_init__(self) -> None:
        """Check the quality and store a pair as a tuple."""
        normalize_whole_range(self, "quality", 1, 100)
        if not isinstance(self.shifted, bool):
            raise TypeError(f"shifted must be a bool, got {self.shifted!r}")

    def _apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        low, high = bounds(self.quality)
        quality = int(uniform(1, low, high + 1, generator))
        if not self.shifted:
            return _code(image, quality)
        down, right = uniform(2, 0, _CELL, generator).long().tolist()
        around = F.pad(image[None], (right, _CELL - right, down, _CELL - down), mode="replicate")[0]
        return _code(around, quality)[:, down : down + image.shape[1], right : right + image.shape[2]]

    def _apply_batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        low, high = bounds(self.quality)
        quality = draw_each((low, high + 1), images, generator).floor()
        levels = (images.clamp(0, 1) * 255).round()
        if not self.shifted:
            return code_batch(levels, quality) / 255
        height, width = images.shape[2:]
        down, right = (draw_each((0, _CELL), images, generator).long() for _ in range(2))
        rows = torch.arange(height + _CELL, device=images.device)[:, None] - down
        columns = torch.arange(width + _CELL, device=images.device) - right
        coded = code_batch(_take(levels, rows.clamp(0, height - 1), columns.clamp(0, width - 1)), quality)
        rows = torch.arange(height, device=images.device)[:, None] + down
        return _take(coded, rows, torch.arange(width, device=images.device) + right) / 255


def _code(image: Tensor, quality: int) -> Tensor:
    """Encode and decode an image ``(C, H, W)``."""
    levels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(levels[:, :, 0] if image.shape[0] == 1 else levels)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as decoded:
        array = np.array(decoded).reshape(levels.shape)
    return torch.from_numpy(array).permute(2, 0, 1).to(image) / 255


def _take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows ``(B, 1, R, 1)`` and columns ``(B, 1, 1, S)`` of images ``(B, C, H, W)``: ``(B, C, R, S)``."""
    channels, width = images.shape[1], images.shape[3]
    taken = images.gather(2, rows.expand(-1, channels, -1, width))
    return taken.gather(3, columns.expand(-1, channels, rows.shape[2], -1))
