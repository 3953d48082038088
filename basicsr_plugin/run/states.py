"""Files of weights and training states: written whole or not at all, read without running code."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from basicsr_plugin.options.schema import FORMATS
from clusir_modules.serialization.atomic import remove_remains, write_whole
from clusir_modules.serialization.checkpoints import (
    CHECKSUM,
    checksum,
    fit_state_dict,
    read_checkpoint,
    read_state_dict,
)
from clusir_modules.serialization.network_files import network_metadata
from clusir_modules.serialization.pretrained import Pretrained

__all__ = [
    "FORMATS",
    "States",
    "find_weights",
    "has_average",
    "list_states",
    "load_into",
    "read_state",
    "read_weights",
    "require_reproducible",
    "write_state",
    "write_weights",
]


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """Write a training state.

    Raises:
        OSError: The file cannot be written; an older one of the same name is left as it was.
    """
    write_whole(lambda file: torch.save(dict(state), file), path)


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
        write_whole(lambda file: torch.save(plain, file), folder / f"{stem}.pth")
        return
    from safetensors.torch import save

    for kind, tensors in plain.items():
        name = stem if kind == "params" else _ema_stem(stem)
        content = save(tensors, metadata={"format": "pt", **(metadata or {}), CHECKSUM: checksum(tensors)})
        write_whole(lambda file, content=content: file.write(content), folder / f"{name}.safetensors")


def _ema_stem(stem: str) -> str:
    network, _, iteration = stem.rpartition("_")
    return f"{network}_ema_{iteration}"


def require_reproducible(net: nn.Module) -> None:
    """Refuse one of the library's networks that its checkpoint could not make again.

    Raises:
        ValueError: A part of it is not registered, or was exchanged.
    """
    if isinstance(net, Pretrained):
        net.require_reproducible()


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
            remove_remains(folder)

    def holds(self, path: str | None) -> bool:
        """Whether a training state is one of this run."""
        return path is not None and Path(path).absolute().parent == self.training_states.absolute()

    def save_weights(self, nets: Mapping[str, nn.Module], stem: str) -> None:
        """Write the weights of a network, and of its moving average, see :func:`write_weights`.

        Raises:
            OSError: A file cannot be written.
            ValueError: See :func:`require_reproducible`; nothing is written.
        """
        for net in nets.values():
            require_reproducible(net)
        weights = {kind: net.state_dict() for kind, net in nets.items()}
        metadata = network_metadata(next(iter(nets.values())))
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
