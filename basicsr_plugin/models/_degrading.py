"""Degrading of training batches on the model's device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from clusir_modules.data import AllInOneDataset, DeviceDegrader

__all__ = ["build_degrader"]


def build_degrader(opt: Mapping[str, Any], device: torch.device) -> DeviceDegrader | None:
    """What ``datasets.train.degrade: device`` asks for, or None.

    Args:
        opt: Options of the run.
        device: The model's.

    Raises:
        ValueError: The data set is not the one that can leave its degradations to the model.
    """
    from basicsr.data import build_dataset

    section = opt["datasets"]["train"]
    if section.get("degrade") != "device":
        return None
    # The script keeps its own data set, which has verified the files if that was wanted.
    dataset = build_dataset({**section, "verify": False})
    if not isinstance(dataset, AllInOneDataset):
        raise ValueError(
            f"datasets.train: degrade: device is for the type AllInOneDataset, which makes its degraded pictures "
            f"itself, got {section['type']}"
        )
    return DeviceDegrader(dataset, device, seed=opt["manual_seed"], rank=opt["rank"])
