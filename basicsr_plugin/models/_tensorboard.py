"""What a run writes to TensorBoard besides its losses: routing per task, and example pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from basicsr_plugin.training_run import TrainingRun

__all__ = ["TensorBoardMixin", "summarize_routing"]

_KEPT = 200
"""Iterations, the latest ones, that a summary of the routing is about."""
_EXAMPLES = 4
"""Pictures of each validation set that are shown."""


class TensorBoardMixin:
    """Part of ``RestorationModel`` that writes to TensorBoard; relies on SRModel's attributes.

    BasicSR itself writes the losses (``losses/``) and the metrics. At the same iterations, every ``logger.print_freq``,
    come ``experts/level<l>/<task>/<e>``, the share of the task's images that ran an expert, and
    ``clusters/level<l>/<task>/<c>``, the mean posterior of a cluster, both of the latest iterations, at most 200, and
    with several processes of the first one's images. Images without a task count as "all". Each validation adds
    ``examples/<data set>/<n>``: input, result and, if there is one, ground truth of its first pictures.
    """

    run: TrainingRun | None
    tasks: Sequence[str] = ()
    iteration = 0

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Note the iteration, which BasicSR does not pass to :meth:`get_current_log`."""
        self.iteration = current_iter
        super().update_learning_rate(current_iter, warmup_iter)

    @property
    def watches_routing(self) -> bool:
        """Whether there is a TensorBoard writer, and a network with routing."""
        return (
            self.run is not None
            and self.run.tb_logger is not None
            and hasattr(self.get_bare_model(self.net_g), "route")
        )

    def watch_routing(self, routings: Any) -> None:
        """Keep what the routers of one iteration chose; ``routings`` is None if nobody asked the network for it."""
        if routings is None or not self.watches_routing:
            return
        if not hasattr(self, "watched"):
            self.watched: deque[tuple[list[str], list[tuple[Tensor, Tensor]]]] = deque(maxlen=_KEPT)
        batch = routings[0].topk_indices.shape[0]
        tasks = list(self.tasks[:batch]) or ["all"] * batch
        # Copies: a captured step overwrites what it returned.
        self.watched.append((tasks, [(r.cluster_probs.detach().clone(), r.topk_indices.clone()) for r in routings]))

    def get_current_log(self) -> Mapping[str, float]:
        """Losses by name; what was watched since the last call goes to TensorBoard."""
        if self.watches_routing and getattr(self, "watched", None):
            num_experts = [module.num_experts for module in _routers(self.get_bare_model(self.net_g))]
            for tag, value in summarize_routing(self.watched, num_experts).items():
                self.run.tb_logger.add_scalar(tag, value, self.iteration)
            self.watched.clear()
        return super().get_current_log()

    def show_example(
        self, writer: Any, dataset_name: str, number: int, visuals: Mapping[str, Tensor], current_iter: int | str
    ) -> None:
        """Write a picture of a validation set.

        Args:
            writer: TensorBoard writer or None.
            dataset_name: Name of the set.
            number: Place of the picture in it, from 0.
            visuals: Tensors of shape (1, C, H, W) by name; those of one height are shown side by side.
            current_iter: Iteration, or in a test the run's name, which TensorBoard cannot show.
        """
        if writer is None or number >= _EXAMPLES or not isinstance(current_iter, int):
            return
        pictures = [visuals[name][0].float().clamp(0, 1) for name in ("lq", "result", "gt") if name in visuals]
        height = visuals["result"].shape[2]
        row = torch.cat([picture for picture in pictures if picture.shape[1] == height], dim=2)
        writer.add_image(f"examples/{dataset_name}/{number}", row, current_iter)


def summarize_routing(
    watched: Sequence[tuple[Sequence[str], Sequence[tuple[Tensor, Tensor]]]], num_experts: Sequence[int]
) -> dict[str, float]:
    """Means over the images of each task.

    Args:
        watched: For each iteration the tasks of its B images, and for each router cluster posteriors, shape (B, L), and
            active experts, shape (B, k).
        num_experts: For each router.

    Returns:
        Share of the images that ran each expert, and mean posterior of each cluster, by tag.
    """
    names = [name for tasks, _ in watched for name in tasks]
    summary: dict[str, float] = {}
    for number, experts in enumerate(num_experts):
        clusters = torch.cat([levels[number][0].float().cpu() for _, levels in watched])
        indices = torch.cat([levels[number][1].cpu() for _, levels in watched])
        used = torch.zeros(len(indices), experts).scatter_(1, indices, 1.0)
        for task in sorted(set(names)):
            rows = torch.tensor([name == task for name in names])
            for kind, values in (("experts", used), ("clusters", clusters)):
                means = values[rows].mean(dim=0).tolist()
                summary.update({f"{kind}/level{number + 1}/{task}/{i}": mean for i, mean in enumerate(means)})
    return summary


def _routers(net: Any) -> list[Any]:
    from clusir_modules.layers.routing.pcgrm import PCGRM

    return [module for module in net.modules() if isinstance(module, PCGRM)]
