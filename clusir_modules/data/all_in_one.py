"""Data set of several restoration tasks, reproducible sample by sample."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..imaging.reading import Pixels, decode_image, to_tensor
from ..ops.checks import check_choice, check_positive
from .degradations import Degradation, build_degradation
from .patches import AUGMENTATIONS, Augmentation, cut_with_margin, draw_patch, draw_place
from .seeding import mix_seed
from .tasks import Sample, Task
from .verification import verify_samples

__all__ = ["AllInOneDataset"]


class AllInOneDataset(Dataset[dict[str, Any]]):
    """Samples of several restoration tasks, from pairs of files or from clean files and synthetic degradations.

    A sample is ``{"lq", "gt": float32 RGB (3, H, W) in [0, 1], "task": name, "task_id": int, "lq_path", "gt_path"}``;
    without ground truth ``gt`` and ``gt_path`` are absent, and for a synthetic task both paths are the clean file's.
    Quantization follows the degradation, nothing else is rounded.

    ``dataset[i]`` is sample ``i`` of epoch 0, ``dataset[epoch, i]`` that of any epoch. Every random choice is a pure
    function of (seed, epoch, index), so that the data are the same for any number of loader workers and after
    resuming; ``accepts_epoch`` tells a sampler that it may yield such pairs.

    With ``patch_size`` (training) a random square is cut at the same place from both images, mirrored and rotated, and
    only then degraded, with as much of its surroundings as the degradation looks at. An image smaller than the patch
    is padded by reflection, or by its edge where it is too small for that. Without (validation) the image stays whole.

    With ``degrade="device"`` a sample has no "lq" and "gt": :class:`DeviceDegrader` makes them, a whole batch at once.
    The sample holds what that needs: "degradation", a key of ``degradations``, and "clean", the patch with ``margin``
    pixels around it. With ``cache="device"`` it holds no pixels; "photograph" is then an index into ``photographs``.

    Args:
        tasks: the tasks, as :class:`Task` or as mappings of its arguments.
        patch_size: side of the training patches in pixels, or None for whole images.
        seed: seed of all random choices.
        augment: which mirrorings and rotations of training patches: all 8 (True), left-right only (``"flip"``),
            up-down and transposition only (``"rotate"``), none (False).
        center_crop: cut whole images around the center to multiples of this; 16 is the test protocol of the field. A
            side shorter than this is left as it is.
        verify: decode every file once, now, with a progress bar; otherwise a damaged file stops the run when its turn
            comes.
        max_pixels: largest image that is decoded, see :func:`read_image`.
        degrade: where patches are degraded: one by one in the data set (``"loader"``), or batch by batch on the device
            of the network.
        cache: ``"device"`` where the photographs lie on the device, too, as bytes, and patches are cut there.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range, a task has no images, ``center_crop`` with ``patch_size``, or
            ``degrade="device"`` without ``patch_size`` or with a task that has degraded files; in ``dataset[i]`` the
            two images of a pair differ in size.
        FileNotFoundError: a folder, a listed file or a clean partner is missing.
        RuntimeError: in ``dataset[i]`` or with ``verify`` a file cannot be decoded; the message names it.
    """

    accepts_epoch = True

    def __init__(
        self,
        tasks: Sequence[Task | Mapping[str, Any]],
        *,
        patch_size: int | None = None,
        seed: int = 0,
        augment: Augmentation = True,
        center_crop: int | None = None,
        verify: bool = False,
        max_pixels: int | None = None,
        degrade: Literal["loader", "device"] = "loader",
        cache: Literal["device"] | None = None,
    ) -> None:
        if patch_size is not None:
            check_positive("patch_size", patch_size)
        if center_crop is not None:
            check_positive("center_crop", center_crop)
        if patch_size is not None and center_crop is not None:
            raise ValueError(f"center_crop is for whole images, got center_crop={center_crop} and {patch_size=}")
        if max_pixels is not None:
            check_positive("max_pixels", max_pixels)
        if augment not in AUGMENTATIONS:
            raise ValueError(f"augment must be one of {AUGMENTATIONS}, got {augment!r}")
        check_choice("degrade", degrade, ("loader", "device"))
        if cache is not None:
            check_choice("cache", cache, ("device",))
        self.tasks = tuple(Task.from_config(task) for task in tasks)
        if not self.tasks:
            raise ValueError("tasks must hold at least one task, got none")
        if degrade == "device":
            _require_synthetic(self.tasks, patch_size)
        elif cache is not None:
            raise ValueError(f"cache={cache!r} needs degrade='device', got degrade={degrade!r}")
        self.degrade = degrade
        self.cache = cache
        self.patch_size = patch_size
        self.seed = seed
        self.augment = augment
        self.center_crop = center_crop
        self.max_pixels = max_pixels
        self.task_names = tuple(dict.fromkeys(task.name for task in self.tasks))
        self._degradations = [
            None if task.degradation is None else build_degradation(task.degradation) for task in self.tasks
        ]
        self._samples = [task.list_samples() for task in self.tasks]
        self._lengths = [_repeated(len(found), task) for found, task in zip(self._samples, self.tasks)]
        self._ends = list(accumulate(self._lengths))
        self._labels = _distinct([task.name for task in self.tasks])
        files = (sample.gt for found in self._samples for sample in found if sample.gt is not None)
        self._photographs = {path: number for number, path in enumerate(dict.fromkeys(files))}
        if verify:
            verify_samples((sample for found in self._samples for sample in found), max_pixels=max_pixels)

    @property
    def task_sizes(self) -> dict[str, int]:
        """Samples of an epoch for each task name."""
        sizes = dict.fromkeys(self.task_names, 0)
        for task, length in zip(self.tasks, self._lengths):
            sizes[task.name] += length
        return sizes

    @property
    def degradations(self) -> Mapping[str, Degradation]:
        """Degradations of the synthetic tasks by the task's name, with a number where several tasks share one."""
        pairs = zip(self._labels, self._degradations)
        return MappingProxyType({label: degradation for label, degradation in pairs if degradation is not None})

    @property
    def margin(self) -> int:
        """How many pixels around a patch the degradations look at: the largest of their margins."""
        return max((degradation.margin for degradation in self.degradations.values()), default=0)

    @property
    def photographs(self) -> tuple[Path, ...]:
        """The clean files, each once."""
        return tuple(self._photographs)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"index must be in [0, {len(self)}), got {index}")
        number = bisect_right(self._ends, index)
        task = self.tasks[number]
        place = index - (self._ends[number] - self._lengths[number])
        lq_path, gt_path = _choose(self._samples[number], place, self._lengths[number], epoch)
        item: dict[str, Any] = {"task": task.name, "task_id": self.task_names.index(task.name)}
        item["lq_path"] = str(lq_path or gt_path)
        if gt_path is not None:
            item["gt_path"] = str(gt_path)
            if self.degrade == "device":
                return {**item, **self._for_device(self._labels[number], gt_path, (epoch, index))}
        generator = self._generator(epoch, index)
        images = self._load(lq_path, gt_path, self._degradations[number], generator)
        item["lq"] = images[0]
        if gt_path is not None:
            item["gt"] = images[1]
        return item

    def _generator(self, epoch: int, index: int) -> torch.Generator:
        return torch.Generator().manual_seed(mix_seed(self.seed, epoch, index))

    def _for_device(self, degradation: str, path: Path, key: tuple[int, int]) -> dict[str, Any]:
        """What :class:`DeviceDegrader` makes a sample of: which degradation, and the photograph or a patch of it."""
        if self.cache == "device":
            return {"degradation": degradation, "photograph": self._photographs[path]}
        return {"degradation": degradation, "clean": self._cut_clean(path, self._generator(*key))}

    def _cut_clean(self, path: Path, generator: torch.Generator) -> Tensor:
        """Clean patch with margin."""
        size = self.patch_size or 0
        pixels = decode_image(path, max_pixels=self.max_pixels)
        place = draw_place(*pixels.shape[:2], size=size, augment=self.augment, generator=generator)
        return cut_with_margin(pixels, place, size=size, margin=self.margin)

    def _load(
        self, lq: Path | None, gt: Path | None, degradation: Degradation | None, generator: torch.Generator
    ) -> list[Tensor]:
        """Degraded and, if there is one, clean image."""
        paths = [path for path in (lq, gt) if path is not None]
        pixels = [decode_image(path, max_pixels=self.max_pixels) for path in paths]
        height, width = pixels[0].shape[:2]
        if pixels[-1].shape[:2] != (height, width):
            sizes = " and ".join(f"'{path}' has {image.shape[:2]}" for path, image in zip(paths, pixels))
            raise ValueError(f"unequal sizes (height, width) of a pair: {sizes}")
        if self.patch_size is None:
            images = [to_tensor(_center(image, self.center_crop)) for image in pixels]
            return images if degradation is None else [_degrade(images[0], degradation, generator), *images]
        margin = 0 if degradation is None else degradation.margin
        patch = draw_patch(
            height, width, size=self.patch_size, margin=margin, augment=self.augment, generator=generator
        )
        images = [patch.cut(image) for image in pixels]
        if degradation is not None:
            images.insert(0, _degrade(images[0], degradation, generator))
        return [patch.trim(image) for image in images]


