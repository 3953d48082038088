"""Image quality on float images, as the all-in-one restoration papers measure it."""

from __future__ import annotations

from .psnr_ssim import psnr, ssim

__all__ = ["psnr", "ssim"]
