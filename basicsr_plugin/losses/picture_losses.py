"""The library's losses on pictures in BasicSR's registry; their weight is that of the entry in ``train.losses``."""

from __future__ import annotations

from basicsr.utils.registry import LOSS_REGISTRY

from basicsr_plugin.compat.registration import register_once
from clusir_modules.losses.edge import EdgeLoss
from clusir_modules.losses.fft import FFTLoss
from clusir_modules.losses.focal_frequency import FocalFrequencyLoss
from clusir_modules.losses.l1_ms_ssim import L1MSSSIMLoss

__all__ = ["EdgeLoss", "FFTLoss", "FocalFrequencyLoss", "L1MSSSIMLoss"]

for _loss in (EdgeLoss, FFTLoss, FocalFrequencyLoss, L1MSSSIMLoss):
    register_once(LOSS_REGISTRY, _loss)
