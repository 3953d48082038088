"""Training with ``train.cuda_graph``: steps that are launched at once, and looked at one iteration later."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from basicsr_plugin.averaging import move_average
from basicsr_plugin.captured_step import CapturedStep
from basicsr_plugin.models._guards import find_nonfinite_gradient, find_nonfinite_numbers, require_finite_batch
from clusir_modules.layers.experts.cluster_moe import ClusterMoE
from clusir_modules.layers.experts.gated_conv_experts import GatedConvExperts

__all__ = ["CapturedMixin", "check_capturable"]


def check_capturable(opt: Mapping[str, Any], net: nn.Module, device: torch.device) -> None:
    """Refuse what a CUDA graph cannot hold.

    Args:
        opt: All options.
        net: The bare network.
        device: Where it is trained.

    Raises:
        ValueError: There is such a thing; the message names it and says why.
    """
    train, data = opt["train"], opt["datasets"]["train"]
    own_experts = (
        name
        for name, module in net.named_modules()
        if isinstance(module, ClusterMoE) and not isinstance(module.experts, GatedConvExperts)
    )
    reasons = {
        "a CUDA device: graphs are CUDA's": device.type != "cuda",
        "one process and one GPU: the exchange of gradients is not captured": opt["dist"] or opt["num_gpu"] > 1,
        "train.amp bf16 or ~, not fp16: the loss scale is decided on the host": train.get("amp") == "fp16",
        "patches of one size, not datasets.train.gt_sizes: a graph has fixed shapes": data.get("gt_sizes") is not None,
        "train.grad_checkpointing false: recomputing keeps the state of the random numbers on the host": train.get(
            "grad_checkpointing"
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


class CapturedMixin:
    """Part of ``RestorationModel`` that trains with ``train.cuda_graph``; relies on its attributes.

    The host launches an iteration and only then reads how the one before it went, so that the GPU always has work. What
    :meth:`settle` reads is thus as late as the next iteration, log, checkpoint or end.
    """

    captured: CapturedStep | None = None
    unsettled: _Iteration | None = None

    def optimize_captured(self, current_iter: int, seed: int) -> None:
        """An iteration; see ``optimize_parameters``."""
        if self.captured is None:
            self.captured = self._build_captured()
        accum_iter = self.settings.accum_iter
        iteration = _Iteration(current_iter, {"lq": self.lq, "gt": self.gt}, self.lq_paths, seed)
        self.captured.accumulate(iteration.batch, seed, first=(current_iter - 1) % accum_iter == 0)
        self.watch_routing(self.captured.kept)
        self.settle()  # the iteration before this one, with the weights that it left
        steps_now = current_iter % accum_iter == 0
        if steps_now and self.captured.takes_steps:
            self.captured.update()
        self.captured.send_report()
        self.unsettled = iteration
        if not self.captured.takes_steps:
            self.settle()
            if steps_now and not self.leaves_step_out:
                self._step(f"at iteration {current_iter}")

    def _build_captured(self) -> CapturedStep:
        net = self.get_bare_model(self.net_g)

        def average(taken: Tensor) -> None:
            move_average(self.net_g_ema, net, (1 - self.ema_decay) * taken)

        return CapturedStep(
            self._evaluate,
            net,
            self.optimizer_g,
            accum_iter=self.settings.accum_iter,
            max_grad_norm=self.settings.max_grad_norm,
            average=average if self.ema_decay > 0 else None,
            capture=self.device.type == "cuda",
        )

    def settle(self) -> None:
        """Read how the latest iteration went, if that is not known yet, and log or raise what an ordinary one does.

        Raises:
            FloatingPointError: Its batch was not finite, or too many steps in a row were left out; the weights are as
                before it.
        """
        if self.unsettled is None:
            return
        (current_iter, batch, paths, seed), self.unsettled = self.unsettled, None
        where = f"at iteration {current_iter}"
        report = self.captured.read_report()
        if not report.batch_is_finite:
            require_finite_batch(batch, paths, where)
        self.log_dict = OrderedDict(report.terms)
        if (current_iter - 1) % self.settings.accum_iter == 0:
            self.leaves_step_out, self.step_paths = False, []
        self.step_paths += paths
        bad = find_nonfinite_numbers(report.terms)
        if bad and not self.leaves_step_out:
            self.leaves_step_out = True
            self.skipped.add(self._describe_loss(bad, batch["lq"], seed, paths, where))
        steps_now = current_iter % self.settings.accum_iter == 0
        if steps_now and self.captured.takes_steps and not self.leaves_step_out:
            if abs(report.norm) < float("inf"):
                self.skipped.clear()
            else:
                self.skipped.add(
                    self._describe_gradient(find_nonfinite_gradient(self.captured.gradient_norms()), where)
                )

    def get_current_log(self) -> Mapping[str, float]:
        """Losses of the latest iteration, by name."""
        self.settle()
        return super().get_current_log()

    def save(self, epoch: int, current_iter: int) -> None:
        """Write weights and training state, if the latest iteration was good."""
        self.settle()
        super().save(epoch, current_iter)
