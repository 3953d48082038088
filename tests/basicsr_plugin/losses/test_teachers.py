"""Losses beside a teacher, in the objective and in training."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

import clusir_modules as cm
from basicsr_plugin.losses.objective import Objective
from basicsr_plugin.options.schema import LossOptions
from clusir_modules.serialization.network_files import save_network

SMALL = {"dim": 8, "embed_dim": 16, "num_blocks": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}


def teaching(teacher, **more):
    return {"type": "distillation", "teacher": str(teacher), **more}


def term(teacher, weight=1.0, **settings):
    return LossOptions(type="distillation", weight=weight, settings={"teacher": str(teacher), **settings})


@pytest.fixture
def teacher(tmp_path):
    torch.manual_seed(5)
    net = cm.clusir_tiny(**SMALL).eval()
    with torch.no_grad():
        net.tail.weight.mul_(20)
    save_network(net, tmp_path / "teacher.safetensors")
    return net


@pytest.fixture
def file(teacher, tmp_path):
    return tmp_path / "teacher.safetensors"


@pytest.fixture
def options(options, file):
    options["network_g"] = {
        "type": "clusir_tiny",
        **{name: v if name[:3] != "num" else list(v) for name, v in SMALL.items()},
    }
    options["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [1000]}
    del options["train"]["pixel_opt"]
    options["train"]["losses"] = [
        {"type": "L1Loss", "weight": 1.0},
        teaching(file, weight=0.5),
        teaching(file, weight=0.25, of="clusters"),
    ]
    return options


def test_terms_are_those_written_out_and_their_gradients_go_to_the_student_alone(teacher, file):
    torch.manual_seed(0)
    net = cm.clusir_tiny(**SMALL)
    lq, gt = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    objective = Objective([LossOptions(type="L1Loss"), term(file, 0.5), term(file, 0.25, of="clusters")], net)
    assert objective.needs_routing
    picture, routings = net(lq, return_routing=True)
    total, terms = objective(picture, gt, routings, net, answers=objective.ask_teachers(lq))
    with torch.no_grad():
        shown, decided = teacher(lq, return_routing=True)
    pixels, distance = (picture - gt).abs().mean(), (picture - shown).abs().mean()
    divergence = torch.stack(
        [
            (t.cluster_probs * (t.cluster_probs / s.cluster_probs).log()).sum(1).mean()
            for t, s in zip(decided, routings, strict=True)
        ]
    ).mean()
    assert list(terms) == ["l_pix", "l_teacher_pictures", "l_teacher_clusters", "l_total"]
    torch.testing.assert_close(terms["l_teacher_pictures"], distance.detach())
    torch.testing.assert_close(terms["l_teacher_clusters"], divergence.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(total, pixels + 0.5 * distance + 0.25 * divergence)
    total.backward()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in objective.parameters())
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_a_teacher_of_two_terms_is_loaded_once_and_stays_in_evaluation_mode(file):
    objective = Objective([LossOptions(type="L1Loss"), term(file), term(file, of="clusters")], cm.clusir_tiny(**SMALL))
    assert len(objective.teachers.networks) == 1
    objective.train()
    assert not any(module.training for module in objective.teachers.modules())


def test_a_wrong_teacher_is_refused(file, tmp_path):
    pixels = LossOptions(type="L1Loss")
    other = cm.clusir_tiny(**SMALL, num_clusters=(4, 3, 2, 2))
    message = r"equal numbers of clusters.* has \[16, 12, 8, 4\], the network \[4, 3, 2, 2\]"
    with pytest.raises(ValueError, match=message):
        Objective([pixels, term(file, of="clusters")], other)
    Objective([pixels, term(file)], other)  # pictures can be compared
    with pytest.raises(ValueError, match="needs routing, but the network, Conv2d, has none"):
        Objective([pixels, term(file, of="clusters")], nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="must take images of 1 channels as the network, got 3"):
        Objective([pixels, term(file)], cm.clusir_tiny(**SMALL, in_channels=1))
    (tmp_path / "broken.pth").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"broken\.pth"):
        Objective([pixels, term(tmp_path / "broken.pth")], other)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            teaching("clusir_small"),
            r"losses\[1\].teacher must be clusir_tiny, .*got 'clusir_small', which is not there",
        ),
        (teaching("clusir_tiny", of="clusters", stages="final"), r"losses\[1\].stages is for losses on the picture"),
        (teaching("clusir_tiny", of="experts"), r"losses\[1\].of must be"),
        ({"type": "distillation"}, r"losses\[1\].teacher is missing"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_loaded(options, build, entry, message):
    options["train"]["losses"] = [{"type": "L1Loss"}, entry]
    with pytest.raises(ValueError, match=message):
        build(options)


def test_a_cuda_graph_is_refused(options, build):
    options["train"]["cuda_graph"] = True
    with pytest.raises(ValueError, match="losses without a teacher, not distillation"):
        build(options)


@pytest.mark.parametrize("amp", [None, "bf16"])
def test_a_step_changes_the_student_alone_and_no_checkpoint_holds_the_teacher(
    options, build, make_batch, tmp_path, amp
):
    options["train"]["amp"] = amp
    model = build(options)
    before = deepcopy(model.stepper.objective.state_dict())
    names = set(model.net_g.state_dict())
    seen = []
    teacher = model.stepper.objective.teachers.networks[0]
    teacher.tail.register_forward_hook(lambda module, inputs, output: seen.append((output.dtype, output.requires_grad)))
    weight = model.net_g.tail.weight.detach().clone()
    model.feed_data(make_batch())
    model.optimize_parameters(1)
    assert seen == [(torch.float32 if amp is None else torch.bfloat16, False)]
    assert not torch.equal(model.net_g.tail.weight, weight)
    after = model.stepper.objective.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert set(model.net_g.state_dict()) == set(model.net_g_ema.state_dict()) == names
    trained = {id(p) for group in model.optimizer_g.param_groups for p in group["params"]}
    assert trained == {id(p) for p in model.net_g.parameters()}
    model.save(0, 1)
    saved = torch.load(tmp_path / "models/net_g_1.pth", weights_only=True)
    assert set(saved["params"]) == set(saved["params_ema"]) == names


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"accum_iter": 2}])
def test_a_resumed_run_ends_with_the_same_bits(options, train, tmp_path, more):
    options["train"].update(total_iter=6, **more)
    options["logger"]["save_checkpoint_freq"] = 2
    whole = train(options, root=tmp_path / "whole")
    train(options, root=tmp_path / "cut", kill_at=5)
    resumed = train(options, "--auto_resume", root=tmp_path / "cut")
    assert resumed.losses == whole.losses[4:]
    for name in ("net_g", "net_g_ema"):
        first, second = (getattr(run.model, name).state_dict() for run in (whole, resumed))
        assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_patches_that_grow_are_shown_to_the_teacher_as_the_network_sees_them(options, build, make_batch):
    options["datasets"]["train"].update(mini_batch_sizes=[2, 1], iters=[4, 4], gt_sizes=[8, 16])
    model = build(options)
    shapes = []
    teacher = model.stepper.objective.teachers.networks[0]
    teacher.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    for iteration in (1, 5):
        model.feed_data(make_batch())
        model.optimize_parameters(iteration)
    assert shapes == [(2, 3, 8, 8), (1, 3, 16, 16)]
