"""Decoding of all images before a run, so that a damaged file stops it at the start."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from ..imaging.reading import decode_image
from .tasks import Sample

__all__ = ["verify_samples"]

_MOST_SHOWN = 20


def verify_samples(samples: Iterable[Sample], *, progress: bool = True, max_pixels: int | None = None) -> None:
    """Decode every file once, and compare the sizes within each pair.

    Args:
        samples: what to check; a file that occurs in several is decoded once.
        progress: whether to show a progress bar on the error stream.
        max_pixels: largest image, see :func:`read_image`.

    Raises:
        RuntimeError: some files cannot be read or do not fit their partner; the message names them all (the first 20).
    """
    from tqdm import tqdm

    samples = list(samples)
    files = list(dict.fromkeys(path for sample in samples for path in sample if path is not None))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        checks = pool.map(partial(_size_or_problem, max_pixels=max_pixels), files)
        results = list(tqdm(checks, total=len(files), unit="image", desc="verifying images", disable=not progress))
    found = dict(zip(files, results))
    problems = [result for result in found.values() if isinstance(result, str)]
    for lq, gt in dict.fromkeys(samples):
        if lq is None or gt is None:
            continue
        lq_size, gt_size = found[lq], found[gt]
        if lq_size != gt_size and not isinstance(lq_size, str) and not isinstance(gt_size, str):
            problems.append(f"unequal sizes (height, width): '{lq}' has {lq_size} and '{gt}' has {gt_size}")
    if problems:
        more = [f"... and {len(problems) - _MOST_SHOWN} more"] if len(problems) > _MOST_SHOWN else []
        lines = "\n  ".join(problems[:_MOST_SHOWN] + more)
        raise RuntimeError(f"{len(problems)} of {len(files)} images cannot be used:\n  {lines}")


def _size_or_problem(path: Path, max_pixels: int | None) -> tuple[int, int] | str:
    """Height and width, or the message of the error."""
    try:
        height, width = decode_image(path, max_pixels=max_pixels).shape[:2]
    except (OSError, RuntimeError) as error:
        return str(error)
    return height, width
