from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from basicsr_plugin.data.all_in_one_dataset import AllInOneDataset
from basicsr_plugin.options.files import find_option, list_options
from basicsr_plugin.run.preflight import read_options
from clusir_modules.data import Task
from clusir_modules.data.tasks import Sample

TRAINING = ("clusir_base_3task", "clusir_base_5task", "clusir_base_cdd11", "clusir_small_5task")
TESTS = tuple(f"{name}_test" for name in TRAINING)
MPRNETS = ("mprnet_deraining", "mprnet_denoising", "mprnet_deblurring")
PAIRS = ("mprnet_small_pairs", "clusir_two_stage_pairs")
FINETUNE = ("clusir_tiny_finetune_pairs", "clusir_tiny_finetune_degradation", "clusir_tiny_distill")
SHIPPED = (*TRAINING, *MPRNETS, *(f"{name}_test" for name in (*TRAINING, *MPRNETS)), *PAIRS, *FINETUNE)

FILES = {
    "data/Train/Denoise": 5144,  # BSD400 and WED
    "data/Train/Derain/rainy": 200,  # Rain100L
    "data/Train/Dehaze/synthetic": 72135,  # RESIDE OTS
    "data/Train/Deblur/blur": 2103,  # GoPro
    "data/Train/Enhance/low": 485,  # LOL-v1
    "data/CDD11/train": 1183,
}
"""Images of the standard data sets by the start of their folder."""


def load(name: str) -> dict[str, Any]:
    with find_option(name).open(encoding="utf-8") as file:
        options: dict[str, Any] = yaml.safe_load(file)
    return options


def sections(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for phase, data in options["datasets"].items():
        yield {**copy.deepcopy(data), "phase": phase.split("_")[0], "scale": options["scale"]}


@pytest.fixture
def standard_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks have as many samples as the standard data sets have images."""

    def list_samples(task: Task) -> list[Sample]:
        source = task.dataroot_gt if task.dataroot_lq is None else task.dataroot_lq
        folder = source if isinstance(source, str) else source[0]  # type: ignore[index]
        counts = [count for start, count in FILES.items() if str(folder).startswith(start)]
        assert len(counts) == 1, folder
        return [Sample(Path("lq"), Path("gt"))] * counts[0]

    monkeypatch.setattr(Task, "list_samples", list_samples)


@pytest.mark.parametrize("name", SHIPPED)
class TestEveryFile:
    def test_it_is_shipped_under_a_name_of_its_own(self, name: str) -> None:
        assert sum(known.rsplit("/", 1)[-1] == name for known in list_options()) == 1
        assert load(name)["name"] == name

    def test_the_option_checker_accepts_every_key(self, name: str) -> None:
        options = load(name)
        read_options({**options, "is_train": "train" in options})

    def test_its_tasks_are_well_formed_and_its_sets_are_evaluated_as_the_field_does(self, name: str) -> None:
        options = load(name)
        names = [data["name"] for data in sections(options)]
        assert len(set(names)) == len(names)
        for data in sections(options):
            tasks = [Task.from_config(task) for task in data["tasks"]]
            assert len({task.name for task in tasks}) == len(tasks)
            if data["phase"] != "train":
                assert data.get("center_crop") == (16 if name in (*TRAINING, *TESTS) and "cdd11" not in name else None)
                assert "gt_size" not in data
        types = {metric["type"] for metric in options["val"]["metrics"].values()}
        assert "calculate_psnr_all_in_one" in types
        if name in (*TRAINING, *TESTS):
            assert types == {"calculate_psnr_all_in_one", "calculate_ssim_all_in_one", "calculate_psnr"}

    def test_every_line_fits_and_every_number_is_a_number(self, name: str) -> None:
        text = find_option(name).read_text(encoding="utf-8")
        assert max(map(len, text.splitlines())) <= 120
        train = load(name).get("train", {"optim_g": {"lr": 1.0, "weight_decay": 0.0}, "scheduler": {"eta_min": 0.0}})
        numbers = (train["optim_g"]["lr"], train["optim_g"]["weight_decay"], train["scheduler"]["eta_min"])
        assert all(isinstance(number, float) for number in numbers)


@pytest.mark.usefixtures("standard_files")
class TestMixtures:
    @pytest.mark.parametrize(
        ("name", "sizes"),
        [
            ("clusir_base_3task", [15432, 15432, 15432, 24000, 72135]),
            ("clusir_base_5task", [15432, 15432, 15432, 24000, 72135, 10515, 9700]),
            ("clusir_small_5task", [15432, 15432, 15432, 24000, 72135, 10515, 9700]),
            ("clusir_base_cdd11", [2 * 1183] * 11),
        ],
    )
    def test_epochs_have_the_standard_numbers_of_samples(self, name: str, sizes: list[int]) -> None:
        data = next(sections(load(name))) | {"verify": False}
        dataset = AllInOneDataset(data)
        assert list(dataset.task_sizes.values()) == sizes
        assert len(dataset) == sum(sizes)

    def test_the_three_task_mixture_has_142_431_samples(self) -> None:
        assert len(AllInOneDataset(next(sections(load("clusir_base_3task"))) | {"verify": False})) == 142_431


@pytest.mark.parametrize("name", TRAINING)
class TestTrainingFiles:
    def test_the_settings_are_those_of_the_field(self, name: str) -> None:
        options = load(name)
        train, data = options["train"], options["datasets"]["train"]
        assert data["gt_size"] == 128
        assert train["optim_g"]["type"] == "AdamW"
        assert train["optim_g"]["lr"] == pytest.approx(2e-4)
        assert train["scheduler"]["warmup_iter"] < train["total_iter"]
        assert [loss["type"] for loss in train["losses"][1:]] == [
            "load_balance",
            "orthogonality",
            "cluster_information",
        ]

    def test_its_test_file_has_the_same_network_and_reads_what_training_writes(self, name: str) -> None:
        options, test = load(name), load(f"{name}_test")
        assert test["network_g"] == options["network_g"]
        weights = f"experiments/{name}/models/net_g_latest.{options['logger']['save_checkpoint_format']}"
        assert test["path"]["pretrain_network_g"] == weights


@pytest.mark.parametrize("name", MPRNETS)
class TestMPRNetFiles:
    def test_the_settings_are_those_of_the_paper(self, name: str) -> None:
        options = load(name)
        train, data = options["train"], options["datasets"]["train"]
        assert data["gt_size"] == 256
        assert train["total_iter"] == 400_000
        assert train["optim_g"]["type"] == "Adam"
        assert (train["optim_g"]["lr"], train["scheduler"]["eta_min"]) == (2e-4, 1e-6)
        assert train["losses"] == [
            {"type": "CharbonnierLoss", "weight": 1.0, "eps": 1e-6, "stages": [1.0, 1.0, 1.0]},
            {"type": "EdgeLoss", "weight": 0.05, "stages": [1.0, 1.0, 1.0]},
        ]

    def test_its_test_file_has_the_same_network_and_reads_what_training_writes(self, name: str) -> None:
        options, test = load(name), load(f"{name}_test")
        assert options["network_g"] == test["network_g"] == {"type": name}
        assert test["path"]["pretrain_network_g"] == f"experiments/{name}/models/net_g_latest.pth"
