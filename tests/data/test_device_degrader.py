from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from clusir_modules.data import (
    AllInOneDataset,
    DefocusBlur,
    Degradation,
    DeviceDegrader,
    GaussianNoise,
    LowLight,
    Mixture,
    MotionBlur,
    Task,
)
from clusir_modules.data.patches import AUGMENTATIONS, Place, cut_with_margin

SIZES = ((50, 70), (41, 33), (9, 80))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean images of which each pixel tells its row, its column and its image."""
    folder = tmp_path_factory.mktemp("images")
    for number, (height, width) in enumerate(SIZES):
        rows, columns = np.mgrid[:height, :width]
        levels = np.stack([rows, columns, np.full_like(rows, number)], axis=2).astype(np.uint8)
        Image.fromarray(levels).save(folder / f"{number}.png")
    return folder


def tasks(root: Path) -> list[Task]:
    return [
        Task("noise", root, degradation=GaussianNoise(25), repeat=2),
        Task("blur", root, degradation=MotionBlur(length=(2, 5))),
        Task("noise", root, degradation=GaussianNoise(50)),
        Task("night", root, degradation=Mixture([LowLight(), DefocusBlur(2.0)])),
    ]


def dataset(root: Path, *, cache: Any = None, patch_size: int = 16, **options: Any) -> AllInOneDataset:
    return AllInOneDataset(tasks(root), patch_size=patch_size, degrade="device", cache=cache, **options)


@pytest.fixture(params=[None, "device"], ids=["loader", "cache"])
def cache(request: pytest.FixtureRequest) -> Any:
    return request.param


def source(patch: torch.Tensor) -> tuple[np.ndarray[Any, Any], int]:
    """Rows and columns ``(P, P, 2)`` that the pixels of a clean patch come from, and the number of the image."""
    levels = (patch * 255).round().long().numpy()
    assert len(np.unique(levels[2])) == 1
    return np.stack([levels[0], levels[1]], 2), int(levels[2, 0, 0])


class TestSamples:
    def test_a_sample_is_a_clean_patch_and_the_name_of_its_degradation(self, root: Path) -> None:
        data = dataset(root)
        assert data.margin == MotionBlur(length=(2, 5)).margin == 6
        assert list(data.degradations) == ["noise", "blur", "noise 2", "night"]
        item = data[3 * len(SIZES)]
        assert set(item) == {"clean", "task", "task_id", "degradation", "lq_path", "gt_path"}
        assert (item["task"], item["task_id"], item["degradation"]) == ("noise", 0, "noise 2")
        assert item["clean"].shape == (3, 16 + 2 * 6, 16 + 2 * 6)

    def test_with_a_cache_it_holds_no_pixels_and_reads_no_file(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes((root / "0.png").read_bytes())
        data = AllInOneDataset(
            [Task("noise", tmp_path, degradation="noise")], patch_size=8, degrade="device", cache="device"
        )
        (tmp_path / "a.png").unlink()
        item = data[0]
        assert data.photographs[item["photograph"]] == tmp_path / "a.png"
        assert not any(isinstance(value, torch.Tensor) for value in item.values())

    def test_each_photograph_is_kept_once(self, root: Path) -> None:
        assert [path.name for path in dataset(root, cache="device").photographs] == ["0.png", "1.png", "2.png"]

    def test_patches_are_as_random_as_before(self, root: Path) -> None:
        data = dataset(root)
        assert torch.equal(data[2, 1]["clean"], data[2, 1]["clean"])
        assert not torch.equal(data[2, 1]["clean"], data[3, 1]["clean"])


class TestPatches:
    @pytest.mark.parametrize(
        "place", [Place(0, 0, False, False, False), Place(20, 50, True, False, True), Place(9, 3, True, True, False)]
    )
    def test_the_margin_holds_the_surroundings(self, root: Path, place: Place) -> None:
        pixels = np.asarray(Image.open(root / "0.png"))
        wide = torch.from_numpy(np.pad(pixels, ((7, 7), (7, 7), (0, 0)), mode="reflect")).permute(2, 0, 1)
        expected = wide[:, place.top : place.top + 30, place.left : place.left + 30].float() / 255
        expected = expected.flip([axis for axis, wanted in ((2, place.mirror), (1, place.flip)) if wanted])
        expected = expected.transpose(1, 2) if place.transpose else expected
        assert torch.equal(cut_with_margin(pixels, place, size=16, margin=7), expected)

    @pytest.mark.parametrize("augment", AUGMENTATIONS)
    def test_a_patch_is_a_turned_square_of_its_file(self, root: Path, cache: Any, augment: Any) -> None:
        data = dataset(root, cache=cache, patch_size=8, augment=augment)
        degrader = DeviceDegrader(data, "cpu")
        orientations = set()
        for iteration in range(12):
            batch = degrader.draw(6, iteration)
            for patch, path in zip(batch["gt"], batch["gt_path"]):
                where, number = source(patch)
                assert Path(path).name == f"{number}.png"
                down, right = where[1, 0] - where[0, 0], where[0, 1] - where[0, 0]
                assert (where == where[0, 0] + np.arange(8)[:, None, None] * down + np.arange(8)[:, None] * right).all()
                assert abs(down).sum() == abs(right).sum() == 1
                orientations.add((tuple(down), tuple(right)))
        mirrored = augment in (True, "flip")
        turned = augment in (True, "rotate")
        assert len(orientations) == (2 if mirrored else 1) * (4 if turned else 1)

    def test_corners_are_uniform_over_the_image(self, root: Path) -> None:
        for cached in (None, "device"):
            degrader = DeviceDegrader(dataset(root, cache=cached, patch_size=30, augment=False), "cpu")
            corners: Counter[tuple[int, int]] = Counter()
            for iteration in range(60):
                for patch in degrader.draw(32, iteration)["gt"]:
                    where, number = source(patch)
                    if number == 1:  # 12 rows and 4 columns where a patch can begin
                        corners[tuple(where[0, 0])] += 1
            counts = torch.tensor([corners[row, column] for row in range(12) for column in range(4)]).double()
            assert counts.sum() == sum(corners.values())
            expected = counts.sum() / 48
            chi_square = ((counts - expected) ** 2 / expected).sum()
            assert chi_square < 47 + 4 * (2 * 47) ** 0.5

    def test_an_image_smaller_than_the_patch_is_mirrored_around_its_center(self, root: Path) -> None:
        degrader = DeviceDegrader(dataset(root, cache="device", patch_size=13, augment=False), "cpu")
        single = dataset(root, patch_size=13, augment=False)
        rows = [2, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 7, 6]
        small = [patch for k in range(20) for patch in degrader.draw(4, k)["gt"] if source(patch)[1] == 2]
        small += [single[index]["clean"][:, 6:-6, 6:-6] for index in (2, 5, 8)]
        assert len(small) > 5
        assert all(source(patch)[0][:, 0, 0].tolist() == rows for patch in small)


class TestDegrading:
    def test_each_sample_is_degraded_as_its_task_says(self, root: Path, cache: Any) -> None:
        class Mark(Degradation):
            def __init__(self, level: float, margin: int) -> None:
                self.level, self.around = level, margin

            @property
            def margin(self) -> int:
                return self.around

            def _apply(self, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
                assert image.shape[1:] == (8 + 2 * self.around, 8 + 2 * self.around)
                return image + self.level

        marks = {"a": Mark(1.0, 0), "b": Mark(2.0, 3), "c": Mark(4.0, 1)}
        names = [Task(name, root, degradation=mark) for name, mark in marks.items()]
        data = AllInOneDataset(names, patch_size=8, degrade="device", cache=cache)
        degrader = DeviceDegrader(data, "cpu")
        seen = set()
        for iteration in range(4):
            batch = degrader.draw(5, iteration)
            for lq, gt, name in zip(batch["lq"], batch["gt"], batch["task"]):
                assert torch.allclose(lq - gt, torch.tensor(marks[name].level), atol=1e-5)
                seen.add(name)
        assert seen == set(marks)

    def test_blur_looks_at_the_surroundings(self, root: Path, cache: Any) -> None:
        """A patch in the middle of a ramp is blurred to itself, which it would not be with mirrored borders."""
        blur = Task("blur", root, degradation=DefocusBlur(4.0, gamma=1), file_list=None)
        data = AllInOneDataset([blur], patch_size=20, degrade="device", cache=cache, augment=False)
        degrader = DeviceDegrader(data, "cpu")
        checked = 0
        for iteration in range(20):
            batch = degrader.draw(4, iteration)
            for lq, gt in zip(batch["lq"], batch["gt"]):
                where, number = source(gt)
                (top, left), (height, width) = where[0, 0], SIZES[number]
                if number < 2 and 4 <= top <= height - 24 and 4 <= left <= width - 24:
                    assert torch.allclose(lq, gt, atol=1e-5)
                    checked += 1
        assert checked > 5

    def test_tasks_come_up_by_their_weight(self, root: Path) -> None:
        degrader = DeviceDegrader(dataset(root, cache="device"), "cpu")
        counts = Counter(name for k in range(100) for name in degrader.draw(10, k)["degradation"])
        shares = {"noise": 0.4, "blur": 0.2, "noise 2": 0.2, "night": 0.2}
        assert counts.keys() == shares.keys()
        for name, share in shares.items():
            assert abs(counts[name] / 1000 - share) < 4 * (share * (1 - share) / 1000) ** 0.5

    def test_a_batch_is_a_function_of_seed_rank_and_iteration(self, root: Path, cache: Any) -> None:
        data = dataset(root, cache=cache)
        batch = default_collate([data[0, index] for index in (0, 7, 12, 3, 10)])

        def lq(iteration: int = 5, **options: int) -> torch.Tensor:
            degrader = DeviceDegrader(data, "cpu", **options)
            degrader(batch, 2)
            torch.rand(3)
            return degrader(batch, iteration)["lq"]

        assert torch.equal(lq(), lq())
        for other in (lq(6), lq(seed=1), lq(rank=1)):
            assert not torch.equal(lq(), other)

    def test_a_loader_gives_what_it_takes(self, root: Path, cache: Any) -> None:
        data = dataset(root, cache=cache)
        degrader = DeviceDegrader(data, "cpu")
        loader = DataLoader(data, batch_size=4, num_workers=1)
        for iteration, batch in enumerate(loader):
            degraded = degrader(batch, iteration)
            assert set(degraded) == {"lq", "gt", "task", "task_id", "degradation", "lq_path", "gt_path"}
            assert degraded["lq"].shape == degraded["gt"].shape == (len(batch["task"]), 3, 16, 16)
            assert degraded["lq"].dtype == degraded["gt"].dtype == torch.float32
            assert degraded["lq"].is_contiguous()
            assert degraded["gt"].is_contiguous()
            assert not torch.equal(degraded["lq"], degraded["gt"])


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"degrade": "device"}, "needs patch_size, got None"),
            ({"degrade": "gpu", "patch_size": 8}, "degrade must be one of device, loader, got 'gpu'"),
            ({"cache": "device", "patch_size": 8}, "cache='device' needs degrade='device', got degrade='loader'"),
            ({"cache": "memory", "degrade": "device", "patch_size": 8}, "cache must be one of device, got 'memory'"),
        ],
    )
    def test_bad_options_are_named(self, root: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            AllInOneDataset(tasks(root), **options)

    def test_tasks_with_degraded_files_are_refused_with_the_reason(self, root: Path) -> None:
        with pytest.raises(ValueError, match=r"task 'pairs' has none to make: its degraded images are files"):
            AllInOneDataset([*tasks(root), Task("pairs", root, root)], patch_size=8, degrade="device")

    def test_what_is_no_data_set_for_it_is_refused(self, root: Path) -> None:
        with pytest.raises(TypeError, match="dataset must be an AllInOneDataset, got list"):
            DeviceDegrader([], "cpu")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="dataset must have degrade='device', got 'loader'"):
            DeviceDegrader(AllInOneDataset(tasks(root), patch_size=8), "cpu")

    def test_a_photograph_of_16_bits_is_not_cached(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((20, 20), 3000, dtype=np.uint16)).save(tmp_path / "deep.png")
        data = AllInOneDataset(
            [Task("noise", tmp_path, degradation="noise")], patch_size=8, degrade="device", cache="device"
        )
        with pytest.raises(ValueError, match=r"keeps photographs of 8 bits, but '.*deep.png' has 16"):
            DeviceDegrader(data, "cpu")


@pytest.mark.gpu
def test_a_batch_on_the_device_is_made_without_waiting(root: Path, cache: Any) -> None:
    data = dataset(root, cache=cache)
    degrader = DeviceDegrader(data, "cuda")
    batch = default_collate([data[0, index] for index in range(12)])
    first = degrader(batch, 1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        second = degrader(batch, 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(first["lq"], second["lq"])
    assert second["gt"].device.type == "cuda"
