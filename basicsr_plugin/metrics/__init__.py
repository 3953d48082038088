"""Metrics registered with BasicSR."""

from __future__ import annotations

from basicsr_plugin import compat

compat.prepare()

from basicsr_plugin.metrics.all_in_one_metric import (  # noqa: E402 - after the repairs
    calculate_psnr_all_in_one,
    calculate_ssim_all_in_one,
)
from basicsr_plugin.metrics.perceptual_metrics import (  # noqa: E402 - after the repairs
    calculate_pyiqa,
    calculate_pyiqa_no_reference,
)

__all__ = [
    "calculate_psnr_all_in_one",
    "calculate_pyiqa",
    "calculate_pyiqa_no_reference",
    "calculate_ssim_all_in_one",
]
