"""When weights and training state are written, and what happens if they cannot be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from basicsr_plugin.run.guards import find_nonfinite_entry
from basicsr_plugin.run.progress import Progress
from basicsr_plugin.run.states import States

__all__ = ["Checkpoints"]


class Checkpoints:
    """The checkpoints of one run. All processes call these methods; the first one writes.

    Args:
        states: Writes the files.
        progress: Of the run; it is told what is saved and what is missed.
        nets: Gives the networks by kind, "params" and perhaps "params_ema".
        content: Gives the training state of an epoch and an iteration.
        rank: Of this process.
    """

    def __init__(
        self,
        states: States,
        progress: Progress,
        *,
        nets: Callable[[], Mapping[str, nn.Module]],
        content: Callable[[int, int], Mapping[str, Any]],
        rank: int,
    ) -> None:
        self.states = states
        self.progress = progress
        self.nets = nets
        self.content = content
        self.rank = rank

    def save(self, epoch: int, iteration: int, *, required: bool = False) -> None:
        """Write weights, then training state; nothing if weights are not finite, so that the last good ones stay.

        A checkpoint in the middle of a training that cannot be written is an error in the log, and the run goes on. The
        last one is tried once more after the final weights.

        Args:
            epoch: Counted from 0; -1 for the final save.
            iteration: Likewise, counted from 1.
            required: Whether the run ends with this.

        Raises:
            FloatingPointError: The final weights are not finite.
            OSError: A file cannot be written that is final or required.
            ValueError: The network could not be made again, see :meth:`States.save_weights`.
        """
        final = iteration == -1
        missed = self.progress.missed
        nets = self.nets()
        broken = next(filter(None, (find_nonfinite_entry(net.state_dict()) for net in nets.values())), None)
        if broken is not None:
            message = f"{broken} holds NaN or infinite values: nothing is saved, the last checkpoint stays the newest"
            if final:
                raise FloatingPointError(f"at the end of training {message}")
            logging.getLogger("basicsr").error(f"after iteration {iteration} {message}")
            return
        try:
            self.save_weights(nets, "net_g", iteration)
            self.save_state(epoch, iteration)
            self.progress.missed = None
        except OSError as error:
            if final or required:
                raise
            self._miss(error, epoch, iteration)
        self.progress.wait()
        if final and missed is not None and missed[1] == self.progress.iteration:
            self.save(*missed, required=True)

    def save_weights(self, nets: Mapping[str, nn.Module], name: str, iteration: int | str) -> None:
        """Write weights under a name and an iteration, "latest" for -1, or a label.

        Raises:
            OSError: The file cannot be written.
            ValueError: See :meth:`States.save_weights`; nothing is written.
        """
        if self.rank == 0:
            self.states.save_weights(nets, f"{name}_{'latest' if iteration == -1 else iteration}")

    def save_state(self, epoch: int, iteration: int) -> None:
        """Write what resuming needs besides the weights; nothing for the final save.

        Raises:
            OSError: The file cannot be written.
        """
        if iteration == -1:
            return
        if self.rank == 0:
            self.states.save_state(self.content(epoch, iteration))
        self.progress.saved_at = epoch, iteration

    def save_best(self, label: str) -> None:
        """Write the weights under a label; that they cannot be written is an error in the log only."""
        try:
            self.save_weights(self.nets(), "net_g", label)
        except OSError as error:
            logging.getLogger("basicsr").error(f"{error}; the run goes on without the best weights")

    def renew_state(self) -> None:
        """Write the last training state once more, with what a validation after it has found; if there is one."""
        if self.progress.saved_at is None:
            return
        try:
            self.save_state(*self.progress.saved_at)
        except OSError as error:
            self._miss(error, *self.progress.saved_at)

    def _miss(self, error: OSError, epoch: int, iteration: int) -> None:
        self.progress.missed = epoch, iteration
        logging.getLogger("basicsr").error(f"{error}; the run goes on, and tries again at the next checkpoint")
