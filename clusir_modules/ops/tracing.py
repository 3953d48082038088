"""Whether operators are being recorded."""

from __future__ import annotations

import torch

__all__ = ["exporting", "recording"]


def exporting() -> bool:
    """Whether ``torch.export`` is tracing: what depends on a size must then be written without a branch on it."""
    return bool(getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)())  # the first from torch 2.7 on


def recording() -> bool:
    """Whether ``torch.compile``, ``torch.export`` or ``torch.jit.trace`` records operators, to take their gradient."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
