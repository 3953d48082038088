"""The all-in-one data set in BasicSR's registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from basicsr.utils.registry import DATASET_REGISTRY
from msgspec import Meta

from basicsr_plugin.compat.registration import register_once
from basicsr_plugin.options.schema import DatasetOptions
from basicsr_plugin.options.values import read_section
from clusir_modules.data import Task, all_in_one

__all__ = ["AllInOneDataset", "AllInOneOptions"]


_PATCH_KEYS = ("gt_size", "use_hflip", "use_rot", "degrade", "cache")
"""Options of training patches."""


class AllInOneOptions(DatasetOptions, kw_only=True):
    """Section ``datasets.*`` of an :class:`AllInOneDataset`."""

    tasks: list[dict[str, Any]]
    center_crop: Annotated[int, Meta(ge=1)] | None = None
    seed: Annotated[int, Meta(ge=0)] | None = None
    manual_seed: Annotated[int, Meta(ge=0)] | None = None
    verify: bool = False
    max_pixels: Annotated[int, Meta(ge=1)] | None = None
    degrade: Literal["loader", "device"] | None = None
    cache: Literal["device"] | None = None

    def __post_init__(self) -> None:
        """Check the tasks, and the options of the phase."""
        if not self.tasks:
            raise ValueError("tasks must hold at least one task, got none")
        for task in self.tasks:
            Task.from_config(task)
        _check_phase(self, f"datasets.{self.phase} {self.name!r}")


def _check_phase(options: AllInOneOptions, section: str) -> None:
    if options.scale != 1:
        raise ValueError(f"{section}: images and ground truth have one size, so scale must be 1, got {options.scale}")
    if options.cache == "device" and options.degrade != "device":
        raise ValueError(f"{section}: cache='device' needs degrade='device', got {options.degrade!r}")
    if options.phase == "train" and options.gt_size is None:
        raise ValueError(f"{section} must have gt_size, the side of the training patches in pixels")
    needless = [key for key in _PATCH_KEYS if getattr(options, key)]
    if options.phase != "train" and needless:
        raise ValueError(f"{section} takes whole images, so it must not have {', '.join(needless)}")


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
            1, or its tasks are wrong.
        FileNotFoundError: A folder or file of a task is missing.
    """

    options = AllInOneOptions

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = dict(opt)
        training = opt["phase"] == "train"
        section = f"datasets.{opt['phase']} {opt.get('name', '')!r}"
        if "tasks" not in opt:
            raise ValueError(f"{section} must have a list of tasks, got the options {sorted(opt)}")
        options = read_section(section, opt, AllInOneOptions)
        seed = options.seed if options.seed is not None else (options.manual_seed or 0) if training else 0
        super().__init__(
            opt["tasks"],
            patch_size=options.gt_size if training else None,
            seed=seed,
            augment=_augmentation(opt.get("use_hflip", True), opt.get("use_rot", True)),
            center_crop=options.center_crop,
            verify=options.verify,
            max_pixels=options.max_pixels,
            degrade=options.degrade or "loader",
            cache=options.cache,
        )

    @property
    def paths(self) -> list[dict[str, str]]:
        """Files of each sample of epoch 0, as BasicSR's data sets list them; ``lq_path`` is what samples say."""
        found = []
        for samples, length in zip(self._samples, self._lengths, strict=True):
            for lq, gt in (samples[place % len(samples)] for place in range(length)):
                named = {"lq_path": lq or gt, "gt_path": gt}
                found.append({key: str(path) for key, path in named.items() if path is not None})
        return found


def _augmentation(hflip: bool, rot: bool) -> all_in_one.Augmentation:
    """BasicSR's two switches: left-right mirroring, and up-down mirroring with transposition."""
    if hflip and rot:
        return True
    return "flip" if hflip else "rotate" if rot else False


register_once(DATASET_REGISTRY, AllInOneDataset)
