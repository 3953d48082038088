"""Training with ``train.cuda_graph``: steps that are launched at once, and looked at one iteration later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from basicsr_plugin.losses.distillation import DISTILLATION
from basicsr_plugin.options.schema import RunOptions
from basicsr_plugin.run.average import Average
from basicsr_plugin.run.captured_step import CapturedStep
from basicsr_plugin.run.guards import find_nonfinite_gradient, find_nonfinite_numbers, require_finite_batch
from basicsr_plugin.run.stepper import Step, Stepper, bare, iteration_seed
from clusir_modules.layers.experts.cluster_moe import ClusterMoE
from clusir_modules.layers.experts.gated_conv_experts import GatedConvExperts

__all__ = ["CapturedStepper", "check_capturable"]


def check_capturable(options: RunOptions, net: nn.Module, device: torch.device) -> None:
    """Refuse what a CUDA graph cannot hold.

    Args:
        options: All options.
        net: The bare network.
        device: Where it is trained.

    Raises:
        ValueError: There is such a thing; the message names it and says why.
    """
    train, data = options.train, options.dataset_options()["train"]
    own_experts = (
        name
        for name, module in net.named_modules()
        if isinstance(module, ClusterMoE) and not isinstance(module.experts, GatedConvExperts)
    )
    several = options.dist or options.num_gpu not in (0, 1)
    reasons = {
        "a CUDA device: graphs are CUDA's": device.type != "cuda",
        "one process and one GPU: the exchange of gradients is not captured": several,
        "train.amp bf16 or ~, not fp16: the loss scale is decided on the host": train.amp == "fp16",
        "patches of one size, not datasets.train.gt_sizes: a graph has fixed shapes": data.gt_sizes is not None,
        "train.grad_checkpointing false: recomputing keeps the state of the random numbers on the host": (
            train.grad_checkpointing
        ),
        "losses without a teacher, not distillation: who is asked is not captured": any(
            loss.type == DISTILLATION for loss in train.loss_options().values()
        ),
    }
    broken = [reason for reason, holds in reasons.items() if holds]
    broken += [f"experts of static shapes, not those of {name}: who runs depends on the batch" for name in own_experts]
    if broken:
        raise ValueError(f"train.cuda_graph needs {'; and '.join(broken)}")


class _Iteration(NamedTuple):
    """An iteration whose report has not been read."""

    number: int
    batch: Mapping[str, Tensor]
    paths: list[str]
    seed: int


class CapturedStepper(Stepper):
    """A :class:`Stepper` that launches an iteration and only then reads how the one before it went.

    So the GPU always has work. What :meth:`settle` reads is as late as the next iteration, log, checkpoint or end.

    Args:
        arguments: Those of :class:`Stepper`, by position.
        average: Moves with each step that is taken, inside the graph.
        settings: Those of :class:`Stepper`, by keyword.
    """

    def __init__(self, *arguments: Any, average: Average | None = None, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.average = average
        self.captured: CapturedStep | None = None
        self.unsettled: _Iteration | None = None
        self.terms: dict[str, float] | None = None

    def take(
        self,
        lq: Tensor,
        gt: Tensor,
        iteration: int,
        *,
        tasks: Tensor | None = None,
        paths: Sequence[str] = (),
        crop: Callable[..., tuple[Tensor, Tensor]] | None = None,
    ) -> Step:
        """See :meth:`Stepper.take`; the terms come with :meth:`settle`, and ``crop`` is not possible."""
        if self.captured is None:
            self.captured = self._build()
        seed = iteration_seed(self.seed, iteration, self.rank)
        batch = {"lq": lq, "gt": gt} if tasks is None else {"lq": lq, "gt": gt, "tasks": tasks}
        now = _Iteration(iteration, batch, list(paths), seed)
        self.captured.accumulate(now.batch, seed, first=(iteration - 1) % self.accum_iter == 0)
        output, routings = self.captured.kept
        self.settle()  # the iteration before this one, with the weights that it left
        steps_now, taken = iteration % self.accum_iter == 0, False
        if steps_now and self.captured.takes_steps:
            self.captured.update()
        self.captured.send_report()
        self.unsettled = now
        if not self.captured.takes_steps:
            self.settle()
            taken = steps_now and not self._leaves_out and self._step(f"at iteration {iteration}")
        return Step({}, output, routings, taken)

    def _build(self) -> CapturedStep:
        net, average = bare(self.net), self.average
        return CapturedStep(
            self._captured_part,
            net,
            self.optimizer,
            accum_iter=self.accum_iter,
            max_grad_norm=self.max_norm,
            average=None if average is None else lambda taken: average.update(net, taken),
            capture=self.device.type == "cuda",
        )

    def _captured_part(
        self, lq: Tensor, gt: Tensor, tasks: Tensor | None = None
    ) -> tuple[Tensor, Mapping[str, Tensor], Any]:
        total, terms, output, routings = self._evaluate(lq, gt, tasks)
        return total, terms, (output, routings)

    def settle(self) -> dict[str, float] | None:
        """Read how the latest iteration went, if that is not known yet, and log or raise what an ordinary one does.

        Returns:
            Terms of its loss.

        Raises:
            FloatingPointError: Its batch was not finite, or too many steps in a row were left out; the weights are as
                before it.
        """
        if self.unsettled is None or self.captured is None:
            return self.terms
        (iteration, batch, paths, seed), self.unsettled = self.unsettled, None
        where = f"at iteration {iteration}"
        report = self.captured.read_report()
        if not report.batch_is_finite:
            require_finite_batch(batch, paths, where)
        self.terms = report.terms
        if (iteration - 1) % self.accum_iter == 0:
            self._leaves_out, self._paths = False, []
        self._paths += paths
        bad = find_nonfinite_numbers(report.terms)
        if bad and not self._leaves_out:
            self._leaves_out = True
            self.skipped.add(self._describe_loss(bad, batch["lq"], seed, paths, where))
        if iteration % self.accum_iter == 0 and self.captured.takes_steps and not self._leaves_out:
            if abs(report.norm) < float("inf"):
                self.skipped.clear()
            else:
                gradient = find_nonfinite_gradient(self.captured.gradient_norms())
                self.skipped.add(self._describe_gradient(gradient, where))
        return self.terms
