"""One file with weights and configuration, and back and forth to BasicSR's files."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import clusir_modules as cm
from clusir_modules.serialization.network_files import load_network, read_configuration, save_network


def test_a_file_makes_the_same_network_again(net, tmp_path, final_image):
    save_network(net, tmp_path / "net.safetensors")
    again = load_network(tmp_path / "net.safetensors")
    assert type(again) is type(net)
    assert again.config == net.config
    assert not again.training
    assert torch.equal(final_image(again), final_image(net))


def test_the_metadata_hold_architecture_and_configuration(net, tmp_path):
    save_network(net, tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["architecture"] == type(net).__name__
    assert json.loads(metadata["config"]) == net.config
    assert read_configuration(tmp_path / "net.safetensors") == (type(net).__name__, net.config)


@pytest.mark.parametrize("wrap", [lambda sd: {"params": sd}, lambda sd: {"params_ema": sd, "params": {}}, dict])
def test_a_basicsr_checkpoint_without_configuration_makes_the_same_network(net, tmp_path, wrap, final_image):
    torch.save(wrap(net.state_dict()), tmp_path / "net.pth")
    assert torch.equal(final_image(load_network(tmp_path / "net.pth")), final_image(net))


def test_a_foreign_safetensors_file_without_configuration_does_too(net, tmp_path, final_image):
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, tmp_path / "net.safetensors")
    assert torch.equal(final_image(load_network(tmp_path / "net.safetensors")), final_image(net))


def test_safetensors_and_pth_convert_into_each_other_without_loss(net, tmp_path):
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    save_network(load_network(tmp_path / "net.pth"), tmp_path / "net.safetensors")
    back = load_file(tmp_path / "net.safetensors")
    assert back.keys() == net.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in net.state_dict().items())


def test_metadata_that_disagree_with_the_weights_are_refused(clusir, tmp_path):
    metadata = {"architecture": "ClusIR", "config": json.dumps({**clusir.config, "num_experts": 4000000})}
    tensors = {name: value.contiguous() for name, value in clusir.state_dict().items()}
    save_file(tensors, tmp_path / "net.safetensors", metadata)
    with pytest.raises(ValueError, match="states num_experts=4000000, its weights are of num_experts=3"):
        load_network(tmp_path / "net.safetensors")


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"must hold weights of one of ClusIR, MPRNet, got the entries \['bias'"):
        load_network(tmp_path / "net.pth")


def test_incomplete_weights_are_refused(clusir, tmp_path):
    weights = clusir.state_dict()
    del weights["stages.0.encoder.2.moe.router.prototypes"]
    torch.save(weights, tmp_path / "net.pth")
    with pytest.raises(ValueError, match="damaged weights of ClusIR"):
        load_network(tmp_path / "net.pth")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"params": Hostile()}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match="refused"):
        load_network(tmp_path / "net.pth")


@pytest.mark.parametrize("read", [load_network, read_configuration])
def test_damaged_and_missing_files_are_named(read, tmp_path):
    (tmp_path / "net.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(ValueError, match=r"net\.safetensors' is damaged"):
        read(tmp_path / "net.safetensors")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*missing\.safetensors"):
        read(tmp_path / "missing.safetensors")


def test_no_partly_written_file_is_left(clusir, tmp_path, monkeypatch):
    import safetensors.torch

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    save_network(clusir, tmp_path / "net.safetensors")
    before = (tmp_path / "net.safetensors").read_bytes()
    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_network(clusir, tmp_path / "net.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
    assert (tmp_path / "net.safetensors").read_bytes() == before


def test_released_mprnet_checkpoints_of_data_parallel_training_load(tmp_path, final_image):
    net = cm.MPRNet(8, unet_step=4, orsnet_step=4, num_cabs=1).eval()
    content = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}
    torch.save(content, tmp_path / "net.pth")
    assert torch.equal(final_image(load_network(tmp_path / "net.pth")), final_image(net))
