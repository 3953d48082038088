"""What differs between a run and the one that it continues: options, and the pictures it is trained on."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from basicsr_plugin.options.schema import RunOptions

__all__ = ["changed_options", "changed_pictures", "comparable", "fingerprint", "picture_paths", "report_changes"]

_NOT_COMPARED = ("train.compile", "train.cuda_graph", "datasets.train.num_worker_per_gpu", "datasets.train.pin_memory")
_ABSENT = "not set"


def comparable(options: RunOptions) -> dict[str, Any]:
    """Options that decide what a training computes, by dotted name; plain data."""
    sections = {
        "train": msgspec.to_builtins(options.train),
        "datasets": {name: section for name, section in options.datasets.items() if name == "train"},
        "network_g": options.network_g,
        "scale": options.scale,
        "find_unused_parameters": options.find_unused_parameters,
        "processes": options.world_size,
    }
    return dict(_flatten(sections, ""))


def _flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _flatten(part, f"{name}.{key}".lstrip("."))
    elif name not in _NOT_COMPARED:
        yield name, _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def changed_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Old and new value of what differs between two results of :func:`comparable`."""
    names = [*new, *(name for name in old if name not in new)]
    pairs = {name: (old.get(name, _ABSENT), new.get(name, _ABSENT)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def report_changes(
    state: Mapping[str, Any], options: RunOptions, pictures: Mapping[str, Any] | None
) -> dict[str, tuple[Any, Any]]:
    """Log what differs between a run and the state that it goes on from.

    Args:
        state: The training state.
        options: Of the run.
        pictures: :func:`fingerprint` of its pictures.

    Returns:
        Old and new value of each option that has changed, by dotted name.
    """
    logger = logging.getLogger("basicsr")
    changed = changed_options(state["options"], comparable(options)) if "options" in state else {}
    for name, (old, new) in changed.items():
        logger.warning(f"{name} was {old} when the state was saved and is {new} now, which takes effect")
    others = changed_pictures(state.get("pictures"), pictures)
    if others is not None:
        logger.warning(f"the pictures of datasets.train have changed since the state was saved: {others}")
    return changed


def picture_paths(dataset: Any) -> list[tuple[str, ...]] | None:
    """Files of each sample, the input first; None if the data set does not list them in ``paths``, as BasicSR's do."""
    listed = getattr(dataset, "paths", None)
    if not isinstance(listed, Sequence) or len(listed) != len(dataset):
        return None
    found = []
    for entry in listed:
        files = (entry.get("lq_path"), entry.get("gt_path")) if isinstance(entry, Mapping) else (entry,)
        found.append(tuple(str(file) for file in files if file is not None))
    return found if all(found) else None


def fingerprint(dataset: Any) -> dict[str, Any] | None:
    """Checksums of the names and sizes of a data set's files, with and without their order; plain data."""
    samples = picture_paths(dataset)
    if samples is None:
        return None
    rows = ["\t".join(f"{os.path.basename(file)}:{_size(file)}" for file in files) for files in samples]
    return {"samples": len(rows), "files": _checksum(sorted(rows)), "order": _checksum(rows)}


def _size(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except OSError:  # a key of a data base
        return -1


def _checksum(rows: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(rows).encode(errors="surrogateescape"), digest_size=16).hexdigest()


def changed_pictures(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str | None:
    """Say how the pictures have changed between two results of :func:`fingerprint`, or None."""
    if old is None or new is None or dict(old) == dict(new):
        return None
    if old["samples"] != new["samples"]:
        return f"there were {old['samples']} and are {new['samples']}"
    if old["files"] != new["files"]:
        return f"names or sizes of some of the {new['samples']} are others: pictures were exchanged or renamed"
    return f"the {new['samples']} are in another order"
