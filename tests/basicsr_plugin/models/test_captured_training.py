"""Training with ``train.cuda_graph``: the same code on the CPU, without a graph, against ordinary training."""

from __future__ import annotations

from copy import deepcopy
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import clusir_modules as cm
from basicsr_plugin.options.schema import read_options
from basicsr_plugin.run import captured_stepper
from basicsr_plugin.run.context import RunContext


@pytest.fixture
def options(options):
    """Options whose optimizer and rates are the same in both forms: fused, and rates that float32 holds exactly."""
    options["train"]["optim_g"] = {"type": "AdamW", "lr": 2.0**-9, "weight_decay": 1e-4, "fused": True}
    options["train"]["scheduler"] = {"type": "MultiStepLR", "milestones": [2, 4], "gamma": 0.5}
    return options


@pytest.fixture
def pair(options, build, monkeypatch):
    """Build the ordinary model and the one with ``cuda_graph``, of the options as they are when called."""

    def build_pair():
        ordinary = build(options)
        monkeypatch.setattr(captured_stepper, "check_capturable", lambda *args: None)
        options["train"]["cuda_graph"] = True
        return ordinary, build(options)

    return build_pair


def train(model, batches, first=1):
    """Train as BasicSR's script does, and return the losses that it would log."""
    logs = []
    for iteration, batch in enumerate(batches, first):
        model.update_learning_rate(iteration, warmup_iter=-1)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        logs.append(dict(model.get_current_log()))
    return logs


def assert_same_bits(ordinary, captured):
    for ours, theirs in ((captured.net_g, ordinary.net_g), (captured.net_g_ema, ordinary.net_g_ema)):
        for (name, value), expected in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            assert torch.equal(value, expected), name
    ours, theirs = (model.optimizer_g.state_dict() for model in (captured, ordinary))
    assert ours["param_groups"] == theirs["param_groups"]
    for number, state in theirs["state"].items():
        assert all(torch.equal(ours["state"][number][key], value) for key, value in state.items())


def batches(make_batch, count):
    return [make_batch(seed=number) for number in range(count)]


class TestSameNumbers:
    @pytest.mark.parametrize("train_opt", [{}, {"accum_iter": 2}, {"amp": "bf16"}, {"grad_clip": True}])
    def test_as_ordinary_training_bit_for_bit(self, options, pair, make_batch, train_opt):
        options["train"].update(train_opt, grad_clip_max_norm=1e-3)
        ordinary, captured = pair()
        before = deepcopy(ordinary.net_g)
        data = batches(make_batch, 6)
        assert train(captured, data) == train(ordinary, data)
        assert_same_bits(ordinary, captured)
        assert not torch.equal(before.head.weight, ordinary.net_g.head.weight)

    def test_without_asking_for_the_losses_in_between(self, options, pair, make_batch):
        """Reports are then read one iteration late."""
        ordinary, captured = pair()
        data = batches(make_batch, 5)
        expected = train(ordinary, data)[-1]
        for iteration, batch in enumerate(data, 1):
            captured.update_learning_rate(iteration)
            captured.feed_data(batch)
            captured.optimize_parameters(iteration)
        assert captured.stepper.unsettled.number == 5
        assert captured.get_current_log() == expected
        assert_same_bits(ordinary, captured)

    def test_with_routing_losses_and_routing_watched(self, options, pair, make_batch):
        options["network_g"] = {"type": "ClusIR", "dim": 8, "num_blocks": [1, 1, 1, 1]}
        terms = ("load_balance", "orthogonality", "cluster_information", "cluster_task_information")
        options["train"]["losses"] = [{"type": "L1Loss"}, *({"type": term, "weight": 0.01} for term in terms)]
        del options["train"]["pixel_opt"]
        ordinary, captured = pair()
        watched = []
        for model in (ordinary, captured):
            tags: dict[str, float] = {}
            context = RunContext()
            context.tb_logger = SimpleNamespace(add_scalar=lambda tag, value, step, to=tags: to.update({tag: value}))
            model.join(context)
            watched.append(tags)
        data = [{**batch, "task_id": torch.arange(len(batch["lq"])) % 2} for batch in batches(make_batch, 3)]
        logs = train(ordinary, data)
        assert train(captured, data) == logs
        assert {"l_balance", "l_orthogonality", "l_information", "l_task_information"} < set(logs[0])
        assert_same_bits(ordinary, captured)
        assert watched[0] == watched[1]
        assert watched[0]

    def test_with_an_optimizer_that_is_not_captured(self, options, pair, make_batch):
        options["train"]["optim_g"] = {"type": "NAdam", "lr": 1e-3}
        options["train"]["accum_iter"] = 2
        ordinary, captured = pair()
        data = batches(make_batch, 6)
        data[2]["gt"] = data[2]["gt"] * 3e38  # finite, its mean is not
        assert str(train(captured, data)) == str(train(ordinary, data))
        assert not captured.stepper.captured.takes_steps
        assert_same_bits(ordinary, captured)


