from __future__ import annotations

import pytest
import torch
from spandrel_extra_arches.architectures.MPRNet.__arch import MPRNet as reference
from torch import nn

from clusir_modules.layers.multi_stage.cab_encoder_decoder import (
    CABDecoder,
    CABEncoder,
    DownProject,
    UpProject,
    upsample2x,
)

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pyramid(batch: int = 2) -> list[torch.Tensor]:
    """Features of three levels for dim 8 and step 4."""
    return [torch.randn(batch, 8 + 4 * level, 16 >> level, 24 >> level) for level in range(3)]


class TestResampling:
    @pytest.mark.parametrize("size", [(8, 12), (2, 2), (7, 9)])
    def test_down_equals_bilinear_halving_and_convolution(self, size: tuple[int, int]) -> None:
        ours, theirs = DownProject(8, 4), reference.DownSample(8, 4)
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(2, 8, *size)
        torch.testing.assert_close(ours(x), theirs(x), **CLOSE)

    @pytest.mark.parametrize("size", [(8, 12), (1, 1), (7, 9)])
    def test_up_equals_bilinear_doubling_and_convolution(self, size: tuple[int, int]) -> None:
        ours, theirs = UpProject(8, 4), reference.UpSample(8, 4)
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(2, 12, *size)
        torch.testing.assert_close(ours(x), theirs(x), **CLOSE)

    def test_doubling_interpolates_between_pixel_centers(self) -> None:
        row = upsample2x(torch.tensor([0.0, 4.0]).view(1, 1, 1, 2))
        assert row[0, 0, 0].tolist() == [0, 1, 3, 4]

    @pytest.mark.parametrize("module", [DownProject, UpProject])
    def test_a_step_of_zero_is_refused(self, module: type[nn.Module]) -> None:
        with pytest.raises(ValueError, match="step must be >= 1, got 0"):
            module(8, 0)


class TestCABEncoder:
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("fuse", [False, True])
    def test_published_encoder_gives_the_same_numbers(self, fuse: bool, bias: bool) -> None:
        ours = CABEncoder(8, unet_step=4, fuse=fuse, bias=bias, act=nn.PReLU())
        theirs = reference.Encoder(8, 3, 4, nn.PReLU(), bias, 4, csff=fuse)
        assert list(theirs.state_dict()) == list(ours.state_dict())
        theirs.load_state_dict(ours.state_dict())
        earlier = (pyramid(), pyramid()) if fuse else ()
        x = torch.randn(2, 8, 16, 24)
        for got, expected in zip(ours(x, *earlier), theirs(x, *earlier), strict=True):
            torch.testing.assert_close(got, expected, **CLOSE)

    def test_features_of_an_earlier_stage_are_demanded_or_refused(self) -> None:
        x = torch.randn(2, 8, 16, 24)
        with pytest.raises(ValueError, match="must be given for an encoder with fuse=True"):
            CABEncoder(8, unet_step=4, fuse=True)(x)
        with pytest.raises(ValueError, match="must be None for an encoder with fuse=False"):
            CABEncoder(8, unet_step=4)(x, pyramid(), pyramid())

    def test_every_parameter_gets_a_gradient(self) -> None:
        encoder = CABEncoder(8, unet_step=4, fuse=True)
        features = encoder(torch.randn(2, 8, 16, 24), pyramid(), pyramid())
        sum(feature.square().sum() for feature in features).backward()
        assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


class TestCABDecoder:
    @pytest.mark.parametrize("bias", [False, True])
    def test_published_decoder_gives_the_same_numbers(self, bias: bool) -> None:
        ours = CABDecoder(8, unet_step=4, bias=bias, act=nn.PReLU())
        theirs = reference.Decoder(8, 3, 4, nn.PReLU(), bias, 4)
        assert list(theirs.state_dict()) == list(ours.state_dict())
        theirs.load_state_dict(ours.state_dict())
        features = pyramid()
        for got, expected in zip(ours(features), theirs(features), strict=True):
            torch.testing.assert_close(got, expected, **CLOSE)

    def test_three_levels_are_demanded(self) -> None:
        with pytest.raises(ValueError, match="features must hold 3 levels, got 2"):
            CABDecoder(8, unet_step=4)(pyramid()[:2])

    def test_every_parameter_gets_a_gradient(self) -> None:
        decoder = CABDecoder(8, unet_step=4)
        decoder(pyramid())[0].square().sum().backward()
        assert [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()] == []
