"""Kills a training again and again and compares its end with that of an undisturbed one, bit for bit.

``make killtest``, or ``python tools/killtest.py [--kills N] [--seed N] [--warm] [--out DIR]``. The training is
BasicSR's with the plugin, tiny, on the CPU: two tasks, a loader worker, growing patches, a warm-up and a cosine, an
average of the weights, a checkpoint every third iteration and a validation every sixth. SIGKILL comes at a random
moment: while it starts, in an iteration or a validation, or while a checkpoint is written. The exit code is 0 if every
start went on from the newest state, and the last one ended with the weights, averages, optimizer, schedule, best
metrics and validation pictures of the undisturbed run.
"""

from __future__ import annotations

import argparse
import atexit
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml
from PIL import Image
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parents[1]
CHECKPOINT_EVERY, VALIDATE_EVERY = 3, 6
STALLED = 600
"""Seconds without an end after which a run is called stuck."""


def write_pictures(folder: Path, count: int, draw: np.random.Generator) -> None:
    """Smooth random pictures of 40 x 40 pixels."""
    folder.mkdir(parents=True)
    for number in range(count):
        rough = Image.fromarray(draw.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        rough.resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{number}.png")


def write_options(folder: Path, total_iter: int) -> Path:
    """Option file of the training, and its pictures."""
    draw = np.random.default_rng(0)
    write_pictures(folder / "pictures", 6, draw)
    write_pictures(folder / "val_pictures", 2, draw)

    def tasks(pictures: str) -> list[dict[str, Any]]:
        gt = str(folder / pictures)
        return [
            {"name": "noise", "dataroot_gt": gt, "degradation": {"type": "GaussianNoise", "sigma": [15, 50]}},
            {"name": "weak", "dataroot_gt": gt, "degradation": {"type": "GaussianNoise", "sigma": 5}},
        ]

    psnr = {"type": "calculate_psnr", "crop_border": 0}
    train = {
        "name": "train",
        "type": "AllInOneDataset",
        "tasks": tasks("pictures"),
        "gt_size": 32,
        "num_worker_per_gpu": 1,
        "batch_size_per_gpu": 2,
        "mini_batch_sizes": [2, 1],
        "iters": [total_iter // 2, total_iter],
        "gt_sizes": [16, 32],
    }
    options = {
        "name": "killtest",
        "model_type": "RestorationModel",
        "scale": 1,
        "num_gpu": 0,
        "manual_seed": 1,
        "datasets": {
            "train": train,
            "val": {"name": "val", "type": "AllInOneDataset", "tasks": tasks("val_pictures")},
        },
        "network_g": {
            "type": "clusir_tiny",
            "dim": 8,
            "embed_dim": 16,
            "num_blocks": [1, 1, 1, 1],
            "num_heads": [1, 1, 1, 1],
        },
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "ema_decay": 0.9,
            "optim_g": {"type": "AdamW", "lr": 1.0e-3},
            "scheduler": {"type": "LinearWarmupCosineLR", "warmup_iter": 5, "eta_min": 1.0e-5},
            "total_iter": total_iter,
            "warmup_iter": -1,
            "losses": [{"type": "L1Loss"}, {"type": "load_balance", "weight": 0.01}],
        },
        "val": {
            "val_freq": VALIDATE_EVERY,
            "save_img": True,
            "metrics": {"psnr": {**psnr, "better": "higher"}, "worst_psnr": {**psnr, "better": "lower"}},
        },
        "logger": {"print_freq": 1, "save_checkpoint_freq": CHECKPOINT_EVERY, "use_tb_logger": False},
    }
    path = folder / "killtest.yml"
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    return path


class Training:
    """A training process that has just been started.

    Args:
        options: Option file.
        root: Folder for its results.
        warm: Fork this process, which has imported everything, instead of starting a new one.
        prepare: Called in the fork, before it trains.
    """

    def __init__(self, options: Path, root: Path, *, warm: bool, prepare: Callable[[], object] = lambda: None) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.output = root / "output.txt"
        self.folder = root / "experiments" / "killtest"
        arguments = ["-opt", str(options), "--root", str(root), "--auto_resume"]
        with open(self.output, "wb") as output:
            if warm:
                self.process = None
                self.pid = os.fork()
                if self.pid == 0:
                    _train_and_exit(arguments, output.fileno(), prepare)
            else:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "basicsr_plugin.train", *arguments],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=REPOSITORY,
                    start_new_session=True,
                )
                self.pid = self.process.pid
        self.code: int | None = None
        atexit.register(self.kill)

    def poll(self) -> int | None:
        """Exit code, negative after a signal; None while it runs."""
        if self.code is None:
            if self.process is not None:
                self.code = self.process.poll()
            else:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def kill(self) -> bool:
        """SIGKILL to the process and its loader workers; returns whether it ran."""
        if self.poll() is not None:
            return False
        os.killpg(self.pid, signal.SIGKILL)
        while self.poll() is None:
            time.sleep(0.001)
        return True

    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(errors="replace")

    def iteration(self) -> int:
        """Last iteration that it reported, 0 if none."""
        found = re.findall(r"iter:\s*([\d,]+), lr", self.text())
        return int(found[-1].replace(",", "")) if found else 0

    def resumed_at(self) -> int:
        """Iteration that it said it resumed from, 0 if none."""
        found = re.search(r"Resuming training from epoch: \d+, iter: (\d+)", self.text())
        return int(found[1]) if found else 0

    def unfinished_files(self) -> set[str]:
        """Checkpoint files that are being written."""
        folders = (self.folder / part for part in ("models", "training_states"))
        with suppress(FileNotFoundError):  # a start has just put the folder aside
            return {path.name for folder in folders for path in folder.glob(".*.tmp*")}
        return set()

    def newest_state(self) -> int:
        """Iteration of the newest training state, 0 if there is none."""
        return max((int(path.stem) for path in (self.folder / "training_states").glob("[0-9]*.state")), default=0)