class TestStepsLeftOut:
    @pytest.mark.parametrize(("accum_iter", "number"), [(1, 3), (1, 6), (2, 6)])
    def test_a_loss_that_is_not_finite(self, options, pair, make_batch, messages, accum_iter, number):
        """With the third batch, and up to that batch or further ones."""
        options["train"]["accum_iter"] = accum_iter
        ordinary, captured = pair()
        data = batches(make_batch, number)
        data[2]["gt"] = data[2]["gt"] * 3e38  # finite, its mean is not
        assert str(train(ordinary, data)) == str(train(captured, data))
        assert_same_bits(ordinary, captured)
        assert captured.stepper.skipped.in_a_row == ordinary.stepper.skipped.in_a_row == (number == 3)
        said = [message for message in messages() if "the loss is not finite at iteration 3" in message]
        assert len(said) == 2
        assert said[0] == said[1]

    def test_a_gradient_that_is_not_finite(self, options, pair, make_batch, messages):
        ordinary, captured = pair()

        def spoil(parameter, call):
            calls = count(1)
            parameter.register_hook(lambda grad: grad * float("inf") if next(calls) == call else grad)

        spoil(ordinary.net_g.tail.bias, 3)
        spoil(captured.net_g.tail.bias, 3 + 1)  # one to warm up
        data = batches(make_batch, 5)
        assert train(captured, data) == train(ordinary, data)
        assert_same_bits(ordinary, captured)
        said = [message for message in messages() if "the gradient of tail.bias is not finite" in message]
        assert len(said) == 2
        assert said[0] == said[1]

    def test_too_many_in_a_row_end_the_run_before_the_next_step(self, options, pair, make_batch):
        options["train"]["max_skipped_steps"] = 1
        _, captured = pair()
        data = batches(make_batch, 6)
        for number in (2, 3):
            data[number]["gt"] = data[number]["gt"] * 3e38
        train(captured, data[:3])
        good = deepcopy(captured.net_g.state_dict())
        captured.feed_data(data[3])
        captured.optimize_parameters(4)
        captured.feed_data(data[4])
        with pytest.raises(FloatingPointError, match=r"at iteration 4.*2 steps in a row"):
            captured.optimize_parameters(5)
        assert all(torch.equal(captured.net_g.state_dict()[name], good[name]) for name in ("head.weight", "tail.bias"))

    def test_a_damaged_picture_is_named_and_nothing_is_saved(self, options, pair, make_batch, tmp_path):
        _, captured = pair()
        data = batches(make_batch, 2)
        data[1]["gt"][0, 0, 0, 0] = float("nan")
        train(captured, data[:1])
        good = deepcopy(captured.net_g.state_dict())
        captured.feed_data(data[1])
        captured.optimize_parameters(2)
        with pytest.raises(FloatingPointError, match=r"gt holds NaN or infinite values at iteration 2, in \['0.png'\]"):
            captured.save(0, 2)
        assert torch.equal(captured.net_g.head.weight, good["head.weight"])
        assert not list(tmp_path.glob("models/*"))


