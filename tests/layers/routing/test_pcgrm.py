from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clusir_modules import PCGRM, Routing


def small_router(top_k: int = 2, **options: float) -> PCGRM:
    return PCGRM(6, num_clusters=5, num_experts=4, top_k=top_k, embed_dim=8, **options)


def posterior_by_hand(router: PCGRM, image: Tensor) -> tuple[list[float], list[float]]:
    """``p(c|x)`` and ``p(e|x)`` of one image ``(C, H, W)``, literally, one number at a time."""
    pooled = [float(channel.mean()) for channel in image]
    embedded = [
        sum(float(w) * p for w, p in zip(row, pooled)) + float(b)
        for row, b in zip(router.embed.weight, router.embed.bias)
    ]
    length = math.sqrt(sum(v * v for v in embedded))
    z = [v / length for v in embedded]
    temperature = math.exp(float(router.log_temperature))
    cluster_scores = []
    for prototype in router.prototypes.tolist():
        norm = math.sqrt(sum(v * v for v in prototype))
        cluster_scores.append(math.exp(sum(a * b / norm for a, b in zip(z, prototype)) / temperature))
    cluster_probs = [score / sum(cluster_scores) for score in cluster_scores]
    expert_probs = [0.0] * router.num_experts
    for c, p_c in enumerate(cluster_probs):
        logits = [
            math.exp(sum(g * v for g, v in zip(weight, z)) + b)
            for weight, b in zip(router.expert_weight[c].tolist(), router.expert_bias[c].tolist())
        ]
        for e, logit in enumerate(logits):
            expert_probs[e] += p_c * logit / sum(logits)
    return cluster_probs, expert_probs


class TestFormula:
    @torch.no_grad()
    @pytest.mark.parametrize("top_k", [1, 2, 4])
    def test_equals_a_literal_loop_over_clusters(self, top_k: int) -> None:
        router = small_router(top_k).double()
        router.prototypes.mul_(torch.rand(5, 1) * 3 + 0.5)  # rows are normalized in use, whatever their length
        x = torch.randn(3, 6, 4, 5, dtype=torch.float64)
        routing = router(x)
        for b in range(3):
            clusters, experts = posterior_by_hand(router, x[b])
            chosen = sorted(range(4), key=lambda e: -experts[e])[:top_k] if top_k < 4 else range(4)
            kept = [experts[e] for e in chosen]
            expected = {
                "cluster_probs": clusters,
                "expert_probs": experts,
                "topk_weights": [p / sum(kept) for p in kept],
                "topk_indices": list(chosen),
                "prompt": [
                    [p * v / math.dist(row, [0] * 8) for v in row]
                    for p, row in zip(clusters, router.prototypes.tolist())
                ],
            }
            for name, value in expected.items():
                actual = getattr(routing, name)[b]
                torch.testing.assert_close(actual, torch.tensor(value, dtype=actual.dtype), atol=1e-12, rtol=0)

    def test_the_mixture_is_that_of_its_logits(self) -> None:
        routing = small_router().double()(torch.randn(3, 6, 4, 5, dtype=torch.float64))
        mixture = torch.einsum("bl,ble->be", routing.cluster_probs, routing.expert_logits.softmax(2))
        torch.testing.assert_close(routing.expert_probs, mixture, atol=1e-12, rtol=0)

    def test_distributions_sum_to_one(self) -> None:
        routing = small_router()(torch.randn(16, 6, 5, 5))
        for probs in (routing.cluster_probs, routing.expert_probs, routing.topk_weights):
            assert probs.min() >= 0
            torch.testing.assert_close(probs.sum(1), torch.ones(16), atol=1e-6, rtol=0)

    def test_shapes_are_those_of_the_contract(self) -> None:
        routing = small_router()(torch.rand(3, 6, 1, 1))
        assert isinstance(routing, Routing)
        assert [tuple(value.shape) for value in routing] == [(3, 5), (3, 4), (3, 2), (3, 2), (3, 5, 8), (3, 5, 4)]
        assert routing.topk_indices.dtype == torch.int64

    def test_no_expert_is_chosen_twice(self) -> None:
        indices = small_router(3)(torch.randn(16, 6, 3, 3)).topk_indices
        assert all(len(set(row)) == 3 for row in indices.tolist())

    def test_dense_routing_keeps_the_mixture_as_it_is(self) -> None:
        routing = small_router(4)(torch.randn(3, 6, 3, 3))
        assert torch.equal(routing.topk_weights, routing.expert_probs)
        assert routing.topk_indices.tolist() == [[0, 1, 2, 3]] * 3

    def test_the_expert_distribution_can_have_several_peaks(self) -> None:
        router = PCGRM(2, num_clusters=2, num_experts=3, top_k=2, embed_dim=2)
        with torch.no_grad():
            router.prototypes.copy_(torch.eye(2))
            router.embed.weight.copy_(torch.eye(2))
            router.embed.bias.zero_()
            router.expert_weight.zero_()
            router.expert_bias.copy_(torch.tensor([[9.0, 0, 0], [0, 0, 9.0]]))
        routing = router(torch.ones(1, 2, 2, 2))  # as near to one cluster as to the other
        torch.testing.assert_close(routing.expert_probs[0, [0, 2]], torch.full((2,), 0.5), atol=1e-3, rtol=0)

    def test_only_the_means_of_the_channels_matter(self) -> None:
        router = small_router().double()
        x = torch.randn(1, 6, 4, 6, dtype=torch.float64)
        shuffled = x.flatten(2)[..., torch.randperm(24)].view_as(x)
        torch.testing.assert_close(router(shuffled).expert_probs, router(x).expert_probs)


