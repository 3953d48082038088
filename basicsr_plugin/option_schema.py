"""Check of the options of a RestorationModel run: a misspelled key is an error, not a setting that does nothing."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["MODEL_TYPE", "check_options", "check_section", "is_ours", "parameter_names"]

MODEL_TYPE = "RestorationModel"

_ROOT = (
    "name model_type scale num_gpu manual_seed datasets network_g path train val logger dist_params "
    "find_unused_parameters auto_resume is_train dist rank world_size root_path"
).split()
_PATH = (
    "pretrain_network_g param_key_g strict_load_g resume_state ignore_resume_networks "
    "experiments_root models training_states log visualization results_root"
).split()
_TRAIN = (
    "total_iter warmup_iter ema_decay optim_g scheduler pixel_opt edge_opt perceptual_opt stage_weights balance_opt "
    "orthogonality_opt information_opt amp accum_iter grad_clip grad_clip_max_norm compile cuda_graph "
    "channels_last grad_checkpointing max_skipped_steps"
).split()
_VAL = "val_freq save_img suffix pbar metrics window_size tile_size tile_overlap".split()
_LOGGER = "print_freq save_checkpoint_freq save_checkpoint_format use_tb_logger wandb".split()
_WANDB = ("project", "resume_id")
_CRITERIA = ("pixel_opt", "edge_opt", "perceptual_opt")
_ROUTING_TERMS = {
    "balance_opt": ("loss_weight", "all_reduce"),
    "orthogonality_opt": ("loss_weight",),
    "information_opt": ("loss_weight", "all_reduce"),
}
_ANY_DATASET = (
    "name type phase scale batch_size_per_gpu num_worker_per_gpu dataset_enlarge_ratio prefetch_mode "
    "num_prefetch_queue pin_memory persistent_workers mini_batch_sizes iters gt_sizes"
).split()


def is_ours(opt: Mapping[str, Any]) -> bool:
    """Whether the options are for the plugin's own model; those for other models are left alone."""
    return opt.get("model_type") == MODEL_TYPE


def check_options(opt: Mapping[str, Any]) -> None:
    """Refuse keys that nothing reads.

    Constructor arguments are read off the registered classes and functions. Sections of data sets are checked if their
    class names its options in an attribute ``option_keys``.

    Args:
        opt: Options as BasicSR's ``parse_options`` returns them.

    Raises:
        ValueError: A section has an unknown key; the message names both, and the nearest known key.
    """
    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY

    check_section("the option file", opt, _ROOT)
    check_section("path", opt.get("path"), _PATH)
    _check_call("network_g", opt.get("network_g"), ARCH_REGISTRY)
    for phase, dataset in opt.get("datasets", {}).items():
        keys = getattr(_lookup(DATASET_REGISTRY, dataset, f"datasets.{phase}"), "option_keys", None)
        if keys is not None:
            check_section(f"datasets.{phase}", dataset, {*_ANY_DATASET, *keys})
    _check_train(opt.get("train"))
    _check_val(opt.get("val"))
    check_section("logger", opt.get("logger"), _LOGGER)
    check_section("logger.wandb", (opt.get("logger") or {}).get("wandb"), _WANDB)


def _check_train(train: Mapping[str, Any] | None) -> None:
    from basicsr.utils.registry import LOSS_REGISTRY

    from basicsr_plugin.models import _optimizers, _schedulers

    if train is None:
        return
    check_section("train", train, _TRAIN)
    for name in _CRITERIA:
        _check_call(f"train.{name}", train.get(name), LOSS_REGISTRY)
    for name, accepted in _ROUTING_TERMS.items():
        check_section(f"train.{name}", train.get(name), accepted)
    for name, find in (("optim_g", _optimizers.find_optimizer), ("scheduler", _schedulers.find_scheduler)):
        section = train.get(name)
        if section is not None:
            accepted = parameter_names(find(section.get("type")), skip=("params", "optimizer", "last_epoch"))
            check_section(f"train.{name}", section, {"type", *(accepted or ())})


def _check_val(val: Mapping[str, Any] | None) -> None:
    from basicsr.utils.registry import METRIC_REGISTRY

    if val is None:
        return
    check_section("val", val, _VAL)
    for name, metric in (val.get("metrics") or {}).items():
        section = f"val.metrics.{name}"
        function = _lookup(METRIC_REGISTRY, metric, section)
        # BasicSR's metrics take `**kwargs` only to ignore them; elsewhere they may mean something.
        known = function.__module__.split(".")[0] in ("basicsr", "basicsr_plugin")
        accepted = parameter_names(function, skip=("img", "img2"), open_ended=not known)
        if accepted is not None:
            check_section(section, metric, {"type", "better", *accepted})


def _check_call(section: str, options: Mapping[str, Any] | None, registry: Any) -> None:
    """Check the options that a registered class or function is called with."""
    if options is None:
        return
    accepted = parameter_names(_lookup(registry, options, section))
    if accepted is not None:
        check_section(section, options, {"type", *accepted})


def _lookup(registry: Any, options: Mapping[str, Any], section: str) -> Callable[..., Any]:
    name = options.get("type")
    known = list(registry.keys())
    if name not in known:
        raise ValueError(f"{section}.type is {name!r}, which is not registered{_suggest(str(name), known)}")
    found: Callable[..., Any] = registry.get(name)
    return found


def parameter_names(
    function: Callable[..., Any], *, skip: Iterable[str] = (), open_ended: bool = True
) -> set[str] | None:
    """Names of the arguments that a class or function takes.

    Args:
        function: A function that takes ``**overrides`` for a class that its annotation says it returns has the names of
            that class; a class that passes ``**settings`` on names them in its ``defaults()``.
        skip: Names to leave out.
        open_ended: Whether other ``**kwargs`` mean that any name is taken.

    Returns:
        The names, or None if any name is taken.
    """
    parameters = inspect.signature(function).parameters.values()
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - set(skip)
    if open_ended and any(p.kind is p.VAR_KEYWORD for p in parameters):
        if hasattr(function, "defaults"):  # a network that names what it passes on
            return names | set(function.defaults())
        made = None if inspect.isclass(function) else typing.get_type_hints(function).get("return")
        inner = parameter_names(made) if inspect.isclass(made) else None
        return None if inner is None else names | inner
    return names


def check_section(section: str, options: Mapping[str, Any] | None, accepted: Iterable[str]) -> None:
    """Refuse keys of one section that are not accepted.

    Raises:
        ValueError: There is one.
    """
    accepted = sorted(accepted)
    for key in options or ():
        if key not in accepted:
            raise ValueError(f"unknown option {key!r} in {section}{_suggest(str(key), accepted)}")


def _suggest(given: str, accepted: Iterable[str]) -> str:
    accepted = list(accepted)
    nearest = difflib.get_close_matches(given, accepted, n=1, cutoff=0.0)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{hint} (accepted: {', '.join(accepted)})"