def test_ordinary_training_continues_a_captured_run_and_the_other_way_round(options, pair, make_batch, tmp_path):
    options["train"]["optim_g"].pop("fused")
    ordinary, captured = pair()
    data = batches(make_batch, 6)
    # An ordinary step is not fused, so these two differ in the last bits.
    for first, second in ((ordinary, captured), (captured, ordinary)):
        train(first, data[:3])
        first.save(0, 3)
        state = torch.load(tmp_path / "training_states" / "3.state")
        second.resume_training(state)
        second.net_g.load_state_dict(first.net_g.state_dict())
        second.net_g_ema.load_state_dict(first.net_g_ema.state_dict())
        second.stepper.captured = None
        train(first, data[3:], 4)
        train(second, data[3:], 4)
        for ours, theirs in zip(second.net_g.parameters(), first.net_g.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_batch_of_another_size_is_refused(pair, make_batch):
    _, captured = pair()
    train(captured, [make_batch()])
    with pytest.raises(ValueError, match=r"captured with lq of shape \(2, 3, 16, 16\).*got \(2, 3, 24, 24\)"):
        train(captured, [make_batch(side=24)], 2)


class TestRefusals:
    def check(self, options, net=None, device="cuda"):
        read = read_options({"dist": False, **options})
        captured_stepper.check_capturable(read, net or nn.Conv2d(3, 3, 1), torch.device(device))

    def test_accepts_the_rest(self, options):
        self.check(options, cm.clusir_tiny())

    def test_the_cpu_at_the_start_of_a_run(self, options, build):
        options["train"]["cuda_graph"] = True
        with pytest.raises(ValueError, match=r"train.cuda_graph needs a CUDA device"):
            build(options)

    @pytest.mark.parametrize(
        ("section", "change", "message"),
        [
            ("train", {"amp": "fp16"}, "train.amp bf16 or ~, not fp16: the loss scale"),
            ("train", {"grad_checkpointing": True}, "train.grad_checkpointing false: recomputing"),
            ("datasets.train", {"gt_sizes": [16, 32]}, "patches of one size, not datasets.train.gt_sizes"),
        ],
    )
    def test_options_that_it_cannot_hold(self, options, section, change, message):
        (options["datasets"]["train"] if section == "datasets.train" else options[section]).update(change)
        with pytest.raises(ValueError, match=f"train.cuda_graph needs {message}"):
            self.check(options)

    @pytest.mark.parametrize("several", [{"num_gpu": 2}, {"dist": True}])
    def test_several_gpus(self, options, several):
        with pytest.raises(ValueError, match="needs one process and one GPU: the exchange of gradients"):
            self.check({**options, **several})

    def test_experts_whose_batches_depend_on_the_routing(self, options):
        experts = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(2))
        net = nn.Sequential(nn.Identity(), cm.ClusterMoE(3, num_experts=2, top_k=1, experts=experts))
        with pytest.raises(ValueError, match="experts of static shapes, not those of 1: who runs"):
            self.check(options, net)

    def test_all_reasons_at_once(self, options):
        options["train"]["amp"] = "fp16"
        with pytest.raises(ValueError, match=r"a CUDA device: graphs are CUDA's; and train.amp bf16"):
            self.check(options, device="cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnGpu:
    @pytest.mark.parametrize("train_opt", [{}, {"accum_iter": 2, "amp": "bf16"}, {"compile": True}])
    def test_graphs_follow_ordinary_training(self, options, build, make_batch, train_opt):
        options.update(num_gpu=1, network_g={"type": "ClusIR", "dim": 8, "num_blocks": [1, 1, 1, 1]})
        options["train"].update(train_opt, losses=[{"type": "L1Loss"}, {"type": "load_balance", "weight": 0.01}])
        del options["train"]["pixel_opt"]
        ordinary = build(options)
        options["train"]["cuda_graph"] = True
        captured = build(options)
        data = batches(make_batch, 6)
        data[3]["gt"] = data[3]["gt"] * 3e38  # a step that is left out
        for ours, theirs in zip(train(captured, data), train(ordinary, data), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3)
        for name in ("net_g", "net_g_ema"):
            ours, theirs = (
                torch.cat([p.flatten() for p in getattr(model, name).parameters()]) for model in (captured, ordinary)
            )
            assert (ours - theirs).norm() < 1e-3 * theirs.norm()
