"""Files that are about to be written: nothing that is needed may be among what they replace."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Existing", "Output", "check_outputs", "file_key", "shown"]

Existing: TypeAlias = Literal["error", "skip", "overwrite"]
"""What to do about a file that is there already: refuse all, leave it as it is, or replace it."""

_MOST_SHOWN = 20


class Output(NamedTuple):
    """A file to write, and the file that it is made from."""

    path: Path
    source: Path


def check_outputs(
    outputs: Sequence[Output], *, inputs: Iterable[Path], weights: Iterable[Path] = (), existing: Existing = "error"
) -> None:
    """Refuse to write over an input, over the weights, over another output or, unless told to, over any other file.

    Paths are compared through links, ``..`` and, where the file system does so, without regard to case.

    Raises:
        FileExistsError: a file is there already and ``existing`` is "error".
        ValueError: for all other reasons. Either message names the files, at most 20.
    """
    inputs_by_key = {file_key(path): path for path in inputs}
    weights_by_key = {file_key(path): path for path in weights}
    taken: dict[tuple[object, ...], Output] = {}
    conflicts, there = [], []
    for output in outputs:
        key = file_key(output.path)
        if key in inputs_by_key:
            conflicts.append(f"{shown(output.path)} is an input and would be replaced")
        elif key in weights_by_key:
            conflicts.append(f"{shown(output.path)} holds the weights and would be replaced")
        elif key in taken:
            conflicts.append(
                f"{shown(output.path)} would be written twice, for {shown(taken[key].source)} and for "
                f"{shown(output.source)}"
            )
        elif output.path.is_dir():
            conflicts.append(f"{shown(output.path)} is a folder")
        elif (file := _file_in_the_way(output.path)) is not None:
            conflicts.append(f"{shown(output.path)} cannot be written: {shown(file)} is no folder")
        elif os.path.lexists(output.path) and existing == "error":
            there.append(f"{shown(output.path)} is there already")
        taken.setdefault(key, output)
    if conflicts:
        raise ValueError(_listed(conflicts))
    if there:
        raise FileExistsError(_listed(there))


def file_key(path: Path) -> tuple[object, ...]:
    """The same for two paths that lead to one file, whether it is there or not."""
    real = Path(os.path.realpath(path))
    try:
        found = real.stat()
    except OSError:
        if real.parent == real:
            return (str(real),)
        name = unicodedata.normalize("NFC", real.name).casefold() if _ignores_case(real.parent) else real.name
        return (*file_key(real.parent), name)
    return (found.st_dev, found.st_ino)


def shown(path: Path | str) -> str:
    """A path for a message: bytes that are no text become escapes, which any stream can print."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _ignores_case(folder: Path) -> bool:
    """Whether the file system of a folder takes its name in other letters for the same; no file is written."""
    while not folder.is_dir() and folder.parent != folder:
        folder = folder.parent
    for place in (folder, *folder.parents):
        other = place.with_name(place.name.swapcase()) if place.name else place
        if other.name != place.name:
            return other.exists() and other.samefile(place)
    return False


def _file_in_the_way(path: Path) -> Path | None:
    """The nearest thing above a path that is there, unless it is a folder."""
    above = next((parent for parent in path.absolute().parents if os.path.lexists(parent)), None)
    return above if above is not None and not above.is_dir() else None


def _listed(problems: list[str]) -> str:
    more = [f"and {len(problems) - _MOST_SHOWN} more"] if len(problems) > _MOST_SHOWN else []
    return "; ".join(problems[:_MOST_SHOWN] + more)
