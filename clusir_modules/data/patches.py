"""Random training patches with the surroundings that a degradation needs."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ..imaging.reading import Pixels, to_tensor
from .degradations._filter import mirrored, pad_image

__all__ = ["AUGMENTATIONS", "Augmentation", "Patch", "Place", "cut_with_margin", "draw_patch", "draw_place"]

Augmentation: TypeAlias = bool | Literal["flip", "rotate"]
AUGMENTATIONS: tuple[Augmentation, ...] = (True, False, "flip", "rotate")


class Patch(NamedTuple):
    """Place and orientation of a square patch; the same for both images of a pair."""

    size: int
    rows: slice
    columns: slice
    """Region with margin, clipped to the image."""
    top: int
    bottom: int
    left: int
    right: int
    """How much of the region is margin on each side, before it is turned."""
    mirror: bool
    flip: bool
    transpose: bool

    def cut(self, pixels: Pixels) -> Tensor:
        """The region as a turned ``(3, h, w)`` tensor, margin included, padded where the image is too small."""
        image = to_tensor(pixels[self.rows, self.columns])
        missing_rows = self.size + self.top + self.bottom - image.shape[1]
        missing_columns = self.size + self.left + self.right - image.shape[2]
        if missing_rows or missing_columns:
            before_rows, before_columns = missing_rows // 2, missing_columns // 2
            image = pad_image(
                image, before_columns, missing_columns - before_columns, before_rows, missing_rows - before_rows
            )
        axes = [axis for axis, wanted in ((2, self.mirror), (1, self.flip)) if wanted]
        image = image.flip(axes)
        return image.transpose(1, 2).contiguous() if self.transpose else image

    def trim(self, image: Tensor) -> Tensor:
        """The patch itself: the turned region without its margin."""
        top = self.bottom if self.flip else self.top
        left = self.right if self.mirror else self.left
        if self.transpose:
            top, left = left, top
        return image[:, top : top + self.size, left : left + self.size].contiguous()


class Place(NamedTuple):
    """Upper left corner of a patch in its image, and how it is turned."""

    top: int
    left: int
    mirror: bool
    flip: bool
    transpose: bool


def draw_place(height: int, width: int, *, size: int, augment: Augmentation, generator: torch.Generator) -> Place:
    """Choose the place of a patch of ``size`` pixels uniformly in an image, and its orientation."""
    top, left = (int(torch.randint(max(length - size, 0) + 1, (), generator=generator)) for length in (height, width))
    mirror, flip, transpose = (torch.randint(2, (3,), generator=generator) == 1).tolist()
    return Place(
        top,
        left,
        mirror=mirror and augment in (True, "flip"),
        flip=flip and augment in (True, "rotate"),
        transpose=transpose and augment in (True, "rotate"),
    )


def draw_patch(
    height: int, width: int, *, size: int, margin: int, augment: Augmentation, generator: torch.Generator
) -> Patch:
    """Choose a patch of ``size`` pixels uniformly in an image, with up to ``margin`` pixels around it."""
    top, left, mirror, flip, transpose = draw_place(height, width, size=size, augment=augment, generator=generator)
    first_row, last_row = max(top - margin, 0), min(top + size + margin, height)
    first_column, last_column = max(left - margin, 0), min(left + size + margin, width)
    return Patch(
        size=size,
        rows=slice(first_row, last_row),
        columns=slice(first_column, last_column),
        top=top - first_row,
        bottom=max(last_row - top - size, 0),
        left=left - first_column,
        right=max(last_column - left - size, 0),
        mirror=mirror,
        flip=flip,
        transpose=transpose,
    )


def cut_with_margin(pixels: Pixels, place: Place, *, size: int, margin: int) -> Tensor:
    """Turned patch ``(3, S, S)`` with ``S = size + 2 * margin`` always; beyond the image lies its mirror image."""
    around = torch.arange(-margin, size + margin)
    height, width = pixels.shape[:2]
    rows = mirrored(around + place.top - max(size - height, 0) // 2, height)
    columns = mirrored(around + place.left - max(size - width, 0) // 2, width)
    image = to_tensor(pixels[rows.numpy()[:, None], columns.numpy()])
    image = image.flip([axis for axis, wanted in ((2, place.mirror), (1, place.flip)) if wanted])
    return image.transpose(1, 2).contiguous() if place.transpose else image
