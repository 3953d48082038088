"""All that is wrong with the pictures of a data set, found before a training starts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..imaging.opening import IMAGE_SUFFIXES
from ..imaging.picture_files import read_stored
from .pairing import FolderIndex, find_partner, pairing_rule

__all__ = ["Problem", "check_folder", "check_pairs"]


class Problem(NamedTuple):
    """A picture and what is wrong with it."""

    path: Path
    what: str


class _Facts(NamedTuple):
    size: tuple[int, int]
    channels: str
    orientation: int
    digest: bytes


def check_folder(folder: Path, *, max_pixels: int | None = None, progress: bool = True) -> list[Problem]:
    """Check the pictures of a folder and all below it: unreadable, other channels than most, duplicates.

    Args:
        folder: where they lie; hidden files are none.
        max_pixels: largest picture that is read, see :func:`read_image`.
        progress: whether to show a progress bar on the error stream.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no pictures.
    """
    facts, problems = _read_all(_pictures(folder), max_pixels, progress)
    return sorted(problems + _other_channels(facts) + _duplicates(facts))


def check_pairs(
    lq: Path, gt: Path, *, pairing: str = "same_name", max_pixels: int | None = None, progress: bool = True
) -> list[Problem]:
    """Check degraded pictures and their clean partners; what a partner must share: size, channels, orientation.

    Args:
        lq: folder of degraded pictures, with all below it.
        gt: folder of clean ones; a partner lies in the same subfolder, or in the folder itself.
        pairing: which names belong together, see :func:`pairing_rule`.
        max_pixels: largest picture that is read.
        progress: whether to show a progress bar.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a folder has no pictures, or ``pairing`` is unknown.
    """
    rule, index = pairing_rule(pairing), FolderIndex()
    degraded, clean = _pictures(lq), _pictures(gt)
    partners: dict[Path, Path] = {}
    problems: list[Problem] = []
    for path in degraded:
        try:
            partners[path] = find_partner(path, [gt / path.parent.relative_to(lq), gt], rule, index)
        except (FileNotFoundError, ValueError) as error:
            problems.append(Problem(path, str(error).removeprefix(f"'{path}' ")))
    used = set(partners.values())
    problems += [Problem(path, f"is the partner of no picture in '{lq}'") for path in clean if path not in used]
    facts, unreadable = _read_all(list(dict.fromkeys([*degraded, *clean])), max_pixels, progress)
    for path, partner in partners.items():
        if path in facts and partner in facts:
            problems += [Problem(path, what) for what in _differences(facts[path], facts[partner], partner)]
    of_lq, of_gt = ({path: facts[path] for path in paths if path in facts} for paths in (degraded, clean))
    return sorted(problems + unreadable + _duplicates(of_lq) + _duplicates(of_gt))


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder '{folder}'")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise ValueError(f"no pictures in '{folder}'")
    return found


def _read_all(
    paths: Sequence[Path], max_pixels: int | None, progress: bool
) -> tuple[dict[Path, _Facts], list[Problem]]:
    from tqdm import tqdm

    facts: dict[Path, _Facts] = {}
    problems = []
    for path in tqdm(paths, unit="picture", disable=not progress):
        try:
            picture = read_stored(path, max_pixels=max_pixels)
        except (OSError, ValueError) as error:
            problems.append(Problem(path, f"cannot be read: {error}"))
            continue
        pixels = picture.pixels
        digest = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode())
        digest.update(pixels.data)
        facts[path] = _Facts(
            (pixels.shape[0], pixels.shape[1]),
            "gray" if pixels.ndim == 2 else "color",
            picture.orientation,
            digest.digest(),
        )
    return facts, problems


def _differences(facts: _Facts, partner: _Facts, path: Path) -> Iterator[str]:
    if facts.size != partner.size:
        yield f"is {_size(facts)} pixels, its partner '{path}' {_size(partner)}"
    if facts.channels != partner.channels:
        yield f"is {facts.channels}, its partner '{path}' {partner.channels}"
    if facts.orientation != partner.orientation:
        yield (
            f"is to be shown turned otherwise than its partner '{path}' (EXIF orientation {facts.orientation} and "
            f"{partner.orientation}); training takes the pixels as they are stored"
        )


def _size(facts: _Facts) -> str:
    return f"{facts.size[1]} x {facts.size[0]}"


def _other_channels(facts: dict[Path, _Facts]) -> list[Problem]:
    """Gray pictures among color, or the other way round; where both are equally many, the gray ones."""
    counts = Counter(found.channels for found in facts.values())
    most = "color" if counts["color"] >= counts["gray"] else "gray"
    others = {path: found.channels for path, found in facts.items() if found.channels != most}
    return [Problem(path, f"is {channels}, most are {most}") for path, channels in others.items()]


def _duplicates(facts: dict[Path, _Facts]) -> list[Problem]:
    first: dict[bytes, Path] = {}
    return [
        Problem(path, f"has the same pixels as '{first[found.digest]}'")
        for path, found in facts.items()
        if first.setdefault(found.digest, path) != path
    ]
