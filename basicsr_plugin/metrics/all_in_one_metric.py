"""PSNR and SSIM of the all-in-one papers in BasicSR's registry: float RGB, unrounded, no border left out.

The attribute ``float_rgb`` tells ``RestorationModel`` to hand over such images instead of 8-bit BGR.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from basicsr.utils.registry import METRIC_REGISTRY

from basicsr_plugin.compat.registration import register_once
from clusir_modules.metrics import psnr, ssim

__all__ = ["calculate_psnr_all_in_one", "calculate_ssim_all_in_one"]

Picture = npt.NDArray[np.floating[Any]]


def calculate_psnr_all_in_one(img: Picture, img2: Picture, *, better: str = "higher") -> float:
    """PSNR in dB; see ``clusir_modules.metrics.psnr``.

    Args:
        img: Result, shape (H, W, C), RGB in [0, 1].
        img2: Ground truth, likewise.
        better: Not used: BasicSR hands every metric the option by which it compares results.
    """
    return psnr(img, img2)


def calculate_ssim_all_in_one(
    img: Picture,
    img2: Picture,
    *,
    window: Literal["uniform", "gaussian"] = "uniform",
    better: str = "higher",
) -> float:
    """SSIM; see ``clusir_modules.metrics.ssim``.

    Args:
        img: Result, shape (H, W, C), RGB in [0, 1].
        img2: Ground truth, likewise.
        window: ``"uniform"`` (7x7, PromptIR and AdaIR) or ``"gaussian"`` (MoCE-IR).
        better: Not used: BasicSR hands every metric the option by which it compares results.
    """
    return ssim(img, img2, window=window)


for _metric in (calculate_psnr_all_in_one, calculate_ssim_all_in_one):
    _metric.float_rgb = True  # type: ignore[attr-defined]
    register_once(METRIC_REGISTRY, _metric)
