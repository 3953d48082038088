"""Finding and loading the state that a run continues from."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from basicsr_plugin import checkpoints

__all__ = ["load_resume_state"]

_FOLDERS = ("experiments_root", "models", "training_states", "visualization", "log")


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """State to resume from, or None; stands in for BasicSR's function of the same name.

    Differs from it in four ways. Tensors are loaded to the CPU, so that machines without CUDA can resume and GPU memory
    is not held twice. ``--auto_resume`` looks in the run's own folder, not in that of the same name below the working
    directory, and takes the newest state that is complete: both the state and its weights can be read. The weights are
    those that were saved beside the state, wherever that is. The seed is the interrupted run's.

    Args:
        opt: Parsed options; the paths of the weights and the seed are set in them.

    Raises:
        ValueError: A state was asked for or found, but none is complete.
    """
    candidates: list[Path] = []
    if opt["auto_resume"]:
        candidates = checkpoints.list_states(Path(opt["path"]["training_states"]))
    if not candidates and opt["path"].get("resume_state"):
        candidates = [Path(opt["path"]["resume_state"])]
    if not candidates:
        return None

    failures = []
    for path in candidates:
        try:
            state, weights = _read_complete(path, opt)
        except (OSError, ValueError) as error:
            failures.append(f"cannot resume from {path}: {error}")
            continue
        for failure in failures:
            warnings.warn(f"{failure}; taking an older state", stacklevel=2)
        _continue_from(path, state, weights, opt)
        return state
    raise ValueError("\n".join(failures))


def _read_complete(path: Path, opt: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Path]]:
    """State and, by the name of the network's section, the file of its weights."""
    state = checkpoints.read_state(path)
    ignored = opt["path"].get("ignore_resume_networks") or ()
    networks = [name for name in opt if name.startswith("network_") and name not in ignored]
    preferred = opt["logger"].get("save_checkpoint_format", "pth")
    weights = {}
    for network in networks:
        stem = f"net_{network.removeprefix('network_')}_{state['iter']}"
        weights[network] = checkpoints.find_weights(path.absolute().parent.parent / "models", stem, preferred)
        checkpoints.read_weights(weights[network], param_key="params")
    return state, weights


def _continue_from(path: Path, state: dict[str, Any], weights: dict[str, Path], opt: dict[str, Any]) -> None:
    from basicsr.utils import check_resume

    opt["path"]["resume_state"] = os.fspath(path)
    check_resume(opt, state["iter"])
    for network, file in weights.items():
        opt["path"][f"pretrain_{network}"] = os.fspath(file)
    seed = state.get("manual_seed", opt["manual_seed"])
    if seed != opt["manual_seed"]:
        warnings.warn(f"manual_seed {opt['manual_seed']} gives way to the interrupted run's, {seed}", stacklevel=3)
        opt["manual_seed"] = seed
    # BasicSR makes the folders of new runs only; a state from elsewhere continues in this run's folder.
    if opt["rank"] == 0:
        for name in _FOLDERS:
            os.makedirs(opt["path"][name], exist_ok=True)
