"""Unknown options are errors."""

from __future__ import annotations

from copy import deepcopy

import pytest
import yaml

from basicsr_plugin import option_files
from basicsr_plugin.option_schema import check_options, parameter_names


def put(options, path, value):
    changed = deepcopy(options)
    section = changed
    *folders, key = path.split(".")
    for name in folders:
        section = section.setdefault(name, {})
    section[key] = value
    return changed


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("manual_sed", "manual_seed"),
        ("path.pretrain_network", "pretrain_network_g"),
        ("train.grad_clip_max", "grad_clip_max_norm"),
        ("train.optim_g.weight_dekay", "weight_decay"),
        ("train.scheduler.eta_mim", "eta_min"),
        ("train.pixel_opt.los_weight", "loss_weight"),
        ("train.balance_opt.weight", "loss_weight"),
        ("network_g.drop", "dropout"),
        ("logger.save_freq", "save_checkpoint_freq"),
        ("val.tile", "tile_size"),
    ],
)
def test_an_unknown_key_is_named_with_its_section_and_the_nearest_known_one(options, path, nearest):
    section, _, key = path.rpartition(".")
    message = f"unknown option '{key}' in {section or 'the option file'}; did you mean '{nearest}'"
    with pytest.raises(ValueError, match=message):
        check_options(put(options, path, 1))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.optim_g", {"type": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ("train.scheduler", {"type": "MultiStepLR", "milestones": [1], "gamma": 0.5}),
        ("train.scheduler", {"type": "CosineAnnealingRestartLR", "periods": [8], "restart_weights": [1], "eta_min": 0}),
        ("train.pixel_opt", {"type": "L1MSSSIMLoss", "ms_ssim_weight": 0.1, "loss_weight": 2.0}),
        ("train.perceptual_opt", {"type": "PerceptualLoss", "layer_weights": {"conv5_4": 1}, "criterion": "l1"}),
        ("network_g", {"type": "clusir_tiny", "noise_std": 0.1, "top_k": 1}),
        ("network_g", {"type": "ClusIR", "dim": 8}),
        (
            "val",
            {
                "metrics": {
                    "p": {"type": "calculate_psnr", "crop_border": 0, "test_y_channel": True, "better": "higher"}
                }
            },
        ),
        ("datasets.train.dataroot_anything", 1),
        ("logger.wandb", {"project": None, "resume_id": None}),
    ],
)
def test_known_options_are_accepted(options, path, value):
    check_options(put(options, path, value))


def test_options_of_a_network_made_by_a_function_are_those_of_its_class(options):
    changed = put(options, "network_g", {"type": "clusir_tiny", "num_expert": 4})
    with pytest.raises(ValueError, match="'num_expert' in network_g; did you mean 'num_experts'"):
        check_options(changed)


def test_metrics_that_ignore_unknown_options_are_checked_all_the_same(options):
    metric = {"type": "calculate_psnr", "crop_boarder": 0}
    with pytest.raises(ValueError, match=r"'crop_boarder' in val.metrics.psnr; did you mean 'crop_border'"):
        check_options(put(options, "val.metrics.psnr", metric))


@pytest.mark.parametrize("path", ["network_g.type", "train.pixel_opt.type", "datasets.train.type"])
def test_unregistered_types_are_named_with_the_nearest_registered_one(options, path):
    with pytest.raises(ValueError, match=rf"{path} is 'Nothing', which is not registered; did you mean"):
        check_options(put(options, path, "Nothing"))


def test_data_sets_that_name_their_options_are_checked(options, monkeypatch):
    from basicsr.data.paired_image_dataset import PairedImageDataset

    keys = {"dataroot_gt", "dataroot_lq", "io_backend", "gt_size", "use_hflip", "use_rot"}
    monkeypatch.setattr(PairedImageDataset, "option_keys", keys, raising=False)
    check_options(options)
    with pytest.raises(ValueError, match=r"'gt_sise' in datasets.train; did you mean 'gt_si"):
        check_options(put(options, "datasets.train.gt_sise", 1))


def test_a_function_that_takes_anything_has_no_list_of_names():
    def anything(**options):
        return options

    assert parameter_names(anything) is None
    assert parameter_names(anything, open_ended=False) == set()


@pytest.mark.parametrize("name", option_files.list_options())
def test_every_shipped_file_has_known_options_only(name):
    text = option_files.find_option(name).read_text()
    opt = yaml.load(text, Loader=option_files.OptionLoader)
    assert opt["model_type"] == "RestorationModel"
    check_options(opt)
