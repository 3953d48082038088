"""``clusir info``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import clusir_modules as cm
from clusir_modules.serialization.network_files import save_network


def facts(clusir, path):
    result = clusir("info", path, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(("name", "origin"), [("net.pth", "weights"), ("net.safetensors", "file"), ("net", "file")])
def test_network_and_configuration_are_found(clusir, net, weights, tmp_path, name, origin):
    save_network(net, tmp_path / "net.safetensors")
    net.save_pretrained(tmp_path / "net")
    found = facts(clusir, tmp_path / name)
    assert found["architecture"] == "ClusIR"
    assert found["configuration"] == net.config
    assert found["configuration_from"] == origin
    assert found["values"] == sum(value.numel() for value in net.state_dict().values())
    assert found["types"] == ["float32", "int64", "uint8"], "weights, a count of batches, a record of the settings"
    file = tmp_path / name
    assert found["size_bytes"] == (file / "model.safetensors" if file.is_dir() else file).stat().st_size


def test_the_text_says_the_same(clusir, net, weights):
    result = clusir("info", weights)
    assert result.exit_code == 0
    assert f"{weights}: ClusIR" in result.stdout
    for name, value in net.config.items():
        assert f"    {name}: {json.dumps(value)}\n" in result.stdout


def test_mprnet_is_found(clusir):
    net = cm.MPRNet(8, unet_step=4, orsnet_step=4, num_cabs=1)
    torch.save({"params_ema": net.state_dict()}, "mprnet.pth")
    assert facts(clusir, "mprnet.pth")["configuration"] == net.config


def test_weights_of_an_unknown_network_are_counted(clusir):
    torch.save(nn.Linear(3, 2).half().state_dict(), "other.pth")
    found = facts(clusir, "other.pth")
    assert found["architecture"] is None
    assert (found["entries"], found["values"], found["types"]) == (2, 8, ["float16"])
    assert "a network that clusir does not know" in clusir("info", "other.pth").stdout


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_damaged_file_is_refused(clusir, name):
    Path(name).write_bytes(b"nonsense")
    result = clusir("info", name)
    assert result.exit_code == 1
    assert "damaged" in result.output
