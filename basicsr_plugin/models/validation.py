"""Validation: pictures of one or several data sets restored, measured, compared with the best so far, and written."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import torch
from basicsr.utils import tensor2img
from torch import Tensor
from tqdm import tqdm

from basicsr_plugin.metrics.validation_metrics import ValidationMetrics
from basicsr_plugin.models.validation_table import Measured, ValidationTable
from basicsr_plugin.options.schema import MetricOptions, ValOptions
from basicsr_plugin.run.changes import picture_paths
from basicsr_plugin.run.folders import fit_name
from clusir_modules.imaging.picture_files import Picture
from clusir_modules.imaging.writing import write_picture
from clusir_modules.serialization.atomic import remove_remains

__all__ = ["Validator"]

Visuals = Mapping[str, Tensor]


class Validator:
    """Evaluates a network on data sets.

    Several processes share the pictures of a set, if the set lists its files; otherwise the first one takes all, and
    the others wait. They wait for each other by ``group``, which must allow for as long as a picture can take. Values
    do not depend on the number of processes.

    Args:
        options: Section ``val``.
        folder: Where pictures go: ``<data set>/<image>/<image>_<iteration>.png`` in training,
            ``<data set>/<image>_<suffix>.png`` in a test. Names that are too long for the file system are cut.
        label: Suffix of a test's pictures; None in training.
        rank: Of this process.
        world_size: Number of processes.
        group: Process group of several processes.
        file: JSON file for the rows of all validations, or None.

    Attributes:
        table: Rows and best values, see :class:`ValidationTable`.
        latest: Values of the last data set.
    """

    def __init__(
        self,
        options: ValOptions,
        folder: str | os.PathLike[str],
        *,
        label: str | None = None,
        rank: int = 0,
        world_size: int = 1,
        group: Any = None,
        file: Path | None = None,
    ) -> None:
        self.options = options
        self.metrics: Mapping[str, MetricOptions] = options.metric_options()
        self.folder = Path(folder)
        self.label = label
        self.rank = rank
        self.world_size = world_size
        self.group = group
        self.table = ValidationTable(self.metrics, file)
        self.latest: dict[str, float] = {}

    def __call__(
        self,
        loader: Any,
        iteration: int | str,
        restore: Callable[[Mapping[str, Any]], Visuals],
        *,
        save_img: bool = False,
        before_each: Callable[[], None] = lambda: None,
        watch: Callable[[int, Visuals], None] = lambda number, visuals: None,
        writer: Any = None,
    ) -> None:
        """Go through a data set.

        Args:
            loader: Gives one picture at a time; its data set has a name in ``opt["name"]``.
            iteration: Iteration, or in a test the run's name.
            restore: Makes of a sample "lq", "result" and if there is one "gt", shape (1, C, H, W), on the CPU.
            save_img: Whether to write the pictures.
            before_each: Called before each picture, on all processes as often.
            watch: Called with the number and tensors of each picture of this process.
            writer: TensorBoard writer or None.
        """
        dataset = loader.dataset
        dataset_name = dataset.opt["name"]
        measure = ValidationMetrics(self.metrics)
        found: dict[int, Measured] = {}
        names = _Names(picture_paths(dataset))
        progress = tqdm(total=len(dataset), unit="image", desc=dataset_name, disable=not self.options.pbar)
        for number, sample in self._own_part(loader, shared=names.known, before_each=before_each):
            visuals = restore(sample)
            watch(number, visuals)
            found[number] = self._measure(measure, visuals, sample)
            if save_img:
                name = names.unique(number, sample["lq_path"][0])
                self._write(visuals["result"], self._path(dataset_name, name, iteration))
            progress.update(self.world_size if names.known else 1)
        progress.close()
        pictures = [picture for _, picture in sorted(self._gathered(found).items())]
        skipped = [metric for metric in measure.needing_target() if not any(metric in p.result for p in pictures)]
        if skipped and self.rank == 0:
            logging.getLogger("basicsr").warning(f"{dataset_name} has no ground truth: {', '.join(skipped)} left out")
        self._record(dataset_name, iteration, pictures, writer)

    def clean(self) -> None:
        """Remove what killed processes left of pictures half-written; nobody else may be writing."""
        remove_remains(self.folder)

    def _write(self, image: Tensor, path: Path) -> None:
        """Write a picture; in training no full disk is worth the end of the run."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_picture(Picture(tensor2img(image, rgb2bgr=False)), path)
        except OSError as error:
            if self.label is not None:
                raise
            logging.getLogger("basicsr").error(f"a picture cannot be written: {error}; the run goes on")

    def _own_part(
        self, loader: Any, *, shared: bool, before_each: Callable[[], None]
    ) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Samples of this process with their numbers."""
        if self.world_size == 1:
            for number, sample in enumerate(loader):
                before_each()
                yield number, sample
            return
        count = len(loader.dataset)
        ranks = self.world_size if shared else 1
        for start in range(0, count, ranks):
            before_each()
            number = start + self.rank
            if self.rank < ranks and number < count:
                yield number, torch.utils.data.default_collate([loader.dataset[number]])

    def _measure(self, measure: ValidationMetrics, visuals: Visuals, sample: Mapping[str, Any]) -> Measured:
        """Measure result and input of one picture; the input only if it has the result's size."""
        degraded, result, target = visuals["lq"], visuals["result"], visuals.get("gt")
        before = measure(degraded, target) if degraded.shape == result.shape else {}
        (task,) = sample.get("task") or [None]
        return Measured(measure(result, target), before, task if isinstance(task, str) else None)

    def _gathered(self, found: dict[int, Measured]) -> dict[int, Measured]:
        """Values of the pictures of all processes."""
        if self.world_size == 1:
            return found
        parts: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(parts, found, group=self.group)
        return {number: picture for part in parts for number, picture in part.items()}

    def _record(self, dataset_name: str, iteration: int | str, pictures: Sequence[Measured], writer: Any) -> None:
        """Renew the best values, and write the rows."""
        rows = self.table.add(dataset_name, iteration, pictures)
        self.latest = {metric: values["result"] for metric, values in rows[0].values.items()}
        if self.latest and self.rank == 0:
            self.table.write(rows, iteration, writer)

    def _path(self, dataset_name: str, name: str, iteration: int | str) -> Path:
        folder = self.folder / dataset_name
        if self.label is None:
            return folder / fit_name(name, "") / fit_name(name, f"_{iteration}.png")
        return folder / fit_name(name, f"_{self.label}.png")


class _Names:
    """Names of the pictures of a set, numbered where files of different folders are called alike.

    Args:
        paths: Files of each picture, if they are known beforehand: then a name does not depend on which process asks.
    """

    def __init__(self, paths: Sequence[Sequence[str]] | None) -> None:
        self.known = paths is not None
        self.used: set[str] = set()
        self.all = [self._number(files[0]) for files in paths or ()]

    def unique(self, number: int, path: str) -> str:
        """Name of a picture, given its number and file."""
        return self.all[number] if self.known else self._number(path)

    def _number(self, path: str) -> str:
        stem = PurePath(path).stem
        stem = stem if stem.strip(".") else "image"  # dots alone would name a folder
        name, times = stem, 1
        while name in self.used:
            times += 1
            name = f"{stem}_{times}"
        self.used.add(name)
        return name
