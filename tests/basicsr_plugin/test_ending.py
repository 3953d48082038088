"""SIGTERM and SIGINT to the whole process group, at any moment: the state is saved, and the resumed end is the same."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).with_name("ending_worker.py")
pytestmark = pytest.mark.slow

MOMENTS = {
    "building": (signal.SIGTERM, 143, None),
    "1": (signal.SIGINT, 130, 1),
    "7": (signal.SIGTERM, 143, 7),
    "loading": (signal.SIGTERM, 143, None),
    "saving": (signal.SIGINT, 130, 8),
    "validation": (signal.SIGTERM, 143, 8),
    "twice": (signal.SIGTERM, -15, None),
}


@pytest.fixture
def run_file(options, save_options, pictures, make_paired, tmp_path):
    """Option file of 12 iterations, ten an epoch, with two loader workers, a state every 4 and a validation every 8."""
    options["network_g"] = {"type": "MPRNet", "dim": 4, "unet_step": 4, "orsnet_step": 4, "num_cabs": 1}
    options["train"]["total_iter"] = 12
    options["datasets"]["train"] |= {"num_worker_per_gpu": 2, "dataset_enlarge_ratio": 4}
    options["datasets"]["val"] = make_paired("val", pictures)
    metric = {"type": "calculate_psnr", "crop_border": 0}
    options["val"] = {"val_freq": 8, "save_img": True, "metrics": {"psnr": metric}}
    options["logger"] |= {"save_checkpoint_freq": 4, "print_freq": 1}
    return save_options(options, tmp_path / "run.yml")


def weights(folder):
    return torch.load(folder / "experiments/run/models/net_g_latest.pth", weights_only=True)


def assert_same_weights(folder, other):
    first, second = weights(folder), weights(other)
    for kind, tensors in second.items():
        assert all(torch.equal(first[kind][name], tensor) for name, tensor in tensors.items())


def best(folder):
    return torch.load(folder / "experiments/run/training_states/12.state", weights_only=True)["best_metric_results"]


def test_a_signal_to_the_group_saves_ends_and_is_resumed_bit_for_bit(run_file, environment, tmp_path):
    def plan(name, moment="", number=0, *more):
        arguments = ["-opt", str(run_file), "--root", str(tmp_path / name), *more]
        (tmp_path / name).mkdir(exist_ok=True)
        output = str(tmp_path / name / f"output{len(more)}.txt")
        return {"moment": moment, "signal": int(number), "arguments": arguments, "output": output}

    runs = [plan("undisturbed")]
    for moment, (number, _, _) in MOMENTS.items():
        runs += [plan(moment, moment, number), plan(moment, "", 0, "--auto_resume")]
    result = subprocess.run(
        [sys.executable, str(WORKER), json.dumps(runs)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    codes = [int(line) for line in result.stdout.split() if line.lstrip("-").isdigit()]
    assert len(codes) == len(runs), result.stderr[-3000:]
    assert codes[0] == 0
    for (moment, (number, code, saved)), stopped, resumed in zip(
        MOMENTS.items(), codes[1::2], codes[2::2], strict=True
    ):
        text = (tmp_path / moment / "output0.txt").read_text()
        assert stopped == code, f"{moment}: {text[-3000:]}"
        message = f"{number.name}: the run ends after iteration"
        assert text.count(message) == (moment not in ("building", "twice")), moment
        assert "DataLoader worker" not in text, moment
        if saved is not None:
            assert f"{message} {saved}," in text
        again = (tmp_path / moment / "output1.txt").read_text()
        assert resumed == 0, f"{moment}: {again[-3000:]}"
        if moment not in ("building", "twice"):
            assert "Resuming training from" in again, moment
        assert_same_weights(tmp_path / moment, tmp_path / "undisturbed")
        assert best(tmp_path / moment) == best(tmp_path / "undisturbed")


@pytest.mark.ddp
@pytest.mark.parametrize("moment", ["7", "validation"])
def test_two_processes_end_at_one_iteration_and_go_on(run_file, environment, tmp_path, moment):
    def start(name, moment="", *more):
        (tmp_path / name).mkdir(exist_ok=True)
        arguments = ["-opt", str(run_file), "--root", str(tmp_path / name), "--launcher", "pytorch", *more]
        run = {"moment": moment, "signal": int(signal.SIGTERM), "arguments": arguments}
        run["output"] = str(tmp_path / name / "output.txt")
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        return subprocess.run(
            [*torchrun, str(WORKER), json.dumps(run)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            start_new_session=True,
        )

    undisturbed = start("undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr[-3000:]
    stopped = start("stopped", moment)
    assert stopped.returncode != 0
    assert stopped.stderr.count("SIGTERM: the run ends after iteration") == 1, stopped.stderr[-3000:]
    shutil.copytree(tmp_path / "stopped", tmp_path / "alone")
    resumed = start("stopped", "", "--auto_resume")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "Resuming training from" in resumed.stderr
    assert_same_weights(tmp_path / "stopped", tmp_path / "undisturbed")
    assert best(tmp_path / "stopped") == best(tmp_path / "undisturbed")

    program = [sys.executable, "-m", "basicsr_plugin.train", "-opt", run_file, "--root", tmp_path / "alone"]
    alone = subprocess.run(
        [*program, "--auto_resume"], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert alone.returncode == 0, alone.stderr[-3000:]
    assert "processes was 2 when the state was saved and is 1 now" in alone.stderr
    assert weights(tmp_path / "alone")