def _train_and_exit(arguments: list[str], output: int, prepare: Callable[[], object]) -> NoReturn:
    """In a forked process: what ``python -m basicsr_plugin.train`` does."""
    code = 1
    try:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["train", *arguments]
        from basicsr_plugin.train import main

        prepare()
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait_and_kill(training: Training, kind: str, draw: random.Random, startup: float) -> bool:
    """Kill a training at a moment of the given kind.

    Args:
        training: Just started.
        kind: "start" (within ``startup`` seconds), "iteration" (or validation) or "checkpoint".
        draw: Source of the moment.
        startup: Seconds that a training takes to its first iteration.

    Returns:
        Whether it was killed; False if it had ended before, or is stuck.
    """
    if kind == "start":
        return _sleep_and_kill(training, draw.uniform(0, startup))
    writes, seen = draw.randint(1, 4), Counter[str]()
    target = training.newest_state() + draw.randint(1, 2 * CHECKPOINT_EVERY)
    known: set[str] = training.unfinished_files()
    deadline = time.monotonic() + STALLED
    while training.poll() is None and time.monotonic() < deadline:
        if kind == "iteration":
            if training.iteration() >= target:
                return _sleep_and_kill(training, draw.uniform(0, 0.3))
            time.sleep(0.005)
            continue
        now = training.unfinished_files()
        seen.update(now - known)
        known = now
        if seen.total() >= writes:
            return _sleep_and_kill(training, draw.choice((0.0, 0.0, draw.uniform(0, 0.02))))
        time.sleep(0.0003)
    return False


def _sleep_and_kill(training: Training, seconds: float) -> bool:
    time.sleep(seconds)
    return training.kill()


def finish(training: Training) -> None:
    """Wait for the end of a training and require that it succeeded."""
    deadline = time.monotonic() + STALLED
    while training.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    require_success(training)


def require_success(training: Training) -> None:
    """End the test with the training's last words if it failed by itself, or still runs."""
    if training.poll() is None:
        training.kill()
        sys.exit(f"the training was stuck for {STALLED} s:\n{training.text()[-3000:]}")
    if training.poll() != 0:
        sys.exit(f"the training ended with code {training.poll()}:\n{training.text()[-3000:]}")


def differences(first: object, second: object, name: str) -> Iterator[str]:
    """Names of the entries in which two checkpoints differ by as much as a bit."""
    import torch

    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({*first, *second}, key=str):
            yield from differences(first.get(key), second.get(key), f"{name}.{key}")
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from differences(one, other, f"{name}.{number}")
    elif isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.dtype != second.dtype or first.shape != second.shape or not torch.equal(_bytes(first), _bytes(second)):
            yield name
    elif first != second:
        yield name


