"""``--check``: everything that an option file asks for, tried once, in a folder that is thrown away."""

from __future__ import annotations

import copy
import itertools
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import default_collate
from tqdm import tqdm

from basicsr_plugin.options.schema import is_ours
from basicsr_plugin.run.changes import picture_paths
from basicsr_plugin.run.context import RunContext
from basicsr_plugin.run.data import build_sampler, build_seeded_dataset
from basicsr_plugin.run.resume import load_resume_state

__all__ = ["try_out"]

_SHOWN = 5


class _FirstPicture:
    """Loader of one picture of a data set."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        yield default_collate([self.dataset[0]])


def try_out(options: Mapping[str, Any]) -> None:
    """Load data, weights and network, train one step, validate one picture of each set, write a checkpoint, and end.

    Args:
        options: Options as BasicSR's ``parse_options`` returns them; they are not changed.

    Raises:
        ValueError: They are not for the plugin's own model, or something does not fit.
        Exception: Whatever else the run would have ended with.
    """
    if not is_ours(options):
        raise ValueError(f"--check is for model_type RestorationModel, got {options.get('model_type')!r}")
    root = Path(options["path"]["experiments_root" if options["is_train"] else "results_root"])
    _require_writable(root)
    with tempfile.TemporaryDirectory() as folder:
        opt = copy.deepcopy(dict(options))
        state = load_resume_state(opt, make=False) if opt["is_train"] else None
        for name in ("models", "training_states", "visualization"):
            opt["path"][name] = os.path.join(folder, name)
            os.makedirs(opt["path"][name])
        datasets = {phase: build_seeded_dataset(section, opt) for phase, section in opt["datasets"].items()}
        for phase, dataset in datasets.items():
            _require_pictures(f"datasets.{phase}", dataset, opt.get("scale", 1))
        _try_model(opt, datasets, state)
    sizes = ", ".join(f"{len(dataset)} in datasets.{phase}" for phase, dataset in datasets.items())
    print(f"check: the run {opt['name']!r} can start; samples: {sizes}")  # noqa: T201


def _try_model(opt: dict[str, Any], datasets: Mapping[str, Any], state: dict[str, Any] | None) -> None:
    from basicsr.models import build_model

    context = RunContext()
    model = build_model(opt)
    if opt["is_train"]:
        model.join(context)
        sampler = build_sampler(datasets["train"], opt, context, {})
        indices = iter(sampler)
        if state is not None:
            model.resume_training({**state, "validation_due": False})
        for iteration in range(1, model.stepper.accum_iter + 1):
            samples = [datasets["train"][index] for index in itertools.islice(indices, sampler.batch_size)]
            model.feed_data(default_collate(samples))
            model.optimize_parameters(iteration)
        if model.stepper.skipped.in_a_row:
            raise ValueError("the first step cannot be taken: the loss or its gradient is not finite, see the log")
        model.save(0, model.stepper.accum_iter, required=True)
    if opt.get("val") is not None:
        for phase, dataset in datasets.items():
            if phase != "train":
                model.validation(_FirstPicture(dataset), 0 if opt["is_train"] else opt["name"], None, save_img=True)
                for metric, value in model.validator.latest.items():
                    if math.isnan(value):
                        raise ValueError(f"val.metrics.{metric} is NaN for the first picture of datasets.{phase}")


def _require_pictures(section: str, dataset: Any, scale: int) -> None:
    """Read the sizes of all pictures that a data set lists, without decoding them.

    Raises:
        ValueError: Files are no pictures, or those of a pair do not fit; the message names the first ones.
    """
    faults = []
    for files in tqdm(picture_paths(dataset) or (), desc=f"looking at {section}", unit="sample"):
        if not all(map(os.path.lexists, files)):
            continue  # keys of a data base
        try:
            sizes = [_picture_size(file) for file in files]
        except (OSError, ValueError) as error:
            faults.append(str(error))
            continue
        if len(sizes) == 2 and tuple(scale * side for side in sizes[0]) != sizes[1]:
            faults.append(f"{files[0]} is of {sizes[0]} pixels, {files[1]} of {sizes[1]}")
    if faults:
        shown = "\n  ".join(faults[:_SHOWN])
        raise ValueError(f"{section}: {len(faults)} samples cannot be used:\n  {shown}")


def _picture_size(file: str) -> tuple[int, int]:
    with Image.open(file) as picture:
        return picture.size


def _require_writable(folder: Path) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"the run's folder {folder} cannot be made: {existing} cannot be written to")
