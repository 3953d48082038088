"""Training in two processes on CPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What both ranks of ``distributed_worker.py`` found, and how torchrun ended after the second one had died."""
    import os

    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    worker = Path(__file__).with_name("distributed_worker.py")
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    result = subprocess.run(
        [*runner, str(worker), str(folder)], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    files = [folder / f"rank{rank}.json" for rank in range(2)]
    assert all(file.is_file() for file in files), result.stderr[-5000:]
    return [json.loads(file.read_text()) for file in files], result


pytestmark = [pytest.mark.slow, pytest.mark.ddp]


@pytest.mark.parametrize("case", ["plain", "shared balance", "accumulated and checkpointed"])
def test_two_ranks_with_two_pictures_have_the_gradient_of_one_with_four(outcome, case):
    assert max(found[case] for found in outcome[0]) < 1e-12


def test_balance_that_is_not_shared_has_another_gradient(outcome):
    assert min(found["balance"] for found in outcome[0]) > 1e-6


def test_the_shared_balance_that_is_logged_is_that_of_all_pictures(outcome):
    two, one = outcome[0][0]["shared balance, logged"]
    assert two == pytest.approx(one, rel=1e-10)
    two, one = outcome[0][0]["balance, logged"]
    assert two != pytest.approx(one, rel=1e-6)


def test_a_bad_loss_of_one_rank_leaves_the_step_out_on_all(outcome):
    for found in outcome[0]:
        assert found["untouched by the other's bad loss"]
        assert found["steps after that"]
    errors = outcome[1].stderr
    assert "the loss of another process is not finite at iteration 1" in errors
    assert "for the images ['1.png', '3.png']; first module with a non-finite output" in errors


def test_ranks_stay_equal_to_the_bit(outcome):
    for found in outcome[0]:
        assert found["equal weights"]
        assert found["equal averages"]


def test_a_rank_that_dies_ends_the_run_with_an_error(outcome):
    assert outcome[1].returncode != 0
    assert "Signal 9 (SIGKILL)" in outcome[1].stderr