class TestPrototypes:
    def test_start_orthonormal_where_there_is_room(self) -> None:
        prototypes = small_router().prototypes
        torch.testing.assert_close(prototypes @ prototypes.t(), torch.eye(5), atol=1e-5, rtol=0)

    def test_the_length_of_a_token_is_the_posterior_of_its_cluster(self) -> None:
        routing = small_router()(torch.randn(4, 6, 3, 3))
        torch.testing.assert_close(routing.prompt.norm(dim=-1), routing.cluster_probs)

    @torch.no_grad()
    @pytest.mark.parametrize(("log_temperature", "clamped"), [(-50.0, 0.01), (50.0, 10.0)])
    def test_the_temperature_is_clamped(self, log_temperature: float, clamped: float) -> None:
        router = small_router().double()
        x = torch.randn(2, 6, 3, 3, dtype=torch.float64)
        router.log_temperature.fill_(log_temperature)
        extreme = router(x)
        router.log_temperature.fill_(math.log(clamped))
        torch.testing.assert_close(extreme.cluster_probs, router(x).cluster_probs)
        assert all(torch.isfinite(value).all() for value in extreme)


class TestNoise:
    def test_disturbs_the_choice_in_training_only(self) -> None:
        router = small_router(noise_std=3.0)
        x = torch.randn(1, 6, 3, 3).expand(64, -1, -1, -1)
        assert len({tuple(sorted(row)) for row in router.train()(x).topk_indices.tolist()}) > 1
        assert len({tuple(row) for row in router.eval()(x).topk_indices.tolist()}) == 1

    def test_never_touches_the_weights(self) -> None:
        router = small_router(noise_std=3.0).train()
        routing = router(torch.randn(32, 6, 3, 3))
        kept = routing.expert_probs.gather(1, routing.topk_indices)
        torch.testing.assert_close(routing.topk_weights, kept / kept.sum(1, keepdim=True))

    def test_none_by_default(self) -> None:
        router = small_router().train()
        x = torch.randn(8, 6, 3, 3)
        assert torch.equal(router(x).topk_indices, router(x).topk_indices)


