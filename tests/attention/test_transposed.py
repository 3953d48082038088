from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clusir_modules import TransposedAttention
from clusir_modules.attention.transposed import apply_channel_attention, channel_similarity


class TestChannelSimilarity:
    @pytest.mark.parametrize("num_heads", [1, 2, 3])
    def test_is_the_cosine_of_each_pair_of_channels_of_a_head(self, num_heads: int) -> None:
        query, key = torch.randn(2, 2, 6, 3, 5, dtype=torch.float64)
        similarity = channel_similarity(query, key, num_heads)
        width = 6 // num_heads
        for b in range(2):
            for head in range(num_heads):
                for i in range(width):
                    for j in range(width):
                        q, k = query[b, head * width + i].flatten(), key[b, head * width + j].flatten()
                        expected = F.cosine_similarity(q, k, dim=0)
                        torch.testing.assert_close(similarity[b, head, i, j], expected, atol=1e-12, rtol=0)

    def test_zero_maps_give_zero_and_finite_gradients(self) -> None:
        query = torch.zeros(1, 4, 3, 3, requires_grad=True)
        key = torch.rand(1, 4, 3, 3)
        similarity = channel_similarity(query, key, 2)
        similarity.sum().backward()
        assert not similarity.any()
        assert torch.isfinite(query.grad).all()

    def test_half_precision_does_not_overflow(self) -> None:
        query = torch.full((1, 2, 256, 256), 200.0, dtype=torch.float16)  # a sum of squares of 2.6e9
        similarity = channel_similarity(query, query, 1)
        assert similarity.dtype == torch.float32
        torch.testing.assert_close(similarity, torch.ones_like(similarity), atol=5e-3, rtol=0)

    def test_values_are_mixed_by_head(self) -> None:
        attention, value = torch.randn(2, 2, 3, 3), torch.randn(2, 6, 4, 5)
        expected = torch.einsum("bnij,bnjhw->bnihw", attention, value.unflatten(1, (2, 3))).flatten(1, 2)
        torch.testing.assert_close(apply_channel_attention(attention, value), expected)


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
