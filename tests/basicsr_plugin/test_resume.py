"""Finding the state to resume from."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from basicsr_plugin.run import states as checkpoints
from basicsr_plugin.run.resume import load_resume_state


@pytest.fixture
def opt(tmp_path):
    """Options of a run with states of iterations 5 and 10."""
    root = tmp_path / "experiments" / "run"
    path = {name: str(root / name) for name in ("models", "training_states", "visualization")}
    for folder in path.values():
        (tmp_path / folder).mkdir(parents=True)
    for iteration in (5, 10):
        state = {"epoch": 0, "iter": iteration, "optimizers": [], "schedulers": [], "manual_seed": 1}
        checkpoints.write_state(state, root / "training_states" / f"{iteration}.state")
        weights = {"params": {"w": torch.zeros(1)}}
        checkpoints.write_weights(weights, root / "models", f"net_g_{iteration}", "pth")
    return {
        "path": {**path, "experiments_root": str(root), "log": str(root), "resume_state": None},
        "network_g": {},
        "logger": {},
        "auto_resume": True,
        "manual_seed": 1,
        "rank": 0,
    }


def test_the_newest_state_is_taken_with_its_weights(opt):
    assert load_resume_state(opt)["iter"] == 10
    assert opt["path"]["pretrain_network_g"].endswith("models/net_g_10.pth")
    assert opt["path"]["resume_state"].endswith("10.state")


@pytest.mark.parametrize("file", ["training_states/10.state", "models/net_g_10.pth"])
@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "garbage", "missing"])
def test_an_incomplete_newest_state_gives_way_with_a_warning(opt, tmp_path, file, damage):
    path = tmp_path / "experiments/run" / file
    whole = path.read_bytes()
    contents = {
        "cut": whole[:-20],
        "empty": b"",
        "zeros": bytes(len(whole)),
        "garbage": random.Random(0).randbytes(len(whole)),
    }
    if damage != "missing":
        path.write_bytes(contents[damage])
    else:
        path.unlink()
        if file.endswith(".state"):
            assert load_resume_state(opt)["iter"] == 5
            return
    with pytest.warns(UserWarning, match="cannot resume from .*10.state: .*; taking an older state"):
        assert load_resume_state(opt)["iter"] == 5
    assert opt["path"]["pretrain_network_g"].endswith("net_g_5.pth")


def test_a_state_without_its_moving_average_gives_way(opt, tmp_path):
    folder = tmp_path / "experiments/run/training_states"
    for iteration in (5, 10):
        state = {**checkpoints.read_state(folder / f"{iteration}.state"), "averaged": True}
        checkpoints.write_state(state, folder / f"{iteration}.state")
    weights = {"params": {"w": torch.zeros(1)}, "params_ema": {"w": torch.zeros(1)}}
    checkpoints.write_weights(weights, tmp_path / "experiments/run/models", "net_g_5", "pth")
    with pytest.warns(UserWarning, match=r"net_g_10.pth lacks the moving average.*taking an older state"):
        assert load_resume_state(opt)["iter"] == 5


@pytest.mark.parametrize("chosen", [None, 5])
def test_other_processes_take_the_state_that_the_first_one_chose(opt, monkeypatch, chosen):
    path = None if chosen is None else Path(opt["path"]["training_states"]) / f"{chosen}.state"

    def receive(objects, src):
        assert (objects, src) == ([None], 0)
        objects[0] = path

    monkeypatch.setattr(torch.distributed, "broadcast_object_list", receive)
    state = load_resume_state({**opt, "dist": True, "rank": 1})
    assert (None if state is None else state["iter"]) == chosen


def test_the_first_process_tells_the_others_what_it_chose(opt, monkeypatch):
    told = []
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", lambda objects, src: told.extend(objects))
    assert load_resume_state({**opt, "dist": True})["iter"] == 10
    assert told == [Path(opt["path"]["training_states"]) / "10.state"]


def test_states_none_of_which_is_complete_are_an_error_not_a_fresh_start(opt, tmp_path):
    for path in (tmp_path / "experiments/run/training_states").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"10.state' is damaged[\s\S]*5.state' is damaged"):
        load_resume_state(opt)


def test_without_states_the_named_one_is_taken_then_none(opt, tmp_path):
    opt["path"]["resume_state"] = opt["path"]["training_states"] + "/5.state"
    opt["path"]["training_states"] = str(tmp_path / "new")
    assert load_resume_state(opt)["iter"] == 5
    assert (tmp_path / "new").is_dir()
    opt["path"].update(resume_state=None, training_states=str(tmp_path / "newer"))
    assert load_resume_state(opt) is None


def test_a_named_state_that_is_missing_is_an_error(opt, tmp_path):
    opt["auto_resume"] = False
    opt["path"]["resume_state"] = str(tmp_path / "missing.state")
    with pytest.raises(ValueError, match=r"cannot resume from missing.state: there is no file"):
        load_resume_state(opt)


def test_ignored_networks_need_no_weights(opt, tmp_path):
    (tmp_path / "experiments/run/models/net_g_10.pth").unlink()
    opt["path"]["ignore_resume_networks"] = ["network_g"]
    assert load_resume_state(opt)["iter"] == 10
    assert opt["path"].get("pretrain_network_g") is None


def test_the_seed_is_that_of_the_interrupted_run(opt):
    opt["manual_seed"] = 2
    with pytest.warns(UserWarning, match="manual_seed 2 gives way to the interrupted run's, 1"):
        load_resume_state(opt)
    assert opt["manual_seed"] == 1
