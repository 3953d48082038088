"""The sections of an option file as structs: every key, its kind and its range."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from basicsr_plugin.options.values import check_finite, check_keys, read_section

__all__ = [
    "FORMATS",
    "MODEL_TYPE",
    "DatasetOptions",
    "LoggerOptions",
    "LossOptions",
    "MetricOptions",
    "PathOptions",
    "RunOptions",
    "TrainOptions",
    "ValOptions",
    "is_ours",
    "read_options",
]

MODEL_TYPE = "RestorationModel"
FORMATS = ("pth", "safetensors")
LARGEST_SEED = 2**64 - 1

Natural = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Sizes = list[Positive]
Name = Annotated[str, Meta(min_length=1)]
Section = dict[str, Any]


class Options(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A section whose keys are all known."""


class PathOptions(Options, kw_only=True):
    """Section ``path``; the folders are filled in by BasicSR."""

    pretrain_network_g: str | None = None
    param_key_g: str | None = "params"
    strict_load_g: bool | None = True
    resume_state: str | None = None
    ignore_resume_networks: list[str] | str | None = None
    experiments_root: str | None = None
    results_root: str | None = None
    models: str | None = None
    training_states: str | None = None
    log: str | None = None
    visualization: str | None = None


class LossOptions(Options, kw_only=True):
    """One entry of ``train.losses``.

    Attributes:
        type: A loss on pictures of BasicSR's registry, or a loss on routings.
        weight: Factor in the sum.
        stages: Weight of each stage of the network, the final one first; ``final`` means that one alone. By default
            every stage counts 1.
        name: What it is logged as.
        settings: The other keys, arguments of the loss.
    """

    type: Name
    weight: float = 1.0
    stages: list[float] | Literal["final"] | None = None
    name: Name | None = None
    settings: Section = {}


class TrainOptions(Options, kw_only=True):
    """Section ``train``."""

    total_iter: Positive
    optim_g: Section
    scheduler: Section
    losses: list[Section] | None = None
    pixel_opt: Section | None = None
    perceptual_opt: Section | None = None
    warmup_iter: Annotated[int, Meta(ge=-1)] = -1
    ema_decay: Annotated[float, Meta(ge=0, lt=1)] = 0
    amp: Literal["bf16", "fp16"] | None = None
    accum_iter: Positive = 1
    grad_clip: bool = False
    grad_clip_max_norm: Annotated[float, Meta(gt=0)] | None = None
    compile: bool | Literal["blocks"] = False
    cuda_graph: bool = False
    channels_last: bool = False
    grad_checkpointing: bool = False
    max_skipped_steps: Natural = 10

    def __post_init__(self) -> None:
        """Compare options with each other."""
        if self.grad_clip and self.grad_clip_max_norm is None:
            raise ValueError("train.grad_clip needs a positive train.grad_clip_max_norm, got None")

    def loss_options(self) -> dict[str, LossOptions]:
        """The terms of the loss by where they stand; BasicSR's slots ``pixel_opt`` and ``perceptual_opt`` are such.

        Raises:
            ValueError: Both forms are given, or none, or an entry is wrong.
        """
        slots = {"pixel_opt": self.pixel_opt, "perceptual_opt": self.perceptual_opt}
        given = [name for name, section in slots.items() if section]
        if self.losses is not None and given:
            raise ValueError(f"train.losses and train.{given[0]} are two forms of one thing: give one of them")
        entries = {f"train.losses[{number}]": entry for number, entry in enumerate(self.losses or ())}
        if self.pixel_opt:
            entries["train.pixel_opt"] = _from_slot("train.pixel_opt", self.pixel_opt, name="l_pix")
        if self.perceptual_opt:
            entries["train.perceptual_opt"] = _from_slot("train.perceptual_opt", self.perceptual_opt, stages="final")
        if not entries:
            raise ValueError("train needs losses, a list of at least one (or BasicSR's pixel_opt, perceptual_opt)")
        return {section: _read_loss(section, entry) for section, entry in entries.items()}


