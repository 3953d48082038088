"""Small networks of both kinds, with settings that are not the defaults."""

from __future__ import annotations

import pytest
import torch

import clusir_modules as cm

SMALL = {
    "num_blocks": (1, 0, 1, 2),
    "num_decoder_blocks": (0, 1, 1),
    "num_refinement_blocks": 1,
    "num_heads": (2, 2, 4, 4),
    "num_experts": 3,
    "num_clusters": (5, 4, 3, 2),
    "embed_dim": 16,
}
FACTORIES = {
    "clusir": lambda: cm.ClusIR(8, **SMALL),
    "clusir_one_expert_gray": lambda: cm.ClusIR(8, in_channels=1, **SMALL, top_k=1, num_prompt_heads=2, wave="db2"),
    "clusir_halved": lambda: cm.ClusIR(8, **SMALL, halved_levels=1, standardize_evidence=True, gain=True),
    "clusir_two_stages": lambda: cm.ClusIR(8, **SMALL, supervised_stages=2),
    "mprnet": lambda: cm.MPRNet(8, unet_step=4, orsnet_step=4, num_cabs=1),
    "mprnet_bias": lambda: cm.MPRNet(9, unet_step=5, orsnet_step=3, num_cabs=2, reduction=3, kernel_size=5, bias=True),
}


@pytest.fixture(params=FACTORIES)
def net(request):
    """One of the networks, in eval, its weights moved away from where they start."""
    return disturbed(FACTORIES[request.param]())


@pytest.fixture
def make_net():
    """One of the networks by name, as ``net``."""
    return lambda name: disturbed(FACTORIES[name]())


@pytest.fixture
def clusir():
    return disturbed(FACTORIES["clusir"]())


def disturbed(net):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        slopes = {id(p) for name, p in net.named_parameters() if p.numel() == 1}
        for parameter in net.parameters():
            if id(parameter) not in slopes:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


@torch.no_grad()
def run(net, *, height=21, width=34):
    """Final image for a fixed input."""
    channels = getattr(net, "in_channels", 3)
    image = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(2))
    output = net(image)
    return output if isinstance(output, torch.Tensor) else output[0]


@pytest.fixture
def final_image():
    return run
