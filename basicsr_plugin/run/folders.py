"""Folders of a new run: what has its name is put aside, and weights inside stay where the options find them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from basicsr_plugin.run.lock import RunLock

__all__ = ["fit_name", "make_folders", "put_aside"]

_LONGEST_NAME = 255
_NOT_MADE = ("strict_load", "pretrain_network", "resume", "param_key")
"""Parts of options in ``path`` that name no folder to make, as BasicSR's ``make_exp_dirs`` tells them apart."""


def fit_name(stem: str, ending: str) -> str:
    """File name ``stem + ending``; a stem that is too long for file systems is cut, and marked by a checksum of it."""
    room = _LONGEST_NAME - len(os.fsencode(ending))
    encoded = os.fsencode(stem)
    if len(encoded) <= room:
        return stem + ending
    mark = "~" + hashlib.blake2b(encoded, digest_size=6).hexdigest()
    cut = encoded[: room - len(mark)]
    while cut and (cut[-1] & 0xC0) == 0x80:  # not in the middle of a character
        cut = cut[:-1]
    return os.fsdecode(cut[:-1] if cut and cut[-1] >= 0xC0 else cut) + mark + ending


def put_aside(folder: str | os.PathLike[str]) -> Path | None:
    """Rename a folder that exists to ``<name>_archived_<time>``, as BasicSR does.

    Returns:
        Its new path, or None if there was no such folder.
    """
    from basicsr.utils import get_time_str

    path = Path(folder)
    if not os.path.lexists(path):
        return None
    time, number = get_time_str(), 1
    while True:
        ending = f"_archived_{time}" + (f"_{number}" if number > 1 else "")
        target = path.with_name(fit_name(path.name, ending))
        if not os.path.lexists(target):
            break
        number += 1
    os.rename(path, target)
    print(f"Path already exists. Renamed it to {target}".encode(errors="replace").decode(), flush=True)  # noqa: T201
    return target


def make_folders(opt: dict[str, Any], *, force: bool = False) -> RunLock | None:
    """Make the folders of a run; stands in for BasicSR's ``make_exp_dirs``.

    The first process does it, and the others wait. Paths in ``opt`` that lie in a folder which is put aside are changed
    to where it is then.

    Args:
        opt: Parsed options, changed in place.
        force: See :class:`RunLock`.

    Returns:
        The lock of the folder, in the first process.

    Raises:
        RuntimeError: Another run holds the folder.
    """
    lock, moved = None, [None]
    root = Path(opt["path"]["experiments_root" if opt["is_train"] else "results_root"])
    if opt.get("rank", 0) == 0:
        lock = RunLock(root, force=force)
        moved = [put_aside(root)]
        os.makedirs(root)
        for name, folder in opt["path"].items():
            if folder is not None and not any(part in name for part in _NOT_MADE):
                os.makedirs(folder, exist_ok=True)
    if opt.get("dist"):
        import torch

        torch.distributed.broadcast_object_list(moved, src=0)
    if moved[0] is not None:
        _follow(opt["path"], root, moved[0])
    return lock


def _follow(paths: dict[str, Any], old: Path, new: Path) -> None:
    for name, value in paths.items():
        if "pretrain_network" in name and value is not None:
            path = Path(os.path.abspath(value))
            if path.is_relative_to(os.path.abspath(old)):
                paths[name] = os.fspath(new / path.relative_to(os.path.abspath(old)))
