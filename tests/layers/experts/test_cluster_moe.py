from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from clusir_modules import PCGRM, ClusterMoE, GatedFeedForward, Routing


def small_moe(top_k: int = 2, num_experts: int = 4, **options: object) -> ClusterMoE:
    return ClusterMoE(6, num_experts=num_experts, num_clusters=5, top_k=top_k, embed_dim=8, **options)


def expert_as_module(moe: ClusterMoE, number: int) -> GatedFeedForward:
    """The same numbers as stacked expert ``number``, as a module of its own."""
    stacked = moe.experts
    module = GatedFeedForward(moe.dim, hidden_dim=stacked.hidden_dim, kernel_size=stacked.kernel_size)
    module.to(stacked.expand_weight.dtype)
    module.load_state_dict(
        {
            "project_in.weight": stacked.expand_weight[number, :, :, None, None],
            "project_in.bias": torch.zeros(2 * stacked.hidden_dim),
            "depthwise.weight": stacked.depthwise_weight[number].unsqueeze(1),
            "depthwise.bias": stacked.depthwise_bias[number],
            "project_out.weight": stacked.project_weight[number].t()[:, :, None, None],
            "project_out.bias": stacked.project_bias[number],
        }
    )
    return module


def dense_sum(moe: ClusterMoE, x: Tensor, weights: Tensor) -> Tensor:
    """All experts run on everything, weighted by ``(B, E)``."""
    normed = moe.norm(x)
    routed = sum(
        weights[:, e, None, None, None] * expert_as_module(moe, e)(normed) for e in range(moe.router.num_experts)
    )
    return x + moe.shared_expert(normed) + routed


class TestFormula:
    @torch.no_grad()
    def test_all_experts_active_is_the_dense_sum(self) -> None:
        moe = small_moe(top_k=4).double()
        x = torch.randn(3, 6, 5, 4, dtype=torch.float64)
        torch.testing.assert_close(moe(x), dense_sum(moe, x, moe.router(x).expert_probs), atol=1e-12, rtol=0)

    @torch.no_grad()
    @pytest.mark.parametrize("top_k", [1, 2, 3])
    def test_top_k_is_the_masked_and_renormalized_dense_sum(self, top_k: int) -> None:
        moe = small_moe(top_k).double()
        x = torch.randn(3, 6, 5, 4, dtype=torch.float64)
        probs = moe.router(x).expert_probs
        masked = torch.where(probs >= probs.sort(descending=True).values[:, top_k - 1 : top_k], probs, 0)
        expected = dense_sum(moe, x, masked / masked.sum(1, keepdim=True))
        torch.testing.assert_close(moe(x), expected, atol=1e-12, rtol=0)

    @torch.no_grad()
    def test_modules_of_ones_own_give_what_the_stack_gives(self) -> None:
        stacked = small_moe().double()
        own = small_moe(experts=nn.ModuleList(expert_as_module(stacked, e) for e in range(4))).double()
        for name in ("router", "norm", "shared_expert"):
            getattr(own, name).load_state_dict(getattr(stacked, name).state_dict())
        x = torch.randn(5, 6, 4, 7, dtype=torch.float64)
        torch.testing.assert_close(own(x), stacked(x), atol=1e-12, rtol=0)

    @torch.no_grad()
    def test_the_shared_expert_always_runs(self) -> None:
        moe = small_moe().double()
        x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
        before = moe(x)
        moe.shared_expert.project_out.bias.add_(1)
        torch.testing.assert_close(moe(x), before + 1, atol=1e-12, rtol=0)

    @torch.no_grad()
    def test_the_shared_expert_alone_carries_an_image_of_which_the_router_knows_nothing(self) -> None:
        moe = small_moe(router=partial(PCGRM, fallback=0.5)).double()
        for parameter in moe.router.embed.parameters():
            parameter.zero_()
        x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
        torch.testing.assert_close(moe(x), x + moe.shared_expert(moe.norm(x)), atol=1e-12, rtol=0)


class TestGradients:
    @pytest.mark.parametrize("top_k", [1, 2])
    def test_one_image_gives_gradient_to_its_experts_and_zero_to_the_others(self, top_k: int) -> None:
        moe = small_moe(top_k)
        y, routing = moe(torch.randn(1, 6, 5, 5), return_routing=True)
        y.square().sum().backward()
        chosen = set(routing.topk_indices[0].tolist())
        for name, parameter in moe.experts.named_parameters():
            assert parameter.grad is not None, name
            assert {e for e in range(4) if parameter.grad[e].any()} == chosen, name

    def test_one_image_gives_gradient_to_its_own_modules_and_zero_to_the_others(self) -> None:
        moe = small_moe(1, experts=nn.ModuleList(nn.Conv2d(6, 6, 1) for _ in range(4)))
        y, routing = moe(torch.randn(1, 6, 5, 5), return_routing=True)
        y.square().sum().backward()
        chosen = routing.topk_indices.item()
        assert [bool(expert.weight.grad.any()) for expert in moe.experts] == [e == chosen for e in range(4)]

    def test_the_router_learns_from_the_output(self) -> None:
        moe = small_moe()
        moe(torch.randn(2, 6, 5, 5)).square().sum().backward()
        assert [name for name, p in moe.router.named_parameters() if p.grad is None or not p.grad.any()] == []


