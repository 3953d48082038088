"""Files of weights and training states: written whole or not at all, read without running code."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from basicsr_plugin.options.schema import FORMATS
from clusir_modules.serialization.checkpoints import (
    CHECKSUM,
    checksum,
    fit_state_dict,
    read_checkpoint,
    read_state_dict,
)

__all__ = [
    "FORMATS",
    "States",
    "find_weights",
    "has_average",
    "list_states",
    "load_into",
    "read_state",
    "read_weights",
    "write_state",
    "write_weights",
]

_ATTEMPTS = 3
_LASTING = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR}
)
"""Errors that another attempt a second later will meet again."""
_UNSYNCED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What file systems answer that cannot force a file to disk, such as shares of Windows."""


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """Write a training state.

    Raises:
        OSError: The file cannot be written; an older one of the same name is left as it was.
    """
    _write_whole(lambda file: torch.save(dict(state), file), path)


def write_weights(
    weights: Mapping[str, Mapping[str, Tensor]],
    folder: Path,
    stem: str,
    file_format: str,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the weights of a network.

    Args:
        weights: State dicts by kind: "params", and "params_ema" if there is a moving average.
        folder: Where to.
        stem: File name without suffix, such as "net_g_5000".
        file_format: "pth" writes ``<stem>.pth`` with all kinds, as BasicSR does. "safetensors" writes a plain state
            dict for each: ``<stem>.safetensors``, and the average as ``net_g_ema_5000.safetensors``.
        metadata: What safetensors files say of the network, see ``clusir_modules.serialization.network_files``.

    Raises:
        OSError: A file cannot be written; an older one of the same name is left as it was.
    """
    plain = {kind: {name: t.detach().cpu().contiguous() for name, t in sd.items()} for kind, sd in weights.items()}
    if file_format == "pth":
        _write_whole(lambda file: torch.save(plain, file), folder / f"{stem}.pth")
        return
    from safetensors.torch import save

    for kind, tensors in plain.items():
        name = stem if kind == "params" else _ema_stem(stem)
        content = save(tensors, metadata={"format": "pt", **(metadata or {}), CHECKSUM: checksum(tensors)})
        _write_whole(lambda file, content=content: file.write(content), folder / f"{name}.safetensors")


def _ema_stem(stem: str) -> str:
    network, _, iteration = stem.rpartition("_")
    return f"{network}_ema_{iteration}"


class _Counted:
    """File to write to that goes on counting when the disk is full, so that the message can say what was needed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        size = memoryview(data).nbytes
        self.size += size
        self._keep(lambda: self.file.write(data))
        return size

    def flush(self) -> None:
        self._keep(self.file.flush)

    def _keep(self, act: Callable[[], object]) -> None:
        if self.error is None:
            try:
                act()
            except OSError as error:
                self.error = error


def _write_whole(write: Callable[[Any], object], path: Path) -> None:
    """Write beside ``path``, force the bytes to disk, then rename: readers see the old file or the new one."""
    for attempt in range(1, _ATTEMPTS + 1):
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        size = 0
        try:
            try:
                with open(temporary, "wb") as file:
                    counted = _Counted(file)
                    try:
                        write(counted)
                    finally:
                        size = counted.size
                    counted.flush()
                    if counted.error is not None:
                        raise counted.error
                    _sync(file.fileno(), _UNSYNCED)
                os.replace(temporary, path)
                _sync_folder(path.parent)
            finally:
                with contextlib.suppress(OSError):  # absent, or in a folder that the error at hand is about
                    temporary.unlink()
        except Exception as error:
            number = getattr(error, "errno", None)
            if attempt == _ATTEMPTS or number in _LASTING:
                message = f"cannot write {path}: {_reason(error, path, size)}; what was saved before is as it was"
                raise OSError(number or errno.EIO, message) from error
            warnings.warn(f"cannot write {path}, trying again: {error}", stacklevel=3)
            time.sleep(1)
        else:
            return


def _reason(error: Exception, path: Path, size: int) -> str:
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return str(error)
    try:
        free = f", {shutil.disk_usage(path.parent).free / 1e9:.3f} GB free"
    except OSError:
        free = ""
    return f"{os.strerror(error.errno)} ({size / 1e9:.3f} GB needed{free})"


def _sync(descriptor: int, ignored: frozenset[int]) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in ignored:
            raise


def _sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk where that can be done: not on Windows, nor on its shares."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        _sync(descriptor, _UNSYNCED | {errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR})
    finally:
        os.close(descriptor)


class States:
    """The files of one run.

    Args:
        models: Folder of the weights.
        training_states: Folder of the states.
        file_format: Of the weights, see :func:`write_weights`.
    """

    def __init__(
        self, models: str | os.PathLike[str], training_states: str | os.PathLike[str], file_format: str
    ) -> None:
        self.models = Path(models)
        self.training_states = Path(training_states)
        self.file_format = file_format

    def clean(self) -> None:
        """Remove what killed processes left half-written; nobody else may be writing."""
        for folder in (self.models, self.training_states):
            for path in folder.glob("*.tmp"):
                with contextlib.suppress(OSError):
                    path.unlink()

    def save_weights(
        self, weights: Mapping[str, Mapping[str, Tensor]], stem: str, metadata: Mapping[str, str] | None
    ) -> None:
        """Write the weights of a network, see :func:`write_weights`."""
        write_weights(weights, self.models, stem, self.file_format, metadata)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write a training state under its iteration, see :func:`write_state`."""
        write_state(state, self.training_states / f"{state['iter']}.state")


def list_states(folder: Path) -> list[Path]:
    """Training states ``<iteration>.state`` in a folder, newest iteration first; none if the folder is missing."""
    states = [path for path in folder.glob("*.state") if re.fullmatch("[0-9]+", path.stem)]
    return sorted(states, key=lambda path: int(path.stem), reverse=True)


def read_state(path: Path) -> dict[str, Any]:
    """Load a training state to the CPU.

    Raises:
        OSError: There is no such file.
        ValueError: The file is damaged, or holds Python objects besides tensors and plain data.
    """
    state = read_checkpoint(path)
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


def has_average(path: Path) -> bool:
    """Whether a file of weights has the moving average of :func:`write_weights` in it or beside it.

    Raises:
        OSError: There is no such file.
        ValueError: The file is damaged, or holds Python objects other than tensors.
    """
    if path.suffix == ".safetensors":
        return path.with_name(f"{_ema_stem(path.stem)}.safetensors").is_file()
    return "params_ema" in read_checkpoint(path)


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
    average = path.with_name(f"{_ema_stem(path.stem)}.safetensors")
    if path.suffix == ".safetensors" and param_key == "params_ema" and average.is_file():
        path = average
    return read_state_dict(path, key=param_key)


def load_into(net: nn.Module, path: Path, *, strict: bool, param_key: str | None) -> None:
    """Load weights into a network, whatever wrapped them, and log what differs.

    Raises:
        OSError: There is no such file.
        ValueError: The file is refused or damaged, or does not fit the network.
    """
    loaded = read_weights(path, param_key=param_key)
    weights, differences = fit_state_dict(loaded, net.state_dict(), strict=strict, source=str(path))
    logger = logging.getLogger("basicsr")
    logger.info(f"Loading {type(net).__name__} from {path}.")
    for difference in differences:
        logger.warning(f"{path}: {difference}")
    net.load_state_dict(weights, strict=strict)
