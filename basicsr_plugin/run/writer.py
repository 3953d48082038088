"""A TensorBoard writer that survives a full disk."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

__all__ = ["ForgivingWriter"]


class ForgivingWriter:
    """Passes calls on to a writer, until it fails for the disk's sake; then the log says so, and nothing is written.

    Args:
        make: Makes the writer, TensorBoard's ``SummaryWriter``. It cannot write to folders whose names are no text.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._writer = self._try(make)

    def _try(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except (OSError, UnicodeError) as error:
            self._writer = None
            logging.getLogger("basicsr").error(f"TensorBoard's file cannot be written: {error}; the run goes on")
            return None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._writer is None:
            return lambda *args, **kwargs: None
        method = getattr(self._writer, name)

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._try(lambda: method(*args, **kwargs))

        return call
