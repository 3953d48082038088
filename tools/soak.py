"""Trains under random faults for an hour, continuing each time, and compares each end with an undisturbed run's.

``make soak``, or ``python tools/soak.py [--minutes N] [--seed N]``. The training is that of ``killtest.py``. Faults
come at random moments: kills, SIGTERM and SIGINT to the process group, a disk that is full or slow or cannot be synced,
files cut short, a clock that is set back or ahead, a loader worker that dies, a second start of the same run, and a
lost GPU, as an exception in the backward pass. A training that reaches its end is compared bit for bit, and the next
one begins. The exit code is 0 if every start did what it should, and every end is the undisturbed one.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import killtest
from killtest import Training, compare, finish, write_options

TOTAL_ITER = 60
SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
Act = Callable[[], object]


def before(owner: Any, name: str, act: Act) -> None:
    """Do something before each call of a function."""
    original = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        act()
        return original(*args, **kwargs)

    setattr(owner, name, wrapper)


def nth(number: int, act: Act) -> Act:
    """Act at the call with this number, counted from 1."""
    calls = Counter[str]()

    def count() -> None:
        calls["all"] += 1
        if calls["all"] == number:
            act()

    return count


def fail(error: BaseException) -> None:
    """Raise an error."""
    raise error


def full_disk(number: int) -> None:
    """From one file on nothing can be written, three files long."""
    from clusir_modules.serialization import atomic

    written = Counter[str]()

    def open_full(path: Any, mode: str) -> Any:
        written["files"] += "w" in mode
        if "w" in mode and number <= written["files"] < number + 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open(path, mode)

    atomic.open = open_full  # type: ignore[attr-defined]  # hides the builtin there


def no_sync(number: int) -> None:
    """Files cannot be forced to disk, as on a share of Windows."""
    before(os, "fsync", lambda: fail(OSError(errno.EINVAL, os.strerror(errno.EINVAL))))


def slow_disk(number: int) -> None:
    """Forcing a file to disk takes half a second."""
    before(os, "fsync", lambda: time.sleep(0.5))


def clock_step(number: int) -> None:
    """The clock is set a day back or ahead."""
    real, calls = time.time, Counter[str]()

    def stepped() -> float:
        calls["all"] += 1
        return real() + (86_400 * (-1) ** number if calls["all"] > 10 * number else 0)

    time.time = stepped


def lost_gpu(number: int) -> None:
    """The backward pass fails as it does when a GPU falls off its bus."""
    import torch

    error = RuntimeError("CUDA error: unspecified launch failure")
    before(torch.Tensor, "backward", nth(number, lambda: fail(error)))


def dead_worker(number: int) -> None:
    """A loader worker is killed."""
    from torch.utils.data import get_worker_info

    from basicsr_plugin.data.all_in_one_dataset import AllInOneDataset

    def die() -> None:
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)

    before(AllInOneDataset, "__getitem__", nth(number, die))


INSIDE: dict[str, tuple[Callable[[int], None], set[int]]] = {
    "full disk": (full_disk, {0, 1}),
    "disk that cannot be synced": (no_sync, {0}),
    "slow disk": (slow_disk, {0}),
    "clock step": (clock_step, {0}),
    "lost GPU": (lost_gpu, {0, 1}),
    "dead worker": (dead_worker, {0, 1}),
}
"""Faults inside the process, and the exit codes that it may have then; 1 is an error that is named."""
LASTING = ("disk that cannot be synced", "slow disk", "clock step")
"""Those of them that end no training; a kill does, sooner or later."""
OUTSIDE = ("kill", "SIGTERM", "SIGINT", "second start", "cut file")


def cut_newest(folder: Path, draw: random.Random) -> bool:
    """Cut the newest state, or its weights; whether there is an older one to go on from."""
    states = sorted((folder / "training_states").glob("[0-9]*.state"), key=lambda path: int(path.stem))
    if len(states) < 2:
        return False
    file = draw.choice([states[-1], folder / "models" / f"net_g_{states[-1].stem}.pth"])
    file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])
    return True


def wait(training: Training, seconds: float) -> bool:
    """Wait until the training has ended or the time is over; whether it has ended."""
    end = time.monotonic() + seconds
    while training.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    return training.poll() is not None


class Soak:
    """One training after the other under faults.

    Args:
        folder: For all files.
        seed: Of the faults.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self.folder = folder
        self.options = write_options(folder, TOTAL_ITER)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.reference = Training(self.options, folder / "undisturbed", warm=True)
        finish(self.reference)
        self.rounds = 0

    def run_round(self, deadline: float) -> None:
        """Disturb a training until it has ended, or no more after the deadline, and compare its end."""
        root = self.folder / f"round{self.rounds}"
        ended = False
        while not ended:
            calm = time.monotonic() > deadline
            ended = self._start_undisturbed(root) if calm else self._start(root, self.draw.choice([*INSIDE, *OUTSIDE]))
        try:
            self.wrong += compare(root / "experiments/killtest", self.reference.folder, TOTAL_ITER)
        except OSError as error:
            self.wrong.append(f"an end is incomplete: {error}")
        shutil.rmtree(root)
        self.rounds += 1

    def _start_undisturbed(self, root: Path) -> bool:
        finish(Training(self.options, root, warm=True))
        return True

    def _start(self, root: Path, fault: str) -> bool:
        """Start the training once, with a fault; whether it has reached its end."""
        folder = root / "experiments/killtest"
        if fault == "cut file" and not cut_newest(folder, self.draw):
            return False
        self.counts[fault] += 1
        if fault in INSIDE:
            act, codes = INSIDE[fault]
            prepare = partial(act, self.draw.randint(1, 12))
            training = Training(self.options, root, warm=True, prepare=prepare)
            if fault in LASTING and not wait(training, self.draw.uniform(2, 15)):
                training.kill()
                codes = {*codes, -signal.SIGKILL}  # it may end before the signal comes
            self._require(training, fault, wait(training, killtest.STALLED), codes)
            return training.code == 0
        training = Training(self.options, root, warm=True)
        if not wait(training, 30 if fault == "cut file" else self.draw.uniform(0.2, 8)):
            if fault == "second start":
                self._start_again(root)
            elif fault in SIGNALS:
                os.killpg(training.pid, SIGNALS[fault])
            if fault in ("kill", "cut file"):
                training.kill()
            elif fault == "second start" and not wait(training, 1):
                training.kill()
        codes = {0, -signal.SIGKILL}
        if fault in SIGNALS:  # it may come before anybody watches
            codes = {0, 128 + SIGNALS[fault], -SIGNALS[fault]} | ({1} if fault == "SIGINT" else set())
        self._require(training, fault, wait(training, killtest.STALLED), codes)
        return training.code == 0

    def _start_again(self, root: Path) -> None:
        """Start the run a second time while it lives: it must be refused."""
        output = (root / "output.txt").read_bytes()
        if b"Start training from" not in output:
            return
        second = Training(self.options, root, warm=True)
        self._require(second, "second start, refused", wait(second, killtest.STALLED), {1})
        if "is under way" not in second.text():
            self.wrong.append("a second start was not told that the run is under way")

    def _require(self, training: Training, fault: str, ended: bool, codes: set[int]) -> None:
        if ended and training.code in codes:
            return
        training.kill()
        self.wrong.append(f"{fault}: ended with {training.code}, not {sorted(codes)}:\n{training.text()[-1500:]}")


def main() -> int:
    """Soak as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="how long faults come (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults (default: %(default)s)")
    arguments = parser.parse_args()
    sys.path.insert(0, str(killtest.REPOSITORY))
    os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    killtest.import_for_forks()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), arguments.seed)
        deadline = began + 60 * arguments.minutes
        while time.monotonic() < deadline and not soak.wrong:
            soak.run_round(deadline)
            print(f"{soak.rounds} trainings, {soak.counts.total()} faults", flush=True)
    print(", ".join(f"{count} {name}" for name, count in sorted(soak.counts.items())))
    print(f"{soak.rounds} trainings of {TOTAL_ITER} iterations, {soak.counts.total()} faults, seed {arguments.seed}")
    print("\n".join(["WRONG:", *soak.wrong]) if soak.wrong else "every end is bit-equal to the undisturbed run's")
    return min(len(soak.wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
