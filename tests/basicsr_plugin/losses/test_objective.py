"""The sum of the losses that an option file lists, without BasicSR's model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import clusir_modules as cm
from basicsr_plugin.compat.registration import register_once
from basicsr_plugin.losses.objective import Objective
from basicsr_plugin.losses.routing_losses import ROUTING_LOSS_REGISTRY
from basicsr_plugin.options.schema import LossOptions

NET = nn.Conv2d(3, 3, 1)


@pytest.fixture(scope="module", autouse=True)
def own_losses(registered):
    from basicsr.utils.registry import LOSS_REGISTRY

    class PairOfAnObjectiveTest(nn.Module):
        """Two values, as BasicSR's perceptual loss."""

        def forward(self, pred, target):
            return (pred - target).abs().mean(), None if pred.mean() < 0 else (pred - target).square().mean()

    def steep_of_an_objective_test(routings, net, *, power: float = 1.0):
        return routings[0].expert_probs.amax().pow(power) + sum(p.sum() for p in net.parameters()) * 0

    register_once(LOSS_REGISTRY, PairOfAnObjectiveTest)
    register_once(ROUTING_LOSS_REGISTRY, steep_of_an_objective_test)


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, 3, 20, 20, generator=generator) for _ in range(4)]


def test_terms_are_raw_and_the_total_is_their_weighted_sum_over_stages(pictures):
    *stages, target = pictures
    losses = [
        LossOptions(type="L1Loss", weight=0.5, stages=[1.0, 0.25, 2.0]),
        LossOptions(type="EdgeLoss", weight=0.05),
        LossOptions(type="MSELoss", weight=3.0, stages="final"),
    ]
    total, terms = Objective(losses, NET)(stages, target, None, NET)
    l1 = sum(w * (s - target).abs().mean() for w, s in zip([1.0, 0.25, 2.0], stages, strict=True))
    edge = sum(cm.EdgeLoss()(s, target) for s in stages)
    mse = (stages[0] - target).square().mean()
    assert list(terms) == ["l_pix", "l_edge", "l_pix_2", "l_total"]
    torch.testing.assert_close(torch.stack(list(terms.values()))[:3], torch.stack([l1, edge, mse]))
    torch.testing.assert_close(total, 0.5 * l1 + 0.05 * edge + 3 * mse)
    assert total is terms["l_total"]


def test_gradients_are_those_of_the_weighted_sum(pictures):
    prediction, target = pictures[0].requires_grad_(), pictures[1]
    total, _ = Objective([LossOptions(type="MSELoss", weight=-0.5)], NET)(prediction, target, None, NET)
    total.backward()
    torch.testing.assert_close(prediction.grad, -(prediction - target).detach() / prediction.numel())


def test_losses_of_ones_own_are_named_by_their_type_or_as_said(pictures):
    net = cm.clusir_tiny(dim=8, embed_dim=16, num_blocks=[1] * 4, num_heads=[1] * 4)
    losses = [
        LossOptions(type="PairOfAnObjectiveTest", weight=2.0),
        LossOptions(type="PairOfAnObjectiveTest", name="l_mine"),
        LossOptions(type="steep_of_an_objective_test", weight=0.1, settings={"power": 2.0}),
        LossOptions(type="steep_of_an_objective_test"),
    ]
    picture, routings = net(pictures[0], return_routing=True)
    objective = Objective(losses, net)
    assert objective.needs_routing
    total, terms = objective(picture, pictures[1], routings, net)
    first = "l_PairOfAnObjectiveTest"
    second = "l_steep_of_an_objective_test"
    assert list(terms) == [first, f"{first}_style", "l_mine", "l_mine_style", second, f"{second}_2", "l_total"]
    highest = routings[0].expert_probs.amax()
    torch.testing.assert_close(terms[second], highest**2)
    expected = 3 * (terms[first] + terms[f"{first}_style"]) + 0.1 * highest**2 + highest
    torch.testing.assert_close(total, expected)


def test_what_a_pair_leaves_out_is_no_term(pictures):
    _, terms = Objective([LossOptions(type="PairOfAnObjectiveTest")], NET)(-pictures[0], pictures[1], None, NET)
    assert list(terms) == ["l_PairOfAnObjectiveTest", "l_total"]


def test_a_loss_on_the_picture_is_needed_and_routing_of_a_network_that_has_it():
    routing = LossOptions(type="load_balance")
    with pytest.raises(ValueError, match="at least one loss on the picture"):
        Objective([routing], cm.clusir_tiny(dim=8, embed_dim=16, num_heads=[1] * 4))
    with pytest.raises(ValueError, match=r"load_balance in train.losses needs a network with routing.*Conv2d"):
        Objective([LossOptions(type="L1Loss"), routing], NET)


def test_stages_of_the_wrong_number_are_refused(pictures):
    objective = Objective([LossOptions(type="L1Loss", stages=[1.0, 1.0])], NET)
    with pytest.raises(ValueError, match=r"one weight for each of the network's 3 stages, got \[1.0, 1.0\]"):
        objective(pictures[:3], pictures[3], None, NET)
