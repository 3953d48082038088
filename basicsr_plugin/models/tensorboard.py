"""What a run writes to TensorBoard besides its losses: routing per task, and example pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from basicsr_plugin.losses.routing_losses import returns_routing
from clusir_modules.inspection.routing_report import summarize_routing

__all__ = ["Board"]

_KEPT = 200
"""Iterations, the latest ones, that a summary of the routing is about."""
_EXAMPLES = 4
"""Pictures of each validation set that are shown."""


class Board:
    """Writes to TensorBoard what BasicSR does not: it writes the losses (``losses/``), the validation its metrics.

    The routing is summarized by :func:`clusir_modules.inspection.routing_report.summarize_routing`, over the latest
    iterations, at most 200, and with several processes over the first one's images. Images without a task count as
    "all". ``examples/<data set>/<n>`` are input, result and, if there is one, ground truth of the first pictures of a
    validation.

    Args:
        writer: TensorBoard writer, or None: then nothing is written.
        net: The bare network.
    """

    def __init__(self, writer: Any, net: nn.Module) -> None:
        self.writer = writer
        self.has_routing = returns_routing(net)
        self.num_experts: list[int] = []
        self.watched: deque[tuple[list[str], list[tuple[Tensor, Tensor]]]] = deque(maxlen=_KEPT)

    @property
    def wants_routing(self) -> bool:
        """Whether there is a writer, and a network with routing."""
        return self.writer is not None and self.has_routing

    def watch_routing(self, routings: Sequence[Any] | None, tasks: Sequence[str]) -> None:
        """Keep what the routers of one iteration chose; ``routings`` is None if nobody asked the network for it."""
        if routings is None or not self.wants_routing:
            return
        batch = routings[0].topk_indices.shape[0]
        named = list(tasks[:batch]) or ["all"] * batch
        self.num_experts = [routing.expert_probs.shape[1] for routing in routings]
        # Copies: a captured step overwrites what it returned.
        self.watched.append((named, [(r.cluster_probs.detach().clone(), r.topk_indices.clone()) for r in routings]))

    def write_routing(self, iteration: int) -> None:
        """Write what was watched since the last call."""
        if self.watched:
            for tag, value in summarize_routing(self.watched, self.num_experts).items():
                self.writer.add_scalar(tag, value, iteration)
            self.watched.clear()

    def show_example(self, dataset_name: str, number: int, visuals: Mapping[str, Tensor], iteration: int | str) -> None:
        """Write a picture of a validation set.

        Args:
            dataset_name: Name of the set.
            number: Place of the picture in it, from 0.
            visuals: Tensors of shape (1, C, H, W) by name; those of one height are shown side by side.
            iteration: Iteration, or in a test the run's name, which TensorBoard cannot show.
        """
        if self.writer is None or number >= _EXAMPLES or not isinstance(iteration, int):
            return
        pictures = [visuals[name][0].float().clamp(0, 1) for name in ("lq", "result", "gt") if name in visuals]
        height = visuals["result"].shape[2]
        row = torch.cat([picture for picture in pictures if picture.shape[1] == height], dim=2)
        self.writer.add_image(f"examples/{dataset_name}/{number}", row, iteration)
