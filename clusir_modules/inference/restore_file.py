"""One picture file to another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ..imaging.levels import to_eight_bits
from ..imaging.outputs import Existing, Output, check_outputs
from ..imaging.picture_files import Picture, read_picture
from ..imaging.writing import write_picture
from ..ops.checks import check_choice
from .restore import restore

__all__ = ["restore_file"]

_GAP = 8
"""White pixels between the halves of a comparison."""


def restore_file(
    net: nn.Module,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    comparison: str | os.PathLike[str] | None = None,
    existing: Existing = "error",
    max_pixels: int | None = None,
    **options: Any,
) -> tuple[str, ...]:
    """Restore a picture file, with all that ``clusir restore`` keeps: size, orientation, transparency, gray, 16 bits.

    EXIF data, an XMP packet, the resolution and a color profile that fits the pixels go into the new file, which is
    written whole or not at all.

    Args:
        net: as for :func:`restore`.
        source: a PNG, JPEG, BMP, TIFF, WebP or PPM file.
        target: file to write; its suffix gives the format.
        comparison: file to write with input and result side by side in 8 bits, or None.
        existing: what to do about a file that is there already: "error" refuses before anything is written, "skip"
            leaves it as it is, "overwrite" replaces it. ``source`` is never replaced.
        max_pixels: largest picture that is read; by default Pillow's limit, 89 million.
        options: of :func:`restore`; there is no progress bar unless ``progress=True``.

    Returns:
        What could not be kept, a sentence each; mostly none.

    Raises:
        FileExistsError: a file is there already and ``existing`` is "error".
        OSError: a file cannot be read or written.
        ValueError: ``source`` is no picture or of a kind that is not read, ``target`` is of no known format or cannot
            hold it, two of the files are the same, or an option is out of range.

    Example:
        >>> import clusir_modules as cm
        >>> cm.restore_file(cm.clusir_tiny(pretrained=True), "photo.jpg", "restored.png")  # doctest: +SKIP
        ()
    """
    check_choice("existing", existing, ("error", "skip", "overwrite"))
    source, target = Path(source), Path(target)
    wanted = [target] if comparison is None else [target, Path(comparison)]
    check_outputs([Output(path, source) for path in wanted], inputs=[source], existing=existing)
    missing = [path for path in wanted if existing == "overwrite" or not os.path.lexists(path)]
    if not missing:
        return ()
    picture = read_picture(source, max_pixels=max_pixels)
    result = picture._replace(pixels=restore(net, picture.pixels, **{"progress": False, **options}))
    if target in missing:
        write_picture(result, target)
    if wanted[-1] is not target and wanted[-1] in missing:
        write_picture(Picture(_side_by_side(picture.pixels, result.pixels)), wanted[-1])
    return picture.notes


def _side_by_side(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Both in 8 bits and upright; a result of another scale beside an input enlarged to it."""
    halves = [to_eight_bits(pixels) for pixels in (before, after)]
    scale = halves[1].shape[0] // halves[0].shape[0]
    halves[0] = halves[0].repeat(scale, axis=0).repeat(scale, axis=1)
    gap = np.full((halves[0].shape[0], _GAP, *halves[0].shape[2:]), 255, np.uint8)
    return np.concatenate((halves[0], gap, halves[1]), axis=1)
