"""``clusir inspect``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import clusir_modules as cm
from clusir_modules.extras import install_hint
from clusir_modules.inspection.degradation_table import read_table
from clusir_modules.networks.clusir import SHIPPED_WEIGHTS


def test_clusters_and_experts_are_those_of_the_network(clusir, net, weights, make_pixels):
    pixels = make_pixels()
    Image.fromarray(pixels).save("a.png")
    result = clusir("inspect", "a.png", "--weights", weights, "--verbose")
    assert result.exit_code == 0, result.output
    assert not Path("a_routing.png").exists()
    with torch.no_grad():
        routings = net.route(torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1).unsqueeze(0))
    lines = [line for line in result.stdout.splitlines() if line.startswith("level")]
    assert len(lines) == len(routings) == 4
    for line, routing in zip(lines, routings, strict=True):
        first = int(routing.cluster_probs[0].argmax())
        assert f"clusters {first} ({routing.cluster_probs[0, first]:.0%})" in line
        for index, weight in zip(routing.topk_indices[0], routing.topk_weights[0], strict=True):
            assert f"{index} ({weight:.0%})" in line.split("experts")[1]


def test_the_plot_is_a_png(clusir, weights, make_pixels):
    Image.fromarray(make_pixels()).save("a.jpg")
    assert clusir("inspect", "a.jpg", "--weights", weights, "--plot", "plot.png").exit_code == 0
    with Image.open("plot.png") as image:
        assert image.format == "PNG"
        colors = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colors, axis=0)) > 100, "the picture is in it"
    assert (colors == (31, 119, 180)).all(axis=1).mean() > 0.005, "and so are the bars"


def test_the_answer_is_that_of_the_table_in_the_weights(clusir, make_pixels):
    Image.fromarray(make_pixels(64, 64)).save("a.png")
    result = clusir("inspect", "a.png")
    assert result.exit_code == 0, result.output
    with torch.no_grad():
        image = torch.from_numpy(make_pixels(64, 64) / np.float32(255)).permute(2, 0, 1).unsqueeze(0)
        routings = cm.clusir_tiny(pretrained=True).eval().route(image)
    (first, probability), (second, _) = read_table(SHIPPED_WEIGHTS).guess(routings)[:2]
    line = f"looks like: {first} ({probability:.2f}), then {second}".replace("_", " ")
    assert result.stdout == line + "\n", "and no numbers of clusters"


def test_weights_without_a_table_say_so(clusir, weights, make_pixels):
    Image.fromarray(make_pixels()).save("a.png")
    result = clusir("inspect", "a.png", "--weights", weights)
    assert result.exit_code == 0
    assert "These weights do not say what their clusters stand for" in result.stdout


def test_matplotlib_is_needed_for_a_plot_alone(clusir, weights, make_pixels, monkeypatch):
    import importlib.util

    Image.fromarray(make_pixels()).save("a.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = importlib.util.find_spec
    monkeypatch.setattr("clusir_cli.inspect.find_spec", lambda name: None if name == "matplotlib" else found(name))
    assert clusir("inspect", "a.png", "--weights", weights, "--verbose").exit_code == 0
    result = clusir("inspect", "a.png", "--weights", weights, "--plot", "x.png")
    assert result.exit_code == 1
    assert install_hint("cli") in result.output


def test_a_plot_is_a_png_by_its_name_too(clusir, weights, make_pixels):
    Image.fromarray(make_pixels()).save("a.png")
    result = clusir("inspect", "a.png", "--weights", weights, "--plot", "plot.jpg")
    assert result.exit_code == 2
    assert "--plot must end in .png, got plot.jpg" in result.output
    assert not Path("plot.jpg").exists()


def test_a_plot_replaces_nothing(clusir, weights, make_pixels):
    Path("sub").mkdir()
    Image.fromarray(make_pixels()).save("a.png")
    Path("x.png").write_bytes(b"mine")
    before = Path("a.png").read_bytes()
    for plot, options, message in (
        ("sub/../a.png", ("--overwrite",), "sub/../a.png is an input"),
        (weights, ("--overwrite",), "holds the weights"),
        ("x.png", (), "x.png is there already"),
    ):
        result = clusir("inspect", "a.png", "--weights", weights, "--plot", plot, *options)
        assert result.exit_code == 1
        assert message in result.output
    assert Path("a.png").read_bytes() == before
    assert Path("x.png").read_bytes() == b"mine"
    assert clusir("inspect", "a.png", "--weights", weights, "--plot", "x.png", "--overwrite").exit_code == 0
    assert Path("x.png").read_bytes() != b"mine"


def test_gray_of_sixteen_bits_works(clusir, weights, make_pixels):
    Image.fromarray(make_pixels(channels=1, dtype=np.uint16)[..., 0]).save("a.png")
    assert clusir("inspect", "a.png", "--weights", weights, "--plot", "x.png").exit_code == 0
    assert Path("x.png").is_file()


def test_a_network_without_routing_is_refused(clusir, make_pixels):
    Image.fromarray(make_pixels()).save("a.png")
    torch.save(cm.MPRNet(8, unet_step=4, orsnet_step=4, num_cabs=1).state_dict(), "mprnet.pth")
    result = clusir("inspect", "a.png", "--weights", "mprnet.pth")
    assert result.exit_code == 1
    assert "MPRNet has no routing" in result.output


def test_what_is_no_picture_is_refused(clusir, weights):
    Path("a.png").write_bytes(b"no")
    result = clusir("inspect", "a.png", "--weights", weights)
    assert result.exit_code == 1
    assert "no picture" in result.output


def test_a_missing_folder_and_a_picture_that_does_not_fit_are_refused(clusir, make_pixels, tmp_path):
    Image.fromarray(make_pixels()).save("a.png")
    path = tmp_path / "gray"
    cm.clusir_tiny(in_channels=1).save_pretrained(path)
    result = clusir("inspect", "a.png", "--weights", path, "--plot", "nodir/p.png")
    assert result.exit_code == 2
    assert "there is no folder nodir" in result.output
    result = clusir("inspect", "a.png", "--weights", path)
    assert result.exit_code == 1
    assert "a.png does not fit the network: x must have 1 channels, got 3" in result.output
