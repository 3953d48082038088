from __future__ import annotations

import pytest
import torch

from clusir_modules.layers.basic.resample import Downsample, Upsample


class TestResample:
    def test_down_doubles_channels_and_up_halves_them(self) -> None:
        x = torch.rand(2, 6, 4, 10)
        assert Downsample(6)(x).shape == (2, 12, 2, 5)
        assert Upsample(6)(x).shape == (2, 3, 8, 20)

    def test_up_undoes_the_shapes_of_down(self) -> None:
        x = torch.rand(1, 4, 6, 8)
        assert Upsample(8)(Downsample(4)(x)).shape == x.shape

    def test_every_pixel_of_the_input_is_used_by_down(self) -> None:
        x = torch.rand(1, 2, 6, 6, requires_grad=True)
        Downsample(2)(x).square().sum().backward()
        assert x.grad.ne(0).all()

    @pytest.mark.parametrize("module", [Downsample, Upsample])
    def test_odd_width_is_refused(self, module: type[torch.nn.Module]) -> None:
        with pytest.raises(ValueError, match="dim must be even, got 5"):
            module(5)
        with pytest.raises(ValueError, match="dim must be >= 1, got 0"):
            module(0)
