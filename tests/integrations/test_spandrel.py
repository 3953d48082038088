"""ClusIR in spandrel: the same output as here, and no other architecture claimed."""

from __future__ import annotations

import inspect
import sys

import pytest
import torch
from torch import nn

spandrel = pytest.importorskip("spandrel")
EXTRA = pytest.importorskip("spandrel_extra_arches").EXTRA_REGISTRY

from clusir_modules.integrations import spandrel as ours  # noqa: E402

THEIRS = [s for s in (*spandrel.MAIN_REGISTRY, *EXTRA) if s.architecture.id != "ClusIR"]
# Arguments of networks whose constructors demand some, or whose defaults have no layers to recognize.
ARGUMENTS = {
    "MMRealSR": {"num_in_ch": 3, "num_out_ch": 3},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3},
    "SAFMN": {"dim": 8},
    "SAFMNBCIE": {"dim": 8},
    "NAFNet": {"enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]},
    "AuraSR": {"dim": 8, "image_size": 64, "input_image_size": 16, "style_network": {"dim_out": 16}},
    "SwinIR": {"img_size": 64, "window_size": 8},
    "Swin2SR": {"img_size": 64, "window_size": 8},
    "SRFormer": {"img_size": 48, "window_size": 24},
}


@pytest.mark.parametrize("kind", ["params", "params_ema"])
def test_a_basicsr_checkpoint_gives_the_same_output(kind, tmp_path, make_net, final_image):
    for name in ("clusir", "clusir_one_expert_gray", "clusir_two_stages"):
        net = make_net(name)
        torch.save({kind: net.state_dict()}, tmp_path / "net_g_10.pth")
        loaded = spandrel.ModelLoader().load_from_file(tmp_path / "net_g_10.pth")
        assert loaded.architecture.id == "ClusIR"
        assert loaded.purpose == "Restoration"
        assert loaded.input_channels == loaded.output_channels == net.in_channels
        image = torch.rand(1, net.in_channels, 21, 34, generator=torch.Generator().manual_seed(2))
        assert torch.equal(loaded(image), final_image(net).clamp(0, 1)), name


def test_a_safetensors_file_gives_the_same_output(clusir, tmp_path, final_image):
    from clusir_modules.serialization.network_files import save_network

    save_network(clusir, tmp_path / "net.safetensors")
    loaded = spandrel.ModelLoader().load_from_file(tmp_path / "net.safetensors")
    image = torch.rand(1, 3, 21, 34, generator=torch.Generator().manual_seed(2))
    assert torch.equal(loaded(image), final_image(clusir).clamp(0, 1))


@torch.no_grad()
def test_the_offered_half_precision_works(clusir):
    loaded = spandrel.ModelLoader().load_from_state_dict(clusir.state_dict())
    image = torch.rand(1, 3, 21, 34)
    exact = loaded(image)
    assert loaded.supports_bfloat16
    assert (loaded.bfloat16()(image.bfloat16()).float() - exact).abs().max() <= 0.05


def test_registering_twice_changes_nothing():
    before = len(spandrel.MAIN_REGISTRY)
    ours.register()
    assert len(spandrel.MAIN_REGISTRY) == before


@pytest.mark.parametrize("support", THEIRS, ids=lambda s: s.architecture.id)
def test_no_other_architecture_claims_ours(support, clusir):
    assert not support.detect(clusir.state_dict())


@pytest.fixture(scope="module")
def their_state_dicts():
    """State dicts of spandrel's networks by architecture: on the meta device, where constructors allow that."""
    found = {}
    linspace = torch.linspace

    def on_the_cpu(*args, **kwargs):
        return linspace(*args, **{**kwargs, "device": "cpu"})

    torch.linspace = on_the_cpu  # constructors take plain numbers out of it
    try:
        for support in THEIRS:
            name, module = support.architecture.id, sys.modules[type(support.architecture).__module__]
            package = module.__name__.split(".", maxsplit=1)[0]
            for network in vars(module).values():
                if not (inspect.isclass(network) and issubclass(network, nn.Module)):
                    continue
                if network.__module__.startswith(package) and (net := build(network, ARGUMENTS.get(name, {}))):
                    found.setdefault(name, []).append(net.state_dict())
    finally:
        torch.linspace = linspace
    return found


def build(network, arguments):
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                return network(**arguments)
        except (TypeError, RuntimeError, NotImplementedError, AssertionError, ValueError):
            continue
    return None


@pytest.mark.slow
def test_ours_claims_no_other_architecture(their_state_dicts):
    names = {s.architecture.id for s in THEIRS}
    assert their_state_dicts.keys() == names, f"not constructed: {sorted(names - their_state_dicts.keys())}"
    arch = ours.ClusIRArch()
    for name, state_dicts in their_state_dicts.items():
        for state_dict in state_dicts:
            assert spandrel.MAIN_REGISTRY.get(name) is None or spandrel.MAIN_REGISTRY[name].detect(state_dict), name
            assert not arch.detect(state_dict), name
