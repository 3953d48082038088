"""Training with RestorationModel, step by step; whole runs are in test_runs.py."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
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


@pytest.mark.parametrize(
    ("capability", "amp", "warned"), [("AVX2", "bf16", 1), ("AVX512", "bf16", 0), ("AVX2", None, 0)]
)
def test_narrow_types_that_the_processor_emulates_are_warned_of(
    options, build, messages, monkeypatch, capability, amp, warned
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    options["train"]["amp"] = amp
    build(options)
    assert len([text for text in messages("WARNING") if "is slow here" in text]) == warned


def test_unknown_mixed_precision_is_refused(options, build):
    options["train"]["amp"] = "fp8"
    with pytest.raises(ValueError, match=r"train.amp must be bf16 or fp16 or ~ \(none\), got 'fp8'"):
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


@pytest.mark.long
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
    assert all(stage.grad_checkpointing for stage in build(options).net_g.stages)


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
    del options["train"]["pixel_opt"]
    options["train"]["losses"] = [{"type": "L1Loss", "stages": [1.0, 0.5]}]
    model = build(options)
    data = make_batch()
    final, first = deepcopy(model.net_g)(data["lq"])
    expected = (final - data["gt"]).abs().mean() + 0.5 * (first - data["gt"]).abs().mean()
    step(model, data, 1)
    assert model.log_dict["l_pix"] == pytest.approx(expected.item())


def test_stages_of_the_wrong_number_are_refused(options, build, make_batch):
    options["network_g"]["type"] = "PluginStagesNet"
    del options["train"]["pixel_opt"]
    options["train"]["losses"] = [{"type": "L1Loss", "stages": [1.0]}]
    model = build(options)
    with pytest.raises(ValueError, match=r"network's 2 stages, got \[1.0\]"):
        step(model, make_batch(), 1)


def test_edge_loss_is_added_to_the_pixel_loss(options, build, make_batch):
    without_dropout(options)
    del options["train"]["pixel_opt"]
    options["train"]["losses"] = [{"type": "L1Loss"}, {"type": "EdgeLoss", "weight": 0.5}]
    model = build(options)
    step(model, make_batch(), 1)
    log = model.log_dict
    assert log["l_edge"] > 0
    assert log["l_total"] == pytest.approx(log["l_pix"] + 0.5 * log["l_edge"])


def small_clusir(options):
    options["network_g"] = {"type": "clusir_tiny", "dim": 8, "embed_dim": 16, "num_blocks": [1, 1, 1, 1]}
    options["network_g"]["num_heads"] = [1, 1, 1, 1]
    options["train"]["ema_decay"] = 0
    return options


def test_routing_terms_are_logged_raw_and_added_weighted(options, build, make_batch):
    small_clusir(options)
    del options["train"]["pixel_opt"]
    weighted = {"L1Loss": 1.0, "load_balance": 0.5, "orthogonality": 2.0, "cluster_information": -0.25, "router_z": 0.1}
    options["train"]["losses"] = [{"type": name, "weight": weight} for name, weight in weighted.items()]
    model = build(options)
    twin = deepcopy(model.net_g)
    data = make_batch()
    from clusir_modules.losses.routing import (
        cluster_information_loss,
        load_balance_loss,
        orthogonality_loss,
        router_z_loss,
    )

    picture, routings = twin(data["lq"], return_routing=True)
    expected = {
        "l_pix": (picture - data["gt"]).abs().mean().item(),
        "l_balance": load_balance_loss(routings).item(),
        "l_orthogonality": orthogonality_loss(twin).item(),
        "l_information": cluster_information_loss(routings).item(),
        "l_z": router_z_loss(routings).item(),
    }
    step(model, data, 1)
    log = dict(model.log_dict)
    total = log.pop("l_total")
    assert log == pytest.approx(expected, rel=1e-4)
    assert total == pytest.approx(
        sum(weight * value for weight, value in zip(weighted.values(), log.values(), strict=True)), rel=1e-5
    )


def told(options):
    small_clusir(options)
    del options["train"]["pixel_opt"]
    options["train"]["losses"] = [{"type": "L1Loss"}, {"type": "cluster_task_information", "weight": 0.5}]
    return options


def test_a_term_that_is_told_sees_the_tasks_of_the_samples_that_are_left(options, build, make_batch):
    train = told(options)["datasets"]["train"]
    train.update(mini_batch_sizes=[3], iters=[10], gt_sizes=[train["gt_size"]], batch_size_per_gpu=4)
    model = build(options)
    twin = deepcopy(model.net_g)
    data = make_batch(4)
    data["task_id"] = torch.tensor([2, 0, 2, 0])
    step(model, data, 1)

    from clusir_modules.losses.routing import cluster_information_loss

    _, routings = twin(data["lq"][:3], return_routing=True)
    expected = cluster_information_loss(routings, torch.tensor([2, 0, 2])).item()
    assert model.log_dict["l_task_information"] == pytest.approx(expected, rel=1e-4)
    assert expected != pytest.approx(cluster_information_loss(routings).item(), rel=1e-3)


def test_a_term_that_is_told_needs_a_data_set_with_tasks(options, build, make_batch):
    model = build(told(options))
    with pytest.raises(ValueError, match="l_task_information needs the task of each sample, task_id"):
        step(model, make_batch(), 1)


def test_routing_terms_need_a_network_with_routing(options, build):
    del options["train"]["pixel_opt"]
    options["train"]["losses"] = [{"type": "L1Loss"}, {"type": "load_balance", "weight": 0.1}]
    with pytest.raises(ValueError, match=r"load_balance in train.losses needs a network with routing.*PluginTestNet"):
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


def state_of(model):
    """All that a step changes."""
    return deepcopy((weights(model), model.net_g_ema.state_dict(), model.optimizer_g.state_dict()["state"]))


def is_equal(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    pairs = [(first[key], second[key]) for key in first] if isinstance(first, dict) else zip(first, second, strict=True)
    return all(is_equal(one, other) for one, other in pairs)


class TestStepsThatAreLeftOut:
    def break_loss(self, model):
        return model.net_g.dropout.register_forward_hook(lambda module, inputs, output: output / 0)

    def break_gradient(self, model):
        return model.net_g.tail.weight.register_hook(lambda gradient: gradient / 0)

    @pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
    def test_a_bad_loss_is_named_with_its_place_and_changes_nothing(self, options, build, make_batch, messages, amp):
        options["train"]["amp"] = amp
        model = build(options)
        step(model, make_batch(), 3)
        before, calls = state_of(model), model.net_g.calls.item()
        hook = self.break_loss(model)
        step(model, make_batch(), 4)
        assert is_equal(before[1:], state_of(model)[1:])
        assert is_equal({**before[0], "calls": model.net_g.calls}, weights(model))
        assert model.net_g.calls == calls + 1, "looking for the place ran the buffers on"
        (message,) = messages()
        assert "the loss is not finite at iteration 4: {'l_pix': " in message
        assert "for the images ['0.png', '1.png']; first module with a non-finite output: dropout (Dropout)" in message
        assert "1 in a row, train.max_skipped_steps is 10" in message
        hook.remove()
        step(model, make_batch(), 5)
        assert not torch.equal(before[0]["head.weight"], model.net_g.head.weight)
        assert model.stepper.skipped.in_a_row == 0

    def test_a_bad_gradient_is_named_with_its_parameter_and_changes_nothing(self, options, build, make_batch, messages):
        model = build(options)
        step(model, make_batch(), 1)
        before = state_of(model)
        self.break_gradient(model)
        step(model, make_batch(), 2)
        after = state_of(model)
        assert is_equal(before[1:], after[1:])
        assert torch.equal(before[0]["tail.weight"], after[0]["tail.weight"])
        assert len(messages()) == 1
        assert "the gradient of tail.weight is not finite at iteration 2, though the loss is" in messages()[0]
        assert "'0.png', '1.png'" in messages()[0]

    @pytest.mark.parametrize("part", ["loss", "gradient"])
    def test_one_too_many_in_a_row_ends_the_run(self, options, build, make_batch, part):
        options["train"]["max_skipped_steps"] = 2
        model = build(options)
        for start in (1, 4):
            hook = getattr(self, f"break_{part}")(model)
            step(model, make_batch(), start)
            step(model, make_batch(), start + 1)
            if start == 1:
                hook.remove()
                step(model, make_batch(), 3)
        before = weights(model)
        with pytest.raises(FloatingPointError, match=r"3 steps in a row .*max_skipped_steps is 2: the run ends"):
            step(model, make_batch(), 6)
        assert torch.equal(before["head.weight"], model.net_g.head.weight)

    @pytest.mark.parametrize("value", [-1, 1.5, "3"])
    def test_a_number_that_is_none_is_refused(self, options, build, value):
        options["train"]["max_skipped_steps"] = value
        with pytest.raises(ValueError, match=r"train.max_skipped_steps must be a whole number >= 0, got"):
            build(options)

    def test_a_bad_part_of_an_accumulated_step_leaves_out_the_whole_step(self, options, build, make_batch, messages):
        options["train"]["accum_iter"] = 3
        options["logger"]["save_checkpoint_freq"] = 9
        model = build(options)
        for iteration in (1, 2, 3):
            step(model, make_batch(seed=iteration), iteration)
        before = weights(model)["head.weight"]
        for iteration in (4, 5, 6):
            hook = self.break_loss(model) if iteration == 5 else None
            step(model, make_batch(seed=iteration), iteration)
            if hook is not None:
                hook.remove()
        assert torch.equal(before, model.net_g.head.weight)
        assert len(messages()) == 1
        for iteration in (7, 8, 9):
            step(model, make_batch(seed=iteration), iteration)
        assert not torch.equal(before, model.net_g.head.weight)

    def test_infinite_gradients_of_a_scaled_loss_are_no_failure_until_the_scale_is_1(
        self, options, build, make_batch, messages
    ):
        options["train"].update(amp="fp16", max_skipped_steps=1)
        model = build(options)
        self.break_gradient(model)
        scale, iteration = model.stepper.scaler.get_scale(), 0
        while scale > 1:
            iteration += 1
            step(model, make_batch(), iteration)
            assert model.stepper.scaler.get_scale() == scale / 2
            scale /= 2
        assert iteration == 16
        assert not messages()
        step(model, make_batch(), iteration + 1)
        assert "the gradient of tail.weight is not finite at iteration 17" in messages()[0]
        with pytest.raises(FloatingPointError, match="2 steps in a row"):
            step(model, make_batch(), iteration + 2)

    def test_weights_that_are_not_finite_are_not_saved(self, options, build, make_batch, messages, tmp_path):
        model = build(options)
        model.save(0, 1)
        with torch.no_grad():
            model.net_g.head.weight[0, 0] = float("inf")
        model.save(0, 2)
        assert [path.name for path in (tmp_path / "training_states").iterdir()] == ["1.state"]
        assert [path.name for path in (tmp_path / "models").iterdir()] == ["net_g_1.pth"]
        assert "after iteration 2 head.weight holds NaN or infinite values: nothing is saved" in messages()[0]
        with pytest.raises(FloatingPointError, match=r"at the end of training head.weight holds NaN"):
            model.save(-1, -1)

    def test_the_count_survives_resuming(self, options, build, make_batch):
        model = build(options)
        self.break_loss(model)
        step(model, make_batch(), 1)
        model.save(0, 1)
        from basicsr_plugin.run.states import read_state

        resumed = build(options)
        resumed.resume_training(read_state(Path(model.opt["path"]["training_states"]) / "1.state"))
        assert resumed.stepper.skipped.in_a_row == 1


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
    with pytest.raises(ValueError, match="train needs losses, a list of at least one"):
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


class Pictures(list):
    """A data set that is called "val"."""

    opt: ClassVar = {"name": "val"}


class TestInference:
    def test_windows_are_padded_and_the_result_cropped(self, options, build, make_batch):
        options["val"] = {"val_freq": 100, "save_img": False, "size_multiple": 8}
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
        options["val"] |= {"tile": 24, "overlap": 8}
        tiled = build(options)
        tiled.feed_data(make_batch(1, side=40))
        tiled.test()
        torch.testing.assert_close(tiled.output[..., :14, :14], whole[..., :14, :14])
        assert (tiled.output - whole).abs().max() < 0.1

    def test_the_network_goes_back_to_training_mode(self, options, build, make_batch):
        options["train"]["ema_decay"] = 0
        model = build(options)
        model.feed_data(make_batch(1))
        model.test()
        assert model.net_g.training

    def test_pictures_whose_names_are_no_text_are_written(self, options, build, make_batch, tmp_path):
        options["val"] = {"val_freq": 100, "save_img": True}
        options["path"]["visualization"] = str(tmp_path / "visualization")
        model = build(options)
        data = make_batch(1)
        name = os.fsdecode(b"caf\xe9")
        picture = {"lq": data["lq"][0], "gt": data["gt"][0], "lq_path": f"/somewhere/{name}.png"}
        loader = torch.utils.data.DataLoader(Pictures([picture]))
        model.validation(loader, 4, None, save_img=True)
        path = tmp_path / "visualization" / "val" / name / f"{name}_4.png"
        with Image.open(path) as image:
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        expected = model.output[0].clamp(0, 1).mul(255)
        assert (pixels - expected).abs().max() <= 0.5 + 1e-3, "RGB, rounded"
