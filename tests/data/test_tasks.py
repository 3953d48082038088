from __future__ import annotations

from pathlib import Path

import pytest

from clusir_modules.data import GaussianNoise, Task


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(task: Task) -> list[tuple[str | None, str | None]]:
    return [(lq and lq.name, gt and gt.name) for lq, gt in task.list_samples()]


class TestTask:
    def test_a_degradation_from_an_option_file_is_built(self, tmp_path: Path) -> None:
        task = Task("noise", tmp_path, degradation={"type": "GaussianNoise", "sigma": [15, 25]})
        assert task.degradation == GaussianNoise((15, 25))

    def test_no_folder_at_all_is_refused(self) -> None:
        with pytest.raises(ValueError, match="dataroot_lq of task 'a' must name at least one folder, got none"):
            Task("a", dataroot_lq=[])

    @pytest.mark.parametrize(
        "arguments",
        [
            {"dataroot_gt": "gt"},
            {"degradation": "noise"},
            {"dataroot_gt": "gt", "dataroot_lq": "lq", "degradation": "noise"},
            {"dataroot_lq": "lq", "degradation": "noise"},
            {},
        ],
    )
    def test_other_combinations_than_the_three_are_refused(self, arguments: dict[str, str]) -> None:
        with pytest.raises(ValueError, match="task 'a' needs dataroot_lq and dataroot_gt"):
            Task("a", **arguments)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("repeat", "error"),
        [(0, ValueError), (-1, ValueError), ("3", TypeError), (True, TypeError), (1e300, ValueError)],
    )
    def test_bad_repeat_is_named(self, repeat: object, error: type[Exception]) -> None:
        with pytest.raises(error, match="repeat of task 'a' must be"):
            Task("a", "gt", "lq", repeat=repeat)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("config", "error", "message"),
        [
            (
                {"name": "a", "dataroot_hq": "x"},
                ValueError,
                "task 'a' has no argument 'dataroot_hq'; did you mean 'dataroot_",
            ),
            ({"dataroot_lq": "x"}, TypeError, "a task must have a name"),
            ("rain", TypeError, "a task must be a mapping or a Task, got 'rain'"),
        ],
    )
    def test_a_bad_configuration_is_named(self, config: object, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            Task.from_config(config)  # type: ignore[arg-type]


class TestListSamples:
    def test_pairs_come_in_the_order_of_the_names(self, tmp_path: Path) -> None:
        touch(tmp_path, "lq/rain-2.png", "lq/rain-1.png", "gt/norain-1.png", "gt/norain-2.jpg", "gt/norain-3.png")
        task = Task("rain", tmp_path / "gt", tmp_path / "lq", pairing="rain100l")
        assert names(task) == [("rain-1.png", "norain-1.png"), ("rain-2.png", "norain-2.jpg")]

    def test_clean_images_alone_and_degraded_images_alone(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.png", "b.png")
        assert names(Task("noise", tmp_path, degradation="noise")) == [(None, "a.png"), (None, "b.png")]
        assert names(Task("real", dataroot_lq=tmp_path)) == [("a.png", None), ("b.png", None)]

    def test_several_degraded_folders_share_one_clean_folder(self, tmp_path: Path) -> None:
        touch(tmp_path, "part1/1_0.8.jpg", "part2/1_0.9.jpg", "part2/2_1.0.jpg", "original/1.jpg", "original/2.jpg")
        task = Task("haze", tmp_path / "original", [tmp_path / "part1", tmp_path / "part2"], pairing="dehaze")
        assert names(task) == [("1_0.8.jpg", "1.jpg"), ("1_0.9.jpg", "1.jpg"), ("2_1.0.jpg", "2.jpg")]

    def test_as_many_clean_folders_belong_together_in_their_order(self, tmp_path: Path) -> None:
        touch(tmp_path, "s1/blur/1.png", "s1/sharp/1.png", "s2/blur/1.png", "s2/sharp/1.png")
        scenes = ["s1", "s2"]
        task = Task("blur", [tmp_path / s / "sharp" for s in scenes], [tmp_path / s / "blur" for s in scenes])
        assert [gt.parent.parent.name for _, gt in task.list_samples() if gt] == scenes
        with pytest.raises(ValueError, match="one dataroot_gt or as many as dataroot_lq, got 2 and 1"):
            Task("blur", [tmp_path / s / "sharp" for s in scenes], tmp_path / "s1/blur").list_samples()

    def test_a_list_in_the_layout_of_promptir_is_read(self, tmp_path: Path) -> None:
        touch(tmp_path, "synthetic/part1/5_0.8.jpg", "synthetic/part2/6_1.jpg", "original/5.jpg", "original/6.jpg")
        listing = tmp_path / "hazy_outside.txt"
        listing.write_text("synthetic/part2/6_1.jpg\n\n  synthetic/part1/5_0.8.jpg\r\n")
        task = Task("haze", tmp_path / "original", tmp_path, pairing="dehaze", file_list=listing)
        assert names(task) == [("6_1.jpg", "6.jpg"), ("5_0.8.jpg", "5.jpg")]

    def test_the_same_subfolder_of_the_clean_folder_comes_first(self, tmp_path: Path) -> None:
        touch(tmp_path, "lq/s1/1.png", "gt/s1/1.png", "gt/1.png")
        (tmp_path / "list.txt").write_text("s1/1.png")
        task = Task("blur", tmp_path / "gt", tmp_path / "lq", file_list=tmp_path / "list.txt")
        assert task.list_samples()[0].gt == tmp_path / "gt/s1/1.png"

    @pytest.mark.parametrize(
        "entry", ["../secret.png", "a/../../secret.png", "/etc/x.png", "C:\\x.png", "a\\..\\..\\x.png", "...png"]
    )
    def test_a_list_cannot_lead_out_of_its_folder(self, tmp_path: Path, entry: str) -> None:
        touch(tmp_path, "gt/a.png", "secret.png")
        (tmp_path / "list.txt").write_text(entry)
        task = Task("noise", tmp_path / "gt", degradation="noise", file_list=tmp_path / "list.txt")
        with pytest.raises(ValueError, match="an entry that leads out of its folder"):
            task.list_samples()

    def test_all_pictures_without_a_partner_are_named_at_once(self, tmp_path: Path) -> None:
        touch(tmp_path, "gt/a.png", *(f"lq/{letter}.png" for letter in "abcd"))
        with pytest.raises(FileNotFoundError, match="3 of 4 pictures of task 'rain':") as caught:
            Task("rain", tmp_path / "gt", tmp_path / "lq").list_samples()
        lines = str(caught.value).splitlines()[1:]
        assert [line.split("' has no partner named ")[1].split(" in ")[0] for line in lines] == ["b", "c", "d"]
        touch(tmp_path, *(f"lq/x{number:02d}.png" for number in range(22)))
        with pytest.raises(FileNotFoundError, match=r"25 of 26 .*") as caught:
            Task("rain", tmp_path / "gt", tmp_path / "lq").list_samples()
        assert str(caught.value).splitlines()[-2:] == [
            f"  '{tmp_path}/lq/x16.png' has no partner named x16 in '{tmp_path}/gt'",
            "  ... and 5 more",
        ]

    def test_missing_things_are_named(self, tmp_path: Path) -> None:
        touch(tmp_path, "lq/a.png", "gt/b.png", "empty/readme.txt")
        (tmp_path / "list.txt").write_text("gone.png")
        with pytest.raises(FileNotFoundError, match=r"dataroot_gt of task 'noise' is no folder: '.*nowhere'"):
            Task("noise", tmp_path / "nowhere", degradation="noise").list_samples()
        with pytest.raises(ValueError, match=r"task 'noise' has no images in .*empty"):
            Task("noise", tmp_path / "empty", degradation="noise").list_samples()
        with pytest.raises(FileNotFoundError, match=r"a\.png' has no partner named a in '.*gt'"):
            Task("rain", tmp_path / "gt", tmp_path / "lq").list_samples()
        with pytest.raises(FileNotFoundError, match="file_list of task 'noise' does not exist"):
            Task("noise", tmp_path / "gt", degradation="noise", file_list="no.txt").list_samples()
        with pytest.raises(FileNotFoundError, match=r"list\.txt' lists 'gone\.png', which is not in '.*gt'"):
            Task("noise", tmp_path / "gt", degradation="noise", file_list=tmp_path / "list.txt").list_samples()
