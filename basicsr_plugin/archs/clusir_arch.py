"""ClusIR in BasicSR's registry: the class, and its sizes as functions, all with parts that option files name."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY

from basicsr_plugin.compat.registration import register_once
from clusir_modules.networks.clusir import ClusIR, clusir_base, clusir_small, clusir_tiny

__all__ = ["ClusIR", "clusir_base", "clusir_small", "clusir_tiny"]


def _with_named_parts(network: Callable[..., ClusIR]) -> Callable[..., ClusIR]:
    """The network with ``block: WTB`` or ``block: {type: WTB, wave: db2}`` in place of a factory."""

    @wraps(network)
    def build(**settings: Any) -> ClusIR:
        return network(**{**settings, **ClusIR.read_config(ClusIR.part_settings(settings))})

    return build


for _network in (ClusIR, clusir_tiny, clusir_small, clusir_base):
    register_once(ARCH_REGISTRY, _with_named_parts(_network))
