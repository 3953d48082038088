from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from clusir_modules import (
    PCGRM,
    Routing,
    choose_experts,
    cluster_information_loss,
    load_balance_loss,
    orthogonality_loss,
    router_z_loss,
)


def routing_of(cluster_probs: Tensor, expert_probs: Tensor) -> Routing:
    empty = cluster_probs.new_zeros(cluster_probs.shape[0], 1)
    logits = expert_probs.log().unsqueeze(1) + 2
    return Routing(cluster_probs, expert_probs, empty, empty.long(), cluster_probs.unsqueeze(-1), logits)


def random_routing(batch: int = 6, clusters: int = 5, experts: int = 4) -> Routing:
    return routing_of(torch.randn(batch, clusters).double().softmax(1), torch.randn(batch, experts).double().softmax(1))


def one_hot(rows: list[int], count: int) -> Tensor:
    return torch.eye(count)[rows]


class TestLoadBalance:
    def test_is_the_squared_coefficient_of_variation(self) -> None:
        routing = random_routing()
        mean = routing.expert_probs.mean(0)
        expected = (mean.std(unbiased=False) / mean.mean()) ** 2
        torch.testing.assert_close(load_balance_loss(routing), expected, atol=1e-12, rtol=0)

    @pytest.mark.parametrize("experts", [1, 3, 8])
    def test_is_zero_for_even_use_and_greatest_for_one_expert(self, experts: int) -> None:
        clusters = torch.ones(experts, 1)
        assert float(load_balance_loss(routing_of(clusters, torch.full((experts, experts), 1 / experts)))) < 1e-12
        assert float(load_balance_loss(routing_of(clusters, torch.eye(experts)))) < 1e-12  # even over the batch
        single = routing_of(clusters, one_hot([0] * experts, experts))
        torch.testing.assert_close(load_balance_loss(single), torch.tensor(experts - 1.0))

    def test_sharing_it_without_other_processes_changes_nothing(self) -> None:
        routings = [random_routing(experts=experts) for experts in (3, 5)]
        assert torch.equal(load_balance_loss(routings, all_reduce=True), load_balance_loss(routings))
        information = cluster_information_loss(routings, all_reduce=True)
        assert torch.equal(information, cluster_information_loss(routings))

    def test_descending_it_balances_the_experts(self) -> None:
        router, x = PCGRM(6, num_clusters=4, num_experts=4, top_k=2, embed_dim=8), torch.randn(16, 6, 3, 3)
        optimizer = torch.optim.Adam(router.parameters(), 0.05)
        start = float(load_balance_loss(router(x)).detach())
        for _ in range(30):
            optimizer.zero_grad()
            load_balance_loss(router(x)).backward()
            optimizer.step()
        assert float(load_balance_loss(router(x)).detach()) < 0.1 * start


