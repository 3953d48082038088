"""ClusIR in BasicSR's registry: the class, and its sizes as functions."""

from __future__ import annotations

from basicsr.utils.registry import ARCH_REGISTRY

from basicsr_plugin.compat.registration import register_once
from clusir_modules.networks.clusir import ClusIR, clusir_base, clusir_small, clusir_tiny

__all__ = ["ClusIR", "clusir_base", "clusir_small", "clusir_tiny"]

for _network in (ClusIR, clusir_tiny, clusir_small, clusir_base):
    register_once(ARCH_REGISTRY, _network)
