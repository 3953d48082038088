"""Where the plugin meets BasicSR's functions and scripts: what is replaced in them, and where it is not.

Functions that fail here for everybody are replaced on BasicSR's modules (:func:`install`). In a training script, a copy
of BasicSR's ``train.py`` or a changed one, a name is replaced only if it still refers to BasicSR's object: what the
script itself defines stays.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import multiprocessing
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import yaml

from basicsr_plugin.compat.seeds import fold_seed, seed_everything
from basicsr_plugin.options import files
from basicsr_plugin.options.schema import is_ours
from basicsr_plugin.run.context import RunContext
from basicsr_plugin.run.dry_run import try_out
from basicsr_plugin.run.folders import make_folders
from basicsr_plugin.run.lock import RunLock
from basicsr_plugin.run.preflight import check_folders, read_options
from basicsr_plugin.run.resume import load_resume_state

__all__ = ["Arguments", "asks_for_ours", "install", "parse", "take_arguments"]

_SCRIPTS = ("__main__", "basicsr.train", "basicsr.test")
"""Modules whose names may be BasicSR's own: the script that runs, or the modules that it calls."""


def install() -> None:
    """Replace the functions of BasicSR that fail here; calling it again does nothing."""
    options = importlib.import_module("basicsr.utils.options")
    if getattr(options.parse_options, "stands_for", None) is not None:
        return
    # Option files are data: BasicSR's loader would run any code named in them by a `!!python/...` tag.
    options.ordered_yaml = files.ordered_yaml
    options.set_random_seed = seed_everything
    # Distributed training without CUDA divides by the number of GPUs, 0.
    options.init_dist = _adapt_init_dist(options.init_dist)
    data = importlib.import_module("basicsr.data")
    if hasattr(data, "worker_init_fn"):
        data.worker_init_fn = _seed_worker
    # An error while loading in a thread would leave the training waiting forever.
    importlib.import_module("basicsr_plugin.data.prefetching").install()
    original = options.parse_options
    options.parse_options = _adapt_parse_options(original)
    for module in _scripts():
        if getattr(module, "parse_options", None) is original:
            module.parse_options = options.parse_options


class Arguments(argparse.Namespace):
    """Arguments that BasicSR does not know, or reads unsafely.

    Attributes:
        force: Take a run's folder from its owner.
        check: Try everything once and end.
        force_yml: Single options, see :func:`files.override`.
    """

    force: bool
    check: bool
    force_yml: list[str]


def take_arguments(argv: list[str]) -> tuple[Arguments, list[str]]:
    """Split the plugin's own arguments off a command line.

    Args:
        argv: Arguments, program name included.

    Returns:
        They, and the others, in which ``-opt`` names a file that exists.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--force_yml", nargs="+", default=[])
    known, others = parser.parse_known_args(argv[1:], namespace=Arguments())
    return known, files.resolve_arguments([argv[0], *others])


def asks_for_ours(argv: list[str]) -> bool:
    """Whether a command line asks for a run of the plugin's own model."""
    own, others = take_arguments(argv)
    for position, argument in enumerate(others):
        name, _, path = argument.partition("=")
        if name == "-opt":
            with open(path or others[position + 1], encoding="utf-8") as file:
                opt = yaml.load(file, Loader=files.OptionLoader)  # noqa: S506 - a safe loader
            files.override(opt, own.force_yml)
            return isinstance(opt, dict) and is_ours(opt)
    return False


