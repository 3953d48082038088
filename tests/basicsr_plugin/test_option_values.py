"""Every value of every option is checked: an error has the option, the value and what is accepted."""

from __future__ import annotations

import sys
from copy import deepcopy

import pytest
import yaml

from basicsr_plugin.options import files
from basicsr_plugin.options.schema import LossOptions
from basicsr_plugin.options.values import check_part, parameter_names
from basicsr_plugin.run.preflight import read_options

MISSING = object()


def put(options, path, value):
    changed = deepcopy(options)
    section = changed
    *folders, key = path.split(".")
    for name in folders:
        section = section.setdefault(name, {})
    if value is MISSING:
        del section[key]
    else:
        section[key] = value
    return changed


@pytest.fixture
def options(options, pictures, make_paired):
    """With a validation set and a metric that BasicSR does not annotate."""
    options["datasets"]["val"] = make_paired("val", pictures)
    metric = {"type": "calculate_psnr", "crop_border": 0, "better": "higher"}
    options["val"] = {"val_freq": 4, "save_img": False, "metrics": {"psnr": metric}}
    return options


UNKNOWN = [
    ("manual_sed", "manual_seed"),
    ("path.pretrain_network", "pretrain_network_g"),
    ("train.grad_clip_max", "grad_clip_max_norm"),
    ("train.optim_g.weight_dekay", "weight_decay"),
    ("train.scheduler.eta_mim", "eta_min"),
    ("train.pixel_opt.los_weight", "loss_weight"),
    ("network_g.drop", "dropout"),
    ("logger.save_freq", "save_checkpoint_freq"),
    ("val.tile_sise", "size_multiple"),
    ("val.metrics.psnr.crop_boarder", "crop_border"),
]


@pytest.mark.parametrize("path", [path for path, _ in UNKNOWN])
def test_an_unknown_key_is_named_with_its_section_and_the_nearest_known_one(options, path):
    key = path.rpartition(".")[2]
    with pytest.raises(ValueError, match=rf"unknown option '{key}' in .*; did you mean '\w+'\? \(accepted: "):
        read_options(put(options, path, 1))


