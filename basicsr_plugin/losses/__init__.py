"""Losses registered with BasicSR, and the sum of them that a run trains on."""

from __future__ import annotations

from basicsr_plugin import compat

compat.prepare()

from basicsr_plugin.losses.edge_loss import EdgeLoss  # noqa: E402 - after the repairs
from basicsr_plugin.losses.frequency_losses import FFTLoss, FocalFrequencyLoss  # noqa: E402 - after the repairs
from basicsr_plugin.losses.l1_ms_ssim_loss import L1MSSSIMLoss  # noqa: E402 - after the repairs
from basicsr_plugin.losses.routing_losses import ROUTING_LOSS_REGISTRY  # noqa: E402 - after the repairs

__all__ = ["ROUTING_LOSS_REGISTRY", "EdgeLoss", "FFTLoss", "FocalFrequencyLoss", "L1MSSSIMLoss"]
