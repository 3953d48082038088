"""``clusir export``."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from clusir_modules.extras import install_hint
from clusir_modules.serialization.network_files import load_network


def test_safetensors_hold_the_network(clusir, net, weights):
    result = clusir("export", weights, "--format", "safetensors")
    assert result.exit_code == 0, result.output
    again = load_network(Path(weights).with_suffix(".safetensors"))
    assert again.config == net.config
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("file_format", ["onnx", "pt2"])
def test_graphs_are_written_by_the_export_module(clusir, net, weights, monkeypatch, file_format):
    written = {}
    module = ModuleType("clusir_modules.inference.export")
    module.export_onnx = lambda net, path: written.update(onnx=(net, path))
    module.export_pt2 = lambda net, path: written.update(pt2=(net, path))
    monkeypatch.setitem(sys.modules, "clusir_modules.inference.export", module)
    result = clusir("export", weights, "--format", file_format, "-o", f"x.{file_format}")
    assert result.exit_code == 0, result.output
    assert list(written) == [file_format]
    given, path = written[file_format]
    assert given.config == net.config
    assert not given.training
    assert Path(path) == Path(f"x.{file_format}")


def test_a_missing_package_is_named(clusir, weights, monkeypatch):
    module = ModuleType("clusir_modules.inference.export")

    def export_onnx(net, path):
        raise ImportError("No module named 'onnxscript'")

    module.export_onnx = module.export_pt2 = export_onnx
    monkeypatch.setitem(sys.modules, "clusir_modules.inference.export", module)
    result = clusir("export", weights, "--format", "onnx")
    assert result.exit_code == 1
    assert "onnxscript" in result.output
    assert install_hint("export") in result.output


def test_the_checkpoint_is_never_replaced(clusir, net, tmp_path):
    from clusir_modules.serialization.network_files import save_network

    save_network(net, tmp_path / "net.safetensors")
    result = clusir("export", tmp_path / "net.safetensors", "--format", "safetensors")
    assert result.exit_code == 1
    assert "net.safetensors is an input and would be replaced" in result.output


def test_a_file_is_replaced_only_when_asked(clusir, net, weights, tmp_path):
    Path("x.safetensors").write_bytes(b"mine")
    arguments = ("export", weights, "--format", "safetensors", "-o", "x.safetensors")
    result = clusir(*arguments)
    assert result.exit_code == 1
    assert "x.safetensors is there already; give --overwrite" in result.output
    assert Path("x.safetensors").read_bytes() == b"mine"
    assert clusir(*arguments, "--overwrite").exit_code == 0
    assert load_network("x.safetensors").config == net.config
    Path("link.safetensors").symlink_to(weights)
    result = clusir("export", weights, "--format", "safetensors", "-o", "link.safetensors", "--overwrite")
    assert result.exit_code == 1
    assert "link.safetensors is an input" in result.output


def test_a_missing_folder_is_named(clusir, weights):
    result = clusir("export", weights, "--format", "safetensors", "-o", "missing/x.safetensors")
    assert result.exit_code == 2
    assert "there is no folder missing" in result.output
