"""Checks of arguments and of static shapes, with one wording for every module."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

__all__ = [
    "check_choice",
    "check_feature_map",
    "check_heads",
    "check_not_empty",
    "check_number",
    "check_positive",
    "check_top_k",
]


def check_positive(name: str, value: int, least: int = 1) -> int:
    """Return ``value`` if it is an integer of at least ``least``.

    Raises:
        TypeError: ``value`` is not an integer.
        ValueError: ``value`` is below.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__} {value!r}")
    if value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}")
    return value


def check_number(name: str, value: float, least: float = -math.inf) -> float:
    """Return ``value`` if it is a finite number of at least ``least``.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: ``value`` is below, infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {value!r}")
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name} must be finite{'' if least == -math.inf else f' and >= {least}'}, got {value}")
    return value


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises:
        TypeError: it is not a string.
        ValueError: it is not.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(sorted(choices))}, got {type(value).__name__} {value!r}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(sorted(choices))}, got {value!r}")
    return value


def check_heads(dim: int, num_heads: int, name: str = "dim") -> None:
    """Refuse a head count that does not divide ``dim`` or leaves one channel a head.

    The attention matrix of a one-channel head is 1x1: its softmax is the constant 1 and the attention is dead.

    Raises:
        ValueError: ``dim % num_heads != 0`` or ``dim // num_heads < 2``.
    """
    check_positive(name, dim)
    check_positive("num_heads", num_heads)
    if dim % num_heads:
        raise ValueError(f"{name} must be divisible by num_heads, got {name}={dim} and num_heads={num_heads}")
    if dim // num_heads < 2:
        raise ValueError(
            f"num_heads must leave at least 2 channels a head (with 1 the attention is the constant 1), "
            f"got {name}={dim} and num_heads={num_heads}"
        )


def check_top_k(top_k: int, num_experts: int) -> None:
    """Refuse ``top_k`` outside ``[1, num_experts]``.

    Raises:
        ValueError: it is outside.
    """
    check_positive("num_experts", num_experts)
    check_positive("top_k", top_k)
    if top_k > num_experts:
        raise ValueError(f"top_k must be in [1, num_experts={num_experts}], got {top_k}")


def check_feature_map(x: Tensor, channels: int | None = None, name: str = "x") -> None:
    """Refuse what is no floating-point ``(B, C, H, W)`` tensor with the wanted channels and at least one pixel.

    Raises:
        TypeError: ``x`` is not a tensor, or not floating point.
        ValueError: the rank, the channel count or an empty size is wrong.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if not torch.is_floating_point(x):
        raise TypeError(f"{name} must be a floating-point tensor (images in [0, 1]), got {x.dtype}")
    if x.dim() != 4:
        raise ValueError(f"{name} must have shape (B, C, H, W), got {tuple(x.shape)}")
    if channels is not None and x.shape[1] != channels:
        raise ValueError(f"{name} must have {channels} channels, got {x.shape[1]} in shape {tuple(x.shape)}")
    if x.shape[2] < 1 or x.shape[3] < 1:
        raise ValueError(f"{name} must have at least one pixel, got shape {tuple(x.shape)}")


def check_not_empty(x: Tensor, name: str = "x") -> None:
    """Refuse a batch without images, where something is computed for each image or averaged over them.

    Raises:
        ValueError: ``x`` has no rows.
    """
    if x.shape[0] < 1:
        raise ValueError(f"{name} must hold at least one image, got shape {tuple(x.shape)}")
