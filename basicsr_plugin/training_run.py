"""What a training script knows and its model needs: loaders, epoch, and whether the process is asked to end."""

from __future__ import annotations

import signal
import threading
from typing import Any

__all__ = ["TERMINATED", "TrainingRun"]

TERMINATED = 128 + signal.SIGTERM
"""Exit code of a run that SIGTERM ended after saving, the same as a shell reports for one that it killed."""


class TrainingRun:
    """One run of BasicSR's training script; ``script_patches`` fills it in, the model reads it.

    Attributes:
        sampler: Sampler of the training data, whose epoch is the run's.
        val_loaders: Loaders of the validation sets.
        tb_logger: TensorBoard writer or None.
        asked_to_stop: Whether SIGTERM has come.
    """

    def __init__(self) -> None:
        self.sampler: Any = None
        self.val_loaders: list[Any] = []
        self.tb_logger: Any = None
        self.asked_to_stop = False

    @property
    def epoch(self) -> int:
        """The running epoch, counted from 0."""
        return 0 if self.sampler is None else int(self.sampler.epoch)

    def watch_sigterm(self) -> None:
        """Remember the next SIGTERM instead of dying from it; one more after that acts as it did before.

        Does nothing outside the main thread, where Python allows no signal handlers.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        previous = signal.getsignal(signal.SIGTERM)

        def remember(number: int, frame: object) -> None:
            self.asked_to_stop = True
            signal.signal(signal.SIGTERM, previous if previous is not None else signal.SIG_DFL)

        signal.signal(signal.SIGTERM, remember)
