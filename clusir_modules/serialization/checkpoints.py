"""Weights from files of unknown origin: read without running code, compared with the network before it is changed."""

from __future__ import annotations

import os
import pickle
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "CHECKSUM",
    "WRAPPINGS",
    "checksum",
    "fit_state_dict",
    "load_weights",
    "read_checkpoint",
    "read_metadata",
    "read_state_dict",
    "unwrap_state_dict",
]

WRAPPINGS = ("params_ema", "params", "state_dict_ema", "state_dict", "model_ema", "model")
"""Entries under which training programs keep the weights, the one to prefer first."""
CHECKSUM = "crc32"
"""Entry of the metadata of a safetensors file with the :func:`checksum` of its values."""

_COPY_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
_PREFIXES = (*_COPY_PREFIXES, "net.", "model.")
_COUNTERS = ("n_averaged",)  # of torch.optim.swa_utils.AveragedModel, beside its weights
_ZIP_MAGIC = b"PK\3\4"
_SHARING = 2  # entries may share memory (tied weights), but a file must hold half of what it claims
_SLACK = 2**20  # bytes
_OBJECTS = ("GLOBAL", "Unsupported class", "reduce")  # words of torch's error about a pickle that makes objects
_NAMES_SHOWN = 5


def load_weights(net: nn.Module, source: str | os.PathLike[str] | Mapping[str, Any], *, strict: bool = True) -> None:
    """Load weights into a network; if it is refused the network stays as it was.

    Args:
        net: the network.
        source: a ``.pth`` or ``.safetensors`` file, see :func:`read_state_dict`, or what it holds.
        strict: whether all names must agree. Otherwise what fits is loaded, and a warning says what does not.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or would run code; it holds no weights; or they do not fit: the message lists
            the names that differ, and both shapes of an entry of another size.
    """
    if isinstance(source, Mapping):
        weights, origin = unwrap_state_dict(source, "the given state dict"), "the given state dict"
    else:
        weights, origin = read_state_dict(source), f"'{os.fspath(source)}'"
    fitting, differences = fit_state_dict(weights, net.state_dict(), strict=strict, source=origin)
    if differences:
        warnings.warn(f"{origin} was loaded in part:\n  " + "\n  ".join(differences), stacklevel=2)
    net.load_state_dict(fitting, strict=strict)


def read_state_dict(path: str | os.PathLike[str], *, key: str | None = None) -> dict[str, Tensor]:
    """Weights in a file, on the CPU, without the wrappings of training programs and of parallel or compiled networks.

    Args:
        path: a ``.safetensors`` file, or one that ``torch.save`` wrote.
        key: entry of the file to prefer; then come ``params_ema``, ``params``, ``state_dict``, and the file as a whole.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds Python objects other than tensors and plain data, or no weights.
    """
    return unwrap_state_dict(read_checkpoint(path), f"'{os.fspath(path)}'", key=key)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Everything in a ``.safetensors`` or ``torch.save`` file, on the CPU; no code in it is ever run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds Python objects other than tensors and plain data, or is not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path}'")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' must hold a dict, got a {type(content).__name__}")
    return content


def unwrap_state_dict(content: Mapping[str, Any], source: str, *, key: str | None = None) -> dict[str, Tensor]:
    """Weights in the content of a checkpoint, as :func:`read_state_dict` finds them.

    Raises:
        ValueError: it holds no weights; ``source`` stands for it in the message.
    """
    weights = _find_weights(content, key)
    strange = [str(name) for name, value in weights.items() if not isinstance(name, str) or not _is_plain(value)]
    if strange or not weights:
        raise ValueError(f"{source} must hold a state dict, got {_shorten(strange) if strange else 'nothing'}")
    _require_values(weights, source)
    for _ in weights:
        names = [name for name in weights if name not in _COUNTERS]
        prefix = next((p for p in _COPY_PREFIXES if names and all(name.startswith(p) for name in names)), None)
        if prefix is None:
            break
        weights = {name.removeprefix(prefix): weights[name] for name in names}
    return dict(weights)


def _find_weights(content: Mapping[str, Any], key: str | None) -> Mapping[str, Any]:
    """The entry with the weights: one of the known names, else the only one that is a state dict, else the whole."""
    for name in (key, *WRAPPINGS):
        entry = content.get(name) if name is not None else None
        if isinstance(entry, Mapping) and entry:
            return entry
    inside = [entry for entry in content.values() if isinstance(entry, Mapping) and entry]
    inside = [entry for entry in inside if all(isinstance(value, Tensor) for value in entry.values())]
    return inside[0] if len(inside) == 1 else content


def _require_values(weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse entries that claim more values than the file holds: a small file could fill the memory."""
    claimed, held = 0, {}
    for name, value in weights.items():
        size, storage = value.numel() * value.element_size(), value.untyped_storage()
        if size > storage.nbytes():
            raise ValueError(
                f"{source} is refused: {name} claims {value.numel()} values, the file holds "
                f"{storage.nbytes() // value.element_size()}"
            )
        claimed += size
        held[storage.data_ptr()] = storage.nbytes()
    if claimed > _SHARING * sum(held.values()) + _SLACK:
        raise ValueError(f"{source} is refused: its entries claim {claimed} bytes, it holds {sum(held.values())}")


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of all values in the order of the names, as hexadecimal digits."""
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Metadata of a ``.safetensors`` file; other files have none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path}'")
    if path.suffix != ".safetensors":
        return {}
    try:
        with _nameable(path) as named, safe_open(named, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"'{path}' is damaged or no safetensors file: {_first_line(error)}") from error


