"""The command line, in processes of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from basicsr_plugin.__main__ import main

SECONDS = 900


@pytest.fixture
def call(environment, tmp_path):
    def run(*arguments, cwd=tmp_path, program=(sys.executable,), **variables):
        command = [*program, *map(str, arguments)]
        env = {**environment, **variables}
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, check=False, text=True, timeout=SECONDS)

    return run


@pytest.fixture
def stock(options, save_options, tmp_path):
    """Options that need nothing of this test suite: 3 iterations of the tiny ClusIR."""
    options["network_g"] = {"type": "clusir_tiny", "dim": 8, "num_heads": [1, 1, 1, 1]}
    options["train"].update(total_iter=2, scheduler={"type": "MultiStepLR", "milestones": [1]})
    options["logger"]["save_checkpoint_freq"] = 1
    return options


@pytest.fixture
def checkout(tmp_path):
    """BasicSR as it comes from its repository: the package without the generated version.py."""
    import basicsr

    folder = tmp_path / "BasicSR"
    ignored = shutil.ignore_patterns("version.py", "__pycache__", "*.so")
    shutil.copytree(Path(basicsr.__file__).parent, folder / "basicsr", ignore=ignored)
    (folder / "VERSION").write_text("1.4.2\n")
    return folder


def assert_trained(result, root, iterations=(1, 2, "latest")):
    assert result.returncode == 0, result.stderr[-3000:]
    models = root / "experiments/run/models"
    assert {path.name for path in models.iterdir()} == {f"net_g_{iteration}.pth" for iteration in iterations}


def test_an_unmodified_script_runs_in_this_process_and_resumes(options, save_options, tmp_path, monkeypatch):
    import basicsr

    script = tmp_path / "project/scripts/train.py"
    script.parent.mkdir(parents=True)
    shutil.copyfile(Path(basicsr.__file__).with_name("train.py"), script)
    options["logger"]["save_checkpoint_freq"] = 4
    file = save_options(options, tmp_path / "options.yml")
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.chdir(tmp_path)
    main(["run", str(script), "-opt", str(file)])
    models = tmp_path / "project/experiments/run/models"
    first = torch.load(models / "net_g_latest.pth", weights_only=True)
    (tmp_path / "project/experiments/run/training_states/8.state").unlink()
    main(["run", str(script), "-opt", str(file), "--auto_resume"])
    again = torch.load(models / "net_g_latest.pth", weights_only=True)
    for kind, weights in first.items():
        assert all(torch.equal(tensor, again[kind][name]) for name, tensor in weights.items())
    assert again["params"]["calls"] == 8
    assert not list((tmp_path / "project/experiments").glob("*archived*"))


@pytest.mark.slow
def test_an_unmodified_script_of_a_checkout_trains_and_resumes_from_anywhere(
    call, checkout, stock, save_options, tmp_path
):
    script = checkout / "basicsr/train.py"
    before = {path: path.read_bytes() for path in checkout.rglob("*.py")}
    file = save_options(stock, tmp_path / "stock.yml")
    assert_trained(call("-m", "basicsr_plugin", "run", script, "-opt", file), checkout)
    stock["train"]["total_iter"] = 3
    save_options(stock, file)
    (tmp_path / "elsewhere").mkdir()
    result = call("-m", "basicsr_plugin", "run", script, "-opt", file, "--auto_resume", cwd=tmp_path / "elsewhere")
    assert_trained(result, checkout, (1, 2, 3, "latest"))
    assert "Resuming training from epoch: 0, iter: 2." in result.stderr
    assert {path: path.read_bytes() for path in checkout.rglob("*.py")} == before


@pytest.mark.slow
def test_a_linked_checkout_trains_by_its_own_command(call, checkout, stock, save_options, tmp_path, environment):
    file = save_options(stock, tmp_path / "stock.yml")
    path = f"{checkout}:{environment['PYTHONPATH']}"
    bare = call("basicsr/train.py", "-opt", file, cwd=checkout, PYTHONPATH=path)
    assert bare.returncode == 1
    assert "ModuleNotFoundError" in bare.stderr
    main(["link", str(checkout)])
    assert_trained(call("basicsr/train.py", "-opt", file, cwd=checkout, PYTHONPATH=path), checkout)


@pytest.mark.slow
def test_training_killed_for_good_resumes_and_tests(call, options, save_options, tmp_path, pictures):
    """A real process dies without warning; the module's entry points take over from another folder."""
    options["network_g"] = {"type": "clusir_tiny", "dim": 8, "num_heads": [1, 1, 1, 1]}
    options["train"].update(total_iter=4)
    options["logger"]["save_checkpoint_freq"] = 1
    file = save_options(options, tmp_path / "options.yml")
    die = (
        "import os, sys, basicsr_plugin; basicsr_plugin.register()\n"
        "from basicsr_plugin.models import RestorationModel as M; from basicsr_plugin.train import main\n"
        "step = M.optimize_parameters\n"
        "M.optimize_parameters = lambda self, i: os._exit(9) if i == 3 else step(self, i)\n"
        "main()"
    )
    root = tmp_path / "project"
    root.mkdir()
    killed = call("-c", die, "-opt", file, cwd=root)
    assert killed.returncode == 9, killed.stderr[-3000:]
    resumed = call("-m", "basicsr_plugin.train", "-opt", file, "--auto_resume", "--root", root)
    assert_trained(resumed, root, (1, 2, 3, 4, "latest"))
    assert "Resuming training from epoch: 0, iter: 2." in resumed.stderr

    for key in ("train", "logger"):
        del options[key]
    options["datasets"] = {"test_1": {**options["datasets"]["train"], "name": "Tested"}}
    options["path"]["pretrain_network_g"] = str(root / "experiments/run/models/net_g_latest.pth")
    metrics = {"psnr": {"type": "calculate_psnr", "crop_border": 0}}
    options["val"] = {"save_img": True, "suffix": "out", "metrics": metrics}
    tested = call("-m", "basicsr_plugin.test", "-opt", save_options(options, tmp_path / "test.yml"), cwd=root)
    assert tested.returncode == 0, tested.stderr[-3000:]
    assert "# psnr:" in tested.stderr
    assert len(list((root / "results/run/visualization/Tested").glob("*_out.png"))) == 5


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_on_cpus_train_as_one_with_both_batches(
    call, options, save_options, make_pictures, make_paired, tmp_path
):
    make_pictures(tmp_path / "eight", 8)
    options["datasets"]["train"].update(make_paired("train", tmp_path / "eight"))
    # moments of a batch are those of each process's part of it
    settings = {"dim": 8, "num_heads": [1, 1, 1, 1], "standardize_evidence": False}
    options["network_g"] = {"type": "clusir_tiny", **settings}
    options["datasets"]["train"].update(batch_size_per_gpu=2, gt_size=32, use_hflip=False, use_rot=False)
    options["train"].update(total_iter=2, ema_decay=0, optim_g={"type": "SGD", "lr": 0.1})
    options["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [100]}
    runner = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    torch.manual_seed(0)
    from clusir_modules.networks.clusir import clusir_tiny

    torch.save({"params": clusir_tiny(**settings).state_dict()}, tmp_path / "start.pth")
    options["path"]["pretrain_network_g"] = str(tmp_path / "start.pth")
    file = save_options(options, tmp_path / "options.yml")
    result = call(
        "-m", "basicsr_plugin.train", "-opt", file, "--launcher", "pytorch", "--root", tmp_path / "two", program=runner
    )
    assert result.returncode == 0, result.stderr[-3000:]

    options["datasets"]["train"]["batch_size_per_gpu"] = 4
    save_options(options, file)
    alone = call("-m", "basicsr_plugin.train", "-opt", file, "--root", tmp_path / "one")
    assert alone.returncode == 0, alone.stderr[-3000:]
    found = [
        torch.load(tmp_path / name / "experiments/run/models/net_g_latest.pth", weights_only=True)["params"]
        for name in ("two", "one")
    ]
    for name, tensor in found[0].items():
        torch.testing.assert_close(
            tensor, found[1][name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_options_are_listed_and_copied(capsys, tmp_path, monkeypatch):
    from basicsr_plugin.options import files as option_files

    (tmp_path / "shipped").mkdir()
    text = "# Nothing on no data.\n# Paths are relative.\nname: one\ntrain:\n  total_iter: 2000\n"
    (tmp_path / "shipped/one.yml").write_text(text)
    monkeypatch.setattr(option_files, "options_folder", lambda: tmp_path / "shipped")
    main(["options", "--list"])
    main(["options", "--copy", "one", "--to", str(tmp_path / "mine")])
    assert (
        capsys.readouterr().out
        == f"one\n    Nothing on no data. 2,000 iterations.\nwrote {tmp_path / 'mine/one.yml'}\n"
    )
    assert (tmp_path / "mine/one.yml").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["options", "--copy", "unknown"], "error: 'unknown' is no option file"),
        (["link", "/nonexistent"], "error: /nonexistent is no BasicSR checkout"),
        (["run", "/nonexistent/train.py"], "error: run needs a script, got /nonexistent/train.py"),
        (["run"], "error: run needs a script, got nothing"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(arguments)
