"""Functions that are exchanged in a BasicSR training script, so that it resumes where it stopped, exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from basicsr_plugin import option_schema
from basicsr_plugin.resume import load_resume_state
from basicsr_plugin.training_run import TrainingRun

__all__ = ["patch_training_script"]

_OBSERVED = ("create_train_val_dataloader", "init_tb_loggers", "build_model")


def patch_training_script(script: dict[str, Any], opt: dict[str, Any]) -> None:
    """Exchange functions in the globals of a script that is about to train.

    Loading of the resume state is repaired for every model, and so is the making of folders by several processes. A run
    of the plugin's own model also gets a sampler that continues within the interrupted epoch, data sets whose random
    numbers depend on the sample alone, and an orderly end at SIGTERM.

    Args:
        script: Globals of ``basicsr.train`` or of a copy of it; names it does not have are left out.
        opt: Parsed options; read again when the functions are called, that is after a resume state has been loaded.
    """
    from basicsr.data import build_dataset
    from basicsr.data.data_sampler import EnlargedSampler
    from basicsr.utils import make_exp_dirs
    from basicsr.utils.dist_util import master_only
    from basicsr.utils.options import copy_opt_file

    from basicsr_plugin.data.epoch_seeding import EpochSeeded
    from basicsr_plugin.data.named_samples import NamedSamples
    from basicsr_plugin.data.resumable_sampler import ResumableSampler

    run = TrainingRun()
    resumed_from: dict[str, int] = {}

    def load_state(opt: dict[str, Any]) -> dict[str, Any] | None:
        state = load_resume_state(opt)
        if state is not None:
            resumed_from.update(start_epoch=state["epoch"], start_iteration=state["iter"])
        return state

    def build_seeded_dataset(dataset_opt: dict[str, Any]) -> Any:
        training = dataset_opt["phase"] == "train"
        dataset = build_dataset({**dataset_opt, "manual_seed": opt["manual_seed"]} if training else dataset_opt)
        if getattr(dataset, "accepts_epoch", False):
            return dataset
        return EpochSeeded(dataset, seed=opt["manual_seed"]) if training else NamedSamples(dataset)

    def build_sampler(dataset: Any, num_replicas: int, rank: int, ratio: int = 1) -> ResumableSampler:
        run.sampler = ResumableSampler(
            dataset,
            num_replicas,
            rank,
            ratio,
            batch_size=_loader_batch_size(opt),
            seed=opt["manual_seed"],
            **resumed_from,
        )
        return run.sampler

    ours = option_schema.is_ours(opt)
    replacements = {
        "load_resume_state": load_state,
        "make_exp_dirs": _then_wait(make_exp_dirs) if opt["dist"] else make_exp_dirs,
        "copy_opt_file": master_only(copy_opt_file),
        "build_dataset": build_seeded_dataset if ours else build_dataset,
        "EnlargedSampler": build_sampler if ours else EnlargedSampler,
    }
    script.update({name: function for name, function in replacements.items() if name in script})
    for name in _OBSERVED:
        if name in script:
            original = getattr(script[name], "unobserved", script[name])
            script[name] = _observe(original, name, run) if ours else original
    if ours:
        run.watch_sigterm()


def _then_wait(function: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """Let all processes wait for what the first one does: it makes folders that all of them use at once."""

    def wrapper(opt: dict[str, Any]) -> None:
        import torch

        function(opt)
        torch.distributed.barrier()

    return wrapper


def _observe(function: Callable[..., Any], name: str, run: TrainingRun) -> Callable[..., Any]:
    """Keep what a function of the script returns in ``run``, or ``run`` in it."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if name == "build_model":
            result.run = run
        elif name == "init_tb_loggers":
            run.tb_logger = result
        else:
            run.val_loaders = result[2]
        return result

    wrapper.unobserved = function
    return wrapper


def _loader_batch_size(opt: dict[str, Any]) -> int:
    """Batch size of a rank's loader, as ``basicsr.data.build_dataloader`` computes it."""
    per_gpu: int = opt["datasets"]["train"]["batch_size_per_gpu"]
    return per_gpu if opt["dist"] else per_gpu * max(opt["num_gpu"], 1)
