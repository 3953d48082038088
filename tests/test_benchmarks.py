"""The benchmark suite measures what it says; nothing here looks at how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # the suite is no part of the distribution

from benchmarks import measure, report
from benchmarks.measure import interleaved_seconds, saved_mib
from benchmarks.rows import ROWS, Setting

WHERE = {"device": "a CPU", "dtype": "float32", "threads": 2, "rounds": 7, "torch": "2", "allocator": "plain"}


def row(name: str, ratio: float) -> dict[str, object]:
    texts = {"row": name, "work": "some work", "ours": "ours", "peer": "peer"}
    return {**texts, "time_ratio": ratio, "time_target": 0.5}


def test_calls_take_turns_and_the_first_turn_does_not_count():
    order = []
    interleaved_seconds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b", "b", "a", "a", "b"]


PROGRAM = """
import torch
from benchmarks.measure import peak_mib

def call():
    scratch = torch.ones(64, 2**20)  # 256 MiB
    return scratch[:8].clone() * float(scratch[0, 0])

print(peak_mib(call))
"""


def test_the_memory_of_a_call_is_found_without_that_of_its_result():
    environment = {**os.environ, **measure._MAPPED}
    command = [sys.executable, "-c", PROGRAM]
    root = Path(__file__).parents[1]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=root).stdout
    assert 250 <= float(output) <= 300


def test_what_autograd_keeps_is_counted_once_and_without_parameters():
    weight = torch.nn.Parameter(torch.ones(2**20))
    x = torch.ones(2**20, requires_grad=True)  # 4 MiB

    def forward():
        y = x * weight  # keeps x and the parameter
        return (y * y).sum()  # keeps y, twice

    assert saved_mib(forward) == pytest.approx(8, abs=0.01)


@pytest.mark.parametrize("name", ["haar", "sparse"])
def test_both_sides_of_a_row_do_the_same_work(name):
    torch.manual_seed(0)
    sides = ROWS[name].build(Setting(torch.device("cpu"), torch.float32))
    assert set(sides) == {ROWS[name].ours, ROWS[name].peer}
    ours, theirs = (sides[side]() for side in (ROWS[name].ours, ROWS[name].peer))
    if name == "haar":  # other rows compare different networks
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    else:
        assert ours.shape == theirs.shape


def test_the_table_tells_what_is_missed_and_keeps_rows_of_earlier_runs(tmp_path):
    report.write([row("fast", 0.4), row("slow", 0.9)], WHERE, tmp_path)
    table = report.write([row("slow", 0.8)], WHERE, tmp_path)
    assert "| 0.400 (<= 0.5) |  | pass |" in table
    assert "| 0.800 (<= 0.5) |  | miss: time |" in table
    assert (tmp_path / "cpu_float32.md").read_text() == table
    known = json.loads((tmp_path / "cpu_float32.json").read_text())["rows"]
    assert [entry["row"] for entry in known] == ["fast", "slow"]
    assert (tmp_path / "cpu_float32.png").stat().st_size > 5000


def test_spinning_processes_end_with_the_block():
    with measure.spinning(2):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        assert len(children) >= 2
    assert not set(children[-2:]) & set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
