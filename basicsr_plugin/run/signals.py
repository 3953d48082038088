"""Ending in good order when SIGTERM or SIGINT asks for it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from basicsr_plugin.compat.held_back import WATCHED

__all__ = ["Signals"]

_ECHO = 0.5
"""Seconds in which a second signal counts as the first: ``timeout`` sends to the process and again to its group."""
_TORCHRUN_ECHO = 5.0
"""The same under torchrun, which hands on what the whole group got (this project's choice)."""


class Signals:
    """Notices the first SIGTERM or SIGINT; one more ends the process at once.

    While :attr:`interrupts` is true the first one raises ``SystemExit`` right where the program is.

    Attributes:
        asked: Number of the signal that came, 0 before.
        interrupts: Whether there is nothing to save where the program is.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.interrupts = False
        self._came_at = 0.0
        self._before: dict[int, object] = {}

    def watch(self) -> None:
        """Begin; does nothing outside the main thread, where Python allows no signal handlers."""
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {number: signal.signal(number, self._notice) for number in WATCHED}

    def forget(self) -> None:
        """Let signals act as they did before."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]
        self._before = {}

    def _notice(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked:
            echo = _TORCHRUN_ECHO if "TORCHELASTIC_RUN_ID" in os.environ else _ECHO
            if now - self._came_at > echo:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self.asked, self._came_at = number, now
        if self.interrupts:
            raise SystemExit(128 + number)

    @contextmanager
    def interrupting(self, enabled: bool = True) -> Iterator[None]:
        """Let a signal end a block at once: one that waits, or before which nothing is worth saving.

        Args:
            enabled: Whether to.

        Raises:
            SystemExit: A signal comes, or has come before.
        """
        before, self.interrupts = self.interrupts, enabled
        try:
            if enabled and self.asked:
                raise SystemExit(128 + self.asked)
            yield
        finally:
            self.interrupts = before
