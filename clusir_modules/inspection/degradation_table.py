"""Which degradation a cluster stands for: measured once, kept beside the weights, read by ``clusir inspect``."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ..serialization.atomic import written_whole

if TYPE_CHECKING:
    from ..layers.routing.routing import Routing

__all__ = ["ClusterTable", "DegradationTable", "measure_table", "read_table", "write_table"]

_KEY = "degradations"
_LEVELS = 2
"""The purest levels that a guess multiplies; with more of them it is no better, and too sure of itself."""
_DOUBT = 0.02
"""How often a cluster is taken to stand for a kind that was never seen in it, divided by the number of clusters."""
_LARGEST_HEADER = 1 << 26


class ClusterTable(NamedTuple):
    """Clusters of one level.

    Attributes:
        level: number of the level, from 0.
        purity: share of the pictures whose most probable cluster stands for their degradation.
        frequency: for each cluster and kind, the mean posterior of the cluster in pictures of this kind.
    """

    level: int
    purity: float
    frequency: tuple[tuple[float, ...], ...]


class DegradationTable(NamedTuple):
    """What the clusters of a network stand for.

    Attributes:
        kinds: names of the degradations.
        accuracy: share of pictures, kept out of the table, whose kind was guessed.
        pictures: number of pictures that it was measured with.
        levels: the purest levels.
    """

    kinds: tuple[str, ...]
    accuracy: float
    pictures: int
    levels: tuple[ClusterTable, ...]

    def guess(self, routings: Sequence[Routing]) -> list[tuple[str, float]]:
        """Kinds and their probabilities for the first picture of a batch, likeliest first.

        Of each level, the posterior of the clusters gives one of the kinds, all kinds being equally frequent; the
        levels count as independent (naive Bayes).

        Raises:
            ValueError: the routings are of a network with other clusters.
        """
        score = torch.ones(len(self.kinds), dtype=torch.float64)
        for table in self.levels:
            frequency = torch.tensor(table.frequency, dtype=torch.float64)
            if table.level >= len(routings) or routings[table.level].cluster_probs.shape[1] != len(frequency):
                raise ValueError("the table of degradations does not fit the clusters of the network")
            posterior = frequency / frequency.sum(dim=1, keepdim=True)
            score = score * (routings[table.level].cluster_probs[0].double().cpu() @ posterior)
        score = score / score.sum()
        order = score.argsort(descending=True).tolist()
        return [(self.kinds[number], float(score[number])) for number in order]


@torch.no_grad()
def measure_table(
    net: nn.Module, pictures: Iterable[Tensor], kinds: Mapping[str, Any], *, seed: int = 0
) -> DegradationTable:
    """Degrade clean pictures in every way, and count in which clusters they fall.

    Args:
        net: a network with ``route``, in eval mode.
        pictures: clean, ``(C, H, W)`` in [0, 1]; at least two.
        kinds: name and :class:`Degradation` of each kind, or None for pictures as they are.
        seed: of the degradations.

    Raises:
        ValueError: there are fewer than two pictures or kinds.
    """
    posteriors: list[list[Sequence[Routing]]] = []
    route: Any = net.route
    for number, picture in enumerate(pictures):
        row = []
        for place, degradation in enumerate(kinds.values()):
            generator = torch.Generator().manual_seed(seed * 2**32 + number * len(kinds) + place)
            degraded = picture if degradation is None else degradation(picture, generator).clamp(0, 1)
            row.append(route(degraded.unsqueeze(0)))
        posteriors.append(row)
    if len(posteriors) < 2 or len(kinds) < 2:
        raise ValueError(f"pictures and kinds must be at least 2 each, got {len(posteriors)} and {len(kinds)}")
    names = tuple(kinds)
    hits = 0
    for kept_out in (0, 1):  # every picture is guessed by a table of the other half
        table = _make(posteriors[1 - kept_out :: 2], names, 0.0)
        hits += sum(
            table.guess(routings)[0][0] == name for row in posteriors[kept_out::2] for name, routings in zip(names, row)
        )
    return _make(posteriors, names, round(hits / (len(posteriors) * len(names)), 3))


def _make(posteriors: list[list[Sequence[Routing]]], kinds: tuple[str, ...], accuracy: float) -> DegradationTable:
    tables = []
    for level in range(len(posteriors[0][0])):
        # picture, kind, cluster
        probs = torch.stack([torch.stack([r[level].cluster_probs[0].double() for r in row]) for row in posteriors])
        chosen = nn.functional.one_hot(probs.argmax(dim=2), probs.shape[2]).sum(dim=0)
        purity = float(chosen.amax(dim=0).sum() / chosen.sum())
        frequency = (probs.mean(dim=0) + _DOUBT / probs.shape[2]).T
        rows = tuple(tuple(round(value, 5) for value in row) for row in frequency.tolist())
        tables.append(ClusterTable(level, round(purity, 3), rows))
    purest = sorted(tables, key=lambda table: -table.purity)[:_LEVELS]
    return DegradationTable(kinds, accuracy, len(posteriors), tuple(purest))


def read_table(path: str | os.PathLike[str]) -> DegradationTable | None:
    """The table in the metadata of a ``.safetensors`` file, or None if there is none.

    Raises:
        ValueError: what is there is no such table.
    """
    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    header, _ = _read_header(path)
    text = header.get("__metadata__", {}).get(_KEY)
    if text is None:
        return None
    try:
        stored = json.loads(text)
        table = DegradationTable(
            tuple(map(str, stored["kinds"])),
            float(stored["accuracy"]),
            int(stored["pictures"]),
            tuple(
                ClusterTable(
                    int(level["level"]),
                    float(level["purity"]),
                    tuple(tuple(map(float, row)) for row in level["frequency"]),
                )
                for level in stored["levels"]
            ),
        )
        sound = table.levels and all(
            len(row) == len(table.kinds) and min(row) > 0 for level in table.levels for row in level.frequency
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the table of degradations in '{path}' is damaged: {error}") from error
    if not sound or any(level.level < 0 for level in table.levels):
        raise ValueError(f"the table of degradations in '{path}' is damaged")
    return table


def write_table(path: str | os.PathLike[str], table: DegradationTable) -> None:
    """Put a table into the metadata of a ``.safetensors`` file; nothing else in it changes.

    Raises:
        OSError: the file cannot be read or written.
        ValueError: it is no safetensors file.
    """
    path = Path(path)
    header, start = _read_header(path)
    stored = {**table._asdict(), "levels": [level._asdict() for level in table.levels]}
    header.setdefault("__metadata__", {})[_KEY] = json.dumps(stored)
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    tensors = path.read_bytes()[start:]
    with written_whole(path) as file:
        file.write_bytes(struct.pack("<Q", len(content)) + content + tensors)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where the tensors begin."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        try:
            header = json.loads(file.read(length)) if 0 < length <= _LARGEST_HEADER else None
        except (ValueError, RecursionError):
            header = None
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise ValueError(f"'{path}' is damaged or no safetensors file")
    return header, 8 + length
