"""Weights that other programs wrote, and files that claim more than they hold."""

from __future__ import annotations

import json
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from factories import smallest_clusir
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

import clusir_modules as cm
from clusir_modules.networks.mprnet_state_dict import _SKELETON
from clusir_modules.serialization import network_files
from clusir_modules.serialization.atomic import write_whole
from clusir_modules.serialization.checkpoints import CHECKSUM, checksum, load_weights, read_state_dict
from clusir_modules.serialization.configuration import Configuration
from clusir_modules.serialization.network_files import load_network, network_metadata, save_network


@pytest.fixture
def net():
    return smallest_clusir(top_k=1).eval()


def mprnet():
    return cm.MPRNet(4, unet_step=2, orsnet_step=2, num_cabs=1, reduction=2).eval()


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


@pytest.fixture
def nothing_is_built(monkeypatch):
    """Fail where a network is made in memory."""
    build = Configuration.build

    def on_meta(self, device="cpu"):
        assert device == "meta", "memory was taken before the file was refused"
        return build(self, device)

    monkeypatch.setattr(network_files.Configuration, "build", on_meta)


FOREIGN = {
    "Lightning": lambda net: {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "hyper_parameters": {"lr": 2e-4},
        "state_dict": {**prefixed("model.", net.state_dict()), "loss.weight": torch.ones(3)},
    },
    "Lightning, net": lambda net: {"state_dict": prefixed("net.", net.state_dict())},
    "Lightning, compiled and parallel": lambda net: {
        "state_dict": prefixed("model._orig_mod.module.", net.state_dict())
    },
    "Lightning with an average": lambda net: {
        "state_dict": {
            **prefixed("model.", {name: torch.zeros_like(value) for name, value in net.state_dict().items()}),
            **prefixed("model_ema.module.", net.state_dict()),
        }
    },
    "AveragedModel": lambda net: AveragedModel(net).state_dict(),
    "AveragedModel, wrapped": lambda net: {"model": AveragedModel(net).state_dict(), "optimizer": {"state": {}}},
    "DistributedDataParallel": lambda net: {"state_dict": prefixed("module.", net.state_dict()), "epoch": 1},
    "average only": lambda net: {"params_ema": net.state_dict()},
    "average of timm": lambda net: {"state_dict": {}, "state_dict_ema": net.state_dict()},
    "one entry of any name": lambda net: {"generator": net.state_dict(), "iteration": 5, "optimizer": {"state": {}}},
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("make", [lambda: smallest_clusir(top_k=1).eval(), mprnet], ids=["ClusIR", "MPRNet"])
@torch.no_grad()
def test_other_programs_files_load(tmp_path, kind, make):
    net = make()
    torch.save(FOREIGN[kind](net), tmp_path / "net.ckpt")
    again = load_network(tmp_path / "net.ckpt")
    assert again.config == net.config
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_checkpoint_cast_as_a_whole_keeps_its_settings(tmp_path, net, dtype):
    cast = {name: value.to(dtype) for name, value in net.state_dict().items()}  # the record of the settings too
    torch.save(cast, tmp_path / "net.pth")
    again = load_network(tmp_path / "net.pth")
    assert again.config == net.config
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, cast[name].float()), name


def test_the_mean_of_two_checkpoints_keeps_its_settings(tmp_path, net):
    other = smallest_clusir(top_k=1).state_dict()
    mean = {name: 0.5 * value + 0.5 * other[name] for name, value in net.state_dict().items()}
    torch.save({"params": mean}, tmp_path / "net.pth")
    again = load_network(tmp_path / "net.pth")
    assert again.config == net.config
    assert all(torch.equal(parameter, mean[name]) for name, parameter in again.named_parameters())


