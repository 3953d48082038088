"""How many operators reach a kernel: on a GPU a small network costs their number, whatever they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import clusir_modules as cm
from clusir_modules.layers.frequency import spectral_gate

# What makes a view or a piece of memory and starts no kernel.
_FREE = frozenset(
    "view _unsafe_view reshape permute transpose t slice select unsqueeze squeeze expand split split_with_sizes unbind "
    "detach alias as_strided unfold empty empty_like empty_strided new_empty chunk _reshape_alias new_empty_strided "
    "lift_fresh is_same_size sym_size movedim diagonal view_as_real view_as_complex numel stride".split()
)


class CountKernels(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function.overloadpacket.__name__ not in _FREE
        return function(*args, **(kwargs or {}))


def count_forward_and_step(net: nn.Module) -> tuple[int, int]:
    """Operators of a pass and of a training step without loss and optimizer, two images of 64 pixels, bf16 autocast.

    Behind a first pass, which computes what is then remembered for a size.
    """
    x = torch.rand(2, 3, 64, 64)
    spectral_gate._BANDS.clear()  # full, it would be emptied in between
    with torch.no_grad():
        net.eval()(x)
    with torch.no_grad(), CountKernels() as forward, torch.autocast("cpu", torch.bfloat16):
        net.eval()(x)
    net.train()
    with CountKernels() as step, torch.autocast("cpu", torch.bfloat16):
        loss = net(x).float().mean()
    with step:
        loss.backward()
    return forward.count, step.count


@pytest.mark.parametrize(
    ("build", "forward", "step"), [(cm.clusir_tiny, 1000, 2500), (cm.clusir_base, 1540, 3750)], ids=["tiny", "base"]
)
def test_operators_of_a_network(build: Callable[[], nn.Module], forward: int, step: int) -> None:
    counted = count_forward_and_step(build())
    assert counted[0] <= forward
    assert counted[1] <= step
