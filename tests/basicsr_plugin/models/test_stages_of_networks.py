"""The networks of several stages, trained through options."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

import clusir_modules as cm

SMALL = {
    "ClusIR": {
        "dim": 4, "num_blocks": [1, 1, 1, 1], "num_decoder_blocks": [1, 1, 1], "num_refinement_blocks": 0,
        "num_heads": [1, 1, 1, 1], "num_experts": 3, "embed_dim": 8, "num_prompt_heads": 2, "supervised_stages": 2,
    },
    "MPRNet": {"dim": 4, "unet_step": 4, "orsnet_step": 4, "num_cabs": 1},
}  # fmt: skip


@pytest.fixture
def options(options):
    options["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [1000]}
    del options["train"]["pixel_opt"]
    options["train"]["losses"] = [
        {"type": "CharbonnierLoss", "eps": 1.0e-6},
        {"type": "EdgeLoss", "weight": 0.05},
    ]
    return options


def charbonnier(y, target):
    return (y - target).square().add(1e-6).sqrt().mean()


@pytest.mark.parametrize("name", SMALL)
def test_the_loss_of_a_step_is_the_sum_over_stages(options, build, make_batch, name):
    options["network_g"] = {"type": name, **SMALL[name]}
    if name == "ClusIR":
        terms = ("load_balance", "orthogonality", "cluster_information")
        options["train"]["losses"] += [{"type": term, "weight": 0.1} for term in terms]
    model = build(options)
    net, data = deepcopy(model.net_g), make_batch()
    stages = net(data["lq"])
    pixel = sum(charbonnier(y, data["gt"]) for y in stages)
    edge = sum(cm.EdgeLoss()(y, data["gt"]) for y in stages)
    expected = pixel + 0.05 * edge
    if name == "ClusIR":
        routings = net(data["lq"], return_routing=True)[1]
        regularizers = (
            cm.load_balance_loss(routings), cm.orthogonality_loss(net), cm.cluster_information_loss(routings)
        )  # fmt: skip
        expected = expected + 0.1 * sum(regularizers)
    before = deepcopy(model.net_g.state_dict())

    model.feed_data(data)
    model.optimize_parameters(1)

    assert model.log_dict["l_pix"] == pytest.approx(pixel.item(), rel=1e-5)
    assert model.log_dict["l_edge"] == pytest.approx(edge.item(), rel=1e-4)
    assert model.log_dict["l_total"] == pytest.approx(expected.item(), rel=1e-5)
    unchanged = [key for key, value in model.net_g.named_parameters() if torch.equal(value, before[key])]
    assert unchanged == []


@pytest.mark.parametrize("name", SMALL)
def test_validation_sees_the_final_stage(options, build, make_batch, name):
    options["network_g"] = {"type": name, **SMALL[name]}
    options["train"]["ema_decay"] = 0
    model = build(options)
    model.feed_data(make_batch())
    model.test()
    with torch.no_grad():
        expected = model.net_g.eval()(model.lq)[0]
    torch.testing.assert_close(model.output, expected)
