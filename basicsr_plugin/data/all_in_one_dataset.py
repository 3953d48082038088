"""The all-in-one data set in BasicSR's registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import DATASET_REGISTRY

from basicsr_plugin.registration import register_once
from clusir_modules.data import all_in_one

__all__ = ["OPTION_KEYS", "AllInOneDataset"]

_DATA_KEYS = frozenset(
    "tasks gt_size use_hflip use_rot center_crop seed manual_seed verify max_pixels degrade cache".split()
)
_LOADER_KEYS = frozenset(
    "name type phase scale io_backend use_shuffle batch_size_per_gpu num_worker_per_gpu dataset_enlarge_ratio "
    "prefetch_mode num_prefetch_queue pin_memory persistent_workers mini_batch_sizes iters gt_sizes".split()
)
_PATCH_KEYS = ("gt_size", "use_hflip", "use_rot", "degrade", "cache")
OPTION_KEYS = _DATA_KEYS | _LOADER_KEYS
"""Options of a section ``datasets.*`` with this data set; those of the loader and the model are read elsewhere."""


class AllInOneDataset(all_in_one.AllInOneDataset):
    """``clusir_modules.data.AllInOneDataset`` made from a section of an option file.

    Read are ``tasks`` (a list of mappings, see ``clusir_modules.data.Task``), ``gt_size`` (side of the patches, needed
    in the phase ``train``), ``use_hflip`` and ``use_rot`` (augmentation of patches as BasicSR's, both true by default),
    ``center_crop``, ``verify`` and ``seed``: by default ``manual_seed`` in training if it is in the section, else 0, so
    that test data with synthetic degradations are the same in every run. In the phase ``train``, ``degrade: device``
    leaves degrading to the model, batch by batch on its device, and ``cache: device`` cutting the patches, too.

    Args:
        opt: The section, with ``phase`` as BasicSR's ``parse_options`` adds it.

    Raises:
        ValueError: A section lacks what its phase needs, has options of the other phase, asks for another scale than
            1, or its tasks are at fault.
        FileNotFoundError: A folder or file of a task is missing.
    """

    option_keys = OPTION_KEYS

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = dict(opt)
        section = f"datasets.{opt['phase']} {opt.get('name', '')!r}"
        if "tasks" not in opt:
            raise ValueError(f"{section} must have a list of tasks, got the options {sorted(opt)}")
        if opt.get("scale", 1) != 1:
            raise ValueError(
                f"{section}: images and ground truth have one size, so scale must be 1, got {opt['scale']}"
            )
        training = opt["phase"] == "train"
        if training and opt.get("gt_size") is None:
            raise ValueError(f"{section} must have gt_size, the side of the training patches in pixels")
        if not training:
            needless = [key for key in _PATCH_KEYS if opt.get(key)]
            if needless:
                raise ValueError(f"{section} takes whole images, so it must not have {', '.join(needless)}")
        super().__init__(
            opt["tasks"],
            patch_size=opt["gt_size"] if training else None,
            seed=opt.get("seed", opt.get("manual_seed", 0) if training else 0),
            augment=_augmentation(opt.get("use_hflip", True), opt.get("use_rot", True)),
            center_crop=opt.get("center_crop"),
            verify=opt.get("verify", False),
            max_pixels=opt.get("max_pixels"),
            degrade=opt.get("degrade") or "loader",
            cache=opt.get("cache"),
        )


def _augmentation(hflip: bool, rot: bool) -> all_in_one.Augmentation:
    """BasicSR's two switches: left-right mirroring, and up-down mirroring with transposition."""
    if hflip and rot:
        return True
    return "flip" if hflip else "rotate" if rot else False


register_once(DATASET_REGISTRY, AllInOneDataset)
