"""A checkpoint, pictures, and a way to run the command in this process."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import clusir_modules as cm
from clusir_cli.app import main

SMALL = {"dim": 8, "num_heads": (1, 2, 2, 2), "num_experts": 3, "num_clusters": (4, 3, 3, 2), "embed_dim": 16}


@pytest.fixture
def net():
    """A small network that changes pictures visibly."""
    torch.manual_seed(3)
    net = cm.clusir_tiny(**SMALL).eval()
    with torch.no_grad():
        net.tail.weight.mul_(20)
    return net


@pytest.fixture
def weights(net, tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"params": net.state_dict()}, path)
    return str(path)


@pytest.fixture
def clusir(tmp_path, monkeypatch):
    """Run ``clusir`` with these arguments in an empty folder; the result has exit_code, stdout and stderr."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments):
        return CliRunner().invoke(main, [os.fspath(argument) for argument in arguments])

    return run


@pytest.fixture
def make_pixels():
    """Smooth random pixels."""

    def make(height=20, width=28, channels=3, dtype=np.uint8, seed=0):
        draw = np.random.default_rng(seed)
        coarse = draw.random((5, 7, channels))
        fine = coarse.repeat(-(-height // 5), 0).repeat(-(-width // 7), 1)[:height, :width]
        noisy = (0.8 * fine + 0.1 + 0.05 * draw.standard_normal(fine.shape)).clip(0, 1)
        return np.round(noisy * np.iinfo(dtype).max).astype(dtype)

    return make