def fit_state_dict(
    loaded: Mapping[str, Tensor], own: Mapping[str, Tensor], *, strict: bool = True, source: str = "the file"
) -> tuple[dict[str, Tensor], list[str]]:
    """Make loaded weights fit a network: take prefixes of wrappers off, and compare names and sizes.

    Args:
        loaded: weights from a file.
        own: state dict of the network.
        strict: whether every name and size must agree; otherwise only what agrees is returned.
        source: where they come from, for messages.

    Returns:
        The entries to load, and what differs, a line each.

    Raises:
        ValueError: something differs and ``strict`` holds, or nothing agrees.
    """
    entries = dict(loaded)
    for prefix in _PREFIXES * len(_PREFIXES):  # in any order
        wrapped = {name: value for name, value in entries.items() if name.startswith(prefix)}
        if wrapped and not any(name.startswith(prefix) for name in own):
            entries = {name.removeprefix(prefix): value for name, value in wrapped.items()}
    missing = sorted(own.keys() - entries.keys())
    unexpected = sorted(entries.keys() - own.keys())
    shared = sorted(own.keys() & entries.keys())
    unlike = [name for name in shared if _describe(own[name]) != _describe(entries[name])]
    differences = []
    if missing:
        differences.append(f"the file lacks {len(missing)} of {len(own)} entries: {_shorten(missing)}")
    if unexpected:
        differences.append(f"the network has no {len(unexpected)} of the file's: {_shorten(unexpected)}")
    differences.extend(
        f"{name} has shape {_describe(own[name])} in the network, {_describe(entries[name])} in the file"
        for name in unlike[:_NAMES_SHOWN]
    )
    if len(unlike) > _NAMES_SHOWN:
        differences.append(f"{len(unlike) - _NAMES_SHOWN} more entries differ in shape")
    fitting = {name: entries[name] for name in shared if name not in set(unlike)}
    if differences and (strict or not fitting):
        raise ValueError(f"{source} does not fit the network:\n  " + "\n  ".join(differences))
    return fitting, differences


def _describe(value: Tensor) -> str:
    """Shape, and whether numbers are complex: torch would drop the imaginary part."""
    return f"{tuple(value.shape)}" + (" of complex numbers" if value.is_complex() else "")


def _is_plain(value: Any) -> bool:
    """Whether it is a tensor with its own numbers, which can be copied into a parameter."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta and not value.is_quantized


@contextmanager
def _nameable(path: Path) -> Iterator[Path]:
    """The file under a name in UTF-8, as safetensors wants it; if need be a link in a folder of its own."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder, "weights.safetensors")
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with _nameable(path) as named:
            tensors = load_file(named)
    except (SafetensorError, ValueError, KeyError, OverflowError, RuntimeError) as error:
        raise ValueError(f"'{path}' is damaged or no safetensors file: {_first_line(error)}") from error
    expected = read_metadata(path).get(CHECKSUM)
    if expected is not None and checksum(tensors) != expected:
        raise ValueError(f"'{path}' is damaged: its checksum does not agree")
    return tensors


def _read_pickled(path: Path) -> Any:
    _refuse_altered_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # damaged or hostile bytes can raise anything in an unpickler
        if isinstance(error, pickle.UnpicklingError) and any(word in str(error) for word in _OBJECTS):
            raise ValueError(
                f"'{path}' is refused: it holds Python objects other than tensors and plain data, and loading such a "
                "file can run any code. If you trust its origin, load it yourself and save its state dict alone "
                f"({str(error).strip().splitlines()[-1].strip()})"
            ) from error
        raise ValueError(f"'{path}' is damaged or no checkpoint: {_first_line(error)}") from error


def _refuse_altered_archive(path: Path) -> None:
    """Refuse compressed entries and wrong checksums.

    A small file with compressed entries can fill the memory, and ``torch.save`` writes none. ``torch.load`` does not
    compare the checksums. A file that begins like an archive and that Python cannot read is refused too.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP_MAGIC)) != _ZIP_MAGIC:
            return  # the older format of torch.save, or damaged, which loading will tell
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
            broken = None if compressed else archive.testzip()
    except Exception as error:  # damaged or hostile bytes can raise anything
        raise ValueError(f"'{path}' is damaged: {_first_line(error)}") from error
    if compressed:
        raise ValueError(f"'{path}' is refused: its entries are compressed ({_shorten(compressed)})")
    if broken is not None:
        raise ValueError(f"'{path}' is damaged: the checksum of {broken} does not agree")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _shorten(names: Iterable[str]) -> str:
    names = [name if len(name) <= 80 else f"{name[:77]}..." for name in names]
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown}, ..."
