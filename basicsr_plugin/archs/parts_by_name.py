"""Networks as option files ask for them: their parts by name."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from typing import Any

from torch import nn

from clusir_modules.serialization.pretrained import Pretrained

__all__ = ["parts_by_name"]


def parts_by_name(network: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return a function that makes the same network, and takes names from ``clusir_modules.PARTS`` for its parts.

    Args:
        network: A class that inherits from ``ClusIR``, or a function whose annotation says that it returns one. It is
            the function's ``__wrapped__``.

    Example:
        >>> import clusir_modules as cm
        >>> net = parts_by_name(cm.clusir_tiny)(block={"type": "WTB", "wave": "db2"}, frequency=None)
        >>> net.config["block"], net.config["frequency"]
        ({'type': 'WTB', 'wave': 'db2'}, None)
    """
    kind: Any = network if isinstance(network, type) else typing.get_type_hints(network)["return"]
    if not issubclass(kind, Pretrained):
        raise TypeError(f"network must make a ClusIR or another network with a configuration, got {kind.__name__}")

    @functools.wraps(network)
    def make(**settings: Any) -> nn.Module:
        return network(**{**settings, **kind.read_config(kind.part_settings(settings))})

    return make