class TestFilesThatClaimTooMuch:
    @pytest.fixture(autouse=True)
    def _unbuilt(self, nothing_is_built):
        pass

    def test_entries_without_own_values(self, tmp_path):
        with torch.device("meta"):
            shapes = {name: value.shape for name, value in cm.clusir_tiny(dim=320).state_dict().items()}
        torch.save({name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}, tmp_path / "net.pth")
        with pytest.raises(ValueError, match=r"net\.pth' is refused: .* claims \d+ values, the file holds 1"):
            load_network(tmp_path / "net.pth")

    def test_many_entries_that_share_their_values(self, tmp_path):
        shared = torch.zeros(10**6)
        torch.save({f"layer{number}": shared[:] for number in range(100)}, tmp_path / "net.pth")
        with pytest.raises(
            ValueError, match=r"net\.pth' is refused: its entries claim 400000000 bytes, it holds 4000000"
        ):
            read_state_dict(tmp_path / "net.pth")

    def test_empty_entries_of_large_shapes(self, tmp_path):
        with torch.device("meta"):
            state = cm.ClusIR(320).state_dict()
        empty = {
            name: torch.zeros(*value.shape[:2], *(0 for _ in value.shape[2:]))
            if value.dim() > 2
            else torch.zeros(value.shape)
            for name, value in state.items()
            if value.dim() != 2
        }
        for name, value in state.items():
            if value.dim() == 2:
                empty[name] = torch.zeros(value.shape if name.endswith("prototypes") else (value.shape[0], 0))
        save_file(empty, tmp_path / "net.safetensors")
        with pytest.raises(ValueError, match=r"(?s)net\.safetensors.*in the network, .*in the file"):
            load_network(tmp_path / "net.safetensors")

    def test_a_size_that_no_network_has(self, tmp_path):
        entries = {name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for name in _SKELETON}
        entries[_SKELETON[0]]["shape"] = [10**12, 3, 3, 0]
        header = json.dumps(entries).encode()
        (tmp_path / "net.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
        with pytest.raises(ValueError, match="damaged weights of MPRNet"):
            load_network(tmp_path / "net.safetensors")

    @pytest.mark.parametrize(
        ("setting", "value", "message"),
        [
            ("num_refinement_blocks", 10**7, "num_refinement_blocks"),
            ("num_prompt_heads", 10**9, "num_prompt_heads=1000000000, its weights are of num_prompt_heads=2"),
            (
                "prompts",
                {"generation": {"type": "PGB", "size": 10**9}},
                r"prompts\.generation\.size must be at most 65536",
            ),
            ("prompts", {"generation": {"type": "PGB", "size": 60000}}, "prompt_blocks"),
            ("num_experts", 60000, "num_experts=60000, its weights are of num_experts=3"),
        ],
    )
    def test_a_stated_size_that_the_weights_do_not_have(self, tmp_path, net, setting, value, message):
        metadata = network_metadata(net)
        config = {**json.loads(metadata["config"]), setting: value}
        save_file(net.state_dict(), tmp_path / "net.safetensors", {**metadata, "config": json.dumps(config)})
        with pytest.raises(ValueError, match=rf"(?s)net\.safetensors.*{message}"):
            load_network(tmp_path / "net.safetensors")

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            (torch.full((200_000,), 32, dtype=torch.uint8), "at most 65536 bytes"),
            (torch.tensor([255, 254], dtype=torch.uint8), "settings_record is damaged"),
            (torch.tensor([float("nan")]), "settings_record is damaged"),
            (torch.tensor([91, 93], dtype=torch.uint8), "must hold settings"),
            (torch.frombuffer(bytearray(b'{"top_k": 99999999}'), dtype=torch.uint8), "top_k must be at most 65536"),
            (torch.frombuffer(bytearray(b'{"router": "os.system"}'), dtype=torch.uint8), "unknown router 'os.system'"),
        ],
    )
    def test_a_strange_record(self, tmp_path, net, record, message):
        torch.save({**net.state_dict(), "settings_record": record}, tmp_path / "net.pth")
        with pytest.raises(ValueError, match=rf"(?s)net\.pth.*{message}"):
            load_network(tmp_path / "net.pth")


class TestDamage:
    def test_a_flipped_bit_is_found_by_the_checksum(self, tmp_path, net):
        state = net.state_dict()
        metadata = {**network_metadata(net), CHECKSUM: checksum(state)}
        save_file(state, tmp_path / "net.safetensors", metadata)
        load_network(tmp_path / "net.safetensors")
        data = bytearray((tmp_path / "net.safetensors").read_bytes())
        data[-1000] ^= 0x40
        (tmp_path / "net.safetensors").write_bytes(data)
        for read in (load_network, read_state_dict, lambda path: load_weights(net, path)):
            with pytest.raises(ValueError, match=r"net\.safetensors' is damaged: its checksum does not agree"):
                read(tmp_path / "net.safetensors")

    def test_an_archive_that_python_cannot_read_is_refused_although_torch_can(self, tmp_path, net):
        torch.save(net.state_dict(), tmp_path / "net.pth")
        with (
            zipfile.ZipFile(tmp_path / "net.pth") as old,
            zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
        data = bytearray((tmp_path / "a.pth").read_bytes())
        place = data.find(b"PK\1\2")
        while place >= 0:
            data[place + 6] = 90  # "version needed to extract"
            place = data.find(b"PK\1\2", place + 4)
        (tmp_path / "a.pth").write_bytes(data)
        assert torch.load(tmp_path / "a.pth", weights_only=True), "torch reads it"
        with pytest.raises(ValueError, match=r"a\.pth' is damaged: zip file version 9\.0"):
            load_network(tmp_path / "a.pth")


class TestFolders:
    @pytest.mark.parametrize("source", ["./missing", "runs/best/net", "/absolute/missing", "../net_g_5", "missing"])
    def test_a_missing_folder_is_named(self, source):
        with pytest.raises(FileNotFoundError, match=f"there is no folder '{source}'$"):
            cm.ClusIR.from_pretrained(source)

    def test_a_repository_that_cannot_be_had_is_named(self):
        with pytest.raises(FileNotFoundError, match="there is no folder 'owner/name', and no repository of that name"):
            cm.ClusIR.from_pretrained("owner/name", local_files_only=True, cache_dir="/nonexistent")


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_new_files_follow_the_umask_and_old_ones_keep_their_mode(tmp_path, net, mask):
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    before = os.umask(mask)
    try:
        net.save_pretrained(tmp_path / "net")
        save_network(net, tmp_path / "net.safetensors")
        write_whole(lambda file: file.write(b"x"), tmp_path / "x.state")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 5
    assert {mode(path) for path in files} == {0o666 & ~mask}
    (tmp_path / "net.safetensors").chmod(0o600)
    save_network(net, tmp_path / "net.safetensors")
    assert mode(tmp_path / "net.safetensors") == 0o600