def _from_slot(section: str, slot: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    weight = slot.get("loss_weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise ValueError(f"{section}.loss_weight must be a number, got {weight!r}")
    return {key: value for key, value in slot.items() if key != "loss_weight"} | {"weight": weight} | more


def _read_loss(section: str, entry: Mapping[str, Any]) -> LossOptions:
    own = {key: value for key, value in entry.items() if key in LossOptions.__struct_fields__ and key != "settings"}
    settings = {key: value for key, value in entry.items() if key not in own}
    if "loss_weight" in settings:
        raise ValueError(f"{section}.loss_weight is called weight in a list of losses, got {settings['loss_weight']!r}")
    if own.get("name") == "l_total":
        raise ValueError(f"{section}.name must be another one than that of the sum of the losses, got 'l_total'")
    return read_section(section, {**own, "settings": settings}, LossOptions)


class MetricOptions(Options, kw_only=True):
    """One entry of ``val.metrics``; ``settings`` are the arguments of the metric."""

    type: Name
    better: Literal["higher", "lower"] = "higher"
    settings: Section = {}


class ValOptions(Options, kw_only=True):
    """Section ``val``."""

    val_freq: Positive | None = None
    save_img: bool = False
    suffix: str | None = None
    pbar: bool = False
    metrics: dict[str, Section] | None = None
    save_best: str | list[str] | None = None
    tile: Positive | None = None
    overlap: Natural | None = None
    size_multiple: Positive | None = None

    def __post_init__(self) -> None:
        """Compare options with each other."""
        if self.overlap is not None and self.tile is not None and self.overlap >= self.tile:
            raise ValueError(f"val.overlap must be below val.tile, {self.tile}, got {self.overlap}")
        if self.overlap and self.tile is None:
            raise ValueError(f"val.overlap needs val.tile, the side of the tiles, got {self.overlap} alone")
        self.best_labels()

    def best_labels(self) -> dict[str, str]:
        """Columns ``<row>/<metric>`` whose best weights are kept, and what their files are called.

        Raises:
            ValueError: Two files would have one name.
        """
        columns = [self.save_best] if isinstance(self.save_best, str) else self.save_best or []
        labels = {column: "best-" + re.sub(r"[^\w.]+|_", "-", column) for column in columns}
        if len(set(labels.values())) < len(columns):
            raise ValueError(f"val.save_best names columns whose files would have one name, got {columns}")
        return labels

    def metric_options(self) -> dict[str, MetricOptions]:
        """The metrics by name.

        Raises:
            ValueError: An entry is wrong.
        """
        return {name: _read_metric(f"val.metrics.{name}", entry) for name, entry in (self.metrics or {}).items()}


def _read_metric(section: str, entry: Mapping[str, Any]) -> MetricOptions:
    own = {key: value for key, value in entry.items() if key in ("type", "better")}
    settings = {key: value for key, value in entry.items() if key not in own}
    return read_section(section, {**own, "settings": settings}, MetricOptions)


class WandbOptions(Options, kw_only=True):
    """Section ``logger.wandb``."""

    project: str | None = None
    resume_id: str | None = None


class LoggerOptions(Options, kw_only=True):
    """Section ``logger``."""

    print_freq: Positive = 100
    save_checkpoint_freq: Positive
    save_checkpoint_format: Literal["pth", "safetensors"] = "pth"
    use_tb_logger: bool = False
    wandb: WandbOptions | None = None

    def __post_init__(self) -> None:
        """Compare options with each other."""
        if self.wandb is not None and self.wandb.project is not None and not self.use_tb_logger:
            raise ValueError(f"logger.wandb.project needs logger.use_tb_logger: true, got {self.wandb.project!r}")


class DatasetOptions(Options, kw_only=True):
    """What loader and model read of a section ``datasets.*``; classes of data sets add their own keys in a subclass."""

    name: Name
    type: Name
    phase: Literal["train", "val", "test"] = "train"
    scale: Positive = 1
    io_backend: Section | None = None
    batch_size_per_gpu: Positive | None = None
    num_worker_per_gpu: Natural | None = None
    dataset_enlarge_ratio: Annotated[float, Meta(gt=0)] = 1
    use_shuffle: bool | None = None
    prefetch_mode: Literal["cpu", "cuda"] | None = None
    num_prefetch_queue: Positive = 1
    pin_memory: bool | None = None
    persistent_workers: bool | None = None
    gt_size: Positive | None = None
    use_hflip: bool | None = None
    use_rot: bool | None = None
    mini_batch_sizes: Sizes | None = None
    iters: Sizes | None = None
    gt_sizes: Sizes | None = None


class RunOptions(Options, kw_only=True):
    """A whole option file for ``RestorationModel``."""

    name: Name
    model_type: Literal["RestorationModel"]
    datasets: dict[str, Section]
    network_g: Section
    path: PathOptions
    scale: Positive = 1
    num_gpu: Natural | Literal["auto"] = 0
    manual_seed: Natural | None = None
    imports: list[str] = []
    train: TrainOptions | None = None
    val: ValOptions | None = None
    logger: LoggerOptions | None = None
    dist_params: Section | None = None
    find_unused_parameters: bool = False
    # What BasicSR's parse_options adds.
    auto_resume: bool = False
    is_train: bool = True
    dist: bool = False
    rank: Natural = 0
    world_size: Positive = 1
    root_path: str | None = None

    def __post_init__(self) -> None:
        """Compare options of different sections."""
        if self.manual_seed is not None and self.manual_seed > LARGEST_SEED:
            raise ValueError(f"manual_seed must be a whole number from 0 to 2**64 - 1, got {self.manual_seed}")
        if self.train is not None and self.logger is not None:
            accum, frequency = self.train.accum_iter, self.logger.save_checkpoint_freq
            if frequency % accum:
                raise ValueError(
                    f"train.accum_iter must divide logger.save_checkpoint_freq, {frequency}, got {accum}: a checkpoint "
                    "holds no half-accumulated gradient"
                )

    def dataset_options(self) -> dict[str, DatasetOptions]:
        """What loader and model read of each data set.

        Raises:
            ValueError: A value is not accepted.
        """
        known = DatasetOptions.__struct_fields__
        return {
            phase: read_section(f"datasets.{phase}", {k: v for k, v in section.items() if k in known}, DatasetOptions)
            for phase, section in self.datasets.items()
        }


_SECTIONS: dict[str, type[Options]] = {
    "path": PathOptions,
    "train": TrainOptions,
    "val": ValOptions,
    "logger": LoggerOptions,
}


def is_ours(opt: Mapping[str, Any]) -> bool:
    """Whether the options are for the plugin's own model; those for other models are left alone."""
    return opt.get("model_type") == MODEL_TYPE


def read_options(opt: Mapping[str, Any]) -> RunOptions:
    """Options of a :data:`MODEL_TYPE` run as structs.

    Args:
        opt: Options as they stand in the file, or as BasicSR's ``parse_options`` returns them.

    Raises:
        ValueError: An option is unknown, missing or not accepted, or does not fit another one.
    """
    check_keys("", opt, RunOptions.__struct_fields__)
    check_finite(opt)
    sections = {
        name: read_section(name, opt[name], kind) for name, kind in _SECTIONS.items() if opt.get(name) is not None
    }
    plain = {key: value for key, value in opt.items() if key not in sections}
    whole = {"path": {}} | plain | {name: msgspec.to_builtins(section) for name, section in sections.items()}
    return read_section("", whole, RunOptions)
