"""MPRNet in BasicSR's registry: the class, and its published sizes as functions."""

from __future__ import annotations

from basicsr.utils.registry import ARCH_REGISTRY

from basicsr_plugin.compat.registration import register_once
from clusir_modules.networks.mprnet import MPRNet, mprnet_deblurring, mprnet_denoising, mprnet_deraining

__all__ = ["MPRNet", "mprnet_deblurring", "mprnet_denoising", "mprnet_deraining"]

for _network in (MPRNet, mprnet_deraining, mprnet_denoising, mprnet_deblurring):
    register_once(ARCH_REGISTRY, _network)