class TestFallback:
    @pytest.mark.parametrize("top_k", [2, 4])
    def test_weights_fall_in_a_line_from_the_threshold_to_nothing(self, top_k: int) -> None:
        router, sure = small_router(top_k, fallback=0.6).double(), small_router(top_k).double()
        sure.load_state_dict(router.state_dict())  # has no state
        x = torch.randn(32, 6, 3, 3, dtype=torch.float64)
        with torch.no_grad():
            sure.log_temperature.fill_(math.log(0.25))
            router.log_temperature.fill_(math.log(0.25))
        routing, whole = router(x), sure(x)
        posteriors = [max(posterior_by_hand(router, image)[0]) for image in x]
        shares = [1.0 if p >= 0.6 else (p - 0.2) / 0.4 for p in posteriors]
        assert min(shares) < 0.5
        assert max(shares) == 1
        expected = whole.topk_weights * torch.tensor(shares, dtype=torch.float64)[:, None]
        torch.testing.assert_close(routing.topk_weights, expected, atol=1e-12, rtol=0)
        for name in ("cluster_probs", "expert_probs", "topk_indices", "prompt", "expert_logits"):
            assert torch.equal(getattr(routing, name), getattr(whole, name))

    def test_an_image_like_none_of_the_prototypes_runs_no_expert(self) -> None:
        router = small_router(fallback=0.3)
        with torch.no_grad():
            router.embed.weight.zero_()
            router.embed.bias.zero_()
        assert router(torch.randn(2, 6, 3, 3)).topk_weights.abs().max() < 1e-6

    def test_the_weights_teach_the_router_to_be_sure(self) -> None:
        router = small_router(fallback=1.0)
        weights = router(torch.randn(4, 6, 3, 3)).topk_weights
        weights.sum().backward()  # without a fallback 4, whatever the parameters
        assert router.log_temperature.grad < 0
        assert router.prototypes.grad.abs().max() > 1e-4


class TestPrecision:
    def test_is_float32_under_autocast_and_in_bfloat16_networks(self) -> None:
        router = small_router()
        x = torch.randn(4, 6, 5, 5)
        expected = router(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = router(x)
        for value, reference in zip(inside, expected):
            assert torch.equal(value, reference)
        low = router.bfloat16()(x.bfloat16())
        assert low.expert_probs.dtype == low.cluster_probs.dtype == low.prompt.dtype == torch.float32
        torch.testing.assert_close(low.expert_probs.sum(1), torch.ones(4), atol=1e-6, rtol=0)

    @torch.no_grad()
    @pytest.mark.parametrize("value", [0.0, 1e20, -1e20])
    def test_extreme_maps_give_finite_distributions(self, value: float) -> None:
        router = small_router()
        router.embed.bias.zero_()
        routing = router(torch.full((2, 6, 3, 3), value))
        assert all(torch.isfinite(part).all() for part in routing)


def test_an_image_is_routed_alike_alone_and_in_any_batch() -> None:
    router = small_router().eval()
    x = torch.randn(5, 6, 4, 4)
    together = router(x)
    for b in range(5):
        for value, alone in zip(together, router(x[b : b + 1])):
            torch.testing.assert_close(value[b], alone[0], atol=1e-5, rtol=0)


class TestBadArguments:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"top_k": 5, "num_experts": 4}, ValueError, r"top_k must be in \[1, num_experts=4\], got 5"),
            ({"top_k": 0}, ValueError, "top_k must be >= 1, got 0"),
            ({"num_clusters": 0}, ValueError, "num_clusters must be >= 1, got 0"),
            ({"num_experts": 0}, ValueError, "num_experts must be >= 1, got 0"),
            ({"embed_dim": -1}, ValueError, "embed_dim must be >= 1, got -1"),
            ({"embed_dim": 8.0}, TypeError, "embed_dim must be an int, got float 8.0"),
            ({"noise_std": -0.1}, ValueError, "noise_std must be finite and >= 0, got -0.1"),
            ({"noise_std": math.nan}, ValueError, "noise_std must be finite and >= 0, got nan"),
            ({"fallback": 0.125}, ValueError, r"fallback must be in \(1 / num_clusters, 1\] = \(0.125, 1\], got 0.125"),
            ({"fallback": 1.01}, ValueError, "fallback must be in .*, got 1.01"),
            ({"fallback": "0.5"}, TypeError, "fallback must be a number, got str '0.5'"),
        ],
    )
    def test_options_are_named(self, options: dict[str, float], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            PCGRM(6, **options)

    def test_inputs_are_named(self) -> None:
        router = small_router()
        with pytest.raises(ValueError, match="x must have 6 channels, got 3"):
            router(torch.rand(1, 3, 4, 4))
        with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\), got \(6, 4, 4\)"):
            router(torch.rand(6, 4, 4))
        with pytest.raises(TypeError, match=r"x must be a floating-point tensor .* got torch.uint8"):
            router(torch.zeros(1, 6, 4, 4, dtype=torch.uint8))
        with pytest.raises(TypeError, match=r"x must be a torch.Tensor, got ndarray"):
            router(torch.zeros(1, 6, 4, 4).numpy())
