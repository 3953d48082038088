"""Training whose pictures are degraded by the model, on its device."""

from __future__ import annotations

import pytest
import torch

TASKS = (
    {"name": "noise", "degradation": {"type": "GaussianNoise", "sigma": [15, 50]}, "repeat": 2},
    {"name": "blur", "degradation": {"type": "MotionBlur", "length": [2, 5]}},
    {"name": "storm", "degradation": [{"type": "Haze"}, {"type": "RainStreaks", "length": [4, 9]}]},
)


@pytest.fixture(params=[None, "device"], ids=["loader", "cache"])
def device_options(request, options, pictures):
    """20 iterations of three kinds of pictures, a state every 5, over 2 epochs."""
    tasks = [{**task, "dataroot_gt": str(pictures / "gt")} for task in TASKS]
    loader = {
        "gt_size": 16,
        "num_worker_per_gpu": 0,
        "batch_size_per_gpu": 2,
        "degrade": "device",
        "cache": request.param,
    }
    options["datasets"]["train"] = {"name": "train", "type": "AllInOneDataset", "tasks": tasks, **loader}
    options["train"]["total_iter"] = 20
    options["logger"]["save_checkpoint_freq"] = 5
    return options


def weights(root):
    return torch.load(root / "experiments" / "run" / "models" / "net_g_latest.pth", weights_only=True)


def assert_resumed_exactly(train, options, root):
    """A run that is killed at iteration 18 and resumed from the state of iteration 15 ends as if undisturbed."""
    undisturbed = train(options, root=root / "undisturbed")
    train(options, root=root / "killed", kill_at=18)
    resumed = train(options, "--auto_resume", root=root / "killed")
    assert len(undisturbed.losses) == 20
    assert len(set(undisturbed.losses)) == 20
    assert resumed.losses == undisturbed.losses[15:]
    assert resumed.paths == undisturbed.paths[15:]
    for key, values in weights(root / "undisturbed").items():
        for name, value in values.items():
            assert torch.equal(value, weights(root / "killed")[key][name])
    return undisturbed


def test_a_run_is_resumed_exactly(train, device_options, tmp_path):
    model = assert_resumed_exactly(train, device_options, tmp_path).model
    assert model.lq.shape == model.gt.shape == (2, 3, 16, 16)
    assert not torch.equal(model.lq, model.gt)


def test_so_is_one_with_progressive_patches_and_accumulation(train, device_options, tmp_path):
    device_options["datasets"]["train"].update(mini_batch_sizes=[2, 1], iters=[10, 10], gt_sizes=[8, 16])
    device_options["train"]["accum_iter"] = 5
    assert_resumed_exactly(train, device_options, tmp_path)


def test_the_loader_and_its_workers_change_nothing(train, device_options, tmp_path):
    alone = train(device_options, root=tmp_path / "alone")
    device_options["datasets"]["train"].update(num_worker_per_gpu=2, prefetch_mode="cpu", num_prefetch_queue=2)
    assert train(device_options, root=tmp_path / "workers").losses == alone.losses


def test_pictures_follow_the_seed_of_the_run_and_the_rank(build, device_options):
    from basicsr.data import build_dataset
    from torch.utils.data import default_collate

    device_options["datasets"]["train"]["phase"] = "train"
    dataset = build_dataset(device_options["datasets"]["train"])
    batch = default_collate([dataset[0, index] for index in (0, 11, 16)])
    inputs = []
    for seed, rank in ((3, 0), (3, 0), (4, 0), (3, 1)):
        model = build({**device_options, "manual_seed": seed, "rank": rank})
        model.feed_data(batch)
        model.optimize_parameters(1)
        inputs.append(model.lq)
        assert model.tasks == ["noise", "blur", "storm"]
    assert torch.equal(inputs[0], inputs[1])
    assert not torch.equal(inputs[0], inputs[2])
    assert not torch.equal(inputs[0], inputs[3])


def test_validation_between_iterations_takes_pictures_as_they_are(build, device_options, make_batch):
    device_options["datasets"]["train"]["phase"] = "train"
    model = build(device_options)
    batch = make_batch(1)
    model.feed_data(batch)
    assert torch.equal(model.lq, batch["lq"])
    assert torch.equal(model.gt, batch["gt"])


@pytest.mark.parametrize(
    ("options_of_set", "message"),
    [
        ({"degrade": "gpu"}, "degrade must be one of device, loader, got 'gpu'"),
        ({"degrade": None, "cache": "device"}, "cache='device' needs degrade='device'"),
        ({"cached": "device"}, "unknown option 'cached' in datasets.train; did you mean 'cache'"),
    ],
)
def test_wrong_options_are_named(train, device_options, options_of_set, message):
    device_options["datasets"]["train"].update(options_of_set)
    with pytest.raises(ValueError, match=message):
        train(device_options)


def test_another_data_set_cannot_leave_its_degradations_to_the_model(build, device_options, pictures, make_paired):
    paired = {**make_paired("train", pictures), "phase": "train", "gt_size": 16, "degrade": "device"}
    device_options["datasets"]["train"] = paired
    with pytest.raises(ValueError, match=r"is for the type AllInOneDataset, .* got PairedImageDataset"):
        build(device_options)


def test_validation_data_are_degraded_in_the_loader(pictures):
    from basicsr_plugin.data import AllInOneDataset

    task = {**TASKS[0], "dataroot_gt": str(pictures / "gt")}
    with pytest.raises(ValueError, match="takes whole images, so it must not have degrade, cache"):
        AllInOneDataset({"name": "v", "phase": "val", "tasks": [task], "degrade": "device", "cache": "device"})