def parse(root: str, *, is_train: bool = True) -> tuple[dict[str, Any], Any, Arguments]:
    """Options of the run that the command line asks for, checked; nothing has been made yet.

    Args:
        root: Folder of ``experiments``, ``results`` and ``tb_logger``.
        is_train: Whether it is a training.

    Returns:
        Options and arguments as BasicSR's ``parse_options`` gives them, and the plugin's own arguments.

    Raises:
        SystemExit: The command line asked to try out only, and all went well.
    """
    options = importlib.import_module("basicsr.utils.options")
    own, sys.argv = take_arguments(sys.argv)
    loader, dumper = files.ordered_yaml()

    class Loader(loader):  # type: ignore[misc, valid-type]
        """Loader of this run's file: single options of the command line are set, and all values are checked."""

        def get_single_data(self) -> Any:
            opt = super().get_single_data()
            if not isinstance(opt, dict):
                raise ValueError(f"an option file is a mapping of sections, got {opt!r}")
            _require_single(self.duplicates, opt)
            files.override(opt, own.force_yml)
            if is_ours(opt):
                if opt.get("path") is None:
                    opt["path"] = {}
                read_options({**opt, "is_train": is_train})
            return opt

    options.ordered_yaml = lambda: (Loader, dumper)
    try:
        opt, args = options.parse_options.stands_for(root, is_train=is_train)
    finally:
        options.ordered_yaml = files.ordered_yaml
    _fit_to_machine(opt)
    if is_ours(opt):
        _fill_in(opt)
        check_folders(opt, root)
        read_options(opt)
    if own.check:
        try_out(opt)
        raise SystemExit(0)
    return opt, args, own


def _require_single(duplicates: list[str], opt: dict[str, Any]) -> None:
    """Keys that stand twice are an error; for other models, whose files BasicSR takes, a warning."""
    if duplicates and is_ours(opt):
        raise ValueError(f"the option file sets a key more than once: {'; '.join(duplicates)}")
    for duplicate in duplicates:
        warnings.warn(f"in the option file {duplicate}; the later value counts", stacklevel=2)


def _fill_in(opt: dict[str, Any]) -> None:
    """Defaults of options that BasicSR's loop reads without one."""
    if opt.get("val") is not None:
        opt["val"].setdefault("save_img", False)
        opt["val"].setdefault("suffix", None)
    if opt.get("logger") is not None:
        opt["logger"].setdefault("print_freq", 100)
        opt["logger"].setdefault("use_tb_logger", False)


def _fit_to_machine(opt: dict[str, Any]) -> None:
    """Change options that need CUDA where there is none: BasicSR fails on each of them."""
    import torch

    if torch.cuda.is_available():
        return
    if opt["num_gpu"] != 0:
        warnings.warn(f"num_gpu is {opt['num_gpu']} but CUDA is not available: running on the CPU", stacklevel=4)
        opt["num_gpu"] = 0
    for dataset in opt["datasets"].values():
        if dataset.get("prefetch_mode") == "cuda":
            dataset["prefetch_mode"] = None
        if dataset.get("pin_memory"):
            dataset["pin_memory"] = False


def _adapt_init_dist(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap BasicSR's ``init_dist``: gloo without CUDA, and the platform's own way of starting loader workers."""

    def init_dist(launcher: str, **kwargs: Any) -> None:
        import torch

        # BasicSR forces "spawn" where nothing is set: every epoch's workers would import BasicSR anew, unrepaired.
        # Asking for the method settles it.
        multiprocessing.get_start_method()
        if launcher == "pytorch" and not torch.cuda.is_available():
            torch.distributed.init_process_group(backend="gloo")
        else:
            original(launcher, **kwargs)

    return init_dist


def _seed_worker(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    """As BasicSR's ``worker_init_fn``, for seeds of any size."""
    folded = fold_seed(num_workers * rank + worker_id + seed)
    np.random.seed(folded)  # noqa: NPY002 - the generator that BasicSR draws from
    random.seed(folded)


def _adapt_parse_options(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap BasicSR's ``parse_options``, the first thing that its training and test scripts call."""

    @functools.wraps(original)
    def parse_options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], Any]:
        opt, args, own = parse(root_path, is_train=is_train)
        for module in _scripts():
            if getattr(module, "parse_options", None) in (parse_options, original):
                _adapt_script(module, opt, own)
        return opt, args

    parse_options.stands_for = original  # type: ignore[attr-defined]
    return parse_options


def _scripts() -> Iterator[ModuleType]:
    found = {id(module): module for name in _SCRIPTS if (module := sys.modules.get(name)) is not None}
    yield from found.values()


