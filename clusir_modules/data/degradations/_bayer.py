"""The mosaic of color filters on a sensor (Bayer's): where it lies, and what is filled in between."""

from __future__ import annotations

import torch
from torch import Tensor

from ._base import draw_each
from ._filter import pad_batch

__all__ = ["demosaic", "draw_mosaic"]


def draw_mosaic(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw for each image ``(B, C, H, W)`` which of the four places of a 2x2 cell measures red; blue is opposite.

    Returns:
        Rows ``(B, 1, H, 1)`` and columns ``(B, 1, 1, W)``, 0 where they hold red and 1 where they hold blue.
    """
    height, width = images.shape[2:]
    place = draw_each((0, 4), images, generator).floor()
    rows = (torch.arange(height, device=images.device)[:, None] + place) % 2
    columns = (torch.arange(width, device=images.device) + (place / 2).floor()) % 2
    return rows, columns


def demosaic(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Keep of ``(B, 3, H, W)`` what a mosaic measures, and fill in the rest from its neighbors within two pixels.

    The linear filters of Malvar, He and Cutler (ICASSP 2004): the mean of the nearest measured values of the color,
    corrected by how the color that is measured here curves. Colors that are linear in the place come out as they are.

    Args:
        images: what a sensor with all colors in each pixel would measure.
        rows: of the mosaic, from :func:`draw_mosaic`.
        columns: likewise.
    """
    red, blue = (rows + columns == 0), (rows + columns == 2)
    in_red_row = rows == 0
    measured = torch.where(red, images[:, :1], torch.where(blue, images[:, 2:], images[:, 1:2]))
    around = pad_batch(measured, 2)
    height, width = images.shape[2:]

    def at(down: int, right: int) -> Tensor:
        return around[:, :, 2 + down : 2 + down + height, 2 + right : 2 + right + width]

    above, beside = at(-1, 0) + at(1, 0), at(0, -1) + at(0, 1)
    far_above, far_beside = at(-2, 0) + at(2, 0), at(0, -2) + at(0, 2)
    corners = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)
    green = (4 * measured + 2 * (above + beside) - far_above - far_beside) / 8
    from_beside = (5 * measured + 4 * beside - far_beside - corners + far_above / 2) / 8
    from_above = (5 * measured + 4 * above - far_above - corners + far_beside / 2) / 8
    from_corners = (6 * measured + 2 * corners - 1.5 * (far_above + far_beside)) / 8
    at_green = torch.where(in_red_row, from_beside, from_above), torch.where(in_red_row, from_above, from_beside)
    return torch.cat(
        [
            torch.where(red, measured, torch.where(blue, from_corners, at_green[0])),
            torch.where(red | blue, green, measured),
            torch.where(blue, measured, torch.where(red, from_corners, at_green[1])),
        ],
        1,
    )
