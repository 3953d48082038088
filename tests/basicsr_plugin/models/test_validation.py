"""Validation apart from training: names, values, processes."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest
import torch

from basicsr_plugin.models import validation as module
from basicsr_plugin.models.validation import Validator, _Names
from basicsr_plugin.options.schema import ValOptions

PSNR = {"type": "calculate_psnr", "crop_border": 0, "better": "higher"}


class Data(torch.utils.data.Dataset):
    """Pictures of one gray value each, and the clean ones a little lighter."""

    def __init__(self, paths, *, listed=True, name="set", gt=True, tasks=None):
        self.files = list(paths)
        self.opt = {"name": name}
        self.gt = gt
        self.tasks = tasks
        if listed:
            self.paths = [{"lq_path": path} for path in self.files]

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        if index >= len(self):
            raise IndexError
        picture = torch.full((3, 8, 8), index / 20)
        sample = {"lq": picture, "lq_path": self.files[index]}
        if self.tasks:
            sample["task"] = self.tasks[index]
        return {**sample, "gt": picture + 0.02 * (index + 1)} if self.gt else sample


def restored(sample):
    visuals = {"lq": sample["lq"], "result": sample["lq"]}
    return {**visuals, "gt": sample["gt"]} if "gt" in sample else visuals


def loader(*args, **kwargs):
    return torch.utils.data.DataLoader(Data(*args, **kwargs), batch_size=1)


def make(tmp_path, **kwargs):
    return Validator(ValOptions(metrics={"psnr": PSNR, "worst": {**PSNR, "better": "lower"}}), tmp_path, **kwargs)


def expected_psnr(indices, removed=0.0):
    gray = [(round(255 * (i / 20 + 0.02 * removed * (i + 1))), round(255 * (i / 20 + 0.02 * (i + 1)))) for i in indices]
    return float(np.mean([20 * np.log10(255 / abs(one - other)) for one, other in gray]))


def test_values_are_means_over_the_pictures_and_the_best_are_kept_by_set(tmp_path):
    validator = make(tmp_path)
    validator(loader(["a.png", "b.png", "c.png"]), 4, restored)
    first = validator.latest["psnr"]
    assert first == pytest.approx(expected_psnr(range(3)), abs=1e-4)
    validator(loader(["a.png"], name="other"), 4, restored)
    validator(loader(["a.png"]), 8, restored)
    assert validator.latest["psnr"] == pytest.approx(expected_psnr([0]), abs=1e-4)
    assert validator.latest["psnr"] > first
    assert validator.table.best["set"] == {
        "psnr": {"better": "higher", "val": validator.latest["psnr"], "iter": 8},
        "worst": {"better": "lower", "val": first, "iter": 4},
    }
    assert validator.table.best["other"]["worst"]["iter"] == 4


def improved(sample):
    """A network that takes half of the error away."""
    return {"lq": sample["lq"], "result": (sample["lq"] + sample["gt"]) / 2, "gt": sample["gt"]}


class Writer:
    def __init__(self):
        self.scalars = {}

    def add_scalar(self, tag, value, iteration):
        self.scalars[tag, iteration] = value


def test_each_task_has_a_row_with_input_result_gain_and_best_everywhere(tmp_path, messages, caplog):
    """In JSON, TensorBoard and the log; a gain is positive where the result is better, whichever way that is."""
    caplog.set_level("INFO", "basicsr")
    validator, writer = make(tmp_path / "pictures", file=tmp_path / "run" / "validation.json"), Writer()
    pictures = loader(["a.png", "b.png", "c.png"], tasks=["fog", "rain", "rain"])
    validator(pictures, 4, restored, writer=writer)
    validator(pictures, 8, improved, writer=writer)
    validator(pictures, 12, restored, writer=writer)
    rows = json.loads((tmp_path / "run" / "validation.json").read_text())
    assert [(row["iteration"], row["set"], row["task"], row["pictures"]) for row in rows] == [
        (number, "set", task, count) for number in (4, 8, 12) for task, count in ((None, 3), ("fog", 1), ("rain", 2))
    ]
    for row in rows[3:6]:
        indices = {None: range(3), "fog": [0], "rain": [1, 2]}[row["task"]]
        psnr, worst = row["metrics"]["psnr"], row["metrics"]["worst"]
        assert psnr["input"] == pytest.approx(expected_psnr(indices), abs=1e-4)
        assert psnr["result"] == pytest.approx(expected_psnr(indices, removed=0.5), abs=1e-4)
        assert psnr["gain"] == psnr["result"] - psnr["input"] == -worst["gain"]
        assert (psnr["best"], psnr["best_iteration"]) == (psnr["result"], 8)
        assert (worst["best"], worst["best_iteration"]) == (psnr["input"], 4)
        name = "set" if row["task"] is None else f"set/{row['task']}"
        for column, prefix in (("result", ""), ("input", "_input"), ("gain", "_gain"), ("best", "_best")):
            assert writer.scalars[f"metrics{prefix}/{name}/psnr", 8] == psnr[column]
    assert [row["metrics"]["psnr"]["best_iteration"] for row in rows[6:]] == [8, 8, 8]
    head, *lines = messages("INFO")[1].strip().splitlines()
    assert head == "Validation set"
    assert [line.split()[0] for line in lines] == ["set", "set/fog", "set/rain"]
    fog = rows[4]["metrics"]["psnr"]
    expected = (
        f"# psnr: {fog['result']:.4f} (input {fog['input']:.4f}, gain {fog['gain']:+.4f})  best: {fog['best']:.4f} @ 8"
    )
    assert expected in lines[1]


def test_the_table_of_a_resumed_run_has_each_iteration_once(tmp_path):
    file = tmp_path / "validation.json"
    for iterations in ((4, 8, 12), (8,)):
        validator = make(tmp_path, file=file)
        for iteration in iterations:
            for name in ("set", "other"):
                validator(loader(["a.png"], name=name), iteration, restored)
    rows = json.loads(file.read_text())
    assert [(row["iteration"], row["set"]) for row in rows] == [(4, "set"), (4, "other"), (8, "set"), (8, "other")]
    file.write_text("[ half")
    validator(loader(["a.png"]), 8, restored)
    assert len(json.loads(file.read_text())) == 1


def test_values_that_json_does_not_have_are_null(tmp_path):
    file = tmp_path / "validation.json"

    def perfect(sample):
        return {"lq": sample["gt"], "result": sample["gt"], "gt": sample["gt"]}

    make(tmp_path, file=file)(loader(["a.png"]), 4, perfect)
    (row,) = json.loads(file.read_text())
    assert row["metrics"]["psnr"] == {"input": None, "result": None, "gain": None, "best": None, "best_iteration": 4}


def test_an_input_of_another_size_has_no_value(tmp_path):
    validator = make(tmp_path, file=tmp_path / "validation.json")
    validator(loader(["a.png"]), 4, lambda sample: {**improved(sample), "lq": sample["lq"][..., :4, :4]})
    (row,) = json.loads((tmp_path / "validation.json").read_text())
    assert row["metrics"]["psnr"]["input"] is None
    assert row["metrics"]["psnr"]["gain"] is None
    assert row["metrics"]["psnr"]["result"] == validator.latest["psnr"]


def test_a_table_that_cannot_be_written_is_an_error_in_the_log(tmp_path, messages):
    (tmp_path / "file").touch()
    make(tmp_path, file=tmp_path / "file" / "validation.json")(loader(["a.png"]), 4, restored)
    assert "the table cannot be written" in messages()[0]


def test_every_picture_is_written_whatever_it_is_called(tmp_path):
    names = ["a/x.png", "b/x.png", "c/x_2.png", "d/x.jpg", "...png", "p" * 250 + "1.png", "p" * 250 + "2.png"]
    names += [os.fsdecode(b"caf\xe9.png"), "ü[1] *.png", "\U0001f600" * 60 + ".png"]
    make(tmp_path)(loader(names, listed=False), 20000, restored, save_img=True)
    make(tmp_path / "test", label="run")(loader(names), "run", restored, save_img=True)
    for folder in (tmp_path / "set", tmp_path / "test/set"):
        written = sorted(folder.rglob("*.png"))
        assert len(written) == len(names)
        grays = [
            cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)[0, 0] for path in written
        ]
        assert sorted(grays) == [round(255 * number / 20) for number in range(len(names))]
    assert (tmp_path / "set/x/x_20000.png").is_file()
    assert (tmp_path / "set/x_2/x_2_20000.png").is_file()
    assert (tmp_path / "set/image/image_20000.png").is_file()
    assert (tmp_path / "test/set/x_run.png").is_file()


def test_names_do_not_depend_on_who_asks_when_they_are_known():
    paths = [("a/x.png",), ("b/x.png",), ("c/x_2.png",), ("d/x.png",)]
    assert [_Names(paths).unique(number, "") for number in (3, 1, 0, 2)] == ["x_3", "x_2", "x", "x_2_2"]


def test_without_ground_truth_comparing_metrics_are_left_out_and_named(tmp_path, messages):
    validator = make(tmp_path)
    validator(loader(["a.png"], gt=False), 4, restored)
    assert validator.latest == {}
    assert messages("WARNING") == ["set has no ground truth: psnr, worst left out"]


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("world", [2, 3, 7])
def test_processes_share_the_pictures_and_find_what_one_finds(tmp_path, monkeypatch, listed, world):
    """Each process in turn, up to where they exchange what they found."""
    paths = [f"{number % 2}/p.png" for number in range(5)]
    alone = make(tmp_path / "alone")
    alone(loader(paths, listed=listed), 4, restored, save_img=True)
    parts, calls, finish = [], [], make(tmp_path / "shared", world_size=world, group="waiting")

    def exchange(found, own, group):
        assert group == "waiting"
        parts.append(own)
        found[:] = [*parts, *[{}] * (world - len(parts))]

    monkeypatch.setattr(torch.distributed, "all_gather_object", exchange)
    for rank in range(world):
        finish = make(tmp_path / "shared", world_size=world, group="waiting", rank=rank)
        calls.append(0)

        def count():
            calls[-1] += 1

        finish(loader(paths, listed=listed), 4, restored, save_img=True, before_each=count)
    assert finish.latest == alone.latest
    assert len(set(calls)) == 1, "a process that asks more often than the others would wait for them"
    assert sum(bool(part) for part in parts) == (min(world, 5) if listed else 1)
    written = {
        name: {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.png")}
        for name in ("alone", "shared")
    }
    assert written["alone"] == written["shared"]
    assert len(written["alone"]) == 5


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "set").touch()
    with pytest.raises(OSError, match="set"):
        make(tmp_path, label="run")(loader(["a.png"]), "run", restored, save_img=True)


def test_a_full_disk_costs_pictures_in_training_and_ends_a_test(tmp_path, monkeypatch, messages):
    def refuse(picture, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "write_picture", refuse)
    validator = make(tmp_path)
    validator(loader(["a.png", "b.png"]), 4, restored, save_img=True)
    assert set(validator.latest) == {"psnr", "worst"}
    assert len(messages()) == 2
    assert "a picture cannot be written" in messages()[0]
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path, label="run")(loader(["a.png"]), "run", restored, save_img=True)


def test_progress_counts_pictures(tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(module.tqdm, "update", lambda self, n: counted.append(n))
    make(tmp_path)(loader(["a.png", "b.png"]), 4, restored)
    assert counted == [1, 1]
