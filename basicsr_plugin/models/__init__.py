"""Training models registered with BasicSR."""

from __future__ import annotations

from basicsr_plugin import compat

compat.prepare()

from basicsr_plugin.models.restoration_model import RestorationModel  # noqa: E402 - after the repairs

__all__ = ["RestorationModel"]
