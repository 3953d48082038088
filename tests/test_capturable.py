"""No operator of a training step makes the host wait for a GPU: each could be recorded in a CUDA graph."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest
import torch
from factories import smallest_clusir
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import clusir_modules as cm

WAITING = {
    "_local_scalar_dense": "a number on the host",
    "lift_fresh": "a copy from the host",
    "nonzero": "shapes that depend on values",
    "masked_select": "shapes that depend on values",
    "_unique2": "shapes that depend on values",
    "equal": "a comparison for the host",
}
"""Operators for which the host waits, found on the CPU, where they run too."""


class Waits(TorchDispatchMode):
    """Notes where such operators are called."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith("index") and any(isinstance(i, Tensor) and i.dtype is torch.bool for i in args[1]):
            name = "nonzero"
        if name in WAITING:
            self.found.append(f"{name}: {WAITING[name]}\n" + "".join(traceback.format_stack(limit=12)[:-1]))
        return func(*args, **(kwargs or {}))


CRITERIA = {
    "L1 + MS-SSIM": cm.L1MSSSIMLoss(knee=0.02),
    "Charbonnier": cm.CharbonnierLoss(),
    "edge": cm.EdgeLoss(),
}


def loss_of_clusir(net: nn.Module, x: Tensor, target: Tensor, criterion: nn.Module) -> Tensor:
    output, routings = net(x, return_routing=True)
    regularizers = cm.load_balance_loss(routings) + cm.orthogonality_loss(net) + cm.cluster_information_loss(routings)
    return criterion(output, target) + regularizers


def loss_of_stages(net: nn.Module, x: Tensor, target: Tensor, criterion: nn.Module) -> Tensor:
    return torch.stack([criterion(stage, target) for stage in net(x)]).sum()


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(
    ("build", "loss"),
    [
        (smallest_clusir, loss_of_clusir),
        (lambda: smallest_clusir(wave="db2"), loss_of_clusir),
        (lambda: smallest_clusir(supervised_stages=2), loss_of_stages),
        (lambda: cm.MPRNet(8, unet_step=4, orsnet_step=4, num_cabs=1), loss_of_stages),
    ],
    ids=["ClusIR", "ClusIR db2", "ClusIR two stages", "MPRNet"],
)
def test_a_training_step_never_waits(
    build: Callable[[], nn.Module], loss: Callable[..., Tensor], criterion: str
) -> None:
    net, x = build(), torch.rand(2, 3, 32, 32)
    with Waits() as waits, torch.autocast("cpu", torch.bfloat16):
        value = loss(net, x, torch.rand_like(x), CRITERIA[criterion])
    with waits:
        value.backward()
    assert not waits.found, waits.found[0]


@pytest.mark.parametrize(
    "wait",
    [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x + torch.tensor([1.0]), lambda x: bool(x.sum() > 0)],
)
def test_what_waits_is_found(wait: Callable[[Tensor], Any]) -> None:
    with Waits() as waits:
        wait(torch.rand(3))
    assert waits.found
