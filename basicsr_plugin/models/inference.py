"""Running a network on images of any size: padded to its window, and in overlapping tiles."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from clusir_modules.inference.network import evaluating, final_image
from clusir_modules.inference.tiles import blend_tiles, check_tiles, tile_spans
from clusir_modules.ops.padding import pad_to_multiple

__all__ = ["restore", "run_padded", "run_tiled"]


@torch.no_grad()
def restore(
    net: nn.Module, image: Tensor, *, size_multiple: int = 1, tile: int | None = None, overlap: int = 0
) -> Tensor:
    """Restore images in evaluation mode.

    Args:
        net: Network; the image is its output, or the first of several.
        image: Shape (B, C, H, W).
        size_multiple: See :func:`run_padded`.
        tile: See :func:`run_tiled`; None restores the image as a whole.
        overlap: Likewise.
    """

    def run(part: Tensor) -> Tensor:
        return run_padded(lambda padded: final_image(net(padded)), part, size_multiple)

    with evaluating(net):
        return run(image) if tile is None else run_tiled(run, image, tile=tile, overlap=overlap)


def run_padded(net: Callable[[Tensor], Tensor], image: Tensor, multiple: int) -> Tensor:
    """Run a network on an image padded below and right to a multiple of its window, and crop the result.

    Args:
        net: Maps (B, C, H, W) to (B, C, s * H, s * W) for some whole s.
        image: Shape (B, C, H, W).
        multiple: Side lengths are raised to a multiple of it, see ``pad_to_multiple``.

    Returns:
        Result of the unpadded size, shape (B, C, s * H, s * W).
    """
    height, width = image.shape[-2:]
    padded = pad_to_multiple(image, multiple)
    result = net(padded)
    scale = result.shape[-1] // padded.shape[-1]
    return result[..., : height * scale, : width * scale]


def run_tiled(net: Callable[[Tensor], Tensor], image: Tensor, *, tile: int, overlap: int) -> Tensor:
    """Run a network on overlapping tiles and blend the results smoothly, as ``clusir_modules.restore`` does.

    Args:
        net: As for :func:`run_padded`.
        image: Shape (B, C, H, W).
        tile: Side of the tiles, in input pixels. A smaller image is run whole.
        overlap: Pixels that neighbors share at least, in [0, tile).

    Returns:
        Result, shape (B, C, s * H, s * W), in float32 or wider.

    Raises:
        ValueError: ``overlap`` is not in [0, tile).
    """
    check_tiles(tile, overlap)
    rows, columns = (tile_spans(length, tile, overlap) for length in image.shape[2:])
    return torch.cat(list(blend_tiles(lambda row, column: net(image[..., row, column]), rows, columns)), dim=2)
