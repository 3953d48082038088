"""Description of one restoration task and the image files it consists of."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, TypeAlias

from .degradations import Degradation, build_degradation
from .pairing import FolderIndex, find_partner, list_images, pairing_rule

__all__ = ["Sample", "Task"]

_MOST_REPEATS = 1e9
_MOST_SHOWN = 20

Roots: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Sample(NamedTuple):
    """Files of one sample; the degraded image is made from ``gt`` where ``lq`` is None."""

    lq: Path | None
    gt: Path | None


@dataclass(frozen=True)
class Task:
    """One task of an all-in-one data set: pairs of files, or clean files and a degradation, or degraded files only.

    Args:
        name: name of the task; several tasks may share one, and are then one class.
        dataroot_gt: folder or folders of clean images.
        dataroot_lq: folder or folders of degraded images. With as many clean folders as degraded ones they belong
            together in their order; with one clean folder it serves all.
        degradation: what makes a degraded image from a clean one: a :class:`Degradation`, or what
            :func:`build_degradation` takes.
        repeat: how often an epoch shows each image. With a fraction, the images that get one more turn change from
            epoch to epoch, until all had it.
        pairing: rule for the name of the clean image, see :func:`pairing_rule`.
        file_list: text file with one image a line, relative to ``dataroot_lq`` (or to ``dataroot_gt`` where images are
            degraded here), to use instead of all images of the folders. Clean partners are looked for in the same
            subfolder of ``dataroot_gt`` first, then in ``dataroot_gt`` itself.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range, or the combination of folders and degradation is none of the three.
    """

    name: str
    dataroot_gt: Roots | None = None
    dataroot_lq: Roots | None = None
    _: KW_ONLY
    degradation: Degradation | Mapping[str, Any] | Sequence[Any] | str | None = None
    repeat: float = 1
    pairing: str = "same_name"
    file_list: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        """Check the arguments and build the degradation."""
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"name must be a non-empty string, got {self.name!r}")
        if isinstance(self.repeat, bool) or not isinstance(self.repeat, int | float):
            raise TypeError(f"repeat of task {self.name!r} must be a number, got {self.repeat!r}")
        if not 0 < self.repeat <= _MOST_REPEATS:
            raise ValueError(
                f"repeat of task {self.name!r} must be above 0 and <= {_MOST_REPEATS:g}, got {self.repeat!r}"
            )
        pairing_rule(self.pairing)
        if self.degradation is not None:
            object.__setattr__(self, "degradation", build_degradation(self.degradation))
        for argument in ("dataroot_gt", "dataroot_lq"):
            if getattr(self, argument) in ([], ()):
                raise ValueError(f"{argument} of task {self.name!r} must name at least one folder, got none")
        has_gt, has_lq = self.dataroot_gt is not None, self.dataroot_lq is not None
        if (has_gt, has_lq, self.degradation is not None) not in (
            (True, True, False),
            (True, False, True),
            (False, True, False),
        ):
            raise ValueError(
                f"task {self.name!r} needs dataroot_lq and dataroot_gt (pairs), or dataroot_gt and degradation "
                f"(synthetic), or dataroot_lq alone (no ground truth); got "
                f"{[k for k in ('dataroot_gt', 'dataroot_lq', 'degradation') if getattr(self, k) is not None]}"
            )

    @classmethod
    def from_config(cls, config: Task | Mapping[str, Any]) -> Task:
        """Make a task from a mapping of its arguments, as an option file has it.

        Raises:
            TypeError: ``config`` is neither a mapping nor a task, or lacks the name.
            ValueError: an unknown argument; the message names the nearest known one.
        """
        if isinstance(config, Task):
            return config
        if not isinstance(config, Mapping):
            raise TypeError(f"a task must be a mapping or a Task, got {config!r}")
        accepted = [field.name for field in dataclasses.fields(cls)]
        for key in config:
            if key not in accepted:
                close = difflib.get_close_matches(str(key), accepted, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ";"
                raise ValueError(
                    f"task {config.get('name')!r} has no argument {key!r}{hint} accepted: {', '.join(accepted)}"
                )
        if "name" not in config:
            raise TypeError(f"a task must have a name, got {dict(config)!r}")
        return cls(**config)

    def list_samples(self) -> list[Sample]:
        """Find all files of the task, in a fixed order.

        Raises:
            FileNotFoundError: a folder, the file list, a listed file or clean partners are missing; the message names
                all degraded pictures without one (the first 20).
            ValueError: there is no image, a list entry leads out of its folder, the numbers of folders do not fit, or
                a partner is ambiguous.
        """
        gt_folders = self._folders("dataroot_gt")
        lq_folders = self._folders("dataroot_lq")
        sources = lq_folders or gt_folders
        files = [entry for folder in sources for entry in _listing(folder)]
        if self.file_list is not None:
            files = self._listed(sources)
        if not files:
            raise ValueError(f"task {self.name!r} has no images in {', '.join(str(folder) for folder in sources)}")
        if not lq_folders:
            return [Sample(None, file.path) for file in files]
        if not gt_folders:
            return [Sample(file.path, None) for file in files]
        if len(gt_folders) not in (1, len(lq_folders)):
            raise ValueError(
                f"task {self.name!r} must have one dataroot_gt or as many as dataroot_lq, "
                f"got {len(gt_folders)} and {len(lq_folders)}"
            )
        partner_of = dict(zip(lq_folders, gt_folders * (len(lq_folders) if len(gt_folders) == 1 else 1)))
        rule, index = pairing_rule(self.pairing), FolderIndex()
        samples: list[Sample] = []
        missing: list[FileNotFoundError] = []
        for file in files:
            root = partner_of[file.root]
            folders = [root / file.path.parent.relative_to(file.root), root]
            try:
                samples.append(Sample(file.path, find_partner(file.path, folders, rule, index)))
            except FileNotFoundError as error:
                missing.append(error)
        if missing:
            more = [f"... and {len(missing) - _MOST_SHOWN} more"] if len(missing) > _MOST_SHOWN else []
            lines = "\n  ".join([*map(str, missing[:_MOST_SHOWN]), *more])
            raise FileNotFoundError(f"{len(missing)} of {len(files)} pictures of task {self.name!r}:\n  {lines}")
        return samples

    def _folders(self, argument: str) -> list[Path]:
        given = getattr(self, argument)
        if given is None:
            return []
        roots = [given] if isinstance(given, str | os.PathLike) else list(given)
        folders = [Path(root).expanduser() for root in roots]
        for folder in folders:
            if not folder.is_dir():
                raise FileNotFoundError(f"{argument} of task {self.name!r} is no folder: '{folder}'")
        return folders

    def _listed(self, folders: Sequence[Path]) -> list[_File]:
        list_path = Path(os.fspath(self.file_list or "")).expanduser()
        if not list_path.is_file():
            raise FileNotFoundError(f"file_list of task {self.name!r} does not exist: '{list_path}'")
        files = []
        for line in list_path.read_text(encoding="utf-8").splitlines():
            entry = line.strip()
            if not entry:
                continue
            if _escapes(entry):
                raise ValueError(f"'{list_path}' has an entry that leads out of its folder: {entry!r}")
            found = next((folder for folder in folders if (folder / entry).is_file()), None)
            if found is None:
                places = " or ".join(f"'{folder}'" for folder in folders)
                raise FileNotFoundError(f"'{list_path}' lists {entry!r}, which is not in {places}")
            files.append(_File(found, found / entry))
        return files


class _File(NamedTuple):
    """An image and the folder of the task it was found under."""

    root: Path
    path: Path


def _listing(folder: Path) -> list[_File]:
    return [_File(folder, path) for path in list_images(folder)]


def _escapes(entry: str) -> bool:
    """Whether a relative path is none, on POSIX or on Windows, or goes up, also as name of a folder ("...png")."""
    return any(
        path.is_absolute() or bool(path.drive) or ".." in path.parts or path.stem == ".."
        for path in (PurePosixPath(entry), PureWindowsPath(entry))
    )
