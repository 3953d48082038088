"""Which pictures a command reads, and where it writes each of them."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

__all__ = ["Job", "plan"]


class Job(NamedTuple):
    """A picture to read and the file to write."""

    source: Path
    target: Path


def plan(inputs: Sequence[str], output: str) -> list[Job]:
    """List the pictures, in a fixed order.

    Args:
        inputs: files, folders, which are searched with all below them, and glob patterns.
        output: a file for one input file, else a folder, in which the pictures keep their names and subfolders.

    Raises:
        click.UsageError: an input does not exist, there is no picture, ``output`` is a file for several pictures, or
            for one picture a file that ends in no suffix of pictures.
    """
    to = Path(output)
    found = [entry for given in inputs for entry in _find(given, to)]
    if not found:
        raise click.UsageError(f"no pictures in {', '.join(inputs)}")
    single_file = len(inputs) == 1 and Path(inputs[0]).is_file()
    if single_file and to.suffix and not to.exists() and not _is_picture(to):
        from clusir_modules.imaging.reading import IMAGE_SUFFIXES

        raise click.UsageError(f"{output} must be a folder or end in one of {', '.join(sorted(IMAGE_SUFFIXES))}")
    if not to.is_dir() and _is_picture(to):
        if not single_file:
            raise click.UsageError(f"{output} is one file, but the input may be several; give a folder")
        return [Job(found[0][0], to)]
    return [Job(source, to / name) for source, name in found]


def _find(given: str, output: Path) -> Iterator[tuple[Path, Path]]:
    """Pictures of one input, each with its name in the output folder."""
    path = Path(given)
    if path.is_file():
        yield path, Path(path.name)
    elif path.is_dir():
        for source in sorted(path.rglob("*")):
            # What an earlier run wrote below the input folder is no input.
            if _is_picture(source) and source.is_file() and not source.resolve().is_relative_to(output.resolve()):
                yield source, source.relative_to(path)
    elif glob.has_magic(given):
        root = Path(*path.parts[: next(i for i, part in enumerate(path.parts) if glob.has_magic(part))])
        for match in sorted(glob.glob(given, recursive=True)):
            if _is_picture(Path(match)) and Path(match).is_file():
                yield Path(match), Path(match).relative_to(root)
    else:
        raise click.UsageError(f"there is no file, folder or match {given}")


def _is_picture(path: Path) -> bool:
    from clusir_modules.imaging.reading import IMAGE_SUFFIXES

    return path.suffix.lower() in IMAGE_SUFFIXES
