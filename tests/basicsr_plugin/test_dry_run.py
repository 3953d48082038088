"""``--check``: a dry run that finds the faults of an option file and of the files that it names."""

from __future__ import annotations

import shutil
import sys

import cv2
import numpy as np
import pytest
import torch

CLUSIR = {"type": "clusir_tiny", "dim": 8, "embed_dim": 16, "num_blocks": [1] * 4, "num_heads": [1] * 4}


@pytest.fixture
def options(options, pictures, make_paired, tmp_path):
    """Without faults: the tiny ClusIR with two losses, data of its own, a validation, and weights to start from."""
    task = {"name": "noise", "dataroot_gt": str(pictures / "gt"), "degradation": {"type": "GaussianNoise", "sigma": 25}}
    options["datasets"]["train"] = {
        "name": "train",
        "type": "AllInOneDataset",
        "tasks": [task, {"name": "pairs", "dataroot_gt": str(pictures / "gt"), "dataroot_lq": str(pictures / "lq")}],
        "gt_size": 16,
        "batch_size_per_gpu": 2,
        "num_worker_per_gpu": 0,
    }
    shutil.copytree(pictures, tmp_path / "val")
    options["datasets"]["val"] = make_paired("val", tmp_path / "val")
    metric = {"type": "calculate_psnr", "crop_border": 0, "better": "higher"}
    options["val"] = {"val_freq": 4, "save_img": True, "metrics": {"psnr": metric}}
    options["network_g"] = dict(CLUSIR)
    del options["train"]["pixel_opt"]
    options["train"]["losses"] = [{"type": "L1Loss"}, {"type": "load_balance", "weight": 0.01}]
    from clusir_modules import clusir_tiny

    net = clusir_tiny(**{key: value for key, value in CLUSIR.items() if key != "type"})
    torch.save({"params": net.state_dict()}, tmp_path / "start.pth")
    options["path"]["pretrain_network_g"] = str(tmp_path / "start.pth")
    return options


@pytest.fixture
def check(options, save_options, tmp_path, monkeypatch):
    from basicsr_plugin.train import main

    def run(*arguments):
        file = save_options(options, tmp_path / "x.yml")
        monkeypatch.setattr(
            sys, "argv", ["train", "-opt", str(file), "--root", str(tmp_path / "root"), "--check", *arguments]
        )
        monkeypatch.chdir(tmp_path)
        main()

    return run


