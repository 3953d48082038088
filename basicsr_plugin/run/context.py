"""What the loop knows and the model needs: data, TensorBoard, and whether the process is asked to end."""

from __future__ import annotations

from typing import Any

from basicsr_plugin.run.signals import Signals

__all__ = ["RunContext"]


class RunContext:
    """Filled in by :class:`~basicsr_plugin.run.training.TrainingRun`, or for a script by ``run.seam``.

    Attributes:
        signals: Whether SIGTERM or SIGINT has come.
        sampler: Sampler of the training data, whose epoch is the run's; None if a script has its own.
        fingerprint: What tells the training pictures from others, see ``run.changes``.
        val_loaders: Loaders of the validation sets.
        tb_logger: TensorBoard writer or None.
    """

    def __init__(self) -> None:
        self.signals = Signals()
        self.sampler: Any = None
        self.fingerprint: dict[str, Any] | None = None
        self.val_loaders: list[Any] = []
        self.tb_logger: Any = None

    @property
    def epoch(self) -> int:
        """The running epoch, counted from 0."""
        return 0 if self.sampler is None else int(self.sampler.epoch)
