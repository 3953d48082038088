"""Whole runs through BasicSR's training and test scripts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest
import torch


def final_weights(root, name="run"):
    return torch.load(root / "experiments" / name / "models" / "net_g_latest.pth", weights_only=True)


def assert_same(first, second):
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert_same(value, second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


@pytest.fixture
def long_options(options):
    """20 iterations, a state every 5, over 7 epochs of 3 iterations."""
    options["train"]["total_iter"] = 20
    options["logger"]["save_checkpoint_freq"] = 5
    return options


def test_training_reaches_its_last_iteration_and_follows_the_schedule(train, options, tmp_path):
    run = train(options)
    # Five pictures make two full batches and a half; BasicSR drops that, but counts it, and would stop after 6.
    assert len(run.losses) == 8
    assert run.rates[:4] == pytest.approx([0, 1e-3 / 3, 2e-3 / 3, 1e-3])
    assert run.rates[-1] < run.rates[-2] < run.rates[3]
    assert final_weights(tmp_path).keys() == {"params", "params_ema"}


def test_training_lowers_the_loss(train, options):
    options["train"].update(total_iter=60, optim_g={"type": "Adam", "lr": 1e-2})
    options["network_g"].update(width=12, dropout=0.0)
    losses = train(options).losses
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_every_epoch_shows_every_picture(train, options):
    options["train"]["total_iter"] = 3
    options["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [2]}
    shown = [Path(path).name for batch in train(options).paths for path in batch]
    assert len(shown) == 6
    assert set(shown) == {f"{number:02d}.png" for number in range(5)}


def test_loss_is_the_same_to_the_bit_for_any_number_of_workers(train, long_options, tmp_path):
    alone = train(long_options, root=tmp_path / "alone")
    again = train(long_options, root=tmp_path / "again")
    long_options["datasets"]["train"]["num_worker_per_gpu"] = 2
    workers = train(long_options, root=tmp_path / "workers")
    assert len(alone.losses) == 20
    assert alone.losses == again.losses == workers.losses
    assert alone.paths == workers.paths
    long_options["manual_seed"] = 4
    other = train(long_options, root=tmp_path / "other")
    assert other.losses != alone.losses
    assert other.paths != alone.paths


def test_prefetching_in_a_thread_changes_nothing(train, long_options, tmp_path):
    plain = train(long_options, root=tmp_path / "plain")
    long_options["datasets"]["train"].update(prefetch_mode="cpu", num_prefetch_queue=3)
    for attempt in range(5):
        assert train(long_options, root=tmp_path / f"prefetched{attempt}").losses == plain.losses


@pytest.fixture
def all_in_one(long_options, pictures):
    """The same run on pictures with synthetic noise of two strengths."""
    task = {
        "name": "noise",
        "dataroot_gt": str(pictures / "gt"),
        "degradation": {"type": "GaussianNoise", "sigma": [15, 50]},
    }
    loader = {"gt_size": 16, "num_worker_per_gpu": 0, "batch_size_per_gpu": 2}
    long_options["datasets"]["train"] = {"name": "train", "type": "AllInOneDataset", "tasks": [task], **loader}
    return long_options


def test_all_in_one_data_are_resumed_exactly_with_other_workers(train, all_in_one, tmp_path):
    undisturbed = train(all_in_one, root=tmp_path / "undisturbed")
    train(all_in_one, root=tmp_path / "killed", kill_at=18)
    all_in_one["datasets"]["train"]["num_worker_per_gpu"] = 2
    resumed = train(all_in_one, "--auto_resume", root=tmp_path / "killed")
    assert resumed.losses == undisturbed.losses[15:]
    assert_same(final_weights(tmp_path / "killed"), final_weights(tmp_path / "undisturbed"))


def test_noise_of_all_in_one_data_follows_the_seed_of_the_run(train, all_in_one, tmp_path):
    all_in_one["train"]["total_iter"] = 4
    inputs = []
    for seed in (3, 4):
        all_in_one["manual_seed"] = seed
        inputs.append(train(all_in_one, root=tmp_path / str(seed)).dataset[0, 0]["lq"])
    assert not torch.equal(*inputs)


class TestResuming:
    """A run that is killed at iteration 18 and resumed from the state of iteration 15 ends as if undisturbed."""

    @pytest.fixture
    def undisturbed(self, train, long_options, tmp_path):
        return train(long_options, root=tmp_path / "undisturbed")

    def assert_equal(self, resumed, root, undisturbed, tmp_path):
        assert resumed.losses == undisturbed.losses[15:]
        assert resumed.rates == undisturbed.rates[15:]
        assert_same(final_weights(root), final_weights(tmp_path / "undisturbed"))
        assert_same(
            resumed.model.optimizer_g.state_dict()["state"], undisturbed.model.optimizer_g.state_dict()["state"]
        )

    def test_automatically_from_another_folder(self, train, long_options, undisturbed, tmp_path):
        root = tmp_path / "killed"
        train(long_options, root=root, kill_at=18)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        resumed = train(long_options, "--auto_resume", root=root, cwd=elsewhere)
        self.assert_equal(resumed, root, undisturbed, tmp_path)
        assert not list((root / "experiments").glob("*archived*"))

    def test_from_a_named_state_into_another_root(self, train, long_options, undisturbed, tmp_path):
        root = tmp_path / "killed"
        train(long_options, root=root, kill_at=18)
        long_options["path"]["resume_state"] = str(root / "experiments/run/training_states/15.state")
        resumed = train(long_options, root=tmp_path / "moved")
        self.assert_equal(resumed, tmp_path / "moved", undisturbed, tmp_path)

    def test_with_safetensors_and_workers(self, train, long_options, undisturbed, tmp_path):
        root = tmp_path / "killed"
        long_options["logger"]["save_checkpoint_format"] = "safetensors"
        long_options["datasets"]["train"]["num_worker_per_gpu"] = 2
        train(long_options, root=root, kill_at=18)
        assert (root / "experiments/run/models/net_g_ema_15.safetensors").is_file()
        long_options["logger"]["save_checkpoint_format"] = "pth"
        resumed = train(long_options, "--auto_resume", root=root)
        self.assert_equal(resumed, root, undisturbed, tmp_path)

    def test_without_a_seed_in_the_options(self, train, long_options, tmp_path):
        del long_options["manual_seed"]
        root = tmp_path / "killed"
        killed = train(long_options, root=root, kill_at=18)
        resumed = train(long_options, "--auto_resume", root=root)
        assert resumed.losses[:2] == killed.losses[15:17]

    def test_in_half_precision_with_accumulation(self, train, long_options, tmp_path):
        long_options["train"].update(amp="fp16", accum_iter=5)
        long_options["path"]["pretrain_network_g"] = None
        undisturbed = train(long_options, root=tmp_path / "undisturbed")
        train(long_options, root=tmp_path / "killed", kill_at=18)
        resumed = train(long_options, "--auto_resume", root=tmp_path / "killed")
        self.assert_equal(resumed, tmp_path / "killed", undisturbed, tmp_path)
        scale = undisturbed.model.stepper.scaler.state_dict()
        assert resumed.model.stepper.scaler.state_dict() == scale
        assert scale["_growth_tracker"] > 0

    def test_with_nothing_to_resume_starts_anew(self, train, options, tmp_path):
        assert len(train(options, "--auto_resume").losses) == 8

    def test_a_damaged_newest_state_gives_way_to_the_one_before(self, train, long_options, undisturbed, tmp_path):
        root = tmp_path / "killed"
        train(long_options, root=root, kill_at=18)
        state = root / "experiments/run/training_states/15.state"
        state.write_bytes(state.read_bytes()[:-100])
        with pytest.warns(UserWarning, match=r"15.state.*damaged.*taking an older state"):
            resumed = train(long_options, "--auto_resume", root=root)
        assert resumed.losses == undisturbed.losses[10:]
        assert_same(final_weights(root), final_weights(tmp_path / "undisturbed"))


class TestValidation:
    @pytest.fixture
    def two_sets(self, options, pictures, make_paired, make_pictures, tmp_path):
        make_pictures(tmp_path / "second", 2, first_seed=50)
        options["datasets"]["val_1"] = make_paired("First", pictures)
        options["datasets"]["val_2"] = make_paired("Second", tmp_path / "second")
        metric = {"type": "calculate_psnr", "crop_border": 0, "better": "higher"}
        options["val"] = {"val_freq": 4, "save_img": True, "metrics": {"psnr": metric}}
        options["logger"]["save_checkpoint_freq"] = 4
        return options

    def test_weights_are_kept_where_a_column_is_best(self, train, two_sets, tmp_path):
        metric = two_sets["val"]["metrics"]["psnr"]
        two_sets["val"]["metrics"]["worst"] = {**metric, "better": "lower"}
        two_sets["val"]["save_best"] = ["First/psnr", "Second/worst"]
        train(two_sets)
        rows = json.loads((tmp_path / "experiments/run/validation.json").read_text())
        assert [(row["set"], row["iteration"]) for row in rows] == [(s, i) for i in (4, 8) for s in ("First", "Second")]
        models = tmp_path / "experiments/run/models"
        best = set()
        for name, metric, row in (("First", "psnr", rows[2]), ("Second", "worst", rows[3])):
            kept = torch.load(models / f"net_g_best-{name}-{metric}.pth", weights_only=True)
            iteration = row["metrics"][metric]["best_iteration"]
            best.add(iteration)
            saved = torch.load(models / f"net_g_{iteration}.pth", weights_only=True)
            for kind in ("params", "params_ema"):
                assert_same(kept[kind], saved[kind])
        assert best == {4, 8}

    def test_pictures_of_several_sets_lie_apart(self, train, two_sets, tmp_path):
        train(two_sets)
        folder = tmp_path / "experiments/run/visualization"
        assert {path.parent.parent.name for path in folder.rglob("00_4.png")} == {"First", "Second"}
        assert len(list(folder.rglob("*.png"))) == 2 * (5 + 2)

    def test_pictures_and_metric_are_those_of_the_averaged_network(self, train, two_sets, pictures, tmp_path):
        run = train(two_sets)
        lq = cv2.imread(str(pictures / "lq" / "03.png"))[..., ::-1] / 255.0
        with torch.no_grad():
            result = run.model.net_g_ema(torch.tensor(lq, dtype=torch.float32).permute(2, 0, 1)[None])
        expected = (result[0].clamp(0, 1).permute(1, 2, 0) * 255).round().numpy().astype("uint8")
        written = cv2.imread(str(tmp_path / "experiments/run/visualization/First/03/03_8.png"))[..., ::-1]
        assert (written == expected).all()

        errors = []
        for number in range(2):
            gt = cv2.imread(str(tmp_path / "second" / "gt" / f"{number:02d}.png")).astype(float)
            picture = tmp_path / f"experiments/run/visualization/Second/{number:02d}/{number:02d}_8.png"
            errors.append(((cv2.imread(str(picture)).astype(float) - gt) ** 2).mean())
        psnr = sum(10 * torch.log10(torch.tensor(255.0**2 / error)) for error in errors) / 2
        assert run.model.validator.latest["psnr"] == pytest.approx(psnr.item(), abs=1e-3)

    def test_best_values_survive_resuming(self, train, two_sets, tmp_path, monkeypatch):
        from basicsr_plugin.models.restoration_model import RestorationModel

        undisturbed = train(two_sets, root=tmp_path / "undisturbed").model.validator.table.best
        train(two_sets, root=tmp_path / "killed", kill_at=7)
        resume = RestorationModel.resume_training
        restored = {}

        def resume_training(self, state):
            resume(self, state)
            restored.update(state["best_metric_results"])

        monkeypatch.setattr(RestorationModel, "resume_training", resume_training)
        resumed = train(two_sets, "--auto_resume", root=tmp_path / "killed").model.validator.table.best
        assert resumed == undisturbed
        assert {record["psnr"]["iter"] for record in undisturbed.values()} <= {4, 8}
        assert set(restored) == {"First", "Second"}

    def test_validation_changes_nothing_in_training(self, train, two_sets, tmp_path):
        validated = train(two_sets, root=tmp_path / "validated")
        del two_sets["val"], two_sets["datasets"]["val_1"], two_sets["datasets"]["val_2"]
        assert train(two_sets, root=tmp_path / "plain").losses == validated.losses


class TestTesting:
    @pytest.fixture
    def test(self, tmp_path, monkeypatch, save_options):
        from basicsr_plugin.test import main

        def run(options):
            file = save_options(options, tmp_path / "test.yml")
            monkeypatch.setattr(sys, "argv", ["test", "-opt", str(file), "--root", str(tmp_path)])
            main()

        return run

    def test_without_ground_truth_writes_pictures_and_leaves_comparing_metrics_out(
        self, train, test, options, pictures, tmp_path, monkeypatch
    ):
        from basicsr_plugin.models.validation import Validator

        train(options)
        results = []
        record = Validator._record
        monkeypatch.setattr(
            Validator, "_record", lambda self, *args: record(self, *args) or results.append(self.latest)
        )
        single = {"type": "SingleImageDataset", "dataroot_lq": str(pictures / "lq"), "io_backend": {"type": "disk"}}
        test(
            {
                "name": "blind",
                "model_type": "RestorationModel",
                "scale": 1,
                "num_gpu": 0,
                "manual_seed": 0,
                "datasets": {"test_1": {"name": "Unpaired", **single}},
                "network_g": {"type": "PluginTestNet"},
                "path": {
                    "pretrain_network_g": str(tmp_path / "experiments/run/models/net_g_latest.pth"),
                    "param_key_g": "params_ema",
                },
                "val": {
                    "save_img": True,
                    "suffix": None,
                    "size_multiple": 8,
                    "tile": 24,
                    "overlap": 8,
                    "metrics": {
                        "psnr": {"type": "calculate_psnr", "crop_border": 0},
                        "brightness": {"type": "plugin_test_brightness"},
                    },
                },
            }
        )
        assert len(list((tmp_path / "results/blind/visualization/Unpaired").glob("*_blind.png"))) == 5
        assert [set(result) for result in results] == [{"brightness"}]
        means = [cv2.imread(str(path)).mean() for path in tmp_path.glob("results/blind/visualization/Unpaired/*.png")]
        assert results[0]["brightness"] == pytest.approx(sum(means) / len(means) / 255, abs=2e-3)


@pytest.fixture(scope="session", autouse=True)
def brightness(registered):
    """A metric without reference that wants floating-point RGB pictures."""
    from basicsr.utils.registry import METRIC_REGISTRY

    from basicsr_plugin.compat.registration import register_once

    def plugin_test_brightness(img):
        assert img.dtype == "float32"
        assert img.ndim == 3
        assert img.max() <= 1
        return img.mean()

    plugin_test_brightness.float_rgb = True
    register_once(METRIC_REGISTRY, plugin_test_brightness)
