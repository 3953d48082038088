"""One run, one owner: a lock on a run's folder that the system takes from a process that dies."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import time
import warnings
from pathlib import Path
from typing import Any

__all__ = ["RunLock"]

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY})
"""What file systems answer that know no locks."""
_HELD: dict[str, int] = {}
"""Descriptors by file: closing any descriptor of a file gives up this process's locks on it."""


class RunLock:
    """Lock of a run's folder, beside it, since the folder itself is renamed when the name is used again.

    It is a POSIX record lock, which ends with its process, is not handed on to loader workers, and works over NFS.
    Where the file system has none, the process that the file names is looked for on this machine.

    Args:
        folder: Folder of the run; it need not exist.
        force: Go on although another run holds it.

    Raises:
        RuntimeError: Another run holds it; the message says which.
    """

    def __init__(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        self.paths = {_lock_path(Path(os.path.abspath(folder))), _lock_path(Path(os.path.realpath(folder)))}
        for path in sorted(self.paths):
            self._take(path, Path(folder), force)

    def _take(self, path: Path, folder: Path, force: bool) -> None:
        if os.fspath(path) in _HELD:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        owner = _read(descriptor)
        try:
            _lock(descriptor)
        except OSError as error:
            taken = error.errno in (errno.EACCES, errno.EAGAIN) or (error.errno in _NO_LOCKS and _lives(owner))
            if not taken and error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            if taken and not force:
                os.close(descriptor)
                raise RuntimeError(
                    f"the run in {folder} is under way{_describe(owner)}: two would overwrite each other's files. Give "
                    "this one another name, end the other one, or take the folder from it with --force"
                ) from error
            warnings.warn(
                f"the run in {folder} is taken from its owner{_describe(owner)}"
                if taken
                else f"the file system of {folder} has no locks: only runs of this machine are noticed",
                stacklevel=4,
            )
        content = json.dumps({"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "since": time.ctime()})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content.encode(), 0)
        _HELD[os.fspath(path)] = descriptor

    def release(self) -> None:
        """Give it up before the process ends."""
        for path in self.paths:
            descriptor = _HELD.pop(os.fspath(path), None)
            if descriptor is not None:
                os.ftruncate(descriptor, 0)
                os.close(descriptor)


def _lock_path(folder: Path) -> Path:
    name = f".{folder.name}.lock"
    if len(os.fsencode(name)) > 255:
        name = f".{hashlib.blake2b(os.fsencode(folder.name), digest_size=16).hexdigest()}.lock"
    return folder.with_name(name)


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError(errno.ENOSYS, "no record locks") from error
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read(descriptor: int) -> dict[str, Any]:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _lives(owner: dict[str, Any]) -> bool:
    """Whether a process of this machine, since its last start, has the number of the owner."""
    if owner.get("host") != socket.gethostname() or owner.get("boot") != _boot() or owner.get("pid") == os.getpid():
        return False
    try:
        os.kill(int(owner["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return False
    return True


def _describe(owner: dict[str, Any]) -> str:
    if not {"pid", "host", "since"} <= owner.keys():
        return ""
    return f" (process {owner['pid']} on {owner['host']}, since {owner['since']})"