class TestRouting:
    @torch.no_grad()
    def test_a_given_routing_is_used_and_the_router_rests(self) -> None:
        moe = small_moe()
        x = torch.randn(2, 6, 4, 4)
        y, routing = moe(x, return_routing=True)
        moe.router.register_forward_hook(lambda *_: pytest.fail("the router ran"))
        again, used = moe(x, routing=routing, return_routing=True)
        assert torch.equal(again, y)
        assert all(torch.equal(a, b) for a, b in zip(used, routing))

    @torch.no_grad()
    def test_the_routing_of_one_image_serves_a_batch(self) -> None:
        moe = small_moe().double()
        routing = moe.router(torch.randn(1, 6, 4, 4).double())
        x = torch.randn(3, 6, 4, 4, dtype=torch.float64)
        y, used = moe(x, routing=routing, return_routing=True)
        assert used.topk_indices.shape == (3, 2)
        for b in range(3):
            torch.testing.assert_close(y[b : b + 1], moe(x[b : b + 1], routing=routing), atol=1e-12, rtol=0)

    def test_the_output_is_a_tensor_unless_routing_is_asked_for(self) -> None:
        x = torch.randn(2, 6, 4, 4)
        assert isinstance(small_moe()(x), Tensor)
        y, routing = small_moe()(x, return_routing=True)
        assert isinstance(y, Tensor)
        assert isinstance(routing, Routing)

    @torch.no_grad()
    @pytest.mark.parametrize("own", [False, True])
    def test_an_image_comes_out_alike_alone_and_in_any_batch(self, own: bool) -> None:
        experts = {"experts": [nn.Conv2d(6, 6, 3, padding=1) for _ in range(4)]} if own else {}
        moe = small_moe(**experts, noise_std=1.0).eval()
        x = torch.randn(5, 6, 6, 5) * 3
        together = moe(x)
        for b in range(5):
            torch.testing.assert_close(together[b : b + 1], moe(x[b : b + 1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(moe(x.flip(0)).flip(0), together, atol=1e-5, rtol=0)


class TestBadArguments:
    def test_options_are_named(self) -> None:
        with pytest.raises(ValueError, match=r"top_k must be in \[1, num_experts=4\], got 5"):
            small_moe(top_k=5)
        with pytest.raises(ValueError, match="experts must hold num_experts=4 modules, got 3"):
            small_moe(experts=nn.ModuleList(nn.Identity() for _ in range(3)))
        with pytest.raises(ValueError, match="hidden_dim must be >= 1, got 0"):
            small_moe(hidden_dim=0)
        with pytest.raises(ValueError, match="noise_std must be finite and >= 0, got -1"):
            small_moe(noise_std=-1.0)
        with pytest.raises(TypeError, match="noise_std must be a number, got str 'a'"):
            small_moe(noise_std="a")
        with pytest.raises(TypeError, match="experts must be modules or make them, got int"):
            small_moe(experts=4)
        with pytest.raises(ValueError, match="router must have the attribute num_experts=4, got 3"):
            small_moe(router=PCGRM(6, num_experts=3))
        with pytest.raises(ValueError, match="router must have the attribute num_experts=4, got no such attribute"):
            small_moe(router=nn.Identity())

    def test_a_routing_that_does_not_fit_is_named(self) -> None:
        moe, other = small_moe(), small_moe(num_experts=3)
        x = torch.randn(3, 6, 4, 4)
        with pytest.raises(ValueError, match="routing must belong to 1 or to 3 images, got 2"):
            moe(x, routing=moe.router(x[:2]))
        with pytest.raises(ValueError, match="routing must be over num_experts=4 experts, got 3"):
            moe(x, routing=other.router(x))
        routing = moe.router(x)
        with pytest.raises(ValueError, match=r"topk_weights of the shape of topk_indices, \(3, 2\), got \(3, 1\)"):
            moe(x, routing=routing._replace(topk_weights=routing.topk_weights[:, :1]))
        with pytest.raises(TypeError, match="routing must be a Routing, got tuple"):
            moe(x, routing=tuple(routing))

    def test_inputs_are_named(self) -> None:
        moe = small_moe()
        with pytest.raises(ValueError, match="x must have 6 channels, got 4"):
            moe(torch.rand(1, 4, 4, 4))
        with pytest.raises(ValueError, match="x must have shape"):
            moe(torch.rand(6, 4, 4))
        with pytest.raises(TypeError, match="x must be a floating-point tensor"):
            moe(torch.ones(1, 6, 4, 4, dtype=torch.int64))
