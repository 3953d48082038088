"""Small networks and numbers that several test files use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import clusir_modules as cm


def smallest_clusir(**overrides: Any) -> cm.ClusIR:
    """ClusIR with every branch and as few channels as the heads allow; about 0.1 M parameters."""
    settings: dict[str, Any] = {
        "dim": 4,
        "num_blocks": (1, 1, 1, 1),
        "num_decoder_blocks": (1, 1, 1),
        "num_refinement_blocks": 1,
        "num_heads": (1, 1, 1, 1),
        "num_experts": 3,
        "num_clusters": (5, 4, 3, 2),
        "embed_dim": 8,
        "num_prompt_heads": 2,
    }
    return cm.ClusIR(**{**settings, **overrides})


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    difference = (actual.double() - expected.double()).norm()
    return float(difference / expected.double().norm().clamp_min(torch.finfo(torch.float64).tiny))