def _adapt_script(script: ModuleType, opt: dict[str, Any], own: Arguments) -> None:
    """Exchange names of a script that still are BasicSR's own objects.

    Loading of the resume state and the making of folders are repaired for every model. A training of the plugin's own
    model also gets a sampler that continues within the interrupted epoch, data sets whose random numbers depend on the
    sample alone, and an orderly end at SIGTERM and SIGINT.
    """
    for name, held in list(vars(script).items()):  # of a run before this one
        if name != "parse_options" and hasattr(held, "stands_for"):
            setattr(script, name, held.stands_for)
    context = RunContext()
    resumed_from: dict[str, Any] = {}
    replacements = _repairs(opt, own, resumed_from)
    ours = is_ours(opt) and opt["is_train"]
    if ours:
        replacements |= _exact_resuming(opt, context, resumed_from)
        context.signals.watch()
    kept = [name for name, replacement in replacements.items() if not _exchange(script, name, replacement)]
    if ours and kept:
        warnings.warn(
            f"the script has its own {', '.join(kept)}, which {'is' if len(kept) == 1 else 'are'} used: exact resuming "
            "and an orderly end at SIGTERM are not promised",
            stacklevel=4,
        )


def _repairs(opt: dict[str, Any], own: Arguments, resumed_from: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    def load_state(opt: dict[str, Any]) -> dict[str, Any] | None:
        if opt["rank"] == 0 and (opt["auto_resume"] or opt["path"].get("resume_state")):
            RunLock(opt["path"]["experiments_root"], force=own.force)
        state = load_resume_state(opt)
        if state is not None:
            resumed_from.update(
                start_epoch=state["epoch"], start_iteration=state["iter"], interrupted=state.get("sampler")
            )
        return state

    return {
        "load_resume_state": load_state,
        "make_exp_dirs": lambda opt: make_folders(opt, force=own.force),
    }


def _exact_resuming(
    opt: dict[str, Any], context: RunContext, resumed_from: dict[str, Any]
) -> dict[str, Callable[..., Any]]:
    from basicsr.data import build_dataloader
    from basicsr.models import build_model
    from basicsr.utils import init_tb_logger

    from basicsr_plugin.run.data import build_sampler, build_seeded_dataset

    def build_observed_loader(dataset: Any, dataset_opt: dict[str, Any], **kwargs: Any) -> Any:
        loader = build_dataloader(dataset, dataset_opt, **kwargs)
        if dataset_opt["phase"] != "train":
            context.val_loaders.append(loader)
        return loader

    def init_observed_logger(*args: Any, **kwargs: Any) -> Any:
        context.tb_logger = init_tb_logger(*args, **kwargs)
        return context.tb_logger

    def build_observed_model(opt: dict[str, Any]) -> Any:
        model = build_model(opt)
        model.join(context)
        return model

    return {
        "build_dataset": lambda section: build_seeded_dataset(section, opt),
        "EnlargedSampler": lambda dataset, *args: build_sampler(dataset, opt, context, resumed_from),
        "build_dataloader": build_observed_loader,
        "init_tb_logger": init_observed_logger,
        "build_model": build_observed_model,
    }


def _exchange(script: ModuleType, name: str, replacement: Callable[..., Any]) -> bool:
    """Exchange a name of a script; whether it was BasicSR's own, or is not there."""
    held = getattr(script, name, None)
    if held is None:
        return True
    own = _basicsr_object(name)
    if held is not own and not _has_code_of(held, own):
        return False
    replacement.stands_for = held  # type: ignore[attr-defined]
    setattr(script, name, replacement)
    return True


def _basicsr_object(name: str) -> Any:
    """The object of BasicSR that its ``train.py`` has under a name."""
    module = importlib.import_module("basicsr.train")
    held = getattr(module, name, None)
    return getattr(held, "stands_for", held)


def _has_code_of(function: Any, other: Any) -> bool:
    """Whether a function of a script is a copy of BasicSR's, wherever in its file it stands."""
    codes = [getattr(candidate, "__code__", None) for candidate in (function, other)]
    return all(isinstance(code, CodeType) for code in codes) and _content(codes[0]) == _content(codes[1])


def _content(code: Any) -> tuple[Any, ...]:
    constants = tuple(_content(part) if isinstance(part, CodeType) else part for part in code.co_consts)
    return code.co_code, code.co_names, code.co_varnames, constants
