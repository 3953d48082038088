"""Adding an object to a BasicSR registry, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["register_once"]


def register_once(registry: Any, obj: Callable[..., Any]) -> None:
    """Register ``obj`` under its own name, unless it is there already.

    Args:
        registry: One of the registries of ``basicsr.utils.registry``.
        obj: Class or function to register.

    Raises:
        ValueError: Another object has the name.
    """
    name = obj.__name__
    if name not in registry:
        registry.register(obj)
        return
    held = registry.get(name)
    if (held.__module__, held.__qualname__) != (obj.__module__, obj.__qualname__):
        raise ValueError(
            f"the name {name!r} of {obj.__module__} is taken in BasicSR's registry by an object of {held.__module__}"
        )
