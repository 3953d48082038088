"""Whether ``torch.export`` is tracing."""

from __future__ import annotations

import torch

__all__ = ["exporting"]


def exporting() -> bool:
    """Whether ``torch.export`` is tracing: what depends on a size must then be written without a branch on it."""
    return bool(getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)())  # the first from torch 2.7 on
