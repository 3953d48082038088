"""Compilation block by block; that of the whole network is in test_restoration_model.py."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

import clusir_modules as cm
from basicsr_plugin.models.compiling import compile_network
from clusir_modules.ops import precision


def test_a_network_without_blocks_is_refused(options, build):
    options["train"]["compile"] = "blocks"
    with pytest.raises(ValueError, match=r"train\.compile: blocks: PluginTestNet has no WTB, ClusterMoE, DAFMM; true"):
        build(options)


@pytest.fixture(autouse=True)
def limit():
    before = torch._dynamo.config.cache_size_limit
    yield
    torch._dynamo.config.cache_size_limit = before


@pytest.mark.slow
def test_blocks_of_a_kind_share_a_program_and_train_as_ever(monkeypatch):
    # the compiler's last stages take minutes
    monkeypatch.setattr(nn.Module, "compile", partial_method(nn.Module.compile, backend="eager"))
    torch.compiler.reset()
    counters.clear()
    torch.manual_seed(0)
    sizes = {"num_heads": (1, 1, 2, 2), "num_blocks": (2, 1, 1, 1), "num_decoder_blocks": (1, 1, 1)}
    eager, compiled = (cm.ClusIR(8, num_experts=3, embed_dim=16, halved_levels=1, **sizes) for _ in range(2))
    compiled.load_state_dict(eager.state_dict())
    compile_network(compiled, "blocks")
    x = torch.rand(2, 3, 32, 32)
    for net in (eager, compiled):
        (net(x) - 0.5).square().mean().backward()
    flat = [torch.cat([p.grad.flatten() for p in net.parameters()]) for net in (eager, compiled)]
    assert (flat[0] - flat[1]).norm() < 1e-5 * flat[0].norm()
    assert counters["stats"]["unique_graphs"] == 4 + 4 + 3  # blocks and experts of four levels, three frequency modules
    torch.compiler.reset()


def partial_method(method, **settings):
    return lambda self, *args, **kwargs: method(self, *args, **kwargs, **settings)


def test_weights_of_compiled_blocks_are_not_cast_for_them(monkeypatch):
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, **settings: setattr(self, "_compiled_call_impl", self.forward)
    )
    cast = []
    monkeypatch.setattr(precision, "_CastOnce", lambda these, dtype: cast.append(set(these)) or nullcontext())
    net = cm.clusir_tiny()
    compile_network(net, "blocks")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        net(torch.rand(1, 3, 16, 16))
    kinds = (cm.WTB, cm.ClusterMoE, cm.DAFMM)
    in_blocks = {inner for module in net.modules() if isinstance(module, kinds) for inner in module.modules()}
    assert net.stages[0].head in cast[0]
    assert not cast[0] & in_blocks
