"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["written_whole"]


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a file beside ``path`` to write, with its suffix; it becomes ``path`` at the end of the block.

    Readers see the old file or the new one. If the block fails, the old one is left as it was.

    Raises:
        OSError: the bytes cannot be brought to disk, or ``path`` cannot be replaced.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
