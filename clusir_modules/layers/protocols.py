"""What a network asks of its parts: how it makes each kind, and what the module is called with.

A factory is a class, a function, or a ``functools.partial`` of one. A network calls it once for each level. Any object
that can be called in the same way fits; there is no base class to inherit from.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from torch import nn

from .basic.norm import NormFactory

__all__ = [
    "BlockFactory",
    "EvidenceFactory",
    "ExpertsFactory",
    "FrequencyFactory",
    "FusionFactory",
    "GenerationFactory",
    "NormFactory",
    "RouterFactory",
    "make_part",
]


class BlockFactory(Protocol):
    """Makes a block from ``(B, dim, H, W)`` to the same shape, with its residual inside."""

    def __call__(self, dim: int, /, *, num_heads: int) -> nn.Module: ...


class EvidenceFactory(Protocol):
    """Makes what a router sees of a map: a module from ``(B, dim, H, W)`` to ``(B, dim, h, w)``.

    The output is a mean over the picture, or a map that the router averages: ``restore`` takes the mean of the outputs
    for several parts of a large picture. Parts of one size must give outputs of one size.
    """

    def __call__(self, dim: int, /) -> nn.Module: ...


class RouterFactory(Protocol):
    """Makes a router: a module from ``(B, dim, h, w)`` to a :class:`Routing`, with an attribute ``num_experts``.

    The map is in float32 even where the network is converted to a half precision, for evidence is kept in full: cast it
    to the type of your weights.
    """

    def __call__(
        self, dim: int, /, *, num_experts: int, num_clusters: int, top_k: int, embed_dim: int
    ) -> nn.Module: ...


class ExpertsFactory(Protocol):
    """Makes all experts of a level as one module, without a residual.

    It is called with a map ``(B, dim, H, W)``, and with the weights and the indices, ``(B, k)`` each, of the experts
    that every image runs; it returns their weighted sum, ``(B, dim, H, W)``.
    """

    def __call__(self, dim: int, /, *, num_experts: int, hidden_dim: int | None) -> nn.Module: ...


class FusionFactory(Protocol):
    """Makes a module from the prompt tokens of a level and of the deepest level to those that the level uses.

    Shape: ``(B, L_l, embed_dim)`` and ``(B, L_4, embed_dim)`` to ``(B, L, embed_dim)``.
    """

    def __call__(self, embed_dim: int, /, *, num_heads: int) -> nn.Module: ...


class GenerationFactory(Protocol):
    """Makes a module from prompt tokens ``(B, L, embed_dim)`` and a size ``(H, W)`` to a map ``(B, dim, H, W)``.

    A module whose attribute ``size`` is 1 makes maps that are the same everywhere, and is asked for one pixel.
    """

    def __call__(self, embed_dim: int, dim: int, /) -> nn.Module: ...


class FrequencyFactory(Protocol):
    """Makes a module from a map and a prompt map, or None, to the shape of the map, with its residual inside.

    Shape: ``(B, dim, H, W)`` and a prompt ``(B, dim, H, W)`` or ``(B, dim, 1, 1)`` to ``(B, dim, H, W)``.
    """

    def __call__(self, dim: int, /, *, num_heads: int) -> nn.Module: ...


def make_part(keyword: str, factory: Callable[..., Any], *args: Any, **settings: Any) -> nn.Module:
    """Call a factory.

    Args:
        keyword: what the network calls the part, for messages.
        factory: makes the module.
        args: given by place, such as ``dim``.
        settings: given by name, such as ``num_heads``.

    Raises:
        TypeError: the factory does not take these arguments, or it makes no module.
    """
    try:
        inspect.signature(factory).bind(*args, **settings)
    except ValueError:  # written in C, without a signature
        pass
    except TypeError as error:
        call = ", ".join([*map(str, args), *(f"{name}=..." for name in settings)])
        name = getattr(factory, "__name__", repr(factory))
        raise TypeError(
            f"{keyword} is called as {keyword}({call}), but {name} {error}. Give a function that takes these "
            "arguments and hands on what yours needs"
        ) from error
    part = factory(*args, **settings)
    if not isinstance(part, nn.Module):
        raise TypeError(f"{keyword} must make a torch.nn.Module, got {type(part).__name__}")
    return part
