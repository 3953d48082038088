"""A tiny project to train in: networks, pictures, options, and a way to run BasicSR's scripts in this process."""

from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

import basicsr_plugin
from basicsr_plugin.compat.registration import register_once

Options = dict[str, Any]
REPOSITORY = Path(__file__).parents[2]


class PluginTestNet(nn.Module):
    """Two convolutions with dropout and a buffer between them: randomness and state in training."""

    def __init__(self, width: int = 6, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.tail = nn.Conv2d(width, 3, 3, padding=1)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return x + self.tail(self.dropout(self.head(x).relu()))


class PluginStagesNet(PluginTestNet):
    """Returns two stages, the final one first."""

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        final = super().forward(x)
        return [final, x]


@pytest.fixture(scope="session", autouse=True)
def registered() -> None:
    torch.set_num_threads(1)
    basicsr_plugin.register()
    from basicsr.utils.registry import ARCH_REGISTRY

    register_once(ARCH_REGISTRY, PluginTestNet)
    register_once(ARCH_REGISTRY, PluginStagesNet)


@pytest.fixture(autouse=True)
def sigterm_as_before() -> Iterator[None]:
    """A training run in this process leaves its handler behind."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def write_pictures(folder: Path, count: int, *, side: int = 32, first_seed: int = 0) -> None:
    """``count`` noisy pictures in ``folder/lq`` and the clean ones in ``folder/gt``."""
    for part in ("lq", "gt"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        draw = np.random.default_rng(first_seed + number)
        gt = cv2.resize(draw.uniform(0, 255, (8, 8, 3)).astype(np.float32), (side, side))
        lq = gt + draw.normal(0, 20, gt.shape)
        cv2.imwrite(str(folder / "gt" / f"{number:02d}.png"), gt.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / "lq" / f"{number:02d}.png"), lq.clip(0, 255).astype(np.uint8))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "pictures", 5)
    return tmp_path / "pictures"


def paired(name: str, folder: Path) -> Options:
    return {
        "name": name,
        "type": "PairedImageDataset",
        "dataroot_gt": str(folder / "gt"),
        "dataroot_lq": str(folder / "lq"),
        "io_backend": {"type": "disk"},
    }


@pytest.fixture
def options(pictures: Path) -> Options:
    """Options of a run of 8 iterations: five pictures, batches of two, random crops and flips, dropout and EMA."""
    loader = {"gt_size": 16, "use_hflip": True, "use_rot": True, "num_worker_per_gpu": 0, "batch_size_per_gpu": 2}
    return {
        "name": "run",
        "model_type": "RestorationModel",
        "scale": 1,
        "num_gpu": 0,
        "manual_seed": 3,
        "datasets": {"train": {**paired("train", pictures), **loader, "dataset_enlarge_ratio": 1}},
        "network_g": {"type": "PluginTestNet"},
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "ema_decay": 0.9,
            "optim_g": {"type": "AdamW", "lr": 1.0e-3, "weight_decay": 1.0e-4, "betas": [0.9, 0.99]},
            "scheduler": {"type": "LinearWarmupCosineLR", "warmup_iter": 3, "eta_min": 1.0e-6},
            "total_iter": 8,
            "warmup_iter": -1,
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "logger": {"print_freq": 100, "save_checkpoint_freq": 1000, "use_tb_logger": False},
    }


def write_options(options: Options, path: Path) -> Path:
    path.write_text(yaml.safe_dump(copy.deepcopy(options), sort_keys=False))
    return path


class Run:
    """What happened in a training run."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.paths: list[list[str]] = []
        self.model: Any = None
        self.dataset: Any = None


class Killed(Exception):
    """Stands in for the end of a process in the middle of a run."""


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Train in this process as ``python -m basicsr_plugin.train`` does."""
    import basicsr.data
    import basicsr.models
    from basicsr.data import build_dataloader
    from basicsr.models import build_model

    from basicsr_plugin.train import main

    def run(
        options: Options, *arguments: str, root: Path | None = None, cwd: Path | None = None, kill_at: int = -1
    ) -> Run:
        record = Run()

        def build_recorded(opt: Options) -> Any:
            record.model = model = build_model(opt)
            step = model.optimize_parameters

            def optimize_parameters(current_iter: int) -> None:
                if current_iter == kill_at:
                    raise Killed
                step(current_iter)
                record.losses.append(model.log_dict["l_total"])
                record.rates.append(model.get_current_learning_rate()[0])
                record.paths.append(model.lq_paths)

            model.optimize_parameters = optimize_parameters
            return model

        def build_recorded_loader(dataset: Any, dataset_opt: Options, **options: Any) -> Any:
            if dataset_opt["phase"] == "train":
                record.dataset = dataset
            return build_dataloader(dataset, dataset_opt, **options)

        folder = tmp_path if root is None else root
        folder.mkdir(exist_ok=True)
        file = write_options(options, tmp_path / "options.yml")
        monkeypatch.setattr(basicsr.models, "build_model", build_recorded)
        monkeypatch.setattr(basicsr.data, "build_dataloader", build_recorded_loader)
        monkeypatch.setattr(sys, "argv", ["train", "-opt", str(file), "--root", str(folder), *arguments])
        monkeypatch.chdir(tmp_path if cwd is None else cwd)
        if kill_at < 0:
            main()
        else:
            with pytest.raises(Killed):
                main()
        return record

    return run


@pytest.fixture
def build(options: Options, tmp_path: Path) -> Callable[..., Any]:
    """Build a training model from ``options`` as they are when called, without running a script."""

    def build_restoration_model(options: Options) -> Any:
        from basicsr.models import build_model

        complete = {"rank": 0, "world_size": 1, "dist": False, "is_train": "train" in options, "auto_resume": False}
        folders = {name: str(tmp_path / name) for name in ("models", "training_states", "visualization")}
        for folder in folders.values():
            Path(folder).mkdir(exist_ok=True)
        torch.manual_seed(0)
        return build_model({**complete, **options, "path": {**options["path"], **folders}})

    return build_restoration_model


@pytest.fixture
def environment() -> dict[str, str]:
    """Environment in which another process finds the plugin from any folder."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def batch(size: int = 2, *, side: int = 16, seed: int = 0) -> Options:
    generator = torch.Generator().manual_seed(seed)
    gt = torch.rand(size, 3, side, side, generator=generator)
    lq = gt + 0.1 * torch.randn(gt.shape, generator=generator)
    return {"lq": lq, "gt": gt, "lq_path": [f"{number}.png" for number in range(size)]}


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str], list[str]]]:
    """Text of what was logged at a level."""
    from basicsr.utils import get_root_logger

    logger = get_root_logger()
    logger.addHandler(caplog.handler)
    yield lambda level="ERROR": [r.getMessage() for r in caplog.records if r.levelname == level]
    logger.removeHandler(caplog.handler)


@pytest.fixture
def make_batch() -> Callable[..., Options]:
    return batch


@pytest.fixture
def make_paired() -> Callable[[str, Path], Options]:
    return paired


@pytest.fixture
def make_pictures() -> Callable[..., None]:
    return write_pictures


@pytest.fixture
def save_options() -> Callable[[Options, Path], Path]:
    return write_options
