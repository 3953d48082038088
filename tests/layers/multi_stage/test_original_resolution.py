from __future__ import annotations

import pytest
import torch
from spandrel_extra_arches.architectures.MPRNet.__arch import MPRNet as reference
from torch import nn

from clusir_modules.layers.multi_stage.original_resolution import ORB, ORSNet

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def orsnet_inputs(size: tuple[int, int] = (16, 24)) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Inputs for dim 8, unet_step 4, orsnet_step 2."""
    height, width = size
    encoder, decoder = (
        [torch.randn(2, 8 + 4 * level, height >> level, width >> level) for level in range(3)] for _ in range(2)
    )
    return torch.randn(2, 10, height, width), encoder, decoder


class TestORB:
    @pytest.mark.parametrize("num_cabs", [1, 3])
    @pytest.mark.parametrize("bias", [False, True])
    def test_published_block_gives_the_same_numbers(self, num_cabs: int, bias: bool) -> None:
        ours = ORB(8, num_cabs=num_cabs, bias=bias, act=nn.PReLU())
        theirs = reference.ORB(8, 3, 4, nn.PReLU(), bias, num_cabs)
        assert list(theirs.state_dict()) == list(ours.state_dict())
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(2, 8, 9, 7)
        torch.testing.assert_close(ours(x), theirs(x), **CLOSE)

    def test_every_parameter_gets_a_gradient(self) -> None:
        block = ORB(8, num_cabs=2)
        block(torch.randn(2, 8, 6, 6)).square().sum().backward()
        assert [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()] == []

    def test_compiles_without_graph_break(self) -> None:
        block = ORB(8, num_cabs=2)
        x = torch.randn(1, 8, 6, 5)
        torch.testing.assert_close(torch.compile(block, fullgraph=True, backend="aot_eager")(x), block(x))

    def test_bad_arguments_are_named(self) -> None:
        with pytest.raises(ValueError, match="num_cabs must be >= 1, got 0"):
            ORB(8, num_cabs=0)
        with pytest.raises(ValueError, match="x must have 8 channels, got 4"):
            ORB(8, num_cabs=1)(torch.randn(1, 4, 6, 6))


class TestORSNet:
    @pytest.mark.parametrize("size", [(16, 24), (4, 4), (20, 8)])
    @pytest.mark.parametrize("bias", [False, True])
    def test_published_subnetwork_gives_the_same_numbers(self, size: tuple[int, int], bias: bool) -> None:
        ours = ORSNet(8, unet_step=4, orsnet_step=2, num_cabs=2, bias=bias, act=nn.PReLU())
        theirs = reference.ORSNet(8, 2, 3, 4, nn.PReLU(), bias, 4, 2)
        assert list(theirs.state_dict()) == list(ours.state_dict())
        theirs.load_state_dict(ours.state_dict())
        inputs = orsnet_inputs(size)
        torch.testing.assert_close(ours(*inputs), theirs(*inputs), **CLOSE)

    def test_every_parameter_gets_a_gradient(self) -> None:
        net = ORSNet(8, unet_step=4, orsnet_step=2, num_cabs=1)
        net(*orsnet_inputs()).square().sum().backward()
        assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []

    def test_bad_arguments_are_named(self) -> None:
        with pytest.raises(ValueError, match="orsnet_step must be >= 1, got 0"):
            ORSNet(8, orsnet_step=0)
        net = ORSNet(8, unet_step=4, orsnet_step=2, num_cabs=1)
        x, encoder, decoder = orsnet_inputs()
        with pytest.raises(ValueError, match="decoder_features must hold 3 levels, got 1"):
            net(x, encoder, decoder[:1])
        with pytest.raises(ValueError, match="x must have 10 channels, got 8"):
            net(x[:, :8], encoder, decoder)
