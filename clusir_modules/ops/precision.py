"""Types of numbers: islands of full precision inside autocast regions, weights cast once for a block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeAlias, TypeGuard, cast

import torch
from torch import Tensor, nn

from .tracing import exporting

__all__ = [
    "autocast_unknown",
    "cast_once",
    "cast_parameters",
    "convolve",
    "eager_autocast_type",
    "full_precision",
    "linear_parameters",
    "widen",
]


def widen(x: Tensor) -> Tensor:
    """Return ``x`` as float32, or unchanged if it is that or float64 already."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()  # a cast to the same type is recorded too


_RECORDED = {"regions": True}  # no ContextVar: torch 2.8 cannot trace one


@contextmanager
def autocast_unknown() -> Iterator[None]:
    """Within it ``torch.export`` records no regions of full precision, for formats that do not know autocast.

    Each region is a program of its own in the recorded one; together they take a third of the time of an export.
    """
    before = _RECORDED["regions"]
    _RECORDED["regions"] = False
    try:
        yield
    finally:
        _RECORDED["regions"] = before


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Context in which autocast is off on the device of ``x``, for softmax gates, Fourier transforms and norms."""
    if x.device.type == "meta":  # has no autocast; torch.compile cannot ask torch for it before torch 2.15
        return nullcontext()
    if exporting() and not _RECORDED["regions"]:
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def eager_autocast_type(x: Tensor) -> torch.dtype | None:
    """Type of autocast on the device of ``x``; None where it is off, and while compiling, which casts as it likes."""
    device = x.device.type
    if torch.compiler.is_compiling() or device == "meta" or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def cast_once(x: Tensor, *blocks: nn.Module) -> AbstractContextManager[object]:
    """Context in which the weights of all convolutions in ``blocks`` are there in the type of autocast.

    Autocast casts each weight and each bias by a kernel of its own, for small networks a third of all that a GPU is
    given; here one kernel casts them all. Values and gradients are the same. Outside autocast, within such a context of
    an outer block and while compiling it does nothing.

    Args:
        x: a tensor on the device of the blocks.
        blocks: modules that convolve by :func:`convolve` or :func:`cast_parameters`.
    """
    dtype = eager_autocast_type(x)
    if dtype is None:
        return nullcontext()
    convolutions = [module for block in blocks for module in _cast_here(block) if _is_plain_convolution(module)]
    if _CAST.get().keys() >= set(convolutions):
        return nullcontext()
    return _CastOnce(convolutions, dtype)


def cast_parameters(convolution: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, those that :func:`cast_once` has cast if it has."""
    return _cast_of(convolution) or (convolution.weight, convolution.bias)


def convolve(convolution: nn.Module, x: Tensor) -> Tensor:
    """Return ``convolution(x)``, by the weights that :func:`cast_once` has cast if it has."""
    cast_ones = _cast_of(convolution)
    if cast_ones is None:
        y: Tensor = convolution(x)
        return y
    return cast(nn.Conv2d, convolution)._conv_forward(x, *cast_ones)


def linear_parameters(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of an ``nn.Linear``, of one that torch quantized dynamically in floating point again."""
    weight, bias = cast(Any, layer.weight), cast(Any, layer.bias)
    return (weight, bias) if isinstance(weight, Tensor) else (weight().dequantize(), bias())


_Parameters: TypeAlias = tuple[Tensor, Tensor | None]
_CAST: ContextVar[Mapping[nn.Module, _Parameters]] = ContextVar("_CAST", default=MappingProxyType({}))


def _cast_of(convolution: nn.Module) -> _Parameters | None:
    """What :func:`cast_once` has cast, unless autocast is off or of another type here."""
    found = None if torch.compiler.is_compiling() else _CAST.get().get(convolution)
    return found if found is not None and eager_autocast_type(found[0]) is found[0].dtype else None


class _CastOnce:
    def __init__(self, convolutions: Sequence[nn.Conv2d], dtype: torch.dtype) -> None:
        places = [(c, name) for c in convolutions for name in ("weight", "bias") if getattr(c, name) is not None]
        values: dict[tuple[nn.Conv2d, str], Tensor] = {}
        for trained in (True, False):  # apart, so that nothing computes a gradient of those that are frozen
            parameters = {place: p for place in places if (p := getattr(*place)).requires_grad is trained}
            if parameters:
                flat = torch.cat([p.flatten() for p in parameters.values()]).to(dtype)
                parts = flat.split([p.numel() for p in parameters.values()])
                values |= {place: part.view(p.shape) for (place, p), part in zip(parameters.items(), parts)}
        self._values: dict[nn.Module, _Parameters] = {
            c: (values[c, "weight"], values.get((c, "bias"))) for c in convolutions
        }

    def __enter__(self) -> None:
        self._before = _CAST.set(self._values)

    def __exit__(self, *raised: object) -> None:
        _CAST.reset(self._before)


def _cast_here(module: nn.Module) -> Iterator[nn.Module]:
    """``module`` and the modules in it, without those that see to their types themselves.

    Such are modules that are compiled by themselves, and children that a module names in ``own_types``.
    """
    yield module
    for name, child in module.named_children():
        if getattr(child, "_compiled_call_impl", None) is None and name not in getattr(module, "own_types", ()):
            yield from _cast_here(child)


def _is_plain_convolution(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether calling it is the same as convolving with its weight, which autocast would cast."""
    if not isinstance(module, nn.Conv2d) or type(module).forward is not nn.Conv2d.forward:
        return False
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    return type(module.weight) is nn.Parameter and module.weight.dtype is not torch.float64