def test_a_file_without_faults_can_start_and_leaves_nothing_behind(check, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        check()
    assert ended.value.code == 0
    assert "check: the run 'run' can start; samples: 10 in datasets.train, 5 in datasets.val" in capsys.readouterr().out
    assert not (tmp_path / "root").exists()


def put(path, value):
    def change(options, folder):
        section = options
        *names, key = path.split(".")
        for name in names:
            section = section[int(name) if isinstance(section, list) else name]
        section[int(key) if isinstance(section, list) else key] = value

    return change


def leave_out(path):
    def change(options, folder):
        section = options
        *names, key = path.split(".")
        for name in names:
            section = section[name]
        del section[key]

    return change


def cut_weights(options, folder):
    path = folder / "start.pth"
    path.write_bytes(path.read_bytes()[:-50])


def weights_of_another_network(options, folder):
    torch.save({"params": torch.nn.Linear(2, 2).state_dict()}, folder / "start.pth")


def damaged_picture(options, folder):
    (folder / "val/lq/03.png").write_bytes(b"no picture")


def sizes_that_differ(options, folder):
    cv2.imwrite(str(folder / "val/gt/03.png"), np.zeros((20, 20, 3), np.uint8))


def no_partner(options, folder):
    (folder / "pictures/gt/04.png").unlink()


def empty_folder(options, folder):
    shutil.rmtree(folder / "pictures/lq")
    (folder / "pictures/lq").mkdir()


def damaged_state(options, folder):
    (folder / "4.state").write_bytes(b"no state")
    options["path"]["resume_state"] = str(folder / "4.state")


def without_routing(options, folder):
    options["network_g"] = {"type": "PluginTestNet"}
    options["path"]["pretrain_network_g"] = None


FAULTS = {
    "misspelled key": (put("train.ema_decai", 0.9), ["ema_decai", "ema_decay"]),
    "misspelled section": (put("trian", {}), ["trian", "train"]),
    "wrong kind": (put("train.total_iter", "many"), ["train.total_iter", "many"]),
    "out of range": (put("train.ema_decay", 1.5), ["train.ema_decay", "1.5"]),
    "unknown network": (put("network_g.type", "ClusIRR"), ["network_g.type", "ClusIR"]),
    "unknown setting of the network": (put("network_g.depth", 3), ["depth", "network_g"]),
    "sizes of the network": (put("network_g.num_heads", [1, 1, 1, 3]), ["network_g.num_heads"]),
    "more active experts than experts": (put("network_g.top_k", 99), ["top_k", "99"]),
    "unknown loss": (put("train.losses.0.type", "L3Loss"), ["train.losses[0].type", "L3Loss", "L1Loss"]),
    "setting of a loss": (put("train.losses.1.all_reduce", "x"), ["train.losses[1].all_reduce"]),
    "stages that the network has not": (put("train.losses.0.stages", [1.0, 0.5]), ["stages", "1 stages"]),
    "routing of a network without": (without_routing, ["load_balance", "routing"]),
    "unknown optimizer": (put("train.optim_g.type", "Adan"), ["train.optim_g.type", "Adan"]),
    "setting of the optimizer": (put("train.optim_g.betas", [0.9, 1.1]), ["train.optim_g.betas", "1.1"]),
    "unknown schedule": (put("train.scheduler.type", "Step"), ["train.scheduler.type", "Step"]),
    "warm-up longer than the run": (put("train.scheduler.warmup_iter", 9), ["train.scheduler.warmup_iter", "9"]),
    "two warm-ups": (put("train.warmup_iter", 5), ["train.warmup_iter", "5"]),
    "accumulation and checkpoints": (put("train.accum_iter", 7), ["train.accum_iter", "save_checkpoint_freq"]),
    "unknown data set": (put("datasets.train.type", "AllInOne"), ["datasets.train.type", "AllInOneDataset"]),
    "folder that is missing": (put("datasets.train.tasks.0.dataroot_gt", "/none"), ["/none"]),
    "unknown degradation": (put("datasets.train.tasks.0.degradation.type", "Nois"), ["Nois"]),
    "setting of a degradation": (put("datasets.train.tasks.0.degradation.sigma", -5), ["sigma", "-5"]),
    "unknown pairing": (put("datasets.train.tasks.1.pairing", "by_number"), ["by_number"]),
    "partner that is missing": (no_partner, ["04.png"]),
    "folder without pictures": (empty_folder, ["no images"]),
    "validation picture that is damaged": (damaged_picture, ["lq/03.png"]),
    "pair of different sizes": (sizes_that_differ, ["gt/03.png", "(20, 20)"]),
    "unknown metric": (put("val.metrics.psnr.type", "psnr"), ["val.metrics.psnr.type", "psnr"]),
    "setting of a metric that is missing": (
        put("val.metrics.psnr", {"type": "calculate_psnr"}),
        ["val.metrics.psnr.crop_border"],
    ),
    "tiles that overlap entirely": (put("val", {"val_freq": 4, "tile": 8, "overlap": 9}), ["val.overlap", "9"]),
    "weights that are missing": (put("path.pretrain_network_g", "none.pth"), ["none.pth"]),
    "weights that are damaged": (cut_weights, ["start.pth", "damaged"]),
    "weights of another network": (weights_of_another_network, ["start.pth", "does not fit"]),
    "state that is damaged": (damaged_state, ["4.state"]),
    "name that leads elsewhere": (put("name", "../run"), ["name", "../run"]),
    "module that is missing": (put("imports", ["no_such_parts"]), ["imports", "no_such_parts"]),
    "seed out of range": (put("manual_seed", 2**64), ["manual_seed", str(2**64)]),
    "number that is infinite": (
        put("train.losses.0.weight", float("inf")),
        ["losses[0].weight", "inf", "finite"],
    ),
    "learning rate of nothing": (put("train.optim_g.lr", 0), ["train.optim_g.lr", "0", "> 0"]),
    "rate below zero": (put("train.scheduler.eta_min", -1.0), ["train.scheduler.eta_min", "-1.0", ">= 0"]),
    "schedule that ends too soon": (
        put("train.scheduler", {"type": "CosineAnnealingRestartLR", "periods": [3], "restart_weights": [1]}),
        ["train.scheduler", "[3]", "no rate for iteration 8 of 8"],
    ),
    "factor below zero": (
        put("train.scheduler", {"type": "MultiStepLR", "milestones": [4, 900], "gamma": -0.5}),
        ["train.scheduler.gamma", "-0.5", "iteration 5 of 8"],
    ),
    "milestones that are missing": (
        put("train.scheduler", {"type": "MultiStepLR"}),
        ["train.scheduler.milestones", "a list, each a whole number >= 0"],
    ),
    "loss that is not finite": (
        put("train.losses.0", {"type": "CharbonnierLoss", "eps": -1}),
        ["the first step cannot be taken", "loss"],
    ),
    "layer that VGG has not": (
        put("train.losses.0", {"type": "PerceptualLoss", "layer_weights": {"conv5_9": 1}}),
        ["train.losses[0].layer_weights", "conv5_9", "conv5_4"],
    ),
    "VGG that there is not": (
        put("train.losses.0", {"type": "PerceptualLoss", "layer_weights": {"conv5_4": 1}, "vgg_type": "vgg18"}),
        ["train.losses[0].vgg_type", "vgg18", "vgg19"],
    ),
    "loss with the name of the sum": (put("train.losses.1.name", "l_total"), ["train.losses[1].name", "l_total"]),
    "no loss on the picture": (put("train.losses", [{"type": "load_balance"}]), ["train.losses", "on the picture"]),
    "part that there is not": (put("network_g.router", "PCGRN"), ["network_g.router", "PCGRN", "'PCGRM'"]),
    "setting of a part": (
        put("network_g.block", {"type": "WTB", "wav": "db2"}),
        ["network_g.block", "'wav'", "did you mean 'wave'"],
    ),
    "overlap without tiles": (put("val.overlap", 8), ["val.overlap", "8", "val.tile"]),
    "metric without pixels": (put("val.metrics.psnr.crop_border", 16), ["val.metrics.psnr", "datasets.val"]),
    "metric that fails": (
        put("val.metrics.ssim", {"type": "calculate_ssim", "crop_border": 20}),
        ["val.metrics.ssim", "32 x 32 pixels"],
    ),
    "best values of no order": (put("val.metrics.psnr.better", "up"), ["val.metrics.psnr.better", "up", "higher or"]),
    "validation without a frequency": (leave_out("val.val_freq"), ["val.val_freq", ">= 1"]),
    "validation without clean pictures": (
        leave_out("datasets.val.dataroot_gt"),
        ["datasets.val.dataroot_gt", "PairedImageDataset"],
    ),
    "folder of the validation that is missing": (put("datasets.val.dataroot_lq", "/none"), ["/none"]),
    "reader that there is not": (put("datasets.val.io_backend.type", "dsk"), ["dsk"]),
    "scale of pictures of one size": (put("scale", 2), ["scale", "must be 1", "2"]),
    "format of checkpoints": (
        put("logger.save_checkpoint_format", "zip"),
        ["logger.save_checkpoint_format", "zip", "pth or safetensors"],
    ),
    "logger that is missing": (leave_out("logger"), ["logger", "save_checkpoint_freq"]),
    "model that there is not": (put("model_type", "RestorationModl"), ["model_type", "RestorationModl"]),
    "batches without number": (put("datasets.train.batch_size_per_gpu", None), ["batch_size_per_gpu"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_named(check, options, tmp_path, fault):
    change, words = FAULTS[fault]
    change(options, tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.name != "x.yml"}
    with pytest.raises((ValueError, OSError, RuntimeError)) as caught:
        check()
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert {path for path in tmp_path.rglob("*") if path.name != "x.yml"} == before


def test_a_file_without_folders_and_a_schedule_that_just_suffices_can_start(check, options):
    del options["path"]
    schedule = {"type": "CosineAnnealingRestartLR", "periods": [3, 4], "restart_weights": [1, 0.5]}
    options["train"]["scheduler"] = schedule
    with pytest.raises(SystemExit) as ended:
        check()
    assert ended.value.code == 0
