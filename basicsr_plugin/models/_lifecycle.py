"""Saving, ending early and resuming of training."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only

from basicsr_plugin import checkpoints
from basicsr_plugin.models._guards import find_nonfinite_entry
from basicsr_plugin.training_run import TERMINATED, TrainingRun
from clusir_modules.serialization.network_files import network_metadata

__all__ = ["LifecycleMixin"]


class LifecycleMixin:
    """Part of ``RestorationModel`` that writes checkpoints and takes them up again; relies on SRModel's attributes.

    Attributes:
        run: What the training script shares, if it is patched (``script_patches``).
    """

    run: TrainingRun | None = None
    saved_at: tuple[int, int] | None = None
    resumed_at = 0
    stop_agreed = False

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Advance the schedules; the first thing in an iteration, and so the place where a run ends at SIGTERM."""
        self.stop_if_asked(current_iter - 1)
        super().update_learning_rate(current_iter, warmup_iter)

    def agree(self, bad: bool) -> bool:
        """Let all processes know whether any of them has a bad loss, and whether any is asked to stop.

        Args:
            bad: Whether this one has.

        Returns:
            Whether any has.
        """
        asked = self.run is not None and self.run.asked_to_stop
        if self.opt["dist"]:
            flags = torch.tensor([bad, asked], dtype=torch.int32, device=self.device)
            torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
            bad, asked = (bool(flag) for flag in flags.tolist())
        self.stop_agreed = asked
        return bad

    def stop_if_asked(self, done: int) -> None:
        """Save and end the process if SIGTERM has come; a window of accumulated gradients is finished first.

        Args:
            done: Iterations of the run that are done.

        Raises:
            SystemExit: With the code 143.
        """
        if self.run is None or done % self.settings.accum_iter:
            return
        # Several processes stop at the iteration that they agreed on, a single one at once.
        if not (self.stop_agreed if self.opt["dist"] else self.run.asked_to_stop):
            return
        logger = get_root_logger()
        saved = self.saved_at is not None and self.saved_at[1] == done
        if done > self.resumed_at and not saved:
            self.save(self.run.epoch, done)
        logger.warning(
            f"SIGTERM: the run ends after iteration {done}, and its state is saved; --auto_resume continues it"
            if done
            else "SIGTERM: the run ends before its first iteration"
        )
        raise SystemExit(TERMINATED)

    def save(self, epoch: int, current_iter: int) -> None:
        """Write weights, then training state; nothing if weights are not finite, so that the last good ones stay.

        Args:
            epoch: Counted from 0; -1 for the final save.
            current_iter: Likewise, counted from 1.

        Raises:
            FloatingPointError: The final weights are not finite.
            OSError: A file cannot be written.
        """
        nets = (self.get_bare_model(self.net_g), *([self.net_g_ema] if hasattr(self, "net_g_ema") else ()))
        broken = next(filter(None, (find_nonfinite_entry(net.state_dict()) for net in nets)), None)
        if broken is None:
            super().save(epoch, current_iter)
            return
        message = f"{broken} holds NaN or infinite values: nothing is saved, the last checkpoint stays the newest"
        if current_iter == -1:
            raise FloatingPointError(f"at the end of training {message}")
        get_root_logger().error(f"after iteration {current_iter} {message}")

    @master_only
    def save_network(self, net: Any, net_label: str, current_iter: int, param_key: str | list[str] = "params") -> None:
        """Write weights in ``logger.save_checkpoint_format``, whole or not at all.

        Raises:
            OSError: The file cannot be written.
        """
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        weights = {key: self.get_bare_model(n).state_dict() for key, n in zip(keys, nets, strict=True)}
        label = "latest" if current_iter == -1 else current_iter
        file_format = self.opt["logger"].get("save_checkpoint_format", "pth")
        checkpoints.write_weights(
            weights,
            Path(self.opt["path"]["models"]),
            f"{net_label}_{label}",
            file_format,
            network_metadata(self.get_bare_model(nets[0])),
        )

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Write what resuming needs besides the weights, whole or not at all; nothing for the final save.

        Raises:
            OSError: The file cannot be written.
        """
        if current_iter == -1:
            return
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "manual_seed": self.opt["manual_seed"],
            "grad_scaler": self.grad_scaler.state_dict(),
            "best_metric_results": deepcopy(getattr(self, "best_metric_results", {})),
            "averaged": hasattr(self, "net_g_ema"),
            "skipped_steps": self.skipped.in_a_row,
            "validation_due": self.validation_due(current_iter),
        }
        checkpoints.write_state(state, Path(self.opt["path"]["training_states"]) / f"{current_iter}.state")
        self.saved_at = epoch, current_iter

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Take up optimizers, schedules, loss scale and best metrics from a training state.

        A validation that was due when the state was written, and that the run did not live to finish, is made up for.
        """
        super().resume_training(resume_state)
        if resume_state.get("grad_scaler") and self.grad_scaler.is_enabled():
            self.grad_scaler.load_state_dict(resume_state["grad_scaler"])
        self.best_metric_results = resume_state.get("best_metric_results", {})
        self.skipped.in_a_row = resume_state.get("skipped_steps", 0)
        self.resumed_at = resume_state["iter"]
        if resume_state.get("validation_due") and self.opt.get("val") and self.run is not None:
            for loader in self.run.val_loaders:
                self.validation(loader, self.resumed_at, self.run.tb_logger, self.opt["val"]["save_img"])