class TestClusterInformation:
    def test_is_the_negative_mutual_information(self) -> None:
        routing = random_routing()
        probs = routing.cluster_probs.tolist()
        joint = [[p / len(probs) for p in row] for row in probs]
        marginal = [sum(column) for column in zip(*joint)]
        information = sum(p * math.log(p / (marginal[c] / len(probs))) for row in joint for c, p in enumerate(row))
        expected = torch.tensor(-information / math.log(5), dtype=torch.float64)
        torch.testing.assert_close(cluster_information_loss(routing), expected, atol=1e-12, rtol=0)

    def test_reaches_its_bounds(self) -> None:
        experts = torch.ones(4, 1)
        best = cluster_information_loss(routing_of(torch.eye(4), experts))
        torch.testing.assert_close(best, torch.tensor(-1.0))
        for useless in (one_hot([2] * 4, 4), torch.full((4, 4), 0.25)):
            assert abs(float(cluster_information_loss(routing_of(useless, experts)))) < 1e-6

    def test_with_labels_is_that_of_label_and_cluster(self) -> None:
        """Against scipy's divergence of the joint distribution from the product of its marginals."""
        from scipy.stats import entropy
        from scipy.stats.contingency import crosstab, expected_freq

        clusters, labels = [0, 0, 1, 2, 2, 2, 1, 0], [7, 7, 7, 3, 3, 5, 5, 5]
        counts = crosstab(labels, clusters).count
        information = entropy(counts.ravel(), expected_freq(counts).ravel())
        routing = routing_of(one_hot(clusters, 4).double(), torch.ones(8, 1))
        expected = torch.tensor(-information / math.log(4), dtype=torch.float64)
        torch.testing.assert_close(
            cluster_information_loss(routing, torch.tensor(labels)), expected, atol=1e-12, rtol=0
        )

    def test_labels_that_all_differ_are_images_and_one_label_tells_nothing(self) -> None:
        routing = random_routing()
        own = cluster_information_loss(routing, torch.arange(6))
        torch.testing.assert_close(own, cluster_information_loss(routing), atol=1e-12, rtol=0)
        assert abs(float(cluster_information_loss(routing, torch.zeros(6, dtype=torch.long)))) < 1e-12

    @pytest.mark.parametrize(
        ("labels", "error", "message"),
        [
            (torch.zeros(6), TypeError, "labels must be a tensor of integers, got torch.float32"),
            ([0] * 6, TypeError, "labels must be a tensor of integers, got list"),
            (torch.zeros(5, dtype=torch.long), ValueError, r"labels must have shape \(B,\), here \(6,\), got \(5,\)"),
        ],
    )
    def test_other_labels_are_refused(self, labels: Tensor, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            cluster_information_loss(random_routing(), labels)

    @pytest.mark.parametrize("shape", [(1, 5), (6, 1)])
    def test_is_zero_for_one_image_or_one_cluster(self, shape: tuple[int, int]) -> None:
        assert abs(float(cluster_information_loss(random_routing(*shape)))) < 1e-12

    def test_has_finite_gradients_where_the_posterior_is_sure(self) -> None:
        probs = torch.eye(4).requires_grad_()
        cluster_information_loss(routing_of(probs, torch.ones(4, 1))).backward()
        assert torch.isfinite(probs.grad).all()

    def test_descending_it_separates_images(self) -> None:
        router, x = PCGRM(6, num_clusters=4, num_experts=4, top_k=2, embed_dim=8), torch.randn(16, 6, 3, 3)
        optimizer = torch.optim.Adam(router.parameters(), 0.02)
        start = float(cluster_information_loss(router(x)).detach())
        for _ in range(30):
            optimizer.zero_grad()
            cluster_information_loss(router(x)).backward()
            optimizer.step()
        assert float(cluster_information_loss(router(x)).detach()) < start - 0.2

    def test_descending_it_with_labels_brings_images_of_one_label_together(self) -> None:
        router, labels = PCGRM(6, num_clusters=4, num_experts=4, top_k=2, embed_dim=8), torch.arange(16) % 4
        x = torch.randn(16, 6, 3, 3) + 3 * torch.randn(4, 6, 1, 1)[labels]
        optimizer = torch.optim.Adam(router.parameters(), 0.05)
        for _ in range(60):
            optimizer.zero_grad()
            cluster_information_loss(router(x), labels).backward()
            optimizer.step()
        assert float(cluster_information_loss(router(x), labels).detach()) < -0.9
        chosen = router(x).cluster_probs.argmax(dim=1)
        assert all(len(chosen[labels == label].unique()) == 1 for label in range(4))


class TestRouterZ:
    def test_is_the_squared_log_partition_of_each_cluster_weighted_by_its_posterior(self) -> None:
        router = PCGRM(6, num_clusters=5, num_experts=4, top_k=2, embed_dim=8).double()
        routing = router(torch.randn(3, 6, 4, 4, dtype=torch.float64))
        total = 0.0
        for posterior, clusters in zip(routing.cluster_probs.tolist(), routing.expert_logits.tolist()):
            for p, logits in zip(posterior, clusters):
                total += p * math.log(sum(math.exp(logit) for logit in logits)) ** 2
        torch.testing.assert_close(
            router_z_loss(routing), torch.tensor(total / 3, dtype=torch.float64), atol=1e-12, rtol=0
        )

    def test_is_that_of_a_plain_softmax_router(self) -> None:
        logits = torch.randn(6, 4)
        routing = choose_experts(logits.softmax(1), 2, expert_logits=logits[:, None])
        torch.testing.assert_close(router_z_loss(routing), logits.exp().sum(1).log().square().mean())
        of_clusters = choose_experts(
            logits.softmax(1), 2, cluster_probs=torch.rand(6, 3).softmax(1), expert_logits=logits[:, None]
        )
        torch.testing.assert_close(router_z_loss(of_clusters), router_z_loss(routing))

    def test_descending_it_shrinks_the_logits_and_moves_no_image_to_another_cluster(self) -> None:
        router, x = PCGRM(6, num_clusters=4, num_experts=4, top_k=2, embed_dim=8), torch.randn(16, 6, 3, 3)
        loss = router_z_loss(router(x))
        loss.backward()
        assert router.prototypes.grad is None
        assert router.log_temperature.grad is None
        with torch.no_grad():
            for parameter in (router.expert_weight, router.expert_bias, *router.embed.parameters()):
                parameter.sub_(0.05 * parameter.grad)
        assert float(router_z_loss(router(x)).detach()) < 0.9 * float(loss.detach())

    def test_a_router_without_logits_is_refused(self) -> None:
        with pytest.raises(ValueError, match="routings must hold expert_logits, got None"):
            router_z_loss([choose_experts(torch.ones(2, 3) / 3, 1)])
        with pytest.raises(ValueError, match=r"expert_logits must have shape \(2, 1, 3\) or \(2, 1, 3\), got \(2, 3\)"):
            choose_experts(torch.ones(2, 3) / 3, 1, expert_logits=torch.zeros(2, 3))


class TestOrthogonality:
    def test_is_the_mean_squared_cosine_of_different_prototypes(self) -> None:
        router = PCGRM(6, num_clusters=5, num_experts=4, top_k=2, embed_dim=3).double()
        nn.init.normal_(router.prototypes)
        rows = router.prototypes.tolist()
        total = 0.0
        for i, a in enumerate(rows):
            for j, b in enumerate(rows):
                if i != j:
                    cosine = sum(p * q for p, q in zip(a, b)) / math.hypot(*a) / math.hypot(*b)
                    total += cosine**2
        expected = torch.tensor(total / 20, dtype=torch.float64)
        torch.testing.assert_close(orthogonality_loss(router), expected, atol=1e-12, rtol=0)

    def test_reaches_its_bounds(self) -> None:
        router = PCGRM(6, num_clusters=3, num_experts=4, top_k=2, embed_dim=4)
        assert float(orthogonality_loss(router).detach()) < 1e-10
        nn.init.ones_(router.prototypes)
        torch.testing.assert_close(orthogonality_loss(router), torch.tensor(1.0))
        assert float(orthogonality_loss(PCGRM(6, num_clusters=1, num_experts=4, top_k=2, embed_dim=4)).detach()) == 0

    def test_averages_over_all_routers_of_a_network(self) -> None:
        routers = [PCGRM(6, num_clusters=count, num_experts=4, top_k=2, embed_dim=3).double() for count in (4, 5)]
        for router in routers:
            nn.init.normal_(router.prototypes)
        net = nn.Sequential(nn.Linear(2, 2), nn.ModuleDict({"a": routers[0], "b": routers[1]}))
        expected = (orthogonality_loss(routers[0]) + orthogonality_loss(routers[1])) / 2
        torch.testing.assert_close(orthogonality_loss(net), expected)

    def test_a_module_without_router_is_refused(self) -> None:
        with pytest.raises(ValueError, match="net must hold a router with prototypes, got Conv2d without one"):
            orthogonality_loss(nn.Conv2d(3, 3, 1))
        with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module, got tuple"):
            orthogonality_loss(())


@pytest.mark.parametrize("loss", [load_balance_loss, cluster_information_loss, router_z_loss])
class TestSequences:
    def test_averages_over_routers(self, loss: type) -> None:
        first, second = random_routing(experts=4, clusters=3), random_routing(experts=2, clusters=7)
        torch.testing.assert_close(loss((first, second)), (loss(first) + loss(second)) / 2)
        torch.testing.assert_close(loss([first]), loss(first))

    def test_nothing_is_refused(self, loss: type) -> None:
        with pytest.raises(ValueError, match="routings must hold at least one Routing, got none"):
            loss(())
        with pytest.raises(ValueError, match="routings must hold at least one image"):
            loss(random_routing(batch=0))
        with pytest.raises(TypeError, match="routings must hold Routings, got int"):
            loss([1])
        with pytest.raises(TypeError, match="routings must be a Routing or a sequence of them, got Tensor"):
            loss(torch.rand(2, 3))

    def test_trains_the_router(self, loss: type) -> None:
        router = PCGRM(6, num_clusters=4, num_experts=4, top_k=2, embed_dim=8)
        loss(router(torch.randn(4, 6, 3, 3))).backward()
        assert router.embed.weight.grad.any()
        assert (router.expert_weight if loss is router_z_loss else router.prototypes).grad.any()
