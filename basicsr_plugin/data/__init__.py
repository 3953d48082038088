"""Data sets registered with BasicSR, and the sampling that makes runs resumable."""

from __future__ import annotations

from basicsr_plugin import compat

compat.prepare()  # Spawned loader workers import this package first, to unpickle the data set.

from basicsr_plugin.data.all_in_one_dataset import AllInOneDataset  # noqa: E402 - after the repairs

__all__ = ["AllInOneDataset"]
