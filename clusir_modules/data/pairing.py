"""Which clean image belongs to a degraded one: the naming rules of the standard data sets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from string import Formatter

from ..imaging.reading import IMAGE_SUFFIXES

__all__ = ["PAIRING_RULES", "FolderIndex", "find_partner", "list_images", "pairing_rule"]

PairingRule = Callable[[str], tuple[str, ...]]
"""From the name of a degraded image without its ending to the possible names of the clean one, likeliest first."""


def _same_name(stem: str) -> tuple[str, ...]:
    return (stem,)


def _rain100l(stem: str) -> tuple[str, ...]:
    """``rain-7`` or ``rain_7`` (also ``rain-7x2``) to ``norain-7``; a plain number keeps its name."""
    match = re.fullmatch(r"(rain[-_]?)(\d+)(x2)?", stem)
    return (f"no{match[1]}{match[2]}", f"no{stem}", stem) if match else (stem,)


def _dehaze(stem: str) -> tuple[str, ...]:
    """RESIDE: ``0005_0.8_0.04`` (scene, airlight, scattering) or ``1400_3`` to the scene."""
    return (stem.split("_", 1)[0],)


def _lol(stem: str) -> tuple[str, ...]:
    """LOL-v1 has the same names; LOL-v2 has ``low00690`` and ``normal00690``."""
    return (f"normal{stem.removeprefix('low')}", stem) if stem.startswith("low") else (stem,)


PAIRING_RULES: dict[str, PairingRule] = {
    "same_name": _same_name,
    "rain100l": _rain100l,
    "dehaze": _dehaze,
    "gopro": _same_name,
    "lol": _lol,
    "cdd11": _same_name,
}
"""Rules by name."""


def pairing_rule(name: str) -> PairingRule:
    """Rule of this name, or made from a template such as ``"{stem}_gt"``.

    Args:
        name: a key of :data:`PAIRING_RULES`, or a file name without ending in which ``{stem}`` stands for the name of
            the degraded image without its ending.

    Raises:
        ValueError: neither of them.
    """
    if name in PAIRING_RULES:
        return PAIRING_RULES[name]
    try:
        fields = [(field, spec, kind) for _, field, spec, kind in Formatter().parse(name) if field is not None]
    except ValueError:
        fields = []
    if not fields or set(fields) != {("stem", "", None)} or PurePath(name).name != name or "\\" in name:
        raise ValueError(
            f"pairing must be one of {', '.join(PAIRING_RULES)} or a template like '{{stem}}_gt', got {name!r}"
        )
    return lambda stem: (name.format(stem=stem),)


def list_images(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted by name; hidden files and other endings are left out."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and PurePath(entry.name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return [folder / name for name in sorted(names)]


class FolderIndex:
    """Images of folders by name without ending; every folder is listed once, when it is first asked for."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def find(self, folder: Path, stem: str) -> list[Path]:
        """All images called ``stem`` in ``folder``, whatever their ending; none if there is no such folder."""
        if folder not in self._folders:
            names: dict[str, list[Path]] = {}
            for path in list_images(folder) if folder.is_dir() else ():
                names.setdefault(path.stem, []).append(path)
            self._folders[folder] = names
        return self._folders[folder].get(stem, [])


def find_partner(lq: Path, folders: Sequence[Path], rule: PairingRule, index: FolderIndex) -> Path:
    """Clean partner of a degraded image.

    Args:
        lq: the degraded image.
        folders: where to look, likeliest first.
        rule: names to look for.
        index: listing of the folders.

    Raises:
        FileNotFoundError: there is none.
        ValueError: several files of the same name differ only in their ending, and none has that of ``lq``.
    """
    stems = rule(lq.stem)
    for folder in folders:
        for stem in stems:
            found = index.find(folder, stem)
            same_suffix = [path for path in found if path.suffix.lower() == lq.suffix.lower()]
            if len(found) == 1 or len(same_suffix) == 1:
                return (same_suffix or found)[0]
            if found:
                names = ", ".join(path.name for path in found)
                raise ValueError(f"'{lq}' has several possible partners in '{folder}': {names}")
    places = " or ".join(f"'{folder}'" for folder in dict.fromkeys(folders))
    raise FileNotFoundError(f"'{lq}' has no partner named {' or '.join(dict.fromkeys(stems))} in {places}")
