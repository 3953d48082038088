"""Training with RestorationModel, step by step; whole runs are in test_runs.py."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn


def weights(model):
    return {name: tensor.clone() for name, tensor in model.get_bare_model(model.net_g).state_dict().items()}


def step(model, batch, iteration):
    model.feed_data(batch)
    model.optimize_parameters(iteration)


@pytest.fixture
def options(options):
    """The options of whole runs, with a constant learning rate: single steps do not advance the schedule."""
    options["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [1000]}
    return options


def without_dropout(options):
    options["network_g"]["dropout"] = 0.0
    return options


def test_one_step_of_sgd_is_the_hand_computed_one(options, build, make_batch):
    without_dropout(options)
    options["train"]["optim_g"] = {"type": "SGD", "lr": 0.5}
    model = build(options)
    reference = deepcopy(model.net_g)
    data = make_batch()

    loss = (reference(data["lq"]) - data["gt"]).abs().mean()
    loss.backward()
    step(model, data, 1)

    for ours, theirs in zip(model.net_g.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.data, theirs.data - 0.5 * theirs.grad)
    assert model.log_dict["l_pix"] == pytest.approx(loss.item())
    assert model.log_dict["l_total"] == pytest.approx(loss.item())


def test_accumulating_two_batches_equals_one_batch_of_both(options, build, make_batch):
    without_dropout(options)
    options["train"]["optim_g"] = {"type": "SGD", "lr": 0.5}
    halves = make_batch(2, seed=1), make_batch(2, seed=2)
    whole = {key: torch.cat([half[key] for half in halves]) for key in ("lq", "gt")}
    big = build(options)
    step(big, whole, 1)
    options["train"]["accum_iter"] = 2
    small = build(options)
    before = weights(small)

    step(small, halves[0], 1)
    assert torch.equal(small.net_g.head.weight, before["head.weight"])
    step(small, halves[1], 2)

    assert not torch.equal(small.net_g.head.weight, before["head.weight"])
    for name, tensor in small.net_g.named_parameters():
        torch.testing.assert_close(tensor, dict(big.net_g.named_parameters())[name])


def test_accumulation_must_divide_the_checkpoint_interval(options, build):
    options["train"]["accum_iter"] = 3
    with pytest.raises(ValueError, match=r"accum_iter must divide logger.save_checkpoint_freq, 1000, got 3"):
        build(options)


def test_clipping_bounds_the_gradient_that_the_optimizer_sees(options, build, make_batch):
    options["train"].update(grad_clip=True, grad_clip_max_norm=0.01)
    model = build(options)
    step(model, make_batch(), 1)
    norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in model.net_g.parameters()]))
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_clipping_without_a_bound_is_refused(options, build):
    options["train"]["grad_clip"] = True
    with pytest.raises(ValueError, match="grad_clip_max_norm, got None"):
        build(options)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_runs_the_network_in_the_narrow_type_and_the_loss_in_float32(options, build, make_batch, amp):
    options["train"]["amp"] = amp
    model = build(options)
    seen = []
    model.net_g.head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    before = weights(model)
    step(model, make_batch(), 1)
    step(model, make_batch(), 2)
    assert set(seen) == {torch.bfloat16 if amp == "bf16" else torch.float16}
    assert model.net_g.head.weight.dtype == torch.float32
    assert not torch.equal(model.net_g.head.weight, before["head.weight"])


def test_unknown_mixed_precision_is_refused(options, build):
    options["train"]["amp"] = "fp8"
    with pytest.raises(ValueError, match=r"train.amp must be bf16, fp16 or ~ \(none\), got 'fp8'"):
        build(options)


def test_average_follows_parameters_slowly_and_buffers_at_once(options, build, make_batch):
    model = build(options)
    step(model, make_batch(), 1)
    first = weights(model)["tail.weight"]
    average = model.net_g_ema.tail.weight.clone()
    step(model, make_batch(), 2)
    expected = 0.9 * average + 0.1 * model.net_g.tail.weight
    torch.testing.assert_close(model.net_g_ema.tail.weight, expected)
    assert not torch.equal(first, model.net_g.tail.weight)
    assert model.net_g_ema.calls == model.net_g.calls == 2


def test_average_starts_as_the_network(options, build):
    model = build(options)
    for name, tensor in model.net_g_ema.state_dict().items():
        assert torch.equal(tensor, model.net_g.state_dict()[name])


def test_compiling_keeps_the_names_of_the_weights(options, build, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *args, **kwargs: compiled.append(type(self).__name__))
    options["train"]["compile"] = True
    model = build(options)
    assert compiled == ["PluginTestNet"]
    assert "head.weight" in model.net_g.state_dict()


@pytest.mark.slow
def test_compiled_training_follows_eager_training(options, build, make_batch):
    without_dropout(options)
    eager = build(options)
    options["train"]["compile"] = True
    compiled = build(options)
    for iteration in (1, 2):
        for model in (eager, compiled):
            step(model, make_batch(), iteration)
    torch.testing.assert_close(compiled.net_g.head.weight, eager.net_g.head.weight, rtol=1e-4, atol=1e-5)
    compiled.feed_data(make_batch(1, side=23))
    compiled.test()
    assert compiled.output.shape == (1, 3, 23, 23)


def test_channels_last_reaches_the_convolutions_and_changes_no_result(options, build, make_batch):
    without_dropout(options)
    plain = build(options)
    options["train"]["channels_last"] = True
    model = build(options)
    seen = []
    hook = lambda module, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))  # noqa: E731
    model.net_g.head.register_forward_pre_hook(hook)
    step(model, make_batch(), 1)
    step(plain, make_batch(), 1)
    assert seen == [True]
    torch.testing.assert_close(model.net_g.head.weight, plain.net_g.head.weight)


def test_grad_checkpointing_is_switched_on_in_the_network(options, build):
    options["network_g"] = {"type": "clusir_tiny"}
    options["train"]["grad_checkpointing"] = True
    assert build(options).net_g.grad_checkpointing is True


def test_grad_checkpointing_of_a_network_that_has_none_is_refused(options, build):
    options["train"]["grad_checkpointing"] = True
    with pytest.raises(ValueError, match="grad_checkpointing"):
        build(options)


def test_progressive_patches_shrink_batch_and_grow_side(options, build, make_batch):
    options["datasets"]["train"].update(mini_batch_sizes=[2, 1], iters=[2, 3], gt_sizes=[8, 16])
    model = build(options)
    seen = []
    model.net_g.head.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape)))
    for iteration in (1, 2, 3, 9):
        step(model, make_batch(), iteration)
    assert seen == [(2, 3, 8, 8), (2, 3, 8, 8), (1, 3, 16, 16), (1, 3, 16, 16)]


def test_multi_stage_loss_is_the_weighted_sum_over_stages(options, build, make_batch):
    options["network_g"] = {"type": "PluginStagesNet", "dropout": 0.0}
    options["train"]["stage_weights"] = [1.0, 0.5]
    model = build(options)
    data = make_batch()
    final, first = deepcopy(model.net_g)(data["lq"])
    expected = (final - data["gt"]).abs().mean() + 0.5 * (first - data["gt"]).abs().mean()
    step(model, data, 1)
    assert model.log_dict["l_pix"] == pytest.approx(expected.item())


def test_stage_weights_of_the_wrong_number_are_refused(options, build, make_batch):
    options["network_g"]["type"] = "PluginStagesNet"
    options["train"]["stage_weights"] = [1.0]
    model = build(options)
    with pytest.raises(ValueError, match=r"network's 2 stages, got \[1.0\]"):
        step(model, make_batch(), 1)


def test_edge_loss_is_added_to_the_pixel_loss(options, build, make_batch):
    without_dropout(options)
    options["train"]["edge_opt"] = {"type": "EdgeLoss", "loss_weight": 0.5}
    model = build(options)
    step(model, make_batch(), 1)
    log = model.log_dict
    assert log["l_edge"] > 0
    assert log["l_total"] == pytest.approx(log["l_pix"] + log["l_edge"])


def small_clusir(options):
    options["network_g"] = {"type": "clusir_tiny", "dim": 8, "embed_dim": 16, "num_blocks": [1, 1, 1, 1]}
    options["network_g"]["num_heads"] = [1, 1, 1, 1]
    options["train"]["ema_decay"] = 0
    return options


def test_routing_terms_are_logged_raw_and_added_weighted(options, build, make_batch):
    small_clusir(options)
    weighted = {"balance_opt": 0.5, "orthogonality_opt": 2.0, "information_opt": -0.25}
    options["train"].update({name: {"loss_weight": weight} for name, weight in weighted.items()})
    model = build(options)
    twin = deepcopy(model.net_g)
    data = make_batch()
    from clusir_modules.losses.routing import cluster_information_loss, load_balance_loss, orthogonality_loss

    picture, routings = twin(data["lq"], return_routing=True)
    expected = {
        "l_pix": (picture - data["gt"]).abs().mean().item(),
        "l_balance": load_balance_loss(routings).item(),
        "l_orthogonality": orthogonality_loss(twin).item(),
        "l_information": cluster_information_loss(routings).item(),
    }
    step(model, data, 1)
    log = dict(model.log_dict)
    total = log.pop("l_total")
    assert log == pytest.approx(expected, rel=1e-4)
    assert total == pytest.approx(
        log["l_pix"] + 0.5 * log["l_balance"] + 2.0 * log["l_orthogonality"] - 0.25 * log["l_information"], rel=1e-5
    )


def test_routing_terms_need_a_network_with_routing(options, build):
    options["train"]["balance_opt"] = {"loss_weight": 0.1}
    with pytest.raises(ValueError, match=r"train.balance_opt needs a network with routing.*PluginTestNet"):
        build(options)


@pytest.mark.parametrize("key", ["lq", "gt"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_pictures_are_named_and_leave_the_weights_alone(options, build, make_batch, key, value):
    model = build(options)
    before = weights(model)
    data = make_batch()
    data[key][1, 0, 3, 3] = value
    with pytest.raises(FloatingPointError, match=rf"{key} holds .* at iteration 7, in \['1.png'\]"):
        step(model, data, 7)
    assert all(torch.equal(tensor, weights(model)[name]) for name, tensor in before.items())


def test_non_finite_loss_is_named_and_leaves_the_weights_alone(options, build, make_batch):
    model = build(options)
    model.net_g.tail.register_forward_hook(lambda module, inputs, output: output / 0)
    before = weights(model)
    with pytest.raises(FloatingPointError, match=r"loss is not finite at iteration 4.*'0.png', '1.png'"):
        step(model, make_batch(), 4)
    assert torch.equal(before["head.weight"], model.net_g.head.weight)


def test_non_finite_gradient_leaves_the_weights_alone(options, build, make_batch):
    model = build(options)
    model.net_g.tail.weight.register_hook(lambda gradient: gradient / 0)
    before = weights(model)
    with pytest.raises(FloatingPointError, match=r"gradient's norm is nan at iteration 1|norm is inf at iteration 1"):
        step(model, make_batch(), 1)
    assert torch.equal(before["tail.weight"], model.net_g.tail.weight)


def test_randomness_of_an_iteration_depends_on_seed_iteration_and_nothing_before(options, build, make_batch):
    def losses(seed, iterations):
        model = build({**options, "manual_seed": seed})
        for group in model.optimizer_g.param_groups:
            group["lr"] = 0.0
            group["weight_decay"] = 0.0
        found = []
        for iteration in iterations:
            torch.rand(iteration)
            step(model, make_batch(), iteration)
            found.append(model.log_dict["l_total"])
        return found

    first, second = losses(3, [1, 2])
    assert losses(3, [2, 1]) == [second, first]
    assert first != second
    assert losses(4, [1]) != [first]


def test_any_optimizer_of_torch_is_found_by_name(options, build):
    options["train"]["optim_g"] = {"type": "NAdam", "lr": 1e-3}
    assert isinstance(build(options).optimizer_g, torch.optim.NAdam)


@pytest.mark.parametrize("name", ["AdamX", "LBFGS", "Optimizer"])
def test_unknown_or_unsuitable_optimizers_are_refused(options, build, name):
    options["train"]["optim_g"] = {"type": name, "lr": 1e-3}
    with pytest.raises(ValueError, match=f"train.optim_g.type must be one of .*AdamW.*, got '{name}'"):
        build(options)


def test_a_model_without_any_criterion_is_refused(options, build):
    del options["train"]["pixel_opt"]
    with pytest.raises(ValueError, match="at least one of pixel_opt"):
        build(options)


def test_two_warm_ups_are_refused(options, build):
    options["train"].update(warmup_iter=10, scheduler={"type": "LinearWarmupCosineLR"})
    with pytest.raises(ValueError, match="warmup_iter must be -1 with LinearWarmupCosineLR"):
        build(options)


def test_training_without_ground_truth_is_refused(options, build, make_batch):
    data = make_batch()
    del data["gt"]
    with pytest.raises(ValueError, match="training needs a ground truth"):
        step(build(options), data, 1)


@pytest.mark.parametrize("part", [{"mini_batch_sizes": [1]}, {"mini_batch_sizes": [1], "iters": [1]}])
def test_half_given_progressive_patches_are_refused(options, build, part):
    options["datasets"]["train"].update(part)
    with pytest.raises(ValueError, match="progressive patches also need"):
        build(options)


class TestInference:
    def test_windows_are_padded_and_the_result_cropped(self, options, build, make_batch):
        options["val"] = {"val_freq": 100, "save_img": False, "window_size": 8}
        model = build(options)
        seen = []
        model.net_g_ema.head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[-2:]))
        model.feed_data(make_batch(1, side=13))
        model.test()
        assert seen == [(16, 16)]
        assert model.output.shape == (1, 3, 13, 13)

    def test_tiles_with_full_overlap_context_equal_the_whole_picture_inside(self, options, build, make_batch):
        options["val"] = {"val_freq": 100, "save_img": False}
        model = build(options)
        model.feed_data(make_batch(1, side=40))
        model.test()
        whole = model.output
        model.opt["val"].update(tile_size=24, tile_overlap=8)
        model.test()
        torch.testing.assert_close(model.output[..., :14, :14], whole[..., :14, :14])
        assert (model.output - whole).abs().max() < 0.1

    def test_the_network_goes_back_to_training_mode(self, options, build, make_batch):
        options["train"]["ema_decay"] = 0
        model = build(options)
        model.feed_data(make_batch(1))
        model.test()
        assert model.net_g.training