def _repeated(count: int, task: Task) -> int:
    """Samples of an epoch that ``count`` images give."""
    length = round(count * task.repeat)
    if length < 1:
        raise ValueError(f"repeat of task {task.name!r} must give at least one sample, got {task.repeat} of {count}")
    return length


def _choose(samples: Sequence[Sample], place: int, length: int, epoch: int) -> Sample:
    """Sample at one place of an epoch: whole rounds first, then a part of the files that moves on every epoch."""
    count = len(samples)
    rest = length % count
    if place >= length - rest:
        place += epoch * rest
    return samples[place % count]


def _require_synthetic(tasks: Sequence[Task], patch_size: int | None) -> None:
    """Refuse what cannot be degraded on the device.

    Raises:
        ValueError: whole images are wanted, or a task has no degradation.
    """
    if patch_size is None:
        raise ValueError("degrade='device' is for training patches: it needs patch_size, got None")
    for task in tasks:
        if task.degradation is None:
            raise ValueError(
                f"degrade='device' makes every degraded image itself, but task {task.name!r} has none to make: its "
                "degraded images are files (dataroot_lq); use degrade='loader'"
            )


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that occurred before."""
    labels: list[str] = []
    for name in names:
        label, count = name, 1
        while label in labels:
            count += 1
            label = f"{name} {count}"
        labels.append(label)
    return labels


def _center(pixels: Pixels, multiple: int | None) -> Pixels:
    """Cut both sides around the center to a multiple, unless they are shorter."""
    if multiple is None:
        return pixels
    for axis in (0, 1):
        length = pixels.shape[axis]
        surplus = length % multiple if length > multiple else 0
        pixels = pixels.take(range(surplus // 2, surplus // 2 + length - surplus), axis=axis)
    return pixels


def _degrade(image: Tensor, degradation: Degradation, generator: torch.Generator) -> Tensor:
    """Degrade on one thread: how torch splits work among threads changes the last bits of some functions.

    Loader workers have one thread anyway, and data must not depend on whether there are any.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return degradation(image, generator)
    finally:
        torch.set_num_threads(threads)
