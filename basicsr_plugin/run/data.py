"""Data of a training that depend on seed, epoch and place alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr_plugin.run.changes import fingerprint
from basicsr_plugin.run.context import RunContext

__all__ = ["build_sampler", "build_seeded_dataset"]


def build_seeded_dataset(section: Mapping[str, Any], opt: Mapping[str, Any]) -> Any:
    """Data set of a section ``datasets.*`` whose samples are reproducible and whose errors name files.

    Args:
        section: The section.
        opt: The whole options.

    Raises:
        ValueError: An option of the data set is missing.
    """
    from basicsr.data import build_dataset

    from basicsr_plugin.data.epoch_seeding import EpochSeeded
    from basicsr_plugin.data.named_samples import NamedSamples

    training = section["phase"] == "train"
    try:
        dataset = build_dataset({**section, "manual_seed": opt["manual_seed"]} if training else section)
    except KeyError as error:  # data sets of BasicSR read their options as they come to them
        name = next(name for name, other in opt["datasets"].items() if other is section)
        raise ValueError(f"datasets.{name}.{error.args[0]} is missing: {section['type']} needs it") from error
    if getattr(dataset, "accepts_epoch", False):
        return dataset
    return EpochSeeded(dataset, seed=opt["manual_seed"]) if training else NamedSamples(dataset)


def build_sampler(dataset: Any, opt: Mapping[str, Any], context: RunContext, resumed_from: Mapping[str, Any]) -> Any:
    """Sampler of the training data, kept in the context.

    Args:
        dataset: The training data.
        opt: The whole options.
        context: Of the run.
        resumed_from: What ``ResumableSampler`` takes of an interrupted run.
    """
    from basicsr_plugin.data.resumable_sampler import ResumableSampler

    section = opt["datasets"]["train"]
    per_gpu: int = section["batch_size_per_gpu"]
    context.sampler = ResumableSampler(
        dataset,
        opt["world_size"],
        opt["rank"],
        section.get("dataset_enlarge_ratio", 1),
        batch_size=per_gpu if opt["dist"] else per_gpu * max(opt["num_gpu"], 1),
        seed=opt["manual_seed"],
        **resumed_from,
    )
    if opt["rank"] == 0:
        context.fingerprint = fingerprint(dataset)
    return context.sampler
