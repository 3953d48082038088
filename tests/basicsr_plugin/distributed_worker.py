"""Run by torchrun in test_distributed.py: a few training steps in float64; writes what it found, then rank 1 dies."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import basicsr_plugin

basicsr_plugin.register()

from basicsr.models import build_model  # noqa: E402 - after the repairs

BATCH = 4


def build(settings: dict[str, Any], folder: Path, *, rank: int, world: int) -> Any:
    folders = {name: str(folder / name) for name in ("models", "training_states", "visualization")}
    torch.manual_seed(rank)  # DistributedDataParallel hands the first one's weights round.
    network = {"type": "clusir_tiny", "dim": 8, "embed_dim": 16, "num_blocks": [1] * 4, "num_heads": [1] * 4}
    network["standardize_evidence"] = False  # its moments are those of each process's own batches
    settings = dict(settings)
    train = {
        "ema_decay": 0.9,
        "optim_g": {"type": "SGD", "lr": 0.1},
        "scheduler": {"type": "MultiStepLR", "milestones": [100]},
        "total_iter": 8,
        "losses": [{"type": "L1Loss"}, *settings.pop("losses", [])],
        **settings,
    }
    model = build_model(
        {
            "name": "run",
            "model_type": "RestorationModel",
            "scale": 1,
            "num_gpu": 0,
            "manual_seed": 3,
            "dist": world > 1,
            "rank": rank,
            "world_size": world,
            "is_train": True,
            "auto_resume": False,
            "datasets": {
                "train": {
                    "name": "t",
                    "type": "PairedImageDataset",
                    "batch_size_per_gpu": BATCH // world,
                    "num_worker_per_gpu": 0,
                }
            },
            "network_g": network,
            "path": {"pretrain_network_g": None, "strict_load_g": True, **folders},
            "train": train,
            "logger": {"save_checkpoint_freq": 8},
        }
    )
    if world > 1:
        torch.manual_seed(0)
    return model


def batch(iteration: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(iteration)
    gt = torch.rand(BATCH, 3, 16, 16, generator=generator)
    lq = gt + 0.1 * torch.randn(gt.shape, generator=generator)
    return {"lq": lq, "gt": gt, "lq_path": [f"{number}.png" for number in range(BATCH)]}


def part(data: dict[str, Any], rank: int, world: int) -> dict[str, Any]:
    return {name: value[rank::world] for name, value in data.items()}


def train(model: Any, iterations: int, rank: int, world: int, *, broken_on: int | None = None) -> None:
    for iteration in range(1, iterations + 1):
        data = part(batch(iteration), rank, world)
        model.feed_data(data)
        net = model.get_bare_model(model.net_g)
        hook = None
        if broken_on == rank and iteration == 1:
            hook = net.register_forward_hook(lambda module, inputs, output: _spoil(output))
        model.optimize_parameters(iteration)
        if hook is not None:
            hook.remove()


def _spoil(output: Any) -> Any:
    return output * float("nan") if isinstance(output, Tensor) else (output[0] * float("nan"), *output[1:])


def gradients(model: Any, iterations: int, rank: int, world: int) -> dict[str, Tensor]:
    train(model, iterations, rank, world)
    return {name: p.grad for name, p in model.get_bare_model(model.net_g).named_parameters()}


def furthest(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Greatest difference, over the greatest gradient."""
    scale = max(tensor.abs().max() for tensor in second.values())
    return float(max((first[name] - tensor).abs().max() for name, tensor in second.items()) / scale)


STATISTICS = ("load_balance", "cluster_information")
CASES = {
    "plain": ({}, 1),
    "balance": ({"losses": [{"type": name, "weight": 0.5} for name in STATISTICS]}, 1),
    "shared balance": (
        {"losses": [{"type": name, "weight": 0.5, "all_reduce": True} for name in STATISTICS]},
        1,
    ),
    "accumulated and checkpointed": ({"accum_iter": 2, "grad_checkpointing": True}, 2),
}


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    folder = Path(sys.argv[1])
    found: dict[str, Any] = {}
    for name, (settings, iterations) in CASES.items():
        model = build(settings, folder, rank=rank, world=world)
        alone = build({**settings}, folder, rank=0, world=1)
        alone.net_g.load_state_dict(model.get_bare_model(model.net_g).state_dict())
        found[name] = furthest(gradients(model, iterations, rank, world), gradients(alone, iterations, 0, 1))
        if settings.get("losses"):
            found[f"{name}, logged"] = model.log_dict["l_balance"], alone.log_dict["l_balance"]

    model = build({"optim_g": {"type": "AdamW", "lr": 1e-3}, "max_skipped_steps": 1}, folder, rank=rank, world=world)
    before = {name: tensor.clone() for name, tensor in model.get_bare_model(model.net_g).state_dict().items()}
    train(model, 1, rank, world, broken_on=1)
    after = model.get_bare_model(model.net_g).state_dict()
    found["untouched by the other's bad loss"] = all(torch.equal(after[name], value) for name, value in before.items())
    train(model, 3, rank, world)
    found["steps after that"] = not all(torch.equal(after[name], value) for name, value in before.items())
    for name, net in (("weights", model.get_bare_model(model.net_g)), ("averages", model.net_g_ema)):
        flat = torch.cat([tensor.flatten().double() for tensor in net.state_dict().values()])
        others = [torch.empty_like(flat) for _ in range(world)]
        torch.distributed.all_gather(others, flat)
        found[f"equal {name}"] = all(torch.equal(flat, other) for other in others)
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    train(model, 1000, rank, world)


main()
