"""Networks as denoisers of deepinv."""

from __future__ import annotations

import pytest
import torch

deepinv = pytest.importorskip("deepinv", reason="the extra `deepinv` is not installed")

from clusir_modules.integrations.deepinv import BlindDenoiser  # noqa: E402 - needs the package above


@torch.no_grad()
@pytest.mark.parametrize("name", ["clusir", "clusir_two_stages", "mprnet"])
def test_gives_what_the_network_gives_whatever_the_noise_level(name, make_net):
    net = make_net(name).eval()
    denoiser = BlindDenoiser(net)
    assert isinstance(denoiser, deepinv.models.Denoiser)
    image = torch.rand(2, net.in_channels, 21, 34, generator=torch.Generator().manual_seed(2))
    for sigma in (None, 0.1, torch.tensor([0.1, 0.2])):
        output = net(image)
        assert torch.equal(denoiser(image, sigma), output[0] if isinstance(output, list) else output)


def test_is_a_prior_whose_gradient_step_reaches_the_measurement(clusir):
    physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(0.1))
    prior = deepinv.optim.PnP(BlindDenoiser(clusir))
    measured = torch.rand(1, 3, 16, 16, requires_grad=True)
    prior.prox(physics.A(measured), 0.1).sum().backward()
    assert measured.grad.any()


def test_wrong_channels_are_named(clusir):
    with pytest.raises(ValueError, match="x must have 3 channels"):
        BlindDenoiser(clusir)(torch.rand(1, 1, 16, 16), 0.1)
