from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clusir_modules import TransposedAttention
from clusir_modules.layers.transformer.transposed_attention import channel_similarity, channels_last_rows, mix_channels


class TestChannelSimilarity:
    @pytest.mark.parametrize("num_heads", [1, 2, 3])
    def test_is_the_cosine_of_each_pair_of_channels_of_a_head(self, num_heads: int) -> None:
        query, key = torch.randn(2, 2, 15, 6, dtype=torch.float64)
        similarity = channel_similarity(torch.cat((query, key), 2), num_heads)
        width = 6 // num_heads
        for b in range(2):
            for head in range(num_heads):
                for i in range(width):
                    for j in range(width):
                        q, k = query[b, :, head * width + i], key[b, :, head * width + j]
                        expected = F.cosine_similarity(q, k, dim=0)
                        torch.testing.assert_close(similarity[b, head, i, j], expected, atol=1e-12, rtol=0)

    def test_zero_maps_give_zero_and_finite_gradients(self) -> None:
        query = torch.zeros(1, 9, 4, requires_grad=True)
        key = torch.rand(1, 9, 4)
        similarity = channel_similarity(torch.cat((query, key), 2), 2)
        similarity.sum().backward()
        assert not similarity.any()
        assert torch.isfinite(query.grad).all()

    def test_half_precision_does_not_overflow(self) -> None:
        query = torch.full((1, 65536, 2), 200.0, dtype=torch.float16)  # a sum of squares of 2.6e9
        similarity = channel_similarity(torch.cat((query, query), 2), 1)
        assert similarity.dtype == torch.float32
        torch.testing.assert_close(similarity, torch.ones_like(similarity), atol=5e-3, rtol=0)


class TestMixChannels:
    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("with_bias", [False, True])
    def test_is_a_1x1_convolution_of_each_image(self, batch: int, with_bias: bool) -> None:
        x, weight = torch.randn(batch, 5, 4, 3), torch.randn(batch, 5, 2)
        bias = torch.randn(2) if with_bias else None
        y = mix_channels(channels_last_rows(x), weight, bias, (4, 3))
        for b in range(batch):
            torch.testing.assert_close(y[b : b + 1], F.conv2d(x[b : b + 1], weight[b].t()[..., None, None], bias))

    @pytest.mark.parametrize("batch", [1, 2])
    def test_leaves_a_channels_last_map_that_convolutions_recognize(self, batch: int) -> None:
        """A batch of one has a stride that nothing reads, but by which the layout is told."""
        x = torch.randn(batch, 4, 6, 8).contiguous(memory_format=torch.channels_last)
        y = mix_channels(channels_last_rows(x), torch.randn(batch, 4, 6), None, (6, 8))
        assert y.stride() == (6 * 8 * 6, 1, 8 * 6, 6)


class TestTransposedAttention:
    def test_equals_the_formula(self) -> None:
        module = TransposedAttention(6, 2).double()
        torch.nn.init.uniform_(module.temperature, 0.5, 3)
        x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
        qkv = F.conv2d(F.conv2d(x, module.qkv.weight), module.depthwise.weight, padding=1, groups=18)
        query, key, value = (t.reshape(2, 2, 3, 20) for t in qkv.chunk(3, dim=1))
        weights = (F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT * module.temperature).softmax(-1)
        expected = F.conv2d((weights @ value).reshape(2, 6, 4, 5), module.project_out.weight, module.project_out.bias)
        torch.testing.assert_close(module(x), expected, atol=1e-12, rtol=0)

    @torch.no_grad()
    def test_the_attention_is_live(self) -> None:
        module = TransposedAttention(6, 3).double()
        x = torch.randn(1, 6, 5, 5, dtype=torch.float64)
        before = module(x)
        module.temperature.mul_(5)
        assert float((module(x) - before).abs().max()) > 1e-4

    @pytest.mark.parametrize(
        ("dim", "num_heads", "message"),
        [
            (8, 8, "num_heads must leave at least 2 channels a head"),
            (1, 1, "num_heads must leave at least 2 channels a head"),
            (8, 3, "dim must be divisible by num_heads, got dim=8 and num_heads=3"),
            (8, 0, "num_heads must be >= 1, got 0"),
            (0, 1, "dim must be >= 1, got 0"),
        ],
    )
    def test_heads_that_do_not_fit_are_refused(self, dim: int, num_heads: int, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            TransposedAttention(dim, num_heads)
