"""Trainings that get a signal at a chosen moment, one after the other, in forks of a process that imports once.

``python ending_worker.py JSON`` with a list of {"moment", "signal", "arguments", "output"}; prints the exit codes. The
signal goes to the whole process group, loader workers included, as torchrun, SLURM, docker and Ctrl-C send it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import basicsr_plugin

basicsr_plugin.register()

from basicsr.data import paired_image_dataset  # noqa: E402 - after the repairs
from torch.utils.data import get_worker_info  # noqa: E402

from basicsr_plugin.models import restoration_model, validation  # noqa: E402
from basicsr_plugin.run import states, training  # noqa: E402
from basicsr_plugin.train import main  # noqa: E402

Dataset, Model = paired_image_dataset.PairedImageDataset, restoration_model.RestorationModel


def once(marker: Path, act: Callable[[], None]) -> None:
    """Act in the first process that comes here."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    act()


def before(owner: Any, name: str, act: Callable[..., None]) -> None:
    """Do something before a function of a class or module."""
    original = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        act(*args)
        return original(*args, **kwargs)

    setattr(owner, name, wrapper)


def arrange(moment: str, number: int, marker: Path) -> None:
    """Have the signal sent when the training comes to the moment."""

    def send() -> None:
        once(marker, lambda: os.killpg(0, number))

    def send_and_linger() -> None:
        once(marker, lambda: (os.killpg(0, number), time.sleep(4)))

    def send_twice() -> None:
        os.killpg(0, number)
        time.sleep(0.7)
        os.killpg(0, number)

    loaded: list[int] = []

    def count(self: Any, index: int) -> None:
        loaded.append(index)
        if get_worker_info() is not None and len(loaded) == 8:
            send_and_linger()

    if moment == "loading":
        before(Dataset, "__getitem__", count)
    elif moment == "validation":
        before(validation, "write_picture", lambda *args: send())
    elif moment == "saving":
        before(states.os, "replace", lambda source, target: send() if "8.state" in str(target) else None)
    elif moment == "building":
        before(training, "build_sampler", lambda *args: send())
    elif moment == "twice":
        before(Model, "optimize_parameters", lambda self, i: send_twice() if i == 7 else None)
    elif moment:
        before(Model, "optimize_parameters", lambda self, i: send() if i == int(moment) else None)


def train(run: dict[str, Any]) -> int:
    """Exit code of a training."""
    try:
        arrange(run["moment"], run["signal"], Path(run["output"]).with_suffix(".sent"))
        sys.argv = ["train", *run["arguments"]]
        main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run_all(runs: list[dict[str, Any]]) -> None:
    """Fork for each."""
    torch.set_num_threads(1)
    for run in runs:
        child = os.fork()
        if child == 0:
            os.setsid()
            signal.alarm(300)
            output = os.open(run["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = train(run)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__" and "RANK" in os.environ:
    sys.exit(train(json.loads(sys.argv[1])))
elif __name__ == "__main__":
    run_all(json.loads(sys.argv[1]))
