"""How far a run is: what is saved and validated, and whether it shall end."""

from __future__ import annotations

import datetime
import logging
import signal
from typing import NoReturn

import torch

from basicsr_plugin.options.schema import RunOptions
from basicsr_plugin.run.context import RunContext

__all__ = ["Progress"]

_LONGEST_WAIT = datetime.timedelta(days=1)
"""For the others to wait, while one process validates or saves."""


class Progress:
    """Of one run, the same in all its processes.

    Args:
        options: Of the run.

    Attributes:
        context: What the loop knows.
        iteration: The running one.
        resumed_at: Iteration of the state that the run goes on from, 0 for a new run.
        saved_at: Epoch and iteration of the last training state.
        missed: Epoch and iteration of the last checkpoint, if it could not be written.
        validated: Iteration of the last validation, and how many data sets are done.
        group: Process group in which nobody gives up waiting; None for a single process.
    """

    def __init__(self, options: RunOptions) -> None:
        self.context = RunContext()
        self.iteration = self.resumed_at = 0
        self.saved_at: tuple[int, int] | None = None
        self.missed: tuple[int, int] | None = None
        self.validated = (-1, 0)
        self.group = torch.distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT) if options.dist else None
        self._val = options.val
        self._sets = sum(phase.split("_")[0] == "val" for phase in options.datasets)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.group is not None:
            torch.distributed.barrier(group=self.group)

    def is_saved(self, iteration: int) -> bool:
        """Whether an iteration has a training state of this process's."""
        return self.saved_at is not None and self.saved_at[1] == iteration

    def count_validated(self, iteration: int) -> bool:
        """Count a data set as done; whether it was the last one of this iteration."""
        done = self.validated[1] + 1 if self.validated[0] == iteration else 1
        self.validated = iteration, done
        return done == self._sets

    def validation_due(self, iteration: int) -> bool:
        """Whether this iteration has a validation that is not finished yet."""
        if self._val is None or not self._sets or iteration % (self._val.val_freq or 1):
            return False
        return self.validated[0] != iteration or self.validated[1] < self._sets

    def ask_all(self) -> int:
        """Greatest number of the signals that ask the processes to end, 0 if none does; all have to call this."""
        asked = torch.tensor([self.context.signals.asked])
        if self.group is not None:
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX, group=self.group)
        return int(asked)

    def end(self, asked: int, done: int) -> NoReturn:
        """End this process, when all are here: torchrun ends the others when the first one has ended.

        Args:
            asked: Number of the signal.
            done: Iterations of the run that are done.

        Raises:
            SystemExit: With 128 and the number of the signal.
        """
        name = signal.Signals(asked).name
        logging.getLogger("basicsr").warning(
            f"{name}: the run ends after iteration {done}, and its state is saved; --auto_resume continues it"
            if done
            else f"{name}: the run ends before its first iteration"
        )
        self.wait()
        raise SystemExit(128 + asked)
