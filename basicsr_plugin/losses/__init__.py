"""Losses registered with BasicSR."""

from __future__ import annotations

from basicsr_plugin import compat

compat.prepare()

from basicsr_plugin.losses.edge_loss import EdgeLoss  # noqa: E402 - after the repairs
from basicsr_plugin.losses.l1_ms_ssim_loss import L1MSSSIMLoss  # noqa: E402 - after the repairs

__all__ = ["EdgeLoss", "L1MSSSIMLoss"]
