"""Losses on spectra in BasicSR's registry; their weight is that of the entry in ``train.losses``."""

from __future__ import annotations

from basicsr.utils.registry import LOSS_REGISTRY

from basicsr_plugin.compat.registration import register_once
from clusir_modules.losses.fft import FFTLoss
from clusir_modules.losses.focal_frequency import FocalFrequencyLoss

__all__ = ["FFTLoss", "FocalFrequencyLoss"]

for _loss in (FFTLoss, FocalFrequencyLoss):
    register_once(LOSS_REGISTRY, _loss)
