"""Networks registered with BasicSR."""

from __future__ import annotations

from basicsr_plugin import compat

compat.prepare()

from basicsr_plugin.archs import clusir_arch, mprnet_arch  # noqa: E402 - after the repairs

__all__ = ["clusir_arch", "mprnet_arch"]
