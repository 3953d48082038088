"""The check of a GPU, rehearsed on the CPU, so that nothing but the GPU is new when there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the suite is no part of the distribution

from benchmarks.gpu import __main__ as gpu_check
from benchmarks.gpu.questions import WAVES, Question
from benchmarks.gpu.setting import Setting

ROOT = Path(__file__).parents[1]


@pytest.fixture
def check(tmp_path):
    return gpu_check.Check(Setting(cpu=True), 3600, tmp_path)


def ask(check, monkeypatch, *questions):
    monkeypatch.setattr(gpu_check.questions, "networks", lambda at: iter(questions))
    check.ask("networks", 230)
    return [answer["verdict"] for answer in check.answers]


@pytest.mark.long
def test_the_rehearsal_finds_nothing_wrong_and_measures_every_form(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--cpu", "--results", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert len(found["answers"]) >= 18
    assert {row["form"] for row in found["rows"] if row["work"] == "training step"} == set(gpu_check.FORMS)
    table = (tmp_path / "gpu.md").read_text()
    assert "not measured" not in next(line for line in table.splitlines() if "training step |" in line)


def test_an_error_above_its_bound_is_wrong_and_the_rest_is_still_asked(check, monkeypatch):
    def fail():
        raise RuntimeError("no kernel")

    asked = (
        Question("too large", lambda: 2.0, 1.0),
        Question("not a number", lambda: float("nan"), 1.0),
        Question("raises", fail, 1.0),
        Question("for a GPU", fail, 1.0, needs_gpu=True),
        Question("right", lambda: 1.0, 1.0),
    )
    assert ask(check, monkeypatch, *asked) == ["WRONG", "WRONG", "WRONG", "ok"]


def test_what_takes_too_long_is_cut_off_even_where_exceptions_are_handled(check, monkeypatch):
    def stubborn():
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                pytest.fail("swallowed")

    check.scale = 0.2 / 230
    assert ask(check, monkeypatch, Question("endless", stubborn, 0.0), Question("never", lambda: 0.0, 0.0)) == ["LATE"]


def test_the_stand_in_has_the_filters_of_pywavelets(monkeypatch):
    import pywt

    monkeypatch.syspath_prepend(str(gpu_check.STANDINS))
    monkeypatch.delitem(sys.modules, "pywt")
    import pywt as stand_in

    assert stand_in is not pywt
    assert set(stand_in.wavelist(kind="discrete")) == set(WAVES)
    for wave in WAVES:
        assert [list(taps) for taps in pywt.Wavelet(wave).filter_bank] == stand_in.Wavelet(wave).filter_bank