@pytest.mark.parametrize(
    ("path", "value", "accepted"),
    [
        ("name", "", "text"),
        ("name", 5, "text"),
        ("name", "../out", "below its folder"),
        ("scale", 0, "whole number >= 1"),
        ("num_gpu", "two", "whole number >= 0 or auto"),
        ("num_gpu", -1, "whole number >= 0 or auto"),
        ("manual_seed", -1, "whole number >= 0"),
        ("manual_seed", 2**64, r"2\*\*64 - 1"),
        ("manual_seed", 1.5, "whole number"),
        ("manual_seed", "one", "whole number"),
        ("find_unused_parameters", "yes", "true or false"),
        ("path.pretrain_network_g", 5, "text"),
        ("path.strict_load_g", "maybe", "true or false"),
        ("train.total_iter", -5, "whole number >= 1"),
        ("train.total_iter", 1.5, "whole number"),
        ("train.total_iter", MISSING, "is missing: it must be a whole number >= 1"),
        ("train.ema_decay", 7, "number >= 0 and < 1"),
        ("train.ema_decay", float("nan"), "number"),
        ("train.amp", "fp8", "bf16 or fp16 or ~"),
        ("train.accum_iter", 0, "whole number >= 1"),
        ("train.accum_iter", 3, "must divide logger.save_checkpoint_freq, 1000"),
        ("train.grad_clip", "on please", "true or false"),
        ("train.grad_clip_max_norm", 0, "number > 0"),
        ("train.max_skipped_steps", -1, "whole number >= 0"),
        ("train.warmup_iter", -2, "whole number >= -1"),
        ("train.optim_g", MISSING, "is missing: it must be a section"),
        ("train.optim_g.type", "AdamX", "one of .*AdamW"),
        ("train.optim_g.type", "LBFGS", "one of .*AdamW"),
        ("train.optim_g.lr", "1e-4x", "number"),
        ("train.optim_g.lr", -1.0, "Invalid learning rate"),
        ("train.optim_g.lr", MISSING, "is missing"),
        ("train.optim_g.betas", [2, 3], "Invalid beta"),
        ("train.optim_g.betas", 0.9, "a list, each a number"),
        ("train.optim_g.weight_decay", "none", "number"),
        ("train.scheduler.type", "Cosine", "one of .*LinearWarmupCosineLR"),
        ("train.scheduler.warmup_iter", 8, r"in \[0, 8\)"),
        ("train.scheduler.eta_min", "low", "number"),
        ("train.pixel_opt.type", "L1", "not registered; did you mean 'L1Loss'"),
        ("train.pixel_opt.loss_weight", "much", "number"),
        ("train.pixel_opt.reduction", "none", "mean or sum"),
        ("datasets.train.type", "Nothing", "not registered; did you mean"),
        ("datasets.train.batch_size_per_gpu", 0, "whole number >= 1"),
        ("datasets.train.batch_size_per_gpu", MISSING, "is missing"),
        ("datasets.train.num_worker_per_gpu", -1, "whole number >= 0"),
        ("datasets.train.dataset_enlarge_ratio", 0, "number > 0"),
        ("datasets.train.use_hflip", "maybe", "true or false"),
        ("datasets.train.gt_size", 0, "whole number >= 1"),
        ("datasets.train.prefetch_mode", "gpu", "cpu or cuda or ~"),
        ("datasets.train.gt_sizes", [8, 0], "a list, each a whole number >= 1"),
        ("network_g.type", "Nothing", "not registered; did you mean"),
        ("network_g.width", "wide", "whole number"),
        ("network_g.dropout", [1], "number"),
        ("val.val_freq", 0, "whole number >= 1"),
        ("val.val_freq", MISSING, "is missing: it must be a whole number >= 1"),
        ("val.save_img", "sometimes", "true or false"),
        ("val.suffix", "a/b", "part of a file name"),
        ("val.tile", "large", "whole number >= 1"),
        ("val.size_multiple", -8, "whole number >= 1"),
        ("val.metrics.psnr.type", "calculate_pnsr", "not registered; did you mean"),
        ("val.metrics.psnr.better", "Higher", "higher or lower"),
        ("val.metrics.psnr.crop_border", -3, "whole number >= 0"),
        ("val.metrics.psnr.crop_border", MISSING, "is missing"),
        ("val.metrics.psnr.test_y_channel", "y", "true or false"),
        ("logger", MISSING, "is missing"),
        ("logger.print_freq", 0, "whole number >= 1"),
        ("logger.save_checkpoint_freq", -1, "whole number >= 1"),
        ("logger.save_checkpoint_format", "zip", "pth or safetensors"),
        ("logger.use_tb_logger", "tb", "true or false"),
        ("imports", "module", "a list, each a text"),
        ("imports", ["no_such_module_here"], "cannot be imported"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_option_and_what_is_accepted(options, path, value, accepted):
    options["train"]["pixel_opt"].pop("reduction", None)
    with pytest.raises(ValueError, match=f"(?s){accepted}") as caught:
        read_options(put(options, path, value))
    message, key = str(caught.value), path.rpartition(".")[2]
    assert key in message
    if value is not MISSING:
        assert any(str(part) in message for part in (value if isinstance(value, list) else [value]))


def test_a_test_has_no_training_set(options):
    with pytest.raises(ValueError, match=r"datasets.train is for trainings, this is a test"):
        read_options({**options, "is_train": False})


def test_values_of_several_options_that_do_not_fit_are_named(options):
    for path, value, words in (
        ("train.grad_clip", True, "train.grad_clip needs a positive train.grad_clip_max_norm, got None"),
        ("val", {"val_freq": 4, "tile": 8, "overlap": 8}, "val.overlap must be below val.tile, 8, got 8"),
        ("logger.wandb", {"project": "p"}, "logger.wandb.project needs logger.use_tb_logger: true, got 'p'"),
        ("val.save_best", "val/psrn", r"val.save_best: there is no column 'val/psrn'; did you mean 'val/psnr'\?"),
        ("val.save_best", ["val/psnr", "psnr"], "val.save_best: there is no column 'psnr'"),
        ("val.save_best", ["val/psnr", "val-psnr"], "val.save_best names columns whose files would have one name"),
        ("datasets.val_2", options["datasets"]["val"], "datasets.val.name and datasets.val_2.name are both 'val'"),
        ("train.losses", [{"type": "L1Loss"}], "train.losses and train.pixel_opt are two forms of one thing"),
        ("datasets.test", {**options["datasets"]["val"], "name": "t"}, "must be called train, val"),
    ):
        with pytest.raises(ValueError, match=words):
            read_options(put(options, path, value))


def test_the_best_of_a_task_may_be_kept_and_no_set_is_called_like_a_task_of_another(options, pictures):
    tasks = [{"name": name, "dataroot_gt": str(pictures / "gt"), "degradation": "noise"} for name in ("fog", "rain")]
    options["datasets"]["val"] = {"name": "val", "type": "AllInOneDataset", "tasks": tasks}
    options["val"]["save_best"] = ["val/psnr", "val/rain/psnr"]
    read_options(options)
    with pytest.raises(ValueError, match="there is no column 'val/snow/psnr'"):
        read_options(put(options, "val.save_best", "val/snow/psnr"))
    other = {"name": "val/rain", "type": "AllInOneDataset", "tasks": tasks[:1]}
    with pytest.raises(ValueError, match=r"val\.name and datasets\.val_2\.name are both 'val/rain'"):
        read_options(put(options, "datasets.val_2", other))
    test = {key: value for key, value in options.items() if key not in ("train", "logger")}
    test |= {"is_train": False, "datasets": {"test": options["datasets"]["val"]}}
    with pytest.raises(ValueError, match=r"val\.save_best is for trainings"):
        read_options(test)


def test_a_network_of_this_project_is_built_once_without_memory(options):
    for setting, value in (("num_experts", 0), ("top_k", 9), ("num_heads", [3, 2, 4, 8]), ("dim", -4)):
        with pytest.raises(ValueError, match=rf"network_g.*{setting}"):
            read_options(put(options, "network_g", {"type": "clusir_tiny", setting: value}))


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([], "needs losses, a list of at least one"),
        ([{"weight": 1}], r"train.losses\[0\].type is missing"),
        ([{"type": "L2"}], r"train.losses\[0\].type is 'L2', which is not registered; did you mean"),
        ([{"type": "L1Loss", "loss_weight": 2}], r"train.losses\[0\].loss_weight is called weight.*got 2"),
        ([{"type": "L1Loss"}, {"type": "EdgeLoss", "eps": "x"}], r"train.losses\[1\].eps must be a number, got 'x'"),
        ([{"type": "L1Loss", "weight": "x"}], r"train.losses\[0\].weight must be a number, got 'x'"),
        ([{"type": "L1Loss", "stages": "first"}], r"train.losses\[0\].stages must be .*final.*got 'first'"),
        ([{"type": "load_balance", "stages": [1]}], r"stages is for losses on the picture, got \[1.0\]"),
        ([{"type": "load_balance", "all_reduce": "x"}], r"train.losses\[0\].all_reduce must be true or false, got 'x'"),
        ([{"type": "L1MSSSIMLoss", "ms_ssim_weight": -1}], r"train.losses\[0\].*ms_ssim_weight.*-1"),
    ],
)
def test_a_list_of_losses_is_checked_entry_by_entry(options, losses, message):
    del options["train"]["pixel_opt"]
    with pytest.raises(ValueError, match=message):
        read_options(put(options, "train.losses", losses))


def test_the_slots_of_basicsr_are_read_into_a_list_of_losses(options):
    perceptual = {"type": "PerceptualLoss", "layer_weights": {"conv5_4": 1}, "perceptual_weight": 0.1}
    changed = put(options, "train.perceptual_opt", perceptual)
    changed["train"]["pixel_opt"] = {"type": "CharbonnierLoss", "loss_weight": 0.5, "eps": 1e-6}
    assert list(read_options(changed).train.loss_options().values()) == [
        LossOptions(type="CharbonnierLoss", weight=0.5, name="l_pix", settings={"eps": 1e-6}),
        LossOptions(
            type="PerceptualLoss",
            stages="final",
            settings={"layer_weights": {"conv5_4": 1}, "perceptual_weight": 0.1},
        ),
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.optim_g", {"type": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ("train.scheduler", {"type": "MultiStepLR", "milestones": [1], "gamma": 0.5}),
        ("train.scheduler", {"type": "CosineAnnealingRestartLR", "periods": [8], "restart_weights": [1], "eta_min": 0}),
        ("train.pixel_opt", {"type": "L1MSSSIMLoss", "ms_ssim_weight": 0.1, "loss_weight": 2.0}),
        ("train.perceptual_opt", {"type": "PerceptualLoss", "layer_weights": {"conv5_4": 1}, "criterion": "l1"}),
        ("train.total_iter", 4e5),
        ("network_g", {"type": "clusir_tiny", "noise_std": 0.1, "top_k": 1}),
        ("network_g", {"type": "ClusIR", "dim": 8}),
        ("val.metrics.psnr.test_y_channel", True),
        ("datasets.train.dataroot_anything", 1),
        ("logger.wandb", {"project": None, "resume_id": None}),
        ("manual_seed", 2**64 - 1),
        ("num_gpu", "auto"),
    ],
)
def test_known_options_are_accepted(options, path, value):
    read_options(put(options, path, value))


