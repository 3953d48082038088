"""``clusir bench``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from clusir_cli import bench as module
from clusir_cli.ways import WAYS, Measured, measure


@pytest.fixture
def measured(monkeypatch):
    """Ways that were measured, in this process and by a stand-in that adds a way's number to the picture."""
    seen = []

    def stand_in(way, net, image, device, repeat):
        seen.append(way)
        number = list(WAYS).index(way)
        if way == "compile":
            raise RuntimeError("NoCompiler: there is none")
        return Measured(0.5 + number, 2.0, 100.0, image.clamp(0, 0.5).numpy() + number / 255)

    monkeypatch.setattr(module, "measure", stand_in)
    monkeypatch.setattr(module, "missing", lambda way, device: "it is not here" if way == "float16" else None)
    return seen


def test_a_table_says_what_each_way_costs_and_why_others_were_left_out(clusir, weights, measured):
    result = clusir("bench", "--weights", weights, "--size", "32", "--device", "cpu")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[0] == "way"
    megapixels = 32 * 32 / 1e6
    assert lines[1].split() == ["float32", f"{0.5 / megapixels:.3g}", "1.00", "100", "0.000", "2.0", "s"]
    assert lines[2].split() == ["bfloat16", f"{1.5 / megapixels:.3g}", "3.00", "100", "1.000", "2.0", "s"]
    assert "float16: it is not here" in lines
    assert "compile: NoCompiler: there is none" in lines
    assert measured == ["float32", "bfloat16", "compile", "onnxruntime"]


def test_float32_is_measured_first_whatever_is_asked_for(clusir, weights, measured):
    result = clusir("bench", "--weights", weights, "--size", "32", "--way", "bfloat16", "--way", "float32")
    assert result.exit_code == 0, result.output
    assert measured == ["float32", "bfloat16"]


def test_figures_are_written_and_never_over_another_file_unasked(clusir, weights, measured):
    wanted = ("bench", "--weights", weights, "--size", "32", "--way", "bfloat16", "--json", "figures.json")
    assert clusir(*wanted).exit_code == 0
    figures = json.loads(Path("figures.json").read_text())
    assert figures["shape"] == [1, 3, 32, 32]
    assert [row["way"] for row in figures["ways"]] == ["float32", "bfloat16"]
    assert figures["ways"][1]["gray_levels"] == pytest.approx(1, abs=1e-3)
    measured.clear()
    again = clusir(*wanted)
    assert again.exit_code == 1
    assert "figures.json is there already" in again.output
    assert measured == [], "nothing is measured for a file that will not be written"
    assert clusir(*wanted, "--overwrite").exit_code == 0
    over_weights = clusir("bench", "--weights", weights, "--json", weights, "--overwrite")
    assert over_weights.exit_code == 1
    assert "would be replaced" in over_weights.output
    assert clusir("bench", "--json", "nowhere/figures.json").exit_code == 2


def test_a_picture_is_cut_to_its_middle_and_gray_is_repeated(clusir, weights, measured, make_pixels):
    Image.fromarray(make_pixels()).convert("L").resize((70, 40)).save("gray.png")
    result = clusir("bench", "gray.png", "--weights", weights, "--size", "48", "--json", "figures.json")
    assert result.exit_code == 0, result.output
    assert json.loads(Path("figures.json").read_text())["shape"] == [1, 3, 40, 48]
    Path("broken.png").write_bytes(b"nonsense")
    broken = clusir("bench", "broken.png", "--weights", weights)
    assert broken.exit_code == 1
    assert "broken.png" in broken.output


def test_float32_that_fails_is_an_error(clusir, weights, monkeypatch):
    def fails(*arguments):
        raise RuntimeError("no memory")

    monkeypatch.setattr(module, "measure", fails)
    result = clusir("bench", "--weights", weights, "--size", "32")
    assert result.exit_code == 1
    assert "no memory" in result.output


@pytest.mark.slow
def test_a_process_of_its_own_gives_the_network_s_picture(net):
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        expected = net(image)
    found = {way: measure(way, net, image, "cpu", 1) for way in ("float32", "bfloat16")}
    torch.testing.assert_close(torch.from_numpy(found["float32"].output), expected, atol=1e-5, rtol=0)
    error = (torch.from_numpy(found["bfloat16"].output) - expected).abs().max()
    assert 1e-5 < error < 0.5
    assert all(one.seconds > 0 and one.peak_mib > 50 for one in found.values())


@pytest.mark.slow
def test_a_failure_in_the_process_is_one_line(net):
    with pytest.raises(RuntimeError, match=r"^ValueError: .*channels"):
        measure("float32", net, torch.rand(1, 5, 32, 32), "cpu", 1)
