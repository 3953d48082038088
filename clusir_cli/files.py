"""Which pictures a command reads, and where it writes each of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from clusir_modules.imaging.outputs import Existing

__all__ = ["Job", "check", "existing_options", "plan"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Job(NamedTuple):
    """A picture to read and the files to write: the result, and perhaps a comparison."""

    source: Path
    target: Path
    comparison: Path | None = None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All files to write."""
        return (self.target,) if self.comparison is None else (self.target, self.comparison)


def existing_options(command: _Command) -> _Command:
    """Add ``--overwrite`` and ``--skip-existing``, as one argument ``existing``."""
    command = click.option(
        "--skip-existing",
        "existing",
        flag_value="skip",
        help="Leave files that are there, do what is missing.",
    )(command)
    return click.option(
        "--overwrite", "existing", flag_value="overwrite", help="Replace files that are there, but never an input."
    )(command)


def plan(
    inputs: Sequence[str],
    output: str,
    *,
    compare: bool = False,
    weights: str | None = None,
    existing: Existing | None = None,
) -> list[Job]:
    """List the pictures in a fixed order, and check that what they become replaces nothing; nothing is written.

    Args:
        inputs: files, folders, which are searched with all below them, and glob patterns. Hidden files count only if
            they are named themselves.
        output: a file for one input file, else a folder, in which the pictures keep their names and subfolders.
        compare: whether there is a comparison ``NAME_compare.png`` for each.
        weights: a file or a folder that must not be replaced either.
        existing: what to do about files that are there already; None refuses them.

    Raises:
        click.UsageError: an input does not exist, there is no picture, ``output`` is a file for several pictures, or
            for one picture a file that ends in no suffix of pictures.
        click.ClickException: a file would be replaced.
    """
    to = Path(output)
    found = list(dict.fromkeys(entry for given in inputs for entry in _find(given, to)))
    if not found:
        raise click.UsageError(f"no pictures in {', '.join(map(_shown, inputs))}")
    single_file = len(inputs) == 1 and Path(inputs[0]).is_file()
    if output.endswith(("/", os.sep)) or to.is_dir() or not to.suffix:
        targets = [(source, to / name) for source, name in found]
    elif single_file and not _is_picture(to):
        from clusir_modules.imaging.opening import IMAGE_SUFFIXES

        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise click.UsageError(f"{_shown(output)} must end in one of {endings}, or in a slash if it is a folder")
    elif single_file:
        targets = [(found[0][0], to)]
    elif _is_picture(to):
        raise click.UsageError(f"{_shown(output)} is one file, but the input may be several; give a folder")
    else:
        targets = [(source, to / name) for source, name in found]
    jobs = [Job(source, target, _comparison(target) if compare else None) for source, target in targets]
    check([(path, job.source) for job in jobs for path in job.outputs], weights=weights, existing=existing)
    return jobs


def check(
    outputs: Sequence[tuple[Path, Path]], *, weights: str | None = None, existing: Existing | None = None
) -> None:
    """Refuse, before anything is written, to replace an input, the weights, another output or any file unasked.

    Args:
        outputs: each file to write with the one that it is made from.
        weights: a file or a folder.
        existing: what to do about files that are there already; None refuses them.

    Raises:
        click.ClickException: a file would be replaced.
    """
    from clusir_modules.imaging.outputs import Output, check_outputs

    kept = [] if weights is None else [Path(weights)]
    kept += [path for folder in kept if folder.is_dir() for path in folder.iterdir()]
    try:
        check_outputs(
            [Output(*pair) for pair in outputs],
            inputs=dict.fromkeys(source for _, source in outputs),
            weights=kept,
            existing=existing or "error",
        )
    except FileExistsError as error:
        raise click.ClickException(f"{error}; give --overwrite or another output") from error
    except ValueError as error:
        raise click.ClickException(f"{error}; give another output") from error


def _comparison(target: Path) -> Path:
    return target.with_name(f"{target.stem}_compare.png")


def _find(given: str, output: Path) -> Iterator[tuple[Path, Path]]:
    """Pictures of one input, each with its name in the output folder."""
    path = Path(given)
    if path.is_file():
        yield path, Path(path.name)
    elif path.is_dir():
        for source in _walk(path, output):
            yield source, source.relative_to(path)
    elif glob.has_magic(given):
        root, pattern = _split(path)
        for name in sorted(glob.glob(pattern, root_dir=root, recursive=True)):
            source = root / name
            if _is_picture(source) and source.is_file() and not _is_earlier_result(source, root, output):
                yield source, Path(name)
    else:
        raise click.UsageError(f"there is no file, folder or match {_shown(given)}")


def _walk(folder: Path, output: Path) -> list[Path]:
    """Pictures below a folder; links to other folders are not followed."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(place, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if _is_picture(path) and path.is_file()]
    return sorted(path for path in found if not _is_earlier_result(path, folder, output))


def _is_earlier_result(path: Path, root: Path, output: Path) -> bool:
    """Whether a picture lies in the output folder, where that is a folder below the input."""
    real = Path(os.path.realpath(output))
    if real == Path(os.path.realpath(root)) or not real.is_relative_to(os.path.realpath(root)):
        return False
    return Path(os.path.realpath(path.parent)).is_relative_to(real)


def _split(path: Path) -> tuple[Path, str]:
    """The leading folders of a pattern, which may have its characters in their names, and the rest."""
    for count in range(len(path.parts) - 1, 0, -1):
        root = Path(*path.parts[:count])
        if root.is_dir():
            return root, os.path.join(*path.parts[count:])
    return Path(), str(path)


def _is_picture(path: Path) -> bool:
    from clusir_modules.imaging.opening import IMAGE_SUFFIXES

    return path.suffix.lower() in IMAGE_SUFFIXES


def _shown(path: str) -> str:
    from clusir_modules.imaging.outputs import shown

    return shown(path)
