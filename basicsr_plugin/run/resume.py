"""Finding and loading the state that a run continues from."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch

from basicsr_plugin.run import states as checkpoints

__all__ = ["load_resume_state"]

_FOLDERS = ("experiments_root", "models", "training_states", "visualization", "log")


def load_resume_state(opt: dict[str, Any], *, make: bool = True) -> dict[str, Any] | None:
    """State to resume from, or None; stands in for BasicSR's function of the same name.

    Differs from it in five ways. Tensors are loaded to the CPU, so that machines without CUDA can resume and GPU memory
    is not held twice. ``--auto_resume`` looks in the run's own folder, not in that of the same name below the working
    directory, and takes the newest state that is complete: both the state and its weights can be read. The weights are
    those that were saved beside the state, wherever that is. The seed is the interrupted run's. Of several processes
    the first one chooses for all.

    Args:
        opt: Parsed options; the paths of the weights and the seed are set in them.
        make: Whether to make the folders of the run.

    Raises:
        ValueError: A state was asked for or found, but none is complete.
    """
    if not opt.get("dist"):
        return _resume_from(_find_complete(opt), opt, make)
    chosen = [_find_complete(opt) if opt["rank"] == 0 else None]
    torch.distributed.broadcast_object_list(chosen, src=0)
    return _resume_from(chosen[0], opt, make)


def _find_complete(opt: dict[str, Any]) -> Path | None:
    """Newest complete state, or None if there is no state at all."""
    candidates: list[Path] = []
    if opt["auto_resume"]:
        candidates = checkpoints.list_states(Path(opt["path"]["training_states"]))
    if not candidates and opt["path"].get("resume_state"):
        candidates = [Path(opt["path"]["resume_state"])]
    failures = []
    for path in candidates:
        try:
            _read_complete(path, opt)
        except (OSError, ValueError) as error:
            failures.append(f"cannot resume from {path.name}: {error}")
            continue
        for failure in failures:
            warnings.warn(f"{failure}; taking an older state", stacklevel=3)
        return path
    if failures:
        raise ValueError("\n".join(failures))
    return None


def _resume_from(path: Path | None, opt: dict[str, Any], make: bool) -> dict[str, Any] | None:
    if path is None:
        return None
    state, weights = _read_complete(path, opt)
    _continue_from(path, state, weights, opt)
    # BasicSR makes the folders of new runs only; a state from elsewhere continues in this run's folder.
    for name in _FOLDERS if make else ():
        os.makedirs(opt["path"][name], exist_ok=True)
    return state


def _read_complete(path: Path, opt: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Path]]:
    """State and, by the name of the network's section, the file of its weights."""
    state = checkpoints.read_state(path)
    ignored = opt["path"].get("ignore_resume_networks") or ()
    networks = [name for name in opt if name.startswith("network_") and name not in ignored]
    preferred = opt["logger"].get("save_checkpoint_format", "pth")
    weights = {}
    for network in networks:
        stem = f"net_{network.removeprefix('network_')}_{state['iter']}"
        file = checkpoints.find_weights(path.absolute().parent.parent / "models", stem, preferred)
        checkpoints.read_weights(file, param_key="params")
        if state.get("averaged"):
            if not checkpoints.has_average(file):
                raise ValueError(f"{file} lacks the moving average that belongs to the state")
            checkpoints.read_weights(file, param_key="params_ema")
        weights[network] = file
    return state, weights


def _continue_from(path: Path, state: dict[str, Any], weights: dict[str, Path], opt: dict[str, Any]) -> None:
    opt["path"]["resume_state"] = os.fspath(path)
    for network, file in weights.items():
        opt["path"][f"pretrain_{network}"] = os.fspath(file)
    for name, key in opt["path"].items():
        if name.startswith("param_key") and key == "params_ema":  # the trained weights go on, not their average
            opt["path"][name] = "params"
    seed = state.get("manual_seed", opt["manual_seed"])
    if seed != opt["manual_seed"]:
        warnings.warn(f"manual_seed {opt['manual_seed']} gives way to the interrupted run's, {seed}", stacklevel=3)
        opt["manual_seed"] = seed
