"""A checkpoint, pictures, and a way to run the command in this process."""

from __future__ import annotations

import os

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
