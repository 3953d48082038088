"""Files of weights and training states: written whole or not at all, read without running code."""

from __future__ import annotations

import os
import pickle
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "FORMATS",
    "find_weights",
    "fit_weights",
    "list_states",
    "read_state",
    "read_weights",
    "write_state",
    "write_weights",
]

FORMATS = ("pth", "safetensors")
_WRAPPINGS = ("params", "params_ema", "state_dict")
_PREFIXES = ("module.", "_orig_mod.", "net.")
_ATTEMPTS = 3
_NAMES_SHOWN = 5


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """Write a training state.

    Raises:
        OSError: The file cannot be written; an older one of the same name is left as it was.
    """
    _write_whole(lambda target: torch.save(dict(state), target), path)


def write_weights(weights: Mapping[str, Mapping[str, Tensor]], folder: Path, stem: str, file_format: str) -> None:
    """Write the weights of a network.

    Args:
        weights: State dicts by kind: "params", and "params_ema" if there is a moving average.
        folder: Where to.
        stem: File name without suffix, such as "net_g_5000".
        file_format: "pth" writes ``<stem>.pth`` with all kinds, as BasicSR does. "safetensors" writes a plain state
            dict for each: ``<stem>.safetensors``, and the average as ``net_g_ema_5000.safetensors``.

    Raises:
        OSError: A file cannot be written; an older one of the same name is left as it was.
    """
    plain = {kind: {name: t.detach().cpu().contiguous() for name, t in sd.items()} for kind, sd in weights.items()}
    if file_format == "pth":
        _write_whole(lambda target: torch.save(plain, target), folder / f"{stem}.pth")
        return
    from safetensors.torch import save_file

    for kind, tensors in plain.items():
        name = stem if kind == "params" else _ema_stem(stem)
        _write_whole(
            lambda target, tensors=tensors: save_file(tensors, target, metadata={"format": "pt"}),
            folder / f"{name}.safetensors",
        )


def _ema_stem(stem: str) -> str:
    network, _, iteration = stem.rpartition("_")
    return f"{network}_ema_{iteration}"


def _write_whole(write: Callable[[Path], None], path: Path) -> None:
    """Write beside ``path``, force the bytes to disk, then rename: readers see the old file or the new one."""
    temporary = path.with_name(f"{path.name}.tmp")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            write(temporary)
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
        except Exception as error:
            _remove_if_there(temporary)
            if attempt == _ATTEMPTS:
                raise OSError(f"cannot write {path}: {error}") from error
            warnings.warn(f"cannot write {path}, trying again: {error}", stacklevel=3)
            time.sleep(1)
        except BaseException:
            _remove_if_there(temporary)
            raise
        else:
            return


def _remove_if_there(path: Path) -> None:
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_states(folder: Path) -> list[Path]:
    """Training states ``<iteration>.state`` in a folder, newest iteration first; none if the folder is missing."""
    states = [path for path in folder.glob("*.state") if path.stem.isdigit()]
    return sorted(states, key=lambda path: int(path.stem), reverse=True)


def read_state(path: Path) -> dict[str, Any]:
    """Load a training state to the CPU.

    Raises:
        OSError: There is no such file.
        ValueError: The file is damaged, or holds Python objects besides tensors and plain data.
    """
    state = _load_tensors(path)
    missing = [key for key in ("epoch", "iter", "optimizers", "schedulers") if key not in state]
    if missing:
        raise ValueError(f"{path} is not a training state: it has no {', '.join(missing)}")
    return state


def find_weights(folder: Path, stem: str, preferred: str) -> Path:
    """File of a network's weights in either format.

    Raises:
        FileNotFoundError: There is none.
    """
    for file_format in (preferred, *FORMATS):
        path = folder / f"{stem}.{file_format}"
        if path.is_file():
            return path
    raise FileNotFoundError(f"no weights {stem}.pth or {stem}.safetensors in {folder}")


def read_weights(path: Path, *, param_key: str | None) -> dict[str, Tensor]:
    """State dict in a file, as it was saved, on the CPU.

    Args:
        path: A ``.safetensors`` file, or anything that ``torch.save`` wrote.
        param_key: Which of several state dicts: "params" or "params_ema". If the file has no such entry, the one of
            "params", "params_ema" and "state_dict" that it has is taken, else the whole file. A safetensors file holds
            one state dict only; "params_ema" then means the file written beside it for the average, if there is one.

    Raises:
        OSError: There is no such file.
        ValueError: The file is damaged, holds Python objects other than tensors, or holds no state dict.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        average = path.with_name(f"{_ema_stem(path.stem)}.safetensors")
        source = average if param_key == "params_ema" and average.is_file() else path
        try:
            return dict(load_file(source))
        except SafetensorError as error:
            raise ValueError(f"{source} is damaged: {error}") from error
    content = _load_tensors(path)
    for key in (param_key, *_WRAPPINGS):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds no state dict: its entries are {_shorten(list(map(str, content)))}")
    return content


def _load_tensors(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, AttributeError) as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise ValueError(
                f"{path} is refused: it holds Python objects other than tensors and plain data, and loading such a "
                "file can run any code. If you trust its origin, load it yourself and save its state dict alone "
                f"({str(error).strip().splitlines()[-1].strip()})"
            ) from error
        raise ValueError(f"{path} is damaged or no checkpoint: {_first_line(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict")
    return content


def fit_weights(
    loaded: Mapping[str, Tensor], own: Mapping[str, Tensor], *, strict: bool, source: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """Make a loaded state dict fit a network: take prefixes of wrappers off, and compare names and sizes.

    Args:
        loaded: State dict from a file.
        own: State dict of the network.
        strict: Whether every name and size must agree; otherwise only what agrees is returned.
        source: The file, for messages.

    Returns:
        The entries to load, and what differs, a line each.

    Raises:
        ValueError: Something differs and ``strict`` holds, or nothing agrees.
    """
    entries = dict(loaded)
    for prefix in _PREFIXES:
        wrapped = {name: t for name, t in entries.items() if name.startswith(prefix)}
        if wrapped and not any(name.startswith(prefix) for name in own):
            entries = {name.removeprefix(prefix): t for name, t in wrapped.items()}
    missing = sorted(own.keys() - entries.keys())
    unexpected = sorted(entries.keys() - own.keys())
    resized = sorted(name for name in own.keys() & entries.keys() if own[name].shape != entries[name].shape)
    differences = []
    if missing:
        differences.append(f"the file lacks {len(missing)} of {len(own)} entries: {_shorten(missing)}")
    if unexpected:
        differences.append(f"the network has no {len(unexpected)} of the file's: {_shorten(unexpected)}")
    differences.extend(
        f"{name} has shape {tuple(own[name].shape)} in the network, {tuple(entries[name].shape)} in the file"
        for name in resized[:_NAMES_SHOWN]
    )
    if len(resized) > _NAMES_SHOWN:
        differences.append(f"{len(resized) - _NAMES_SHOWN} more entries differ in shape")
    fitting = {name: t for name, t in entries.items() if name in own and name not in set(resized)}
    if differences and (strict or not fitting):
        raise ValueError(f"{source} does not fit the network:\n  " + "\n  ".join(differences))
    return fitting, differences


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _shorten(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown}, ..."
