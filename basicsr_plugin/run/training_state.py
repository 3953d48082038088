"""What a training state holds, and how a training takes it up: each entry is written and read in this file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr.models.sr_model import SRModel

from basicsr_plugin.run.changes import comparable, report_changes
from basicsr_plugin.run.optimizers import resume_optimizers

__all__ = ["collect_state", "take_up_state"]


def collect_state(model: Any, epoch: int, iteration: int) -> dict[str, Any]:
    """What resuming needs besides the weights.

    Args:
        model: The training model.
        epoch: The running one, counted from 0.
        iteration: Iterations done.
    """
    progress = model.progress
    sampler = progress.context.sampler
    return {
        "epoch": epoch,
        "iter": iteration,
        "optimizers": [optimizer.state_dict() for optimizer in model.optimizers],
        "schedulers": [scheduler.state_dict() for scheduler in model.schedulers],
        "manual_seed": model.options.manual_seed,
        "grad_scaler": model.stepper.scaler.state_dict(),
        "best_metric_results": model.validator.table.best,
        "averaged": model.average is not None,
        "skipped_steps": model.stepper.skipped.in_a_row,
        "validation_due": progress.validation_due(iteration),
        "sampler": sampler.position(epoch, iteration) if sampler is not None else None,
        "options": comparable(model.options),
        "pictures": progress.context.fingerprint,
    }


def take_up_state(model: Any, state: Mapping[str, Any]) -> None:
    """Set optimizers, schedules, loss scale, best metrics and progress to a training state.

    Options that have changed since take effect, and the log lists them. The sampler takes up its part when it is made.

    Args:
        model: The training model, whose optimizers and schedules are new.
        state: Of :func:`collect_state`; entries that older versions did not write may be missing.
    """
    progress = model.progress
    changed = report_changes(state, model.options, progress.context.fingerprint)
    if not resume_optimizers(model, state, changed):
        SRModel.resume_training(model, state)
    if state.get("grad_scaler") and model.stepper.scaler.is_enabled():
        model.stepper.scaler.load_state_dict(state["grad_scaler"])
    model.validator.table.best = state.get("best_metric_results", {})
    model.stepper.skipped.in_a_row = state.get("skipped_steps", 0)
    progress.resumed_at = progress.iteration = state["iter"]
    if model.states.holds(model.options.path.resume_state):
        progress.saved_at = state["epoch"], state["iter"]
