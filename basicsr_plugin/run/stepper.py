"""Optimizer steps: precision, accumulation, clipping, steps left out, and what the processes agree on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer

from basicsr_plugin.losses.objective import Objective
from basicsr_plugin.options.schema import TrainOptions
from basicsr_plugin.run.guards import (
    SkippedSteps,
    find_nonfinite_gradient,
    find_nonfinite_module,
    find_nonfinite_terms,
    require_finite_batch,
)

__all__ = ["Step", "Stepper", "bare", "eagerly", "iteration_seed"]

_AMP_DTYPES = {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Step:
    """What one iteration gave.

    Attributes:
        terms: Terms of the loss by name, scalars.
        output: Final picture, detached.
        routings: What the network returned for ``return_routing``, or None.
        taken: Whether the weights have changed.
    """

    terms: Mapping[str, Tensor]
    output: Tensor
    routings: Any
    taken: bool


class Stepper:
    """Trains a network by one iteration after the other.

    Every iteration seeds torch from (seed, iteration, rank), so that it depends on nothing before it but the weights. A
    step whose loss or gradient is not finite is left out on all processes; too many in a row end the run. With fp16 the
    gradient of a loss that is scaled too far is the loss scaler's affair.

    Args:
        net: Network, bare or wrapped for several GPUs or processes.
        optimizer: Of its parameters.
        objective: The loss.
        settings: Section ``train``.
        seed: Of the run.
        rank: Of this process.
        asked: Number of the signal that asks this process to end, 0 if none does.

    Attributes:
        stop_agreed: Greatest such number of all processes, as of the last iteration.
        wants_routing: Whether to ask the network for its routings though no term needs them.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Optimizer,
        objective: Objective,
        settings: TrainOptions,
        *,
        seed: int = 0,
        rank: int = 0,
        asked: Callable[[], int] = lambda: 0,
    ) -> None:
        self.net = net
        self.optimizer = optimizer
        self.objective = objective
        self.accum_iter = settings.accum_iter
        self.max_norm = settings.grad_clip_max_norm if settings.grad_clip else float("inf")
        self.amp_dtype = _AMP_DTYPES[settings.amp]
        self.compiled = bool(settings.compile)
        self.seed = seed
        self.rank = rank
        self.asked = asked
        self.device = next(net.parameters()).device
        if (
            self.amp_dtype is not None
            and self.device.type == "cpu"
            and torch.backends.cpu.get_cpu_capability() == "AVX2"
        ):
            logging.getLogger("basicsr").warning(
                f"train.amp: {settings.amp} is slow here: the processor has no such arithmetic (AVX2 alone), and a "
                "step takes several times as long as with train.amp: ~"
            )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype is torch.float16)
        self.skipped = SkippedSteps(settings.max_skipped_steps)
        self.stop_agreed = 0
        self.wants_routing = False
        self._leaves_out = False
        self._paths: list[str] = []

    def take(
        self,
        lq: Tensor,
        gt: Tensor,
        iteration: int,
        *,
        tasks: Tensor | None = None,
        paths: Sequence[str] = (),
        crop: Callable[[Tensor, Tensor, int, torch.Generator], tuple[Tensor, Tensor]] | None = None,
    ) -> Step:
        """Forward and backward pass; with ``accum_iter`` n, one optimizer step in n iterations.

        Args:
            lq: Input, shape (B, C, H, W).
            gt: Target, likewise.
            iteration: Counted from 1.
            tasks: Number of each sample's task, shape (B,), for losses that are told.
            paths: File of each sample, for messages.
            crop: Cuts both down to what the iteration trains on.

        Raises:
            FloatingPointError: The batch is not finite, or too many steps in a row were left out since loss or gradient
                was not; the weights are as before.
        """
        seed = iteration_seed(self.seed, iteration, self.rank)
        torch.manual_seed(seed)
        where = f"at iteration {iteration}"
        require_finite_batch({"lq": lq, "gt": gt}, paths, where)
        if crop is not None:
            lq, gt = crop(lq, gt, iteration, torch.Generator().manual_seed(seed))
            paths = paths[: len(lq)]
            tasks = None if tasks is None else tasks[: len(lq)]
        steps_now = iteration % self.accum_iter == 0
        if (iteration - 1) % self.accum_iter == 0:
            self.optimizer.zero_grad()
            self._paths = []
            self._leaves_out = False
        self._paths += paths
        with self._gradient_exchange(steps_now):
            total, terms, output, routings = self._evaluate(lq, gt, tasks)
            bad = find_nonfinite_terms(terms)
            # All processes leave out the same step: gradients are exchanged in the backward pass.
            if self._agree(bool(bad)) and not self._leaves_out:
                self._leaves_out = True
                self.skipped.add(self._describe_loss(bad, lq, seed, paths, where))
            if not self._leaves_out:
                self.scaler.scale(total / self.accum_iter).backward()
        taken = steps_now and not self._leaves_out and self._step(where)
        return Step(terms, output, routings, taken)

    def settle(self) -> dict[str, float] | None:
        """Terms of the latest iteration's loss if :meth:`take` could not give them yet, else None."""
        return None

    def _evaluate(
        self, lq: Tensor, gt: Tensor, tasks: Tensor | None
    ) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Any]:
        """The loss, its terms by name, the final picture, and the routings if anybody wants them."""
        outputs, routings = self._run(self.net, lq)
        if self.amp_dtype is not None:
            outputs = outputs.float() if isinstance(outputs, Tensor) else [stage.float() for stage in outputs]
        with self._autocast():
            answers = self.objective.ask_teachers(lq)
        total, terms = self.objective(outputs, gt, routings, bare(self.net), tasks, answers)
        return total, terms, (outputs if isinstance(outputs, Tensor) else outputs[0]).detach(), routings

    def _run(self, net: nn.Module, lq: Tensor) -> tuple[Any, Any]:
        """Outputs and, if anyone wants them, routings."""
        with self._autocast():
            if self.objective.needs_routing or self.wants_routing:
                outputs, routings = net(lq, return_routing=True)
            else:
                outputs, routings = net(lq), None
        return outputs, routings

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None)

    def _agree(self, bad: bool) -> bool:
        """Let all processes know whether any of them has a bad loss, and whether any is asked to stop."""
        asked = self.asked()
        if isinstance(self.net, DistributedDataParallel):
            flags = torch.tensor([int(bad), asked], dtype=torch.int32, device=self.device)
            torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
            any_bad, asked = flags.tolist()
            bad = bool(any_bad)
        self.stop_agreed = asked
        return bad

    def _describe_loss(self, bad: dict[str, float], lq: Tensor, seed: int, paths: Sequence[str], where: str) -> str:
        """Say what is wrong with this process's loss, after a second forward pass that looks for the place."""
        if not bad:
            return f"the loss of another process is not finite {where}"
        net = bare(self.net)
        torch.manual_seed(seed)
        with eagerly(self.compiled):
            module = find_nonfinite_module(net, lambda: self._run(net, lq))
        return (
            f"the loss is not finite {where}: {bad}, for the images {list(map(str, paths))}; first module with a "
            f"non-finite output: {module}"
        )

    def _gradient_exchange(self, steps_now: bool) -> AbstractContextManager[None]:
        """Let the processes average gradients in the last iteration before a step only."""
        if isinstance(self.net, DistributedDataParallel) and not steps_now:
            return self.net.no_sync()
        return nullcontext()

    def _step(self, where: str) -> bool:
        self.scaler.unscale_(self.optimizer)
        parameters = list(self.net.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        finite = bool(torch.isfinite(norm))
        if finite:
            nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)
        # A scaler starts from a factor that is too large, and leaves such steps out by itself until it has a lower one.
        if not finite and self.scaler.get_scale() <= 1:
            named = bare(self.net).named_parameters()
            gradient = find_nonfinite_gradient({name: p.grad for name, p in named if p.grad is not None})
            self.skipped.add(self._describe_gradient(gradient, where))
        if finite or self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if finite:
            self.skipped.clear()
        return finite

    def _describe_gradient(self, gradient: str, where: str) -> str:
        return (
            f"the gradient {gradient} is not finite {where}, though the loss is, for the images "
            f"{list(map(str, self._paths))}"
        )


def bare(net: nn.Module) -> nn.Module:
    """The network inside the wrappers for several GPUs or processes."""
    return net.module if isinstance(net, DataParallel | DistributedDataParallel) else net


def eagerly(compiled: bool) -> AbstractContextManager[Any]:
    """Run a compiled network uncompiled: it would be compiled anew for every image size."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def iteration_seed(seed: int, iteration: int, rank: int) -> int:
    """Seed of one iteration of one process, mixed into the low 32 bits: torch's CPU generator uses no others."""
    return int(np.random.SeedSequence((seed, iteration, rank)).generate_state(1, np.uint64)[0])
