"""Functions that are exchanged in a BasicSR training script, so that it resumes where it stopped, exactly."""

from __future__ import annotations

from typing import Any

from basicsr_plugin import option_schema
from basicsr_plugin.resume import load_resume_state

__all__ = ["patch_training_script"]


def patch_training_script(script: dict[str, Any], opt: dict[str, Any]) -> None:
    """Exchange functions in the globals of a script that is about to train.

    Loading of the resume state is repaired for every model. A run of the plugin's own model also gets a sampler that
    continues within the interrupted epoch, and data sets whose random numbers depend on the sample alone.

    Args:
        script: Globals of ``basicsr.train`` or of a copy of it; names it does not have are left out.
        opt: Parsed options; read again when the functions are called, that is after a resume state has been loaded.
    """
    from basicsr.data import build_dataset
    from basicsr.data.data_sampler import EnlargedSampler

    from basicsr_plugin.data.epoch_seeding import EpochSeeded
    from basicsr_plugin.data.resumable_sampler import ResumableSampler

    resumed_from: dict[str, int] = {}

    def load_state(opt: dict[str, Any]) -> dict[str, Any] | None:
        state = load_resume_state(opt)
        if state is not None:
            resumed_from.update(start_epoch=state["epoch"], start_iteration=state["iter"])
        return state

    def build_seeded_dataset(dataset_opt: dict[str, Any]) -> Any:
        if dataset_opt["phase"] != "train":
            return build_dataset(dataset_opt)
        dataset = build_dataset({**dataset_opt, "manual_seed": opt["manual_seed"]})
        if getattr(dataset, "accepts_epoch", False):
            return dataset
        return EpochSeeded(dataset, seed=opt["manual_seed"])

    def build_sampler(dataset: Any, num_replicas: int, rank: int, ratio: int = 1) -> ResumableSampler:
        return ResumableSampler(
            dataset,
            num_replicas,
            rank,
            ratio,
            batch_size=_loader_batch_size(opt),
            seed=opt["manual_seed"],
            **resumed_from,
        )

    ours = option_schema.is_ours(opt)
    replacements = {
        "load_resume_state": load_state,
        "build_dataset": build_seeded_dataset if ours else build_dataset,
        "EnlargedSampler": build_sampler if ours else EnlargedSampler,
    }
    script.update({name: function for name, function in replacements.items() if name in script})


def _loader_batch_size(opt: dict[str, Any]) -> int:
    """Batch size of a rank's loader, as ``basicsr.data.build_dataloader`` computes it."""
    per_gpu: int = opt["datasets"]["train"]["batch_size_per_gpu"]
    return per_gpu if opt["dist"] else per_gpu * max(opt["num_gpu"], 1)
