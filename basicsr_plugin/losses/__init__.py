"""Losses registered with BasicSR, and the sum of them that a run trains on."""

from __future__ import annotations

from basicsr_plugin import compat

compat.prepare()

from basicsr_plugin.losses.picture_losses import (  # noqa: E402 - after the repairs
    EdgeLoss,
    FFTLoss,
    FocalFrequencyLoss,
    L1MSSSIMLoss,
)
from basicsr_plugin.losses.routing_losses import ROUTING_LOSS_REGISTRY  # noqa: E402 - after the repairs

__all__ = ["ROUTING_LOSS_REGISTRY", "EdgeLoss", "FFTLoss", "FocalFrequencyLoss", "L1MSSSIMLoss"]
