"""ClusIR in BasicSR's registry: the class, and its sizes as functions, all with parts by name."""

from __future__ import annotations

from basicsr.utils.registry import ARCH_REGISTRY

from basicsr_plugin.archs.parts_by_name import parts_by_name
from basicsr_plugin.compat.registration import register_once
from clusir_modules.networks.clusir import ClusIR, clusir_base, clusir_small, clusir_tiny

__all__ = ["ClusIR", "clusir_base", "clusir_small", "clusir_tiny"]

for _network in (ClusIR, clusir_tiny, clusir_small, clusir_base):
    register_once(ARCH_REGISTRY, parts_by_name(_network))
