from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from basicsr_plugin.data.all_in_one_dataset import AllInOneDataset
from basicsr_plugin.run.preflight import read_options
from clusir_modules.data import AllInOneDataset as PlainDataset


def section(folder: Path, phase: str = "train", **options: Any) -> dict[str, Any]:
    tasks = [
        {"name": "paired", "dataroot_gt": str(folder / "gt"), "dataroot_lq": str(folder / "lq"), "repeat": 2},
        {"name": "rain", "dataroot_gt": str(folder / "gt"), "degradation": {"type": "RainStreaks"}},
    ]
    shared = {"name": "mix", "type": "AllInOneDataset", "phase": phase, "scale": 1, "tasks": tasks}
    return {**shared, **({"gt_size": 16} if phase == "train" else {}), **options}


class TestAllInOneDataset:
    def test_basicsr_builds_it_from_a_section_with_loader_keys(self, pictures: Path) -> None:
        loader = {
            "io_backend": {"type": "disk"},
            "batch_size_per_gpu": 2,
            "num_worker_per_gpu": 1,
            "dataset_enlarge_ratio": 1,
            "prefetch_mode": None,
            "pin_memory": False,
            "use_shuffle": True,
        }
        from basicsr.data import build_dataset
        from basicsr.utils.registry import DATASET_REGISTRY

        dataset = build_dataset(section(pictures, **loader))
        assert type(dataset) is AllInOneDataset is DATASET_REGISTRY.get("AllInOneDataset")
        assert dataset.accepts_epoch
        assert dataset.opt["name"] == "mix"
        assert len(dataset) == 15
        assert dataset[3, 11]["lq"].shape == (3, 16, 16)

    def test_its_samples_are_those_of_the_plain_data_set(self, pictures: Path) -> None:
        opt = section(pictures, seed=7)
        plain = PlainDataset(opt["tasks"], patch_size=16, seed=7)
        wrapped = AllInOneDataset(opt)
        for index in (0, 12):
            assert torch.equal(wrapped[2, index]["lq"], plain[2, index]["lq"])

    def test_validation_gives_whole_images_cut_to_the_multiple(self, pictures: Path) -> None:
        dataset = AllInOneDataset(section(pictures, "val", center_crop=16))
        assert dataset[0]["lq"].shape == (3, 32, 32)
        assert dataset.patch_size is None

    @pytest.mark.parametrize(
        ("hflip", "rot", "expected"),
        [(True, True, True), (True, False, "flip"), (False, True, "rotate"), (False, False, False)],
    )
    def test_both_switches_of_basicsr_work(self, pictures: Path, hflip: bool, rot: bool, expected: object) -> None:
        assert AllInOneDataset(section(pictures, use_hflip=hflip, use_rot=rot)).augment == expected

    def test_the_seed_of_the_run_serves_training_but_not_validation(self, pictures: Path) -> None:
        assert AllInOneDataset(section(pictures, manual_seed=5)).seed == 5
        assert AllInOneDataset(section(pictures, manual_seed=5, seed=2)).seed == 2
        assert AllInOneDataset(section(pictures, "val", manual_seed=5)).seed == 0

    def test_it_can_be_sent_to_a_spawned_worker(self, pictures: Path) -> None:
        dataset = AllInOneDataset(section(pictures))
        twin = pickle.loads(pickle.dumps(dataset))
        assert torch.equal(twin[1, 12]["lq"], dataset[1, 12]["lq"])

    @pytest.mark.parametrize(
        ("phase", "options", "message"),
        [
            ("train", {"gt_size": None}, r"datasets.train 'mix' must have gt_size"),
            ("val", {"gt_size": 16}, "takes whole images, so it must not have gt_size"),
            ("train", {"scale": 2}, "scale must be 1, got 2"),
            ("train", {"tasks": []}, "at least one task"),
            ("train", {"center_crop": 16}, "center_crop is for whole images"),
        ],
    )
    def test_mistakes_are_named(self, pictures: Path, phase: str, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            AllInOneDataset(section(pictures, phase, **options))

    def test_a_section_without_tasks_is_named(self, pictures: Path) -> None:
        opt = section(pictures)
        del opt["tasks"]
        with pytest.raises(ValueError, match="must have a list of tasks"):
            AllInOneDataset(opt)

    def test_a_damaged_file_stops_the_run_at_its_start(self, pictures: Path) -> None:
        (pictures / "gt" / "03.png").write_bytes(b"damaged")
        with pytest.raises(RuntimeError, match=r"1 of 10 images cannot be used(.|\n)*03\.png"):
            AllInOneDataset(section(pictures, verify=True))

    def test_the_option_checker_knows_its_keys(self, options: dict[str, Any], pictures: Path) -> None:
        options["datasets"]["train"] = section(pictures, batch_size_per_gpu=2, num_worker_per_gpu=0)
        read_options(options)
        options["datasets"]["train"]["gtsize"] = 16
        with pytest.raises(ValueError, match=r"unknown option 'gtsize' in datasets\.train; did you mean 'gt_size'"):
            read_options(options)


class TestTraining:
    def test_a_run_on_mixed_tasks_is_reproducible(
        self, options: dict[str, Any], pictures: Path, train: Callable[..., Any], tmp_path: Path
    ) -> None:
        data = section(pictures, batch_size_per_gpu=2, num_worker_per_gpu=0, dataset_enlarge_ratio=1)
        del data["phase"]
        options["datasets"]["train"] = data
        first = train(options, root=tmp_path / "first")
        options["datasets"]["train"]["num_worker_per_gpu"] = 1
        second = train(options, root=tmp_path / "second")
        assert len(first.losses) == 8
        assert first.losses == second.losses
        assert first.paths == second.paths
