"""Run by torchrun in test_sharding.py: gradients of DDP and FSDP2 beside those of one process, in float64."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import clusir_modules as cm

IMAGES = 4
SMALL = {"dim": 8, "embed_dim": 16, "num_blocks": [1] * 4, "num_heads": [1] * 4}


def loss(net: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """L1 and the balance over all processes' images."""
    restored, routings = net(images, return_routing=True)
    return (restored - targets).abs().mean() + 0.1 * cm.load_balance_loss(routings, all_reduce=True)


def shard(net: nn.Module) -> nn.Module:
    """FSDP2 around every transformer block, every router, which the network calls by itself, and every mixture."""
    options = {"mesh": init_device_mesh("cpu", (dist.get_world_size(),)), "ignored_params": set(scalars(net))}
    for module in reversed(list(net.modules())):  # parts before wholes
        if isinstance(module, cm.WTB | cm.PCGRM | cm.ClusterMoE):
            fully_shard(module, **options)
    return fully_shard(net, **options)


def scalars(net: nn.Module) -> list[nn.Parameter]:
    """Parameters that FSDP2 cannot shard: the temperatures of the routers."""
    return [parameter for parameter in net.parameters() if parameter.ndim == 0]


def gradients(net: nn.Module) -> dict[str, Tensor]:
    """Whole gradients by the names of the bare network."""
    return {
        name.removeprefix("module."): p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad
        for name, p in net.named_parameters()
    }


def furthest(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Greatest difference, over the greatest gradient."""
    assert found.keys() == expected.keys()
    scale = max(float(tensor.abs().max()) for tensor in expected.values())
    return max(float((found[name] - tensor).abs().max()) for name, tensor in expected.items()) / scale


def main() -> None:
    """Compare and write what was found."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(IMAGES, 3, 32, 32, generator=generator)
    targets = torch.rand(IMAGES, 3, 32, 32, generator=generator)
    torch.manual_seed(0)
    net = cm.clusir_tiny(**SMALL)
    alone = deepcopy(net)
    loss(alone, images, targets).backward()  # before there is a process group: of all images

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    found: dict[str, float] = {}
    wrappings: dict[str, Callable[[nn.Module], nn.Module]] = {"DDP": DistributedDataParallel, "FSDP2": shard}
    for name, wrap in wrappings.items():
        wrapped = wrap(deepcopy(net))
        loss(wrapped, images[rank::world], targets[rank::world]).backward()
        for parameter in scalars(wrapped) if name == "FSDP2" else ():
            dist.all_reduce(parameter.grad)
            parameter.grad /= world
        found[name] = furthest(gradients(wrapped), gradients(alone))
    (Path(sys.argv[1]) / f"rank{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


main()
