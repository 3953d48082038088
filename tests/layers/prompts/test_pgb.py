from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clusir_modules import PGB


class TestPGB:
    @torch.no_grad()
    def test_equals_the_formula(self) -> None:
        module = PGB(6, 4, num_components=3, size=5).double()
        tokens = torch.randn(2, 7, 6).double()
        m = module(tokens, (9, 8))
        for b in range(2):
            pooled = sum(tokens[b])
            normed = pooled / pooled.square().sum().sqrt()
            logits = [float(row @ normed + bias) for row, bias in zip(module.mix.weight, module.mix.bias)]
            weights = torch.tensor(logits, dtype=torch.float64).softmax(0)
            mixed = sum(w * component for w, component in zip(weights, module.components))
            drawn = F.conv2d(mixed[None], module.conv.weight, module.conv.bias, padding=1)
            expected = F.interpolate(drawn, size=(9, 8), mode="bilinear", align_corners=False)
            torch.testing.assert_close(m[b : b + 1], expected, atol=1e-12, rtol=0)

    @torch.no_grad()
    def test_of_one_pixel_is_a_mixed_vector_through_a_matrix(self) -> None:
        module = PGB(6, 4, num_components=3, size=1).double()
        tokens = torch.randn(2, 7, 6).double()
        pooled = tokens.sum(1)
        weights = module.mix(pooled / pooled.norm(dim=1, keepdim=True)).softmax(1)
        expected = weights @ module.components[..., 0, 0] @ module.conv.weight[..., 0, 0].T + module.conv.bias
        for size in ((1, 1), (3, 5)):
            m = module(tokens, size)
            torch.testing.assert_close(m, expected[..., None, None].expand(2, 4, *size), atol=1e-12, rtol=0)

    @pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 11), (40, 7)])
    def test_draws_a_map_of_any_size(self, size: tuple[int, int]) -> None:
        m = PGB(6, 4, size=4)(torch.randn(2, 3, 6), size)
        assert m.shape == (2, 4, *size)
        assert torch.isfinite(m).all()

    @torch.no_grad()
    def test_different_tokens_draw_different_maps(self) -> None:
        first, second = PGB(6, 4)(torch.randn(2, 3, 6), (8, 8))
        assert float((first - second).norm() / first.norm()) > 1e-2

    def test_long_tokens_do_not_saturate_the_mixture(self) -> None:
        tokens = torch.randn(2, 3, 6, requires_grad=True)
        module = PGB(6, 4)
        module(1e4 * tokens, (8, 8)).square().sum().backward()
        assert module.mix.weight.grad is not None
        assert float(module.mix.weight.grad.abs().max()) > 1e-3

    def test_bad_arguments_are_named(self) -> None:
        for options, name in (({"num_components": 0}, "num_components"), ({"size": 0}, "size"), ({"size": -3}, "size")):
            with pytest.raises(ValueError, match=f"{name} must be >= 1"):
                PGB(6, 4, **options)
        with pytest.raises(ValueError, match="dim must be >= 1, got 0"):
            PGB(6, 0)
        with pytest.raises(ValueError, match="embed_dim must be >= 1, got 0"):
            PGB(0, 4)
        with pytest.raises(ValueError, match=r"tokens must have shape \(B, L, 6\) with L >= 1, got \(1, 3, 5\)"):
            PGB(6, 4)(torch.rand(1, 3, 5), (8, 8))
        with pytest.raises(TypeError, match="tokens must be a floating-point tensor"):
            PGB(6, 4)(torch.ones(1, 3, 6, dtype=torch.int64), (8, 8))
        with pytest.raises(ValueError, match=r"tokens must have shape .* got \(1, 0, 6\)"):
            PGB(6, 4)(torch.rand(1, 0, 6), (8, 8))
        with pytest.raises(TypeError, match=r"tokens must be a torch\.Tensor, got NoneType"):
            PGB(6, 4)(None, (8, 8))
        for size in (7, (7,), None):
            with pytest.raises(TypeError, match=r"size must be a pair \(H, W\), got"):
                PGB(6, 4)(torch.rand(1, 3, 6), size)
        with pytest.raises(ValueError, match=r"size must be at least \(1, 1\), got \(0, 4\)"):
            PGB(6, 4)(torch.rand(1, 3, 6), (0, 4))
