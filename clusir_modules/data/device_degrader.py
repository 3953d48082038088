"""Degrading whole batches on the device of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..imaging.reading import decode_image
from .all_in_one import AllInOneDataset
from .degradations._filter import mirrored
from .patches import Augmentation
from .seeding import mix_seed

__all__ = ["DeviceDegrader"]


class DeviceDegrader:
    """Makes "lq" and "gt" of the batches of an :class:`AllInOneDataset` with ``degrade="device"``.

    The samples of each degradation are degraded together, on the device, without waiting for it. Every random choice is
    a pure function of (seed, rank, iteration) and, on one kind of device, of the shapes: training that is resumed goes
    on with the same data.

    Args:
        dataset: says how to degrade; with ``cache="device"`` all its photographs are decoded now and moved to the
            device.
        device: where batches are degraded.
        seed: seed of the run.
        rank: number of this process among several, so that they draw different numbers.

    Raises:
        TypeError: ``dataset`` is no :class:`AllInOneDataset`.
        ValueError: it has not ``degrade="device"``, or a photograph to be cached has more than 8 bits.

    Examples:
        >>> loader = DataLoader(AllInOneDataset(tasks, patch_size=64, degrade="device"), batch_size=8)  # doctest: +SKIP
        >>> degrader = DeviceDegrader(loader.dataset, "cuda")  # doctest: +SKIP
        >>> for iteration, batch in enumerate(loader):  # doctest: +SKIP
        ...     batch = degrader(batch, iteration)
        ...     loss = (net(batch["lq"]) - batch["gt"]).abs().mean()
    """

    def __init__(self, dataset: AllInOneDataset, device: torch.device | str, *, seed: int = 0, rank: int = 0) -> None:
        if not isinstance(dataset, AllInOneDataset):
            raise TypeError(f"dataset must be an AllInOneDataset, got {type(dataset).__name__}")
        if dataset.degrade != "device" or dataset.patch_size is None:
            raise ValueError(f"dataset must have degrade='device', got {dataset.degrade!r}")
        self.dataset = dataset
        self.size = dataset.patch_size
        self.margin = dataset.margin
        self.device = torch.device(device)
        self.seed = seed
        self.rank = rank
        self._degradations = dict(dataset.degradations)
        self._generator = torch.Generator(self.device)
        self._photographs = (
            None
            if dataset.cache is None
            else _Photographs(dataset.photographs, self.device, max_pixels=dataset.max_pixels)
        )

    def __call__(self, batch: Mapping[str, Any], iteration: int) -> dict[str, Any]:
        """Degrade a collated batch.

        Args:
            batch: of the loader; what it holds besides pixels is handed on.
            iteration: number of the batch in the run.

        Returns:
            The batch with "lq" and "gt", float32 ``(B, 3, P, P)`` on the device, in place of "clean" or "photograph".
        """
        generator = self._generator.manual_seed(mix_seed("batch", self.seed, self.rank, iteration))
        rest = {key: value for key, value in batch.items() if key not in ("clean", "photograph")}
        if self._photographs is not None:
            numbers = batch["photograph"].to(self.device, non_blocking=True)
            clean = self._photographs.cut(numbers, self.size, self.margin, self.dataset.augment, generator)
        else:
            clean = batch["clean"].to(self.device, non_blocking=True)
        lq = self._degrade(clean, batch["degradation"], generator)
        return {**rest, "lq": lq, "gt": _trim(clean, self.margin)}

    def draw(self, count: int, iteration: int) -> dict[str, Any]:
        """A degraded batch of ``count`` samples, drawn with replacement: training without a loader."""
        generator = torch.Generator().manual_seed(mix_seed("draw", self.seed, self.rank, iteration))
        indices = torch.randint(len(self.dataset), (count,), generator=generator).tolist()
        # A sample that comes up twice is cut at two places: they are of two epochs.
        epochs = torch.randint(2**31, (count,), generator=generator).tolist()
        return self(default_collate([self.dataset[key] for key in zip(epochs, indices)]), iteration)

    def _degrade(self, clean: Tensor, labels: Sequence[str], generator: torch.Generator) -> Tensor:
        """Patches ``(B, 3, P, P)`` from clean ones with margin, each degraded as its label says."""
        results: dict[int, Tensor] = {}
        for label in dict.fromkeys(labels):
            degradation = self._degradations[label]
            places = [place for place, other in enumerate(labels) if other == label]
            images = _trim(torch.stack([clean[place] for place in places]), self.margin - degradation.margin)
            degraded = degradation.degrade_batch(images, generator)
            results.update(zip(places, _trim(degraded, degradation.margin)))
        return torch.stack([results[place] for place in range(len(labels))])


def _trim(images: Tensor, margin: int) -> Tensor:
    """Leave out ``margin`` pixels on every side."""
    return images[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin].contiguous()


class _Photographs:
    """Photographs as bytes on a device, from which patches are cut by index, a whole batch at once."""

    def __init__(self, paths: Sequence[Path], device: torch.device, *, max_pixels: int | None) -> None:
        with ThreadPoolExecutor() as pool:
            pictures = list(pool.map(partial(decode_image, max_pixels=max_pixels), paths))
        for path, picture in zip(paths, pictures):
            if picture.dtype != np.uint8:
                raise ValueError(f"cache='device' keeps photographs of 8 bits, but '{path}' has 16")
        sizes = torch.tensor([picture.shape[:2] for picture in pictures])
        self.pixels = torch.cat([torch.tensor(picture).view(-1, 3) for picture in pictures]).to(device)
        self.sizes = sizes.to(device)
        self.starts = (sizes.prod(1).cumsum(0) - sizes.prod(1)).to(device)

    def cut(self, numbers: Tensor, size: int, margin: int, augment: Augmentation, generator: torch.Generator) -> Tensor:
        """Random turned patches ``(B, 3, S, S)`` with ``S = size + 2 * margin``, float32 in [0, 1].

        The same choice as ``draw_place`` and ``cut_with_margin`` make for one image.

        Args:
            numbers: of the photographs, ``(B,)`` integers on the device.
            size: side of the patches without margin.
            margin: pixels around them.
            augment: as in :class:`AllInOneDataset`.
            generator: source of every random choice.
        """
        sizes = self.sizes[numbers]
        unit = torch.rand(len(numbers), 5, 1, 1, generator=generator, device=generator.device)
        axes = torch.arange(size + 2 * margin, device=numbers.device)
        down, right = axes[:, None], axes
        mirror, flip, transpose = (unit[:, number] < 0.5 for number in (2, 3, 4))
        if augment in (True, "rotate"):
            down, right = torch.where(transpose, right, down), torch.where(transpose, down, right)
            down = torch.where(flip, axes[-1] - down, down)
        if augment in (True, "flip"):
            right = torch.where(mirror, axes[-1] - right, right)
        height, width = sizes[:, 0, None, None], sizes[:, 1, None, None]
        rows = mirrored(down - margin + _offset(height, size, unit[:, 0]), height)
        columns = mirrored(right - margin + _offset(width, size, unit[:, 1]), width)
        index = self.starts[numbers][:, None, None] + rows * width + columns
        pixels = self.pixels.index_select(0, index.flatten()).view(*index.shape, 3)
        return pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format) / 255


def _offset(length: Tensor, size: int, unit: Tensor) -> Tensor:
    """First row or column of a patch: uniform where it fits, and so that it is centered where it is the larger."""
    drawn = (unit * ((length - size).clamp_min(0) + 1)).long()
    return drawn - (size - length).clamp_min(0) // 2