def _bytes(tensor: Any) -> Any:
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8)


def compare(killed: Path, undisturbed: Path, total_iter: int) -> list[str]:
    """Names of all results in which two runs differ."""
    import torch

    found = []
    state = f"training_states/{total_iter // CHECKPOINT_EVERY * CHECKPOINT_EVERY}.state"
    for file in ("models/net_g_latest.pth", state):
        contents = [torch.load(folder / file, weights_only=True) for folder in (killed, undisturbed)]
        found += differences(*contents, file)
    pictures = [
        {path.relative_to(folder): path.read_bytes() for path in (folder / "visualization").rglob("*.png")}
        for folder in (killed, undisturbed)
    ]
    if not pictures[1]:
        found.append("the undisturbed run wrote no validation pictures")
    found += [
        str(path) for path in sorted({*pictures[0], *pictures[1]}) if pictures[0].get(path) != pictures[1].get(path)
    ]
    return found


def run_test(folder: Path, *, kills: int, seed: int, warm: bool) -> int:
    """Run the whole test in a folder; the number of things that went wrong."""
    began = time.monotonic()
    draw = random.Random(seed)
    total_iter = CHECKPOINT_EVERY * (kills + 3)
    options = write_options(folder, total_iter)
    reference = Training(options, folder / "undisturbed", warm=warm)
    while reference.poll() is None and not reference.iteration():
        time.sleep(0.01)
    startup = time.monotonic() - began
    finish(reference)

    hits: Counter[str] = Counter()
    wrong: list[str] = []
    training = None
    # Every third moment of each kind, so that few kills have them all.
    kinds = [("checkpoint", "iteration", "start")[number % 3] for number in range(kills)]
    draw.shuffle(kinds)
    for kind in tqdm(kinds, desc="kills", unit="kill"):
        killed, moment = False, kind
        while not killed:
            expected = 0 if training is None else training.newest_state()
            training = Training(options, folder / "killed", warm=warm)
            killed = wait_and_kill(training, moment, draw, startup)
            if not killed:
                require_success(training)
                moment = "start"  # The run was at its end; kill it while it starts to find that out.
            wrong += _check_resumed(training, expected)
        inside = training.unfinished_files()
        hits["while a file was written" if inside else "at a start" if moment == "start" else "elsewhere"] += 1

    expected = training.newest_state() if training else 0
    training = Training(options, folder / "killed", warm=warm)
    finish(training)
    wrong += _check_resumed(training, expected)
    wrong += compare(training.folder, reference.folder, total_iter)
    survived = sum(hits.values())
    print(f"kills survived {survived}/{kills}: " + ", ".join(f"{count} {name}" for name, count in sorted(hits.items())))
    processes = "forked" if warm else "new"
    print(f"{total_iter} iterations, {time.monotonic() - began:.0f} s, seed {seed}, {processes} processes")
    print("\n".join(["DIFFERENT:", *wrong]) if wrong else "the end is bit-equal to the undisturbed run's")
    return len(wrong)


def _check_resumed(training: Training, expected: int) -> list[str]:
    """A start must go on from the newest state: every file that has its name is complete."""
    text = training.text()
    if "taking an older state" in text:
        return [f"the state of iteration {expected} was not complete"]
    if "Start training from" in text and training.resumed_at() != expected:
        return [f"a run started from iteration {training.resumed_at()}, with a state of iteration {expected}"]
    return []


def import_for_forks() -> None:
    """Import all that a training needs."""
    import torch

    import basicsr_plugin.train

    torch.set_num_threads(1)
    basicsr_plugin.register()
    import basicsr_plugin.run.training


def main() -> int:
    """Run the test as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how often to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--warm", action="store_true", help="fork instead of starting Python anew: faster, less real")
    parser.add_argument("--out", type=Path, help="folder to keep the runs in, which must not exist")
    arguments = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    if arguments.warm:
        import_for_forks()
    settings = {"kills": arguments.kills, "seed": arguments.seed, "warm": arguments.warm}
    if arguments.out is not None:
        arguments.out.mkdir(parents=True)
        return min(run_test(arguments.out.resolve(), **settings), 1)
    with tempfile.TemporaryDirectory() as folder:
        return min(run_test(Path(folder), **settings), 1)


if __name__ == "__main__":
    sys.exit(main())
