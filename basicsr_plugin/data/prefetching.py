"""Prefetching that passes errors of the loader on; its workers ignore signals to the process group.

BasicSR's thread dies of errors, and a worker that is killed may leave a lost connection.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from basicsr.data import prefetch_dataloader

from basicsr_plugin.compat.held_back import held_back

__all__ = ["PrefetchGenerator", "install"]

_ORIGINAL = prefetch_dataloader.PrefetchGenerator


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error


class PrefetchGenerator(_ORIGINAL):  # type: ignore[misc, valid-type]
    """BasicSR's generator of ``prefetch_mode: cpu``; an error while loading is raised where the batch is asked for."""

    def run(self) -> None:
        """Load in the thread."""
        try:
            for item in self.generator:
                self.queue.put(item)
        except Exception as error:
            self.queue.put(_Failure(error))
        else:
            self.queue.put(None)

    def __next__(self) -> Any:
        item = super().__next__()
        if isinstance(item, _Failure):
            raise item.error
        return item


def _naming_lost_workers(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def wrapper(*args: Any) -> Any:
        try:
            return load(*args)
        except (ConnectionError, EOFError) as error:
            raise RuntimeError(
                f"DataLoader worker exited unexpectedly: it was killed, or memory ran out ({error})"
            ) from error

    return wrapper


def _starting_workers_held_back(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def wrapper(*args: Any) -> Any:
        with held_back():
            return start(*args)

    return wrapper


_NEXT = _naming_lost_workers(prefetch_dataloader.CPUPrefetcher.next)
_PRELOAD = _naming_lost_workers(prefetch_dataloader.CUDAPrefetcher.preload)
_STARTS = [
    (prefetcher, name, _starting_workers_held_back(getattr(prefetcher, name)))
    for prefetcher in (prefetch_dataloader.CPUPrefetcher, prefetch_dataloader.CUDAPrefetcher)
    for name in ("__init__", "reset")
]


def install() -> None:
    """Let BasicSR's loaders use them."""
    prefetch_dataloader.PrefetchGenerator = PrefetchGenerator
    prefetch_dataloader.CPUPrefetcher.next = _NEXT
    prefetch_dataloader.CUDAPrefetcher.preload = _PRELOAD
    for prefetcher, name, start in _STARTS:
        setattr(prefetcher, name, start)
