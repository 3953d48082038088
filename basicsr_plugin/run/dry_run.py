"""``--check``: everything that an option file asks for, tried once, in a folder that is thrown away."""

from __future__ import annotations

import copy
import itertools
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import default_collate

from basicsr_plugin.options.schema import is_ours
from basicsr_plugin.run.context import RunContext
from basicsr_plugin.run.data import build_sampler, build_seeded_dataset
from basicsr_plugin.run.resume import load_resume_state

__all__ = ["try_out"]


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
        raise ValueError(f"--check is for RestorationModel, got model_type {options.get('model_type')!r}")
    root = Path(options["path"]["experiments_root" if options["is_train"] else "results_root"])
    _require_writable(root)
    with tempfile.TemporaryDirectory() as folder:
        opt = copy.deepcopy(dict(options))
        state = load_resume_state(opt, make=False) if opt["is_train"] else None
        for name in ("models", "training_states", "visualization"):
            opt["path"][name] = os.path.join(folder, name)
            os.makedirs(opt["path"][name])
        datasets = {phase: build_seeded_dataset(section, opt) for phase, section in opt["datasets"].items()}
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
        model.save(0, model.stepper.accum_iter, required=True)
    if opt.get("val") is not None:
        for phase, dataset in datasets.items():
            if phase != "train":
                model.validation(_FirstPicture(dataset), 0 if opt["is_train"] else opt["name"], None, save_img=True)


def _require_writable(folder: Path) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"the run's folder {folder} cannot be made: {existing} cannot be written to")
