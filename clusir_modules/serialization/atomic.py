"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["remove_remains", "write_whole", "written_whole"]

_LASTING = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR}
)
"""Errors that another attempt a second later would meet again."""
_UNSYNCED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What file systems answer that cannot force a file to disk, such as shares of Windows."""
_UNSYNCED_FOLDER = _UNSYNCED | {errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR}
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp(\.\w+)?")


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a file beside ``path`` to write, with its suffix; it becomes ``path`` at the end of the block.

    Readers see the old file or the new one. If the block fails, the old one is left as it was. A new file has the
    permissions that the process gives to new files, one that replaces another has those of the old one.

    Raises:
        OSError: the bytes cannot be brought to disk, or ``path`` cannot be replaced.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        temporary.touch()
        mode = stat.S_IMODE((path if path.exists() else temporary).stat().st_mode)
        yield temporary
        with open(temporary, "r+b") as written:  # Windows forces to disk only what is open for writing
            _sync(written.fileno(), _UNSYNCED)
        temporary.chmod(mode)  # safetensors writes a file of its own, for the owner alone
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # absent, or in a folder that the error at hand is about
            temporary.unlink()


def remove_remains(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder and those in it; nobody else may be writing there."""
    for path in folder.rglob(".*.tmp*"):
        if _TEMPORARY.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def write_whole(write: Callable[[Any], object], path: str | os.PathLike[str], *, attempts: int = 3) -> None:
    """Write a file as :func:`written_whole` does, and try again a second later where that may help.

    Args:
        write: writes the content to the binary file that it is given, by its methods ``write`` and ``flush``.
        path: the file.
        attempts: how often to try. A full disk or a missing permission ends the attempts at once.

    Raises:
        OSError: the file cannot be written. The message has its name and, if the disk is full, how much was needed and
            how much is left.
    """
    path = Path(path)
    for attempt in range(1, attempts + 1):
        size = 0
        try:
            with written_whole(path) as temporary, open(temporary, "wb") as file:
                counted = _Counted(file)
                try:
                    write(counted)
                finally:
                    size = counted.size
                counted.flush()
                if counted.error is not None:
                    raise counted.error
        except Exception as error:
            number = getattr(error, "errno", None)
            if attempt == attempts or number in _LASTING:
                message = f"cannot write {path}: {_reason(error, path, size)}; what was saved before is as it was"
                raise OSError(number or errno.EIO, message) from error
            warnings.warn(f"cannot write {path}, trying again: {error}", stacklevel=2)
            time.sleep(1)
        else:
            return


class _Counted:
    """File to write to that goes on counting when the disk is full, so that the message can say what was needed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        size = memoryview(data).nbytes
        self.size += size
        self._keep(lambda: self.file.write(data))
        return size

    def flush(self) -> None:
        self._keep(self.file.flush)

    def _keep(self, act: Callable[[], object]) -> None:
        if self.error is None:
            try:
                act()
            except OSError as error:
                self.error = error


def _reason(error: Exception, path: Path, size: int) -> str:
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return str(error)
    try:
        free = f", {shutil.disk_usage(path.parent).free / 1e9:.3f} GB free"
    except OSError:
        free = ""
    return f"{os.strerror(error.errno)} ({size / 1e9:.3f} GB needed{free})"


def _sync(descriptor: int, ignored: frozenset[int]) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in ignored:
            raise


def _sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk where that can be done: not on Windows, nor on its shares."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        _sync(descriptor, _UNSYNCED_FOLDER)
    finally:
        os.close(descriptor)