def test_options_of_a_network_made_by_a_function_are_those_of_its_class(options):
    changed = put(options, "network_g", {"type": "clusir_tiny", "num_expert": 4})
    with pytest.raises(ValueError, match="'num_expert' in network_g; did you mean 'num_experts'"):
        read_options(changed)


def test_data_sets_that_name_their_options_are_checked(options):
    section = {**options["datasets"]["train"], "type": "AllInOneDataset", "tasks": [{"name": "t"}]}
    for key in ("dataroot_gt", "dataroot_lq"):
        del section[key]
    changed = put(options, "datasets.train", section)
    with pytest.raises(ValueError, match="task 't' needs dataroot_lq and dataroot_gt"):
        read_options(changed)
    with pytest.raises(ValueError, match=r"'gt_sise' in datasets.train; did you mean 'gt_si"):
        read_options(put(changed, "datasets.train.gt_sise", 1))


def test_modules_of_a_user_are_imported_before_names_are_looked_up(options, tmp_path, monkeypatch):
    (tmp_path / "my_losses_of_a_test.py").write_text(
        "from basicsr_plugin.losses import ROUTING_LOSS_REGISTRY\n"
        "@ROUTING_LOSS_REGISTRY.register()\n"
        "def entropy_of_a_test(routings, net, *, floor: float = 0.0):\n"
        "    return routings[0].expert_probs.mean()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    changed = put(options, "imports", ["my_losses_of_a_test"])
    del changed["train"]["pixel_opt"]
    changed["train"]["losses"] = [{"type": "L1Loss"}, {"type": "entropy_of_a_test", "floor": 0.5}]
    assert read_options(changed).train.loss_options()["train.losses[1]"].settings == {"floor": 0.5}
    assert "my_losses_of_a_test" in sys.modules
    with pytest.raises(ValueError, match=r"train.losses\[1\].floor must be a number, got 'x'"):
        read_options(put(changed, "train.losses", [{"type": "L1Loss"}, {"type": "entropy_of_a_test", "floor": "x"}]))


def test_a_function_that_takes_anything_has_no_list_of_names():
    def anything(**options):
        return options

    assert parameter_names(anything) is None
    assert parameter_names(anything, open_ended=False) == set()
    check_part("part", {"type": "anything", "whatever": 1}, anything)


@pytest.mark.parametrize("name", files.list_options())
def test_every_shipped_file_is_accepted(name):
    opt = yaml.load(files.find_option(name).read_text(), Loader=files.OptionLoader)
    assert opt["model_type"] == "RestorationModel"
    read_options({**opt, "is_train": "train" in opt})
