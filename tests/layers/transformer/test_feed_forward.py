from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clusir_modules import GatedFeedForward, LayerNorm2d


class TestGatedFeedForward:
    @pytest.mark.parametrize(("hidden_dim", "kernel_size"), [(None, 3), (5, 5), (3, 1)])
    def test_is_the_product_of_the_two_halves(self, hidden_dim: int | None, kernel_size: int) -> None:
        module = GatedFeedForward(4, hidden_dim=hidden_dim, kernel_size=kernel_size).double()
        hidden = 4 if hidden_dim is None else hidden_dim
        x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
        expand, depthwise, project = module.project_in, module.depthwise, module.project_out
        h = torch.einsum("oc,bchw->bohw", expand.weight[:, :, 0, 0], x) + expand.bias[:, None, None]
        h = torch.cat(
            [
                F.conv2d(
                    h[:, i : i + 1], depthwise.weight[i : i + 1], depthwise.bias[i : i + 1], padding=kernel_size // 2
                )
                for i in range(2 * hidden)
            ],
            dim=1,
        )
        expected = torch.einsum("oh,bhyx->boyx", project.weight[:, :, 0, 0], h[:, :hidden] * h[:, hidden:])
        torch.testing.assert_close(module(x), expected + project.bias[:, None, None], atol=1e-12, rtol=0)

    def test_bad_arguments_are_named(self) -> None:
        with pytest.raises(ValueError, match="kernel_size must be odd, got 4"):
            GatedFeedForward(4, kernel_size=4)
        with pytest.raises(ValueError, match="hidden_dim must be >= 1, got 0"):
            GatedFeedForward(4, hidden_dim=0)
        with pytest.raises(TypeError, match="dim must be an int"):
            GatedFeedForward(4.0)
        with pytest.raises(ValueError, match="x must have 4 channels, got 3"):
            GatedFeedForward(4)(torch.rand(1, 3, 4, 4))


class TestLayerNorm2d:
    def test_normalizes_the_channels_of_each_pixel(self) -> None:
        x = torch.randn(2, 6, 3, 4, dtype=torch.float64) * 5 + 2
        y = LayerNorm2d(6).double()(x)
        expected = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
        torch.testing.assert_close(y, expected)
