"""Signals that ask a training to end, kept from its helpers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["WATCHED", "held_back"]

WATCHED = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def held_back() -> Iterator[None]:
    """Keep SIGTERM and SIGINT from the processes and threads that are started inside, for good.

    Loader workers are in the group of their parent, and a signal to the group would kill them while the parent still
    needs their samples. They end with it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
