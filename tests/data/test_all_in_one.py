from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Sampler

from clusir_modules.data import (
    JPEG,
    TASK_DEGRADATIONS,
    AllInOneDataset,
    DefocusBlur,
    GaussianNoise,
    Mixture,
    MotionBlur,
    Task,
)

COUNT = 5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clean images of which each pixel tells where it is, and their negatives."""
    folder = tmp_path_factory.mktemp("images")
    for part in ("gt", "lq"):
        (folder / part).mkdir()
    for number in range(COUNT):
        rows, columns = np.mgrid[: 50 + number, : 70 - number]
        levels = np.stack([rows, columns, np.full_like(rows, number)], axis=2).astype(np.uint8)
        Image.fromarray(levels).save(folder / "gt" / f"{number}.png")
        Image.fromarray(255 - levels).save(folder / "lq" / f"{number}.png")
    return folder


def paired(root: Path, **options: Any) -> Task:
    return Task("paired", root / "gt", root / "lq", **options)


def synthetic(root: Path, name: str, **options: Any) -> Task:
    return Task(name, root / "gt", degradation=name, **options)


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) if isinstance(first[key], torch.Tensor) else first[key] == second[key]
        for key in first
    )


class Pairs(Sampler[Any]):
    """Yields (epoch, index) in a shuffled order."""

    def __init__(self, epoch: int, indices: list[int]) -> None:
        self.keys = [(epoch, index) for index in indices]

    def __iter__(self) -> Any:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


class TestItems:
    def test_a_pair_has_the_agreed_keys_and_values(self, root: Path) -> None:
        item = AllInOneDataset([synthetic(root, "haze"), paired(root)])[COUNT + 1]
        assert set(item) == {"lq", "gt", "task", "task_id", "lq_path", "gt_path"}
        assert (item["task"], item["task_id"]) == ("paired", 1)
        assert item["lq_path"] == str(root / "lq" / "1.png")
        assert item["gt_path"] == str(root / "gt" / "1.png")
        assert item["lq"].dtype == item["gt"].dtype == torch.float32
        assert torch.allclose(item["lq"], 1 - item["gt"], atol=1e-6)

    def test_a_synthetic_sample_names_the_clean_file_twice(self, root: Path) -> None:
        item = AllInOneDataset([synthetic(root, "rain")])[0]
        assert item["lq_path"] == item["gt_path"] == str(root / "gt" / "0.png")
        assert not torch.equal(item["lq"], item["gt"])

    def test_without_ground_truth_there_is_none(self, root: Path) -> None:
        for patch_size in (None, 16):
            item = AllInOneDataset([Task("real", dataroot_lq=root / "lq")], patch_size=patch_size)[0]
            assert set(item) == {"lq", "task", "task_id", "lq_path"}

    def test_task_ids_count_unique_names_in_order(self, root: Path) -> None:
        tasks = [synthetic(root, "noise"), synthetic(root, "rain"), Task("noise", root / "gt", degradation="jpeg")]
        dataset = AllInOneDataset(tasks)
        assert dataset.task_names == ("noise", "rain")
        assert [dataset[index]["task_id"] for index in (0, COUNT, 2 * COUNT)] == [0, 1, 0]
        assert dataset.task_sizes == {"noise": 2 * COUNT, "rain": COUNT}

    def test_a_default_loader_can_batch_the_items(self, root: Path) -> None:
        dataset = AllInOneDataset([paired(root), synthetic(root, "noise")], patch_size=16)
        batch = next(iter(DataLoader(dataset, batch_size=4)))
        assert batch["lq"].shape == (4, 3, 16, 16)
        assert batch["task_id"].tolist() == [0, 0, 0, 0]

    @pytest.mark.parametrize("index", [-1, 2 * COUNT, (0, 2 * COUNT)])
    def test_an_index_out_of_range_is_an_index_error(self, root: Path, index: Any) -> None:
        with pytest.raises(IndexError, match=r"index must be in \[0, 10\)"):
            AllInOneDataset([paired(root, repeat=2)])[index]


class TestPatches:
    def test_both_images_are_cut_at_the_same_place_and_turned_alike(self, root: Path) -> None:
        dataset = AllInOneDataset([paired(root, repeat=20)], patch_size=24)
        corners = set()
        for index in range(len(dataset)):
            item = dataset[index]
            assert torch.allclose(item["lq"], 1 - item["gt"], atol=1e-6)
            corners.add(tuple((item["gt"][:2, 0, 0] * 255).round().tolist()))
        assert len(corners) > 50

    def test_a_patch_is_contiguous_pixels_of_its_file(self, root: Path) -> None:
        item = AllInOneDataset([paired(root)], patch_size=24, augment=False)[2]
        levels = (item["gt"] * 255).round()
        assert (levels[0].diff(dim=0) == 1).all()
        assert (levels[1].diff(dim=1) == 1).all()
        assert (levels[2] == 2).all()

    def test_without_augmentation_patches_stay_upright(self, root: Path) -> None:
        for index in range(10):
            item = AllInOneDataset([paired(root, repeat=2)], patch_size=24, augment=False)[index]
            assert item["gt"][0, 0, 0] < item["gt"][0, -1, 0]
            assert item["gt"][1, 0, 0] < item["gt"][1, 0, -1]

    def test_images_smaller_than_the_patch_are_padded(self, root: Path) -> None:
        for task in (paired(root), synthetic(root, "motion_blur")):
            item = AllInOneDataset([task], patch_size=128)[0]
            assert item["lq"].shape == item["gt"].shape == (3, 128, 128)

    @pytest.mark.parametrize(
        "degradation",
        [
            DefocusBlur(3.0),
            MotionBlur("linear", length=9, angle=30),
            Mixture([DefocusBlur(2.0), MotionBlur("linear", length=5, angle=0)]),
        ],
    )
    def test_blur_of_a_patch_is_the_patch_of_the_blurred_image(self, root: Path, degradation: Any) -> None:
        for index in range(COUNT):
            task = Task("blur", root / "gt", degradation=degradation)
            patch = AllInOneDataset([task], patch_size=16, augment=False)[index]
            whole = AllInOneDataset([task])[index]
            top, left = (patch["gt"][:2, 0, 0] * 255).round().int().tolist()
            expected = whole["lq"][:, top : top + 16, left : left + 16]
            assert torch.allclose(patch["lq"], expected, atol=1e-5)

    def test_rain_falls_down_in_turned_patches_too(self, tmp_path: Path) -> None:
        Image.new("RGB", (96, 96)).save(tmp_path / "black.png")
        rain = {"type": "RainStreaks", "density": 4, "angle": 0, "veil": 0}
        dataset = AllInOneDataset([Task("rain", tmp_path, degradation=rain, repeat=10)], patch_size=64)
        for index in range(10):
            streaks = dataset[index]["lq"]
            assert streaks.diff(dim=2).square().sum() > 3 * streaks.diff(dim=1).square().sum()


class TestWholeImages:
    def test_images_stay_whole_and_unturned(self, root: Path) -> None:
        item = AllInOneDataset([paired(root)])[3]
        assert item["gt"].shape == (3, 53, 67)
        assert item["gt"][0, 0, 0] == 0
        assert item["gt"][1, 0, 0] == 0

    def test_center_crop_is_that_of_the_field(self, root: Path) -> None:
        item = AllInOneDataset([paired(root)], center_crop=16)[3]
        assert item["lq"].shape == item["gt"].shape == (3, 48, 64)
        # 53 - 48 = 5 and 67 - 64 = 3 surplus rows and columns; half, rounded down, in front.
        assert (item["gt"][:2, 0, 0] * 255).round().tolist() == [2, 1]

    def test_a_side_shorter_than_the_multiple_is_kept(self, root: Path) -> None:
        assert AllInOneDataset([paired(root)], center_crop=64)[0]["gt"].shape == (3, 50, 64)

    def test_noise_is_added_after_the_crop_so_test_input_does_not_depend_on_what_is_cut_off(self, root: Path) -> None:
        task = Task("noise", root / "gt", degradation=GaussianNoise(25))
        item = AllInOneDataset([task], center_crop=16)[0]
        again = AllInOneDataset([task], center_crop=16)[0]
        assert torch.equal(item["lq"], again["lq"])
        levels = item["lq"] * 255
        assert torch.allclose(levels, levels.round(), atol=1e-4)


class TestReproducibility:
    def tasks(self, root: Path) -> list[Task]:
        return [paired(root)] + [synthetic(root, name) for name in TASK_DEGRADATIONS]

    def test_a_sample_depends_on_seed_epoch_and_index_only(self, root: Path) -> None:
        dataset = AllInOneDataset(self.tasks(root), patch_size=32, seed=3)
        twin = AllInOneDataset(self.tasks(root), patch_size=32, seed=3)
        backwards = {index: twin[2, index] for index in reversed(range(len(twin)))}
        for index in range(len(dataset)):
            torch.manual_seed(index)
            assert equal(dataset[2, index], backwards[index])

    def test_a_plain_index_means_epoch_0(self, root: Path) -> None:
        dataset = AllInOneDataset(self.tasks(root), patch_size=32)
        assert dataset.accepts_epoch
        assert all(equal(dataset[index], dataset[0, index]) for index in range(len(dataset)))

    @pytest.mark.parametrize("other", ["epoch", "seed", "turn"])
    def test_other_epochs_seeds_and_turns_give_other_random_choices(self, root: Path, other: str) -> None:
        tasks = [synthetic(root, name, repeat=2) for name in TASK_DEGRADATIONS]
        dataset = AllInOneDataset(tasks, patch_size=32)
        for number in range(len(tasks)):
            index = 2 * COUNT * number
            changed = {
                "epoch": lambda index=index: dataset[1, index],
                "seed": lambda index=index: AllInOneDataset(tasks, patch_size=32, seed=1)[index],
                "turn": lambda index=index: dataset[index + COUNT],
            }[other]()
            assert changed["lq_path"] == dataset[index]["lq_path"]
            assert not torch.equal(changed["lq"], dataset[index]["lq"])

    @pytest.mark.parametrize("workers", [1, 2])
    def test_loader_workers_and_shuffling_change_nothing(self, root: Path, workers: int) -> None:
        dataset = AllInOneDataset(self.tasks(root), patch_size=128, seed=5)
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).tolist()[:20]
        threads = torch.get_num_threads()
        torch.set_num_threads(2)  # as in a training process, unlike in a worker
        try:
            expected = [dataset[4, index] for index in sorted(order)]
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(threads)
        torch.manual_seed(workers)
        loader = DataLoader(dataset, batch_size=None, sampler=Pairs(4, order), num_workers=workers)
        found = dict(zip(order, loader))
        assert all(equal(item, found[index]) for item, index in zip(expected, sorted(order)))


class TestRepeat:
    def test_whole_repeats_show_each_image_so_often(self, root: Path) -> None:
        dataset = AllInOneDataset([paired(root, repeat=3)], patch_size=16)
        assert len(dataset) == 3 * COUNT
        assert set(Counter(item["gt_path"] for item in dataset).values()) == {3}

    @pytest.mark.parametrize(("repeat", "length"), [(0.4, 2), (1.6, 8)])
    def test_a_fraction_moves_on_until_all_images_had_it(self, root: Path, repeat: float, length: int) -> None:
        dataset = AllInOneDataset([paired(root, repeat=repeat)], patch_size=16)
        assert len(dataset) == length
        seen: Counter[str] = Counter()
        for epoch in range(COUNT):
            seen.update(dataset[epoch, index]["gt_path"] for index in range(length))
        assert set(seen.values()) == {length}

    def test_a_repeat_that_leaves_nothing_is_named(self, root: Path) -> None:
        with pytest.raises(ValueError, match=r"repeat of task 'paired' must give at least one sample, got 0.01 of 5"):
            AllInOneDataset([paired(root, repeat=0.01)])


class TestErrors:
    def test_unequal_sizes_name_both_files_and_sizes(self, tmp_path: Path) -> None:
        for part, size in (("lq", (20, 30)), ("gt", (20, 31))):
            (tmp_path / part).mkdir()
            Image.new("RGB", size).save(tmp_path / part / "a.png")
        dataset = AllInOneDataset([paired(tmp_path)], patch_size=8)
        with pytest.raises(ValueError, match=r"lq/a\.png' has \(30, 20\) and '.*gt/a\.png' has \(31, 20\)"):
            dataset[0]

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_truncated_file_stops_the_loader_and_is_named(self, tmp_path: Path, workers: int) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "bad.png")
        (tmp_path / "bad.png").write_bytes((tmp_path / "bad.png").read_bytes()[:3000])
        dataset = AllInOneDataset([Task("noise", tmp_path, degradation="noise")], patch_size=16)
        with pytest.raises(RuntimeError, match=r"cannot read '.*bad\.png'"):
            next(iter(DataLoader(dataset, num_workers=workers)))
        with pytest.raises(RuntimeError, match=r"1 of 1 images cannot be used(.|\n)*bad\.png"):
            AllInOneDataset([Task("noise", tmp_path, degradation="noise")], patch_size=16, verify=True)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"patch_size": 0}, "patch_size must be >= 1, got 0"),
            ({"center_crop": 0}, "center_crop must be >= 1, got 0"),
            ({"patch_size": 8, "center_crop": 16}, "center_crop is for whole images"),
            ({"augment": "none"}, "augment must be one of"),
        ],
    )
    def test_bad_options_are_named(self, root: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            AllInOneDataset([paired(root)], **options)

    def test_no_tasks_are_refused(self) -> None:
        with pytest.raises(ValueError, match="tasks must hold at least one task"):
            AllInOneDataset([])


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, clusir_modules.data, clusir_modules.metrics; "
        "heavy = {'skimage', 'basicsr', 'cv2', 'timm'} & set(sys.modules); "
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_jpeg_quality_of_a_patch_is_that_of_pillow(root: Path) -> None:
    dataset = AllInOneDataset([Task("jpeg", root / "gt", degradation=JPEG(20))], patch_size=32)
    item = dataset[0]
    expected = JPEG(20)(item["gt"], torch.Generator())
    assert torch.equal(item["lq"], expected)
