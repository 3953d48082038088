"""Checkpoints of training runs, made networks again without the option file."""

from __future__ import annotations

import pytest
import torch

from clusir_modules.serialization.network_files import load_network, read_configuration

NETWORK = {
    "type": "ClusIR", "dim": 8, "num_blocks": [0, 0, 0, 0], "num_decoder_blocks": [0, 0, 0], "num_refinement_blocks": 0,
    "num_heads": [1, 1, 1, 1], "num_experts": 3, "num_clusters": [4, 3, 2, 2], "embed_dim": 8, "top_k": 1,
}  # fmt: skip


@pytest.mark.parametrize("file_format", ["pth", "safetensors"])
@torch.no_grad()
def test_a_checkpoint_of_a_run_makes_the_same_network(options, build, tmp_path, file_format):
    options["network_g"] = NETWORK
    options["logger"]["save_checkpoint_format"] = file_format
    model = build(options)
    model.save_network([model.net_g, model.net_g_ema], "net_g", 5, param_key=["params", "params_ema"])
    path = tmp_path / "models" / f"net_g_5.{file_format}"
    again, image = load_network(path), torch.rand(1, 3, 20, 25)
    assert again.config == model.net_g.config
    assert again.config["top_k"] == 1
    assert torch.equal(again(image), model.net_g.eval()(image))
    stated = read_configuration(path)
    assert stated == (("ClusIR", model.net_g.config) if file_format == "safetensors" else None)
