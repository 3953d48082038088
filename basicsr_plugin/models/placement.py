"""Where and how a network runs: device, layout, checkpointing, compilation, several GPUs or processes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from basicsr_plugin.models.compiling import compile_network
from basicsr_plugin.options.schema import RunOptions, TrainOptions

__all__ = ["place_network"]


def place_network(
    net: nn.Module, device: torch.device, options: RunOptions, train: TrainOptions | None, *, num_gpu: int
) -> nn.Module:
    """Move a network to the device, compile it if asked to, and wrap it for several GPUs or processes.

    Args:
        net: The network; its weights keep their names.
        device: Of this process.
        options: Of the run.
        train: Section ``train``; None in a test.
        num_gpu: GPUs of this process.

    Raises:
        ValueError: An option of ``train`` is nothing for this network.
    """
    net = net.to(device)
    if train is not None:
        if train.channels_last:
            net = net.to(memory_format=torch.channels_last)
        if train.grad_checkpointing:
            if not hasattr(net, "set_grad_checkpointing"):
                raise ValueError(f"train.grad_checkpointing: {type(net).__name__} has no set_grad_checkpointing")
            net.set_grad_checkpointing(True)
        compile_network(net, train.compile)
    if options.dist:
        devices = [torch.cuda.current_device()] if device.type == "cuda" else None
        return DistributedDataParallel(net, device_ids=devices, find_unused_parameters=options.find_unused_parameters)
    return DataParallel(net) if num_gpu > 1 else net
