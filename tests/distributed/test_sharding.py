"""Data parallel and fully sharded training on CPUs gives the gradients of one process with all images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.ddp]


@pytest.mark.parametrize("world", [2, 4])
def test_gradients_are_those_of_one_process(tmp_path, world):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    worker = Path(__file__).with_name("sharding_worker.py")
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}"]
    result = subprocess.run(
        [*runner, str(worker), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stderr[-5000:]
    for rank in range(world):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert found.keys() == {"DDP", "FSDP2"}
        assert max(found.values()) < 1e-12
