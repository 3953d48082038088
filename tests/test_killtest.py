"""The comparison of two runs in tools/killtest.py; its short version runs in basicsr_plugin/test_faults.py."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(Path(__file__).parents[1] / "tools/killtest.py"))


def contents():
    return {"params": {"w": torch.tensor([0.0, 1.0, float("nan")])}, "iter": 3, "rates": [{"lr": 0.1}, (1, None)]}


def test_equal_contents_do_not_differ(tool):
    assert list(tool["differences"](contents(), contents(), "file")) == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda c: c["params"]["w"].__setitem__(0, -0.0), "file.params.w"),
        (lambda c: c["params"]["w"].__setitem__(1, 1.0000001), "file.params.w"),
        (lambda c: c["params"].__setitem__("w", c["params"]["w"].double()), "file.params.w"),
        (lambda c: c["params"].__setitem__("v", torch.ones(1)), "file.params.v"),
        (lambda c: c.__setitem__("iter", 4), "file.iter"),
        (lambda c: c["rates"][0].__setitem__("lr", 0.1 + 2e-17), "file.rates.0.lr"),
        (lambda c: c["rates"].append(1), "file.rates"),
    ],
)
def test_the_smallest_difference_is_found(tool, change, name):
    changed = contents()
    change(changed)
    assert list(tool["differences"](changed, contents(), "file")) == [name]


def test_two_runs_that_differ_in_a_picture_differ(tool, tmp_path):
    for run in ("killed", "undisturbed"):
        for folder in ("models", "training_states", "visualization/val"):
            (tmp_path / run / folder).mkdir(parents=True)
        torch.save(contents(), tmp_path / run / "models/net_g_latest.pth")
        torch.save(contents(), tmp_path / run / "training_states/6.state")
        (tmp_path / run / "visualization/val/a_6.png").write_bytes(b"picture")
    runs = tmp_path / "killed", tmp_path / "undisturbed"
    assert tool["compare"](*runs, 7) == []
    (runs[0] / "visualization/val/a_6.png").write_bytes(b"another")
    (runs[1] / "visualization/val/b_6.png").write_bytes(b"one more")
    assert tool["compare"](*runs, 7) == ["visualization/val/a_6.png", "visualization/val/b_6.png"]
