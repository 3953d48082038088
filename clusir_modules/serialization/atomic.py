"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["write_whole", "written_whole"]

_LASTING = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR}
)
"""Errors that another attempt a second later would meet again."""


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
        temporary.chmod(mode)  # safetensors writes a file of its own, for the owner alone
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(write: Callable[[BinaryIO], object], path: str | os.PathLike[str], *, attempts: int = 3) -> None:
    """Write a file as :func:`written_whole` does, and try again a second later where that may help.

    Args:
        write: writes the content to the binary file that it is given.
        path: the file.
        attempts: how often to try. A full disk or a missing permission ends the attempts at once.

    Raises:
        OSError: the file cannot be written; the message has its name and, if the disk is full, the space that is left.
    """
    path = Path(path)
    for attempt in range(1, attempts + 1):
        try:
            with written_whole(path) as temporary, temporary.open("wb") as file:
                write(file)
        except Exception as error:
            number = getattr(error, "errno", None)
            if attempt == attempts or number in _LASTING:
                message = f"cannot write {path}: {_reason(error, path)}; what was saved before is as it was"
                raise OSError(number or errno.EIO, message) from error
            warnings.warn(f"cannot write {path}, trying again: {error}", stacklevel=2)
            time.sleep(1)
        else:
            return


def _reason(error: Exception, path: Path) -> str:
    if getattr(error, "errno", None) != errno.ENOSPC:
        return str(error)
    return f"{os.strerror(errno.ENOSPC)} ({shutil.disk_usage(path.parent).free / 1e9:.3f} GB free)"


def _flush(folder: Path) -> None:
    """Bring the new name to disk, where the system can: Windows cannot, nor can some network shares."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
