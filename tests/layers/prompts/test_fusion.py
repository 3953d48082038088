from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clusir_modules import PromptFusion


def norm_by_hand(tokens: Tensor) -> Tensor:
    """All numbers of an image together, as the norm of the prompt must run."""
    flat = tokens.flatten(1)
    return (flat / (flat.square().mean(1, keepdim=True) + 1e-8).sqrt()).view_as(tokens)


def prompt_of(posterior: Tensor, prototypes: Tensor) -> Tensor:
    return posterior[:, :, None] * prototypes


class TestPromptFusion:
    @torch.no_grad()
    def test_equals_cross_attention_by_hand(self) -> None:
        module = PromptFusion(6, 2).double()
        p_l, p_4 = torch.randn(3, 5, 6).double(), torch.randn(3, 2, 6).double()
        query, key = norm_by_hand(p_l), norm_by_hand(p_4)
        weight_q, weight_k, weight_v = module.attention.in_proj_weight.chunk(3)
        expected = torch.empty_like(p_l)
        for b in range(3):
            for token in range(5):
                parts = []
                for head in (slice(0, 3), slice(3, 6)):
                    q = (weight_q @ query[b, token])[head]
                    scores = torch.stack([q @ (weight_k @ k)[head] for k in key[b]]) / 3**0.5
                    values = torch.stack([(weight_v @ k)[head] for k in key[b]])
                    parts.append(scores.softmax(0) @ values)
                expected[b, token] = query[b, token] + module.attention.out_proj.weight @ torch.cat(parts)
        torch.testing.assert_close(module(p_l, p_4), expected, atol=1e-12, rtol=0)

    @torch.no_grad()
    @pytest.mark.parametrize("which", [0, 1])
    def test_the_posterior_of_a_cluster_survives(self, which: int) -> None:
        """A norm of each token alone would erase the length of a token, which is the posterior of its cluster."""
        module = PromptFusion(8, 2).double()
        prototypes = torch.nn.functional.normalize(torch.randn(5, 8), dim=-1).double()
        sure = prompt_of(torch.tensor([[0.96, 0.01, 0.01, 0.01, 0.01]]).double(), prototypes)
        unsure = prompt_of(torch.full((1, 5), 0.2).double(), prototypes)
        other = torch.randn(1, 3, 8).double()
        first, second = (module(*((prompt, other) if which == 0 else (other, prompt))) for prompt in (sure, unsure))
        assert float((first - second).norm() / second.norm()) > (0.3 if which == 0 else 0.01)

    @torch.no_grad()
    def test_the_tokens_of_a_sure_cluster_stand_out(self) -> None:
        module = PromptFusion(32, 2).double()
        prototypes = torch.nn.init.orthogonal_(torch.empty(8, 32)).double()
        posterior = torch.tensor([[0.65] + [0.05] * 7]).double()
        query = module(prompt_of(posterior, prototypes), torch.zeros(1, 3, 32).double())
        lengths = query.norm(dim=-1)[0]
        assert lengths[0] > 5 * lengths[1:].max()

    @torch.no_grad()
    def test_tokens_are_treated_alike_whatever_their_order(self) -> None:
        module = PromptFusion(8, 4).double()
        p_l, p_4 = torch.randn(2, 5, 8).double(), torch.randn(2, 4, 8).double()
        order = torch.randperm(5)
        torch.testing.assert_close(module(p_l[:, order], p_4), module(p_l, p_4)[:, order])
        torch.testing.assert_close(module(p_l, p_4.flip(1)), module(p_l, p_4))

    @torch.no_grad()
    def test_the_deepest_prompt_matters(self) -> None:
        module = PromptFusion(8, 2).double()
        p_l = torch.randn(1, 5, 8).double()
        first, second = (module(p_l, torch.randn(1, 4, 8).double()) for _ in range(2))
        assert float((first - second).norm() / first.norm()) > 0.05

    @torch.no_grad()
    def test_attention_over_several_keys_is_not_constant(self) -> None:
        module = PromptFusion(8, 2).double()
        p_l, p_4 = torch.randn(1, 5, 8).double(), torch.randn(1, 4, 8).double()
        attended = module(p_l, p_4) - norm_by_hand(p_l)
        assert float(attended.std(dim=1).max()) > 1e-3

    def test_is_float32_under_autocast(self) -> None:
        module = PromptFusion(8, 2)
        p_l, p_4 = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(module(p_l, p_4), module(p_l, p_4).float())
            inside = module(p_l, p_4)
        assert torch.equal(inside, module(p_l, p_4))

    def test_bad_arguments_are_named(self) -> None:
        with pytest.raises(ValueError, match="num_heads must leave at least 2 channels a head"):
            PromptFusion(8, 8)
        with pytest.raises(ValueError, match="embed_dim must be divisible by num_heads"):
            PromptFusion(8, 3)
        module = PromptFusion(8, 2)
        tokens = torch.rand(2, 5, 8)
        with pytest.raises(ValueError, match=r"p_l must have shape \(B, L, 8\) with L >= 1, got \(2, 5, 6\)"):
            module(torch.rand(2, 5, 6), tokens)
        with pytest.raises(ValueError, match=r"p_4 must have shape \(B, L, 8\) with L >= 1, got \(2, 8\)"):
            module(tokens, torch.rand(2, 8))
        with pytest.raises(TypeError, match=r"p_4 must be a floating-point tensor, got torch.int64"):
            module(tokens, tokens.long())
        with pytest.raises(TypeError, match=r"p_4 must be a torch.Tensor, got str"):
            module(tokens, "tokens")
        with pytest.raises(ValueError, match="p_4 must have the batch of p_l, 2, got 3"):
            module(tokens, torch.rand(3, 4, 8))
