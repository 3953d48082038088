"""Networks in one file: weights and, in the metadata of a safetensors file, the configuration to make them again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch import nn

from .atomic import written_whole
from .checkpoints import fit_state_dict, load_weights, read_metadata, read_state_dict
from .configuration import Configuration, infer_configuration, network_entries, recognize
from .pretrained import CONFIG_NAME, WEIGHTS_NAME, Pretrained
from .registry import NETWORKS

__all__ = ["load_network", "network_metadata", "read_configuration", "save_network"]


def network_metadata(net: nn.Module) -> dict[str, str]:
    """Metadata that :func:`load_network` reads: ``architecture``, the name of the class, and ``config`` as JSON.

    A network that does not know its configuration has the format alone.
    """
    metadata = {"format": "pt"}
    config = getattr(net, "config", None)
    if isinstance(config, dict):
        metadata.update(architecture=type(net).__name__, config=json.dumps(config))
    return metadata


def save_network(net: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write weights and configuration to a ``.safetensors`` file, whole or not at all.

    Raises:
        OSError: the file cannot be written; an older one of the same name is left as it was.
        ValueError: the network could not be loaded again, see :meth:`Pretrained.require_reproducible`; nothing is
            written.
    """
    from safetensors.torch import save_file

    if isinstance(net, Pretrained):
        net.require_reproducible()
    tensors = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    with written_whole(path) as file:
        save_file(tensors, file, metadata=network_metadata(net))


def read_configuration(path: str | os.PathLike[str]) -> Configuration | None:
    """Configuration that a file or a folder states; none is stated by a ``.pth`` file and by other programs' files.

    Args:
        path: a ``.safetensors`` file, or a folder of :meth:`Pretrained.save_pretrained`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    metadata = read_metadata(path)
    if "architecture" not in metadata or "config" not in metadata:
        return None
    return Configuration(metadata["architecture"], _parse(metadata["config"], path))


def load_network(path: str | os.PathLike[str]) -> nn.Module:
    """Make the network that a checkpoint belongs to and load it, in eval mode, on the CPU.

    The configuration is the one that the file states, else it is inferred from the weights. Names and shapes of the
    weights are compared with it before memory is taken for the network.

    Args:
        path: a ``.safetensors`` or ``.pth`` file, BasicSR's included, or a folder of
            :meth:`Pretrained.save_pretrained`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, its weights are of no known network or do not fit what it states, or it names a
            part that is not registered.
    """
    path = Path(path)
    file = path / WEIGHTS_NAME if path.is_dir() else path
    weights = network_entries(read_state_dict(file))
    configuration = _find_configuration(path, file, weights)
    network: Any = NETWORKS[configuration.architecture]
    try:
        weights = network.convert(weights)
        fit_state_dict(weights, configuration.build("meta").state_dict())
        net = configuration.build()
        load_weights(net, weights)
    except ValueError as error:
        raise ValueError(f"'{path}' cannot be loaded: {error}") from error
    return net.eval()


def _find_configuration(path: Path, file: Path, weights: dict[str, Any]) -> Configuration:
    """What a file states, if its weights agree, else what they show."""
    stated = read_configuration(path) or read_configuration(file)
    if stated is None:
        return infer_configuration(weights, source=f"'{file}'")
    if stated.names_parts():  # the shapes of other parts tell other things
        shown = Configuration(recognize(weights, source=f"'{file}'"), {})
    else:
        shown = infer_configuration(weights, source=f"'{file}'")
    stated.require_agreement(shown, source=f"'{path}'")
    return stated


def _read_folder(folder: Path) -> Configuration | None:
    file = folder / CONFIG_NAME
    if not file.is_file():
        return None
    try:
        settings = _parse(file.read_text(encoding="utf-8"), file)
    except UnicodeDecodeError as error:
        raise ValueError(f"'{file}' is no text: {error}") from error
    architecture = settings.pop("architecture", None)
    if not isinstance(architecture, str):
        raise ValueError(f"'{file}' must name an architecture, got {architecture!r}")
    return Configuration(architecture, settings)


def _parse(text: str, source: Path) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the configuration in '{source}' is no JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"the configuration in '{source}' must be an object, got {settings!r}")
    return settings
