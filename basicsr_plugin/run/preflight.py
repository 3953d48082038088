"""The check of a whole option file, before anything is made: kinds, ranges, and what they name can be built."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch

from basicsr_plugin.data.progressive_patches import ProgressivePatches
from basicsr_plugin.options.schema import DatasetOptions, LossOptions, MetricOptions, RunOptions, TrainOptions
from basicsr_plugin.options.schema import read_options as read_sections
from basicsr_plugin.options.values import check_part, read_section, suggest
from basicsr_plugin.run.optimizers import find_optimizer
from basicsr_plugin.run.schedulers import LinearWarmupCosineLR, find_scheduler, require_rates
from clusir_modules.serialization.registry import import_registering

__all__ = ["check_folders", "read_options"]

_READ_PATHS = ("strict_load", "pretrain_network", "resume", "param_key")
"""Parts of options in ``path`` that name no folder to write to."""
_LONGEST_NAME = 255
"""Bytes of a file name."""


def read_options(opt: Mapping[str, Any]) -> RunOptions:
    """Options of a run of the plugin's model as structs, every value checked.

    Modules in ``imports`` are imported first. What ``type`` names is looked up where it is registered, its settings are
    compared with its signature, and optimizer, schedule, and networks of this project are built once, small.

    Args:
        opt: Options as they stand in the file, or as BasicSR's ``parse_options`` returns them; ``is_train`` is true
            unless it says otherwise.

    Raises:
        ValueError: An option is unknown, missing or not accepted; the message has its name, the value and what is.
    """
    options = read_sections(opt)
    for module in options.imports:
        try:
            import_registering(module)
        except ValueError as error:
            raise ValueError(f"imports: {error}") from error
    _check_names(options)
    _check_network(options)
    _check_datasets(options)
    if options.train is not None:
        _check_train(options.train)
    if "train" in options.datasets:
        ProgressivePatches.from_options(options)
    if options.val is not None:
        for name, metric in options.val.metric_options().items():
            _check_metric(f"val.metrics.{name}", metric)
    _check_best(options)
    _check_phases(options)
    return options


def _check_phases(options: RunOptions) -> None:
    """What a training needs, and what a test must not have."""
    if not options.is_train:
        if "train" in options.datasets:
            raise ValueError(
                "datasets.train is for trainings, this is a test: name the sets test_1, test_2, ... and the weights in "
                "path.pretrain_network_g, as options/test does"
            )
        return
    phases = {name.split("_")[0] for name in options.datasets}
    if options.train is None:
        raise ValueError("train is missing: a training needs train.total_iter, optim_g, scheduler and losses")
    if options.logger is None:
        raise ValueError("logger is missing: a training needs logger.save_checkpoint_freq")
    if "train" not in options.datasets:
        raise ValueError("datasets.train is missing: a training needs it")
    if "val" in phases and options.val is not None and options.val.val_freq is None:
        raise ValueError("val.val_freq is missing: it must be a whole number >= 1")
    others = sorted(phases - {"train", "val"})
    if others:
        raise ValueError(f"datasets must be called train, val or val_<n> in a training, got {others[0]!r}")


def _check_names(options: RunOptions) -> None:
    """Names become folders and files: each stays in its own, and no two meet."""
    names = {"name": options.name}
    names |= {f"datasets.{phase}.name": section.get("name") for phase, section in options.datasets.items()}
    for option, name in names.items():
        _check_name(option, name)
    if len(os.fsencode(PurePosixPath(options.name).name)) > _LONGEST_NAME:
        raise ValueError(f"name must have at most 255 bytes, got {len(os.fsencode(options.name))}")
    seen: dict[str, str] = {}
    for phase, section in options.datasets.items():
        if phase.split("_")[0] in ("val", "test"):
            folder = str(PurePosixPath(str(section["name"])))
            for row in _rows(folder, section):
                if row in seen:
                    raise ValueError(
                        f"datasets.{seen[row]}.name and datasets.{phase}.name are both {row!r}: their pictures and "
                        "best values would mix"
                    )
            seen |= dict.fromkeys(_rows(folder, section), phase)
    suffix = options.val.suffix if options.val is not None else None
    if suffix is not None and (not _stays_below(suffix) or "/" in suffix):
        raise ValueError(f"val.suffix must be a part of a file name, got {suffix!r}")


def _rows(folder: str, section: Mapping[str, Any]) -> list[str]:
    """Rows that a set has in the table of a validation: its own, and that of each task if there are several."""
    tasks = section.get("tasks")
    names = [task.get("name") for task in tasks if isinstance(task, Mapping)] if isinstance(tasks, list) else []
    several = dict.fromkeys(f"{folder}/{name}" for name in names)
    return [folder, *several] if len(several) > 1 else [folder]


def _check_best(options: RunOptions) -> None:
    """``val.save_best`` names columns that a training has."""
    wanted = options.val.best_labels() if options.val is not None else {}
    if not wanted:
        return
    if not options.is_train:
        raise ValueError(f"val.save_best is for trainings, got {list(wanted)} in a test")
    sets = [section for phase, section in options.datasets.items() if phase.split("_")[0] == "val"]
    rows = [row for section in sets for row in _rows(section["name"], section)]
    known = [f"{row}/{metric}" for row in rows for metric in options.val.metrics or {}]
    for column in wanted:
        if column not in known:
            raise ValueError(f"val.save_best: there is no column {column!r}{suggest(column, known)}")


def _check_name(option: str, name: Any) -> None:
    if not isinstance(name, str) or not _stays_below(name):
        raise ValueError(f"{option} must be a name, or a path below its folder, got {name!r}")


def _stays_below(name: str) -> bool:
    """Whether a path leads to a folder below the one that it is taken from, on POSIX and on Windows."""
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(name)
        if not path.parts or path.drive or path.root or ".." in path.parts:
            return False
    return "\0" not in name


def check_folders(opt: Mapping[str, Any], root: str | os.PathLike[str]) -> None:
    """Refuse folders by which a run would write outside ``root``.

    Args:
        opt: Options as BasicSR's ``parse_options`` returns them.
        root: Folder of ``experiments``, ``results`` and ``tb_logger``.

    Raises:
        ValueError: A folder in ``path`` lies outside.
    """
    for option, folder in opt["path"].items():
        if folder is None or any(part in option for part in _READ_PATHS):
            continue
        if not Path(os.path.abspath(str(folder))).is_relative_to(os.path.abspath(root)):
            raise ValueError(f"path.{option} must be a folder in {os.fspath(root)}, got {folder!r}")


def _lookup(registry: Any, name: Any, section: str) -> Callable[..., Any]:
    known = list(registry.keys())
    if name not in known:
        raise ValueError(f"{section}.type is {name!r}, which is not registered{suggest(str(name), known)}")
    found: Callable[..., Any] = registry.get(name)
    return found


def _check_network(options: RunOptions) -> None:
    from basicsr.utils.registry import ARCH_REGISTRY

    section = options.network_g
    network = _lookup(ARCH_REGISTRY, section.get("type"), "network_g")
    check_part("network_g", section, inspect.unwrap(network))
    if network.__module__.startswith("clusir_modules"):  # others may not know the meta device
        settings = {key: value for key, value in section.items() if key != "type"}
        _try("network_g", settings, lambda given: _build_on_meta(network, given))


def _build_on_meta(network: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    with torch.device("meta"):
        network(**settings)


def _try(section: str, settings: Mapping[str, Any], build: Callable[[Mapping[str, Any]], object]) -> None:
    """Build something once; if it fails, say which setting alone makes it fail.

    Raises:
        ValueError: It cannot be built.
    """
    try:
        build(settings)
    except Exception as error:
        for key, value in settings.items():
            try:
                build({other: settings[other] for other in settings if other != key})
            except Exception:  # noqa: S112 - not this one alone
                continue
            raise ValueError(f"{section}.{key} is not accepted, got {value!r}: {error}") from error
        raise ValueError(f"{section} is not accepted, got {dict(settings)!r}: {error}") from error


def _check_datasets(options: RunOptions) -> None:
    from basicsr.utils.registry import DATASET_REGISTRY

    for phase, section in options.datasets.items():
        name = f"datasets.{phase}"
        dataset = _lookup(DATASET_REGISTRY, section.get("type"), name)
        struct = getattr(dataset, "options", DatasetOptions)
        known = section if struct is not DatasetOptions else _known(section, DatasetOptions.__struct_fields__)
        placed = {"scale": options.scale, "phase": phase.split("_")[0], **known}
        read = read_section(name, placed, struct)
        if placed["phase"] == "train":
            for option in ("batch_size_per_gpu", "num_worker_per_gpu"):
                if getattr(read, option) is None:
                    raise ValueError(f"{name}.{option} is missing: it must be a whole number")
            if read.prefetch_mode == "cuda" and not read.pin_memory:
                raise ValueError(f"{name}.prefetch_mode: cuda needs {name}.pin_memory: true, got {read.pin_memory!r}")


def _known(section: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: section[key] for key in keys if key in section}


def _check_train(train: TrainOptions) -> None:
    optimizer = find_optimizer(train.optim_g.get("type"))
    check_part("train.optim_g", train.optim_g, optimizer, skip=("params",))
    settings = {key: value for key, value in train.optim_g.items() if key != "type"}
    if "lr" not in settings:
        raise ValueError("train.optim_g.lr is missing: it must be a number > 0")
    if settings["lr"] == 0:
        raise ValueError("train.optim_g.lr must be a number > 0, got 0: nothing would be learned")
    rate = float(settings["lr"])
    parameter = torch.nn.Parameter(torch.zeros(1))
    _try("train.optim_g", settings, lambda given: optimizer([parameter], **given))

    scheduler = find_scheduler(train.scheduler.get("type"))
    filled = {"total_iter": int} if scheduler is LinearWarmupCosineLR else {}  # the run's, if it is left out
    skip = ("optimizer", "last_epoch", *filled)
    check_part("train.scheduler", train.scheduler, scheduler, skip=skip, extra=filled)
    settings = {key: value for key, value in train.scheduler.items() if key != "type"}
    if scheduler is LinearWarmupCosineLR:
        settings.setdefault("total_iter", train.total_iter)
        if train.warmup_iter > 0:
            raise ValueError(
                f"train.warmup_iter must be -1 with LinearWarmupCosineLR, which has its own, got {train.warmup_iter}"
            )

    def schedule(given: Mapping[str, Any]) -> None:
        require_rates(scheduler(torch.optim.SGD([parameter], lr=rate), **given), train.total_iter)

    _try("train.scheduler", settings, schedule)

    for section, loss in train.loss_options().items():
        _check_loss(section, loss)


def _check_loss(section: str, loss: LossOptions) -> None:
    from basicsr.utils.registry import LOSS_REGISTRY

    from basicsr_plugin.losses.distillation import DISTILLATION
    from basicsr_plugin.losses.routing_losses import ROUTING_LOSS_REGISTRY

    if loss.type == DISTILLATION:
        _check_distillation(section, loss)
        return
    on_routing = loss.type in ROUTING_LOSS_REGISTRY
    known = [*LOSS_REGISTRY.keys(), *ROUTING_LOSS_REGISTRY.keys(), DISTILLATION]
    if loss.type not in known:
        raise ValueError(f"{section}.type is {loss.type!r}, which is not registered{suggest(loss.type, known)}")
    function = (ROUTING_LOSS_REGISTRY if on_routing else LOSS_REGISTRY).get(loss.type)
    check_part(section, loss.settings, function, skip=("routings", "net", "tasks", "loss_weight"))
    if on_routing and loss.stages is not None:
        raise ValueError(f"{section}.stages is for losses on the picture, got {loss.stages!r} for {loss.type}")
    if loss.type == "PerceptualLoss":  # building it would load the weights of VGG
        _check_layers(section, loss.settings)
    elif not on_routing:
        _try(section, loss.settings, lambda given: function(**given))


def _check_distillation(section: str, loss: LossOptions) -> None:
    from basicsr_plugin.losses.distillation import Distillation, check_teacher

    check_part(section, loss.settings, Distillation, skip=())
    if loss.settings.get("of") == "clusters" and loss.stages is not None:
        raise ValueError(f"{section}.stages is for losses on the picture, got {loss.stages!r} beside of: clusters")
    try:
        check_teacher(loss.settings["teacher"])
    except ValueError as error:
        raise ValueError(f"{section}.{error}") from error


def _check_layers(section: str, settings: Mapping[str, Any]) -> None:
    from basicsr.archs.vgg_arch import NAMES, insert_bn

    kind = settings.get("vgg_type", "vgg19")
    names = NAMES.get(kind.removesuffix("_bn"))
    if names is None:
        raise ValueError(f"{section}.vgg_type must be one of {', '.join(NAMES)}, or that with _bn, got {kind!r}")
    known = insert_bn(names) if kind.endswith("_bn") else names
    for layer in settings["layer_weights"]:
        if layer not in known:
            raise ValueError(f"{section}.layer_weights: {kind} has no layer {layer!r}{suggest(str(layer), known)}")


def _check_metric(section: str, metric: MetricOptions) -> None:
    from basicsr.utils.registry import METRIC_REGISTRY

    function = _lookup(METRIC_REGISTRY, metric.type, section)
    # BasicSR's metrics take `**kwargs` only to ignore them; elsewhere they may mean something.
    known = function.__module__.split(".")[0] in ("basicsr", "basicsr_plugin")
    check_part(section, metric.settings, function, skip=("img", "img2", "better"), open_ended=not known)
    if hasattr(function, "require"):
        _try(section, metric.settings, lambda given: function.require(**given))
