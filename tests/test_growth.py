"""The measurement of growth finds what it says; nothing here looks at how fast anything is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # the suite is no part of the distribution

from benchmarks import growth


@pytest.mark.parametrize(("what", "size", "shape"), [("restore", 40, (3, 40, 40)), ("network", 2, (2, 3, 128, 128))])
def test_a_point_is_the_call_that_it_names(what, size, shape):
    call, small = growth.build(what, size)
    assert call().shape == shape
    assert small().shape[-1] <= growth.PATCH


def test_the_memory_of_a_point_leaves_the_result_out_and_short_calls_are_repeated(monkeypatch):
    calls = []

    def build(what, size):
        return lambda: calls.append(size) or torch.zeros(2**20), lambda: calls.append("small")

    monkeypatch.setattr(growth, "build", build)
    point = growth.measure_point("restore", 1024)
    assert calls == ["small", 1024, 1024, 1024]
    assert point["megapixels"] == 1
    assert point["mib"] < 4, "the result alone is 4 MiB"


def test_tables_have_seconds_and_memory_for_a_megapixel_and_measured_points_stay(tmp_path, monkeypatch):
    point = {"what": "restore", "size": 512, "megapixels": 0.25, "seconds": 2.0, "mib": 100.0}
    growth.write([point], "a machine", tmp_path)
    measured = []

    def measure(what, size):
        measured.append((what, size))
        return {**point, "what": what, "size": size}

    monkeypatch.setattr(growth, "_measure_apart", measure)
    monkeypatch.setattr(sys, "argv", ["growth", "--results", str(tmp_path), "--largest", "1024"])
    growth.main()
    assert ("restore", 512) not in measured
    assert ("restore", 1024) in measured
    assert ("restore", 2048) not in measured
    assert "| restore, 512x512 | 0.25 | 2 | 8 | 100 | 400 |" in (tmp_path / "growth.md").read_text()
    known = json.loads((tmp_path / "growth.json").read_text())["points"]
    assert len(known) == len(growth.BATCHES) + 3
    assert (tmp_path / "growth.png").stat().st_size > 5000
