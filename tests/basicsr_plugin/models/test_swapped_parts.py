"""Networks with exchanged parts, named in an option file, trained by BasicSR and made again from their checkpoints."""

from __future__ import annotations

import json
import textwrap

import pytest
import torch
from torch import nn

import clusir_modules as cm
from clusir_modules.serialization.network_files import load_network

SMALL = {
    "type": "ClusIR", "dim": 4, "num_blocks": [1, 0, 1, 1], "num_decoder_blocks": [1, 0, 1], "num_refinement_blocks": 0,
    "num_heads": [1, 1, 1, 1], "num_experts": 3, "num_clusters": [4, 3, 2, 2], "embed_dim": 8, "num_prompt_heads": 2,
}  # fmt: skip
PARTS = """
    import torch
    from torch import nn

    import clusir_modules as cm


    @cm.PARTS["router"].register
    class RouterOfATest(nn.Module):
        def __init__(self, dim, *, num_experts, num_clusters, top_k, embed_dim, temperature=1.0):
            super().__init__()
            self.num_experts, self.top_k, self.temperature = num_experts, top_k, temperature
            self.choose = nn.Linear(dim, num_experts)
            self.tokens = nn.Parameter(torch.randn(num_clusters, embed_dim))

        def forward(self, x):
            probs = (self.choose(x.mean((2, 3))) / self.temperature).softmax(-1)
            return cm.choose_experts(probs, self.top_k, prompt=self.tokens.expand(len(x), -1, -1))


    @cm.PARTS["block"].register
    class BlockOfATest(nn.Module):
        def __init__(self, dim, *, num_heads, width=2):
            super().__init__()
            self.expand, self.project = nn.Conv2d(dim, width * dim, 3, padding=1), nn.Conv2d(width * dim, dim, 1)

        def forward(self, x):
            return x + self.project(nn.functional.gelu(self.expand(x)))
"""
SWAPS = {
    "own router": {"router": {"type": "RouterOfATest", "temperature": 0.5}},
    "own block by its name": {"block": "BlockOfATest"},
    "another wavelet": {"block": {"type": "WTB", "wave": "db2"}},
    "no frequency modules": {"frequency": None},
    "three at once": {
        "router": "RouterOfATest",
        "block": {"type": "BlockOfATest", "width": 3},
        "experts": {"type": "GatedConvExperts", "kernel_size": 5},
    },
}


@pytest.fixture
def options(options, tmp_path, monkeypatch):
    (tmp_path / "parts_of_a_test.py").write_text(textwrap.dedent(PARTS))
    monkeypatch.syspath_prepend(tmp_path)
    options["imports"] = ["parts_of_a_test"]
    options["network_g"] = dict(SMALL)
    return options


@pytest.mark.parametrize("swap", SWAPS)
@torch.no_grad()
def test_is_trained_and_made_again_from_its_checkpoint(options, train, tmp_path, swap):
    options["network_g"] |= SWAPS[swap]
    with torch.enable_grad():
        run = train(options)
    net = run.model.get_bare_model(run.model.net_g).eval()
    (path,) = tmp_path.rglob("net_g_latest.pth")
    again, image = load_network(path), torch.rand(1, 3, 20, 25)
    assert again.config == net.config
    for keyword, said in SWAPS[swap].items():
        named = said["type"] if isinstance(said, dict) else said
        assert named is None or named in json.dumps(again.config[keyword])
    assert torch.equal(again(image), run.model.net_g_ema(image) if hasattr(run.model, "net_g_ema") else net(image))


def test_a_module_that_was_exchanged_by_hand_is_refused_before_a_byte_is_written(options, build, tmp_path):
    model = build(options)
    net = model.get_bare_model(model.net_g)
    net.stages[0].encoder[0].blocks[0] = nn.Conv2d(4, 4, 3, padding=1)
    with pytest.raises(ValueError, match=r"ClusIR differs from what its configuration makes.*encoder\.0\.blocks\.0"):
        model.save_network(model.net_g, "net_g", 5)
    assert not list((tmp_path / "models").iterdir())


def test_a_class_that_is_not_registered_is_refused_before_the_first_step(options, build, monkeypatch):
    from basicsr.utils.registry import ARCH_REGISTRY

    class NotRegistered(cm.ClusIR):
        pass

    monkeypatch.setitem(ARCH_REGISTRY._obj_map, "NotRegistered", NotRegistered)
    options["network_g"]["type"] = "NotRegistered"
    with pytest.raises(ValueError, match="NotRegistered must be registered before it is saved"):
        build(options)
