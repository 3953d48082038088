"""A resumed run says what has changed, and it takes effect."""

from __future__ import annotations

import math
import os
import shutil

import pytest
import torch

from basicsr_plugin.run.changes import changed_options, changed_pictures, fingerprint, picture_paths


@pytest.fixture
def options(options):
    options["logger"]["save_checkpoint_freq"] = 4
    return options


def cosine(step, peak=1e-3, total=8, warmup=3, least=1e-6):
    if step < warmup:
        return peak * step / warmup
    return least + (peak - least) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


@pytest.fixture
def resume(train, options, tmp_path, messages):
    """Train to the end, change options, and go on from iteration 4."""

    def run(change):
        train(options, root=tmp_path / "first")
        options["path"]["resume_state"] = str(tmp_path / "first/experiments/run/training_states/4.state")
        before = len(messages("WARNING"))
        change(options["train"])
        return train(options, root=tmp_path / "second"), messages("WARNING")[before:]

    return run


def test_nothing_is_said_if_nothing_has_changed(resume):
    run, said = resume(lambda train: None)
    assert len(run.losses) == 4
    assert said == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"optim_g": {"lr": 5e-3}}, lambda step: cosine(step, peak=5e-3)),
        ({"scheduler": {"eta_min": 9e-4}}, lambda step: cosine(step, least=9e-4)),
        ({"scheduler": {"warmup_iter": 1}}, lambda step: cosine(step, warmup=1)),
        ({"total_iter": 12}, lambda step: cosine(step, total=12)),
        (
            {"scheduler": {"type": "MultiStepLR", "milestones": [2, 6], "gamma": 0.5}},
            lambda step: 1e-3 * 0.5 ** ((step >= 2) + (step >= 6)),
        ),
    ],
)
def test_rates_and_schedules_are_those_of_a_run_with_the_new_options(resume, change, expected):
    def apply(train):
        for name, value in change.items():
            if isinstance(value, dict) and "type" not in value:
                train[name] |= value
            else:
                train[name] = value

    run, said = resume(apply)
    steps = range(4, change.get("total_iter", 8))
    assert run.rates == pytest.approx([expected(step) for step in steps], rel=1e-6)
    names = [
        f"{name}.{key}" if isinstance(value, dict) else name
        for name, value in change.items()
        for key in (value if isinstance(value, dict) else [""])
    ]
    for name in names:
        assert any(f"train.{name} was " in line and "takes effect" in line for line in said), name


def test_old_and_new_values_are_in_the_log(resume):
    _, said = resume(lambda train: train["optim_g"].update(lr=2e-3))
    assert said == ["train.optim_g.lr was 0.001 when the state was saved and is 0.002 now, which takes effect"]


@pytest.mark.parametrize("change", [{"weight_decay": 0.5}, {"betas": [0.5, 0.6]}, {"eps": 1e-3}])
def test_settings_of_the_optimizer_are_the_new_ones_and_its_moments_the_old(resume, change, tmp_path):
    run, _ = resume(lambda train: train["optim_g"].update(change))
    group = run.model.optimizer_g.param_groups[0]
    for name, value in change.items():
        assert list(group[name]) == value if isinstance(value, list) else group[name] == value
    old = torch.load(tmp_path / "first/experiments/run/training_states/4.state", weights_only=True)
    state = run.model.optimizer_g.state_dict()["state"]
    assert {int(entry["step"]) for entry in state.values()} == {8}
    assert {int(entry["step"]) for entry in old["optimizers"][0]["state"].values()} == {4}


def test_another_optimizer_begins_with_new_moments(resume):
    run, said = resume(lambda train: train.update(optim_g={"type": "NAdam", "lr": 1e-3}))
    assert type(run.model.optimizer_g) is torch.optim.NAdam
    assert {int(entry["step"]) for entry in run.model.optimizer_g.state_dict()["state"].values()} == {4}
    assert any("train.optim_g.type was AdamW" in line and "is NAdam now" in line for line in said)


def test_other_options_that_decide_are_named(resume):
    _, said = resume(lambda train: train.update(grad_clip=True, grad_clip_max_norm=0.5, ema_decay=0.5))
    for name in ("grad_clip", "grad_clip_max_norm", "ema_decay"):
        assert any(line.startswith(f"train.{name} was ") for line in said), name


def test_pictures_that_were_exchanged_are_noticed(resume, pictures):
    def change(train):
        shutil.copy(pictures / "lq/00.png", pictures / "lq/03.png")
        (pictures / "lq/03.png").write_bytes((pictures / "lq/03.png").read_bytes() + b"\0")

    _, said = resume(change)
    assert len(said) == 1
    assert "the pictures of datasets.train have changed" in said[0]
    assert "exchanged or renamed" in said[0]


class Listed:
    """Data set of the files in a folder."""

    def __init__(self, files):
        self.paths = [{"lq_path": str(file), "gt_path": str(file)} for file in files]

    def __len__(self):
        return len(self.paths)


class TestPictures:
    @pytest.fixture
    def files(self, tmp_path):
        for number in range(4):
            (tmp_path / f"{number}.png").write_bytes(bytes(number + 1))
        return sorted(tmp_path.iterdir())

    def compare(self, before, files):
        return changed_pictures(before, fingerprint(Listed(files)))

    def test_the_same_ones_elsewhere_are_the_same(self, files, tmp_path):
        before = fingerprint(Listed(files))
        assert self.compare(before, files) is None
        shutil.copytree(tmp_path, tmp_path.with_name("moved"))
        assert self.compare(before, sorted(tmp_path.with_name("moved").iterdir())) is None

    def test_one_more_an_exchanged_and_a_reordered_one_are_told_apart(self, files):
        before = fingerprint(Listed(files))
        assert self.compare(before, files[:3]) == "there were 4 and are 3"
        assert "another order" in self.compare(before, files[::-1])
        os.rename(files[0], files[0].with_name("x.png"))
        assert "exchanged or renamed" in self.compare(before, [files[0].with_name("x.png"), *files[1:]])
        files[1].write_bytes(bytes(99))
        os.rename(files[0].with_name("x.png"), files[0])
        assert "exchanged or renamed" in self.compare(before, files)

    def test_data_sets_that_list_nothing_are_not_compared(self):
        assert fingerprint(range(5)) is None
        assert picture_paths(range(5)) is None
        assert changed_pictures(None, {"samples": 1}) is None


def test_options_that_came_and_went_are_changes():
    assert changed_options({"a": 1, "b": 2}, {"b": 3, "c": [1]}) == {
        "b": (2, 3),
        "c": ("not set", [1]),
        "a": (1, "not set"),
    }
