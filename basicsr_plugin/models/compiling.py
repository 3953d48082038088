"""Compilation of a network, whole or block by block."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

import clusir_modules as cm

__all__ = ["compile_network"]

_BLOCKS = (cm.WTB, cm.ClusterMoE, cm.DAFMM)
# torch 2.8 to 2.14 cannot compile the gradient of a view of four dimensions for a second size of picture with it
_OPTIONS = None if torch.__version__ >= (2, 15) else {"layout_optimization": False}
_MOST_VARIANTS = 64  # of a block: channels times patch sizes; torch's own limit is 8


def compile_network(net: nn.Module, what: bool | Literal["blocks"]) -> None:
    """Compile a network in place.

    Args:
        net: the network; the names of its weights stay.
        what: True for one program, "blocks" for one of each kind of block and number of channels: equal blocks share
            theirs, so that there is less to compile. False does nothing.

    Raises:
        ValueError: "blocks" for a network without a block of this library.
    """
    if what != "blocks":
        if what:
            net.compile(options=_OPTIONS)
        return
    blocks = [module for module in net.modules() if isinstance(module, _BLOCKS)]
    if not blocks:
        names = ", ".join(kind.__name__ for kind in _BLOCKS)
        raise ValueError(f"train.compile: blocks: {type(net).__name__} has no {names}; true compiles it whole")
    config = torch._dynamo.config
    # the name up to torch 2.6, which later ones know too
    config.cache_size_limit = max(config.cache_size_limit, _MOST_VARIANTS)
    for block in blocks:
        block.compile(dynamic=False)
