from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spandrel_extra_arches
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from spandrel import ModelLoader
from spandrel_extra_arches.architectures.MPRNet import MPRNet as Reference
from torch import nn
from torch.export import Dim

from clusir_modules import (
    MPRNet,
    convert_mprnet_state_dict,
    mprnet_deblurring,
    mprnet_denoising,
    mprnet_deraining,
)

SMALL = {"dim": 8, "unet_step": 4, "orsnet_step": 4, "num_cabs": 1}
PUBLISHED = {
    "deraining": (mprnet_deraining, {"n_feat": 40, "scale_unetfeats": 20, "scale_orsnetfeats": 16}, 3.64),
    "denoising": (mprnet_denoising, {"n_feat": 80, "scale_unetfeats": 48, "scale_orsnetfeats": 32}, 15.74),
    "deblurring": (mprnet_deblurring, {"n_feat": 96, "scale_unetfeats": 48, "scale_orsnetfeats": 32}, 20.13),
}
EXACT = {"atol": 0, "rtol": 0}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def assert_stages_close(got: Any, expected: Any, **tolerance: float) -> None:
    assert len(got) == 3
    for stage, reference in zip(got, expected, strict=True):
        torch.testing.assert_close(stage.float(), reference, **(tolerance or {"atol": 1e-5, "rtol": 0}))


def small_pair(**options: Any) -> tuple[MPRNet, nn.Module]:
    ours = MPRNet(**{**SMALL, **options})
    theirs = Reference(
        n_feat=8,
        scale_unetfeats=4,
        scale_orsnetfeats=4,
        num_cab=1,
        kernel_size=options.get("kernel_size", 3),
        reduction=options.get("reduction", 4),
        bias=options.get("bias", False),
    )
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


class TestPublishedConfigurations:
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_every_stage_equals_the_independent_implementation(self, name: str) -> None:
        build, options, _ = PUBLISHED[name]
        theirs = Reference(**options)
        ours = build()
        ours.load_state_dict(convert_mprnet_state_dict({"state_dict": theirs.state_dict()}), strict=True)
        with torch.no_grad():
            for size in ((16, 16), (8, 24), (32, 16), (24, 24), (16, 40)):
                x = torch.rand(1, 3, *size)
                assert_stages_close(ours(x), theirs(x))

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_parameters_are_as_many_as_published(self, name: str) -> None:
        build, _, millions = PUBLISHED[name]
        with torch.device("meta"):
            net = build()
        assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == millions

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_names_and_shapes_are_those_of_the_released_checkpoints(self, name: str) -> None:
        build, options, _ = PUBLISHED[name]
        with torch.device("meta"):
            ours, theirs = build().state_dict(), Reference(**options).state_dict()
        assert [(key, value.shape) for key, value in ours.items()] == [
            (key, value.shape) for key, value in theirs.items()
        ]

    def test_overrides_reach_the_network(self) -> None:
        assert mprnet_denoising(**SMALL, in_channels=1)(torch.rand(1, 1, 8, 8))[0].shape == (1, 1, 8, 8)
        with pytest.raises(TypeError, match="n_feat"):
            mprnet_deblurring(n_feat=8)


class TestForward:
    @pytest.mark.parametrize(
        "options", [{}, {"bias": True}, {"kernel_size": 1}, {"kernel_size": 5}, {"reduction": 2}, {"reduction": 8}]
    )
    def test_options_mean_what_they_mean_in_the_independent_implementation(self, options: dict[str, Any]) -> None:
        ours, theirs = small_pair(**options)
        x = torch.rand(2, 3, 24, 32)
        assert_stages_close(ours(x), theirs(x))

    def test_training_and_eval_give_the_same_list(self) -> None:
        net, x = MPRNet(**SMALL), torch.rand(1, 3, 16, 16)
        training = net.train()(x)
        assert isinstance(training, list)
        assert_stages_close(net.eval()(x), training, **EXACT)

    @pytest.mark.parametrize("size", [(13, 22), (9, 8), (8, 15), (17, 5)])
    def test_other_sizes_equal_the_reflected_and_cropped_image(self, size: tuple[int, int]) -> None:
        ours, theirs = small_pair()
        x = torch.rand(1, 3, *size)
        bottom, right = (-length % 8 for length in size)
        stages = theirs(F.pad(x, (0, right, 0, bottom), mode="reflect"))
        assert_stages_close(ours(x), [stage[..., : size[0], : size[1]] for stage in stages])

    def test_sizes_too_small_to_reflect_repeat_the_edge(self) -> None:
        ours, theirs = small_pair()
        x = torch.rand(1, 3, 3, 13)
        padded = F.pad(F.pad(x, (0, 0, 0, 5), mode="replicate"), (0, 3, 0, 0), mode="reflect")
        assert_stages_close(ours(x), [stage[..., :3, :13] for stage in theirs(padded)])

    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (4, 5), (8, 8), (10, 33)])
    def test_every_size_comes_back_contiguous_in_its_shape(self, size: tuple[int, int]) -> None:
        x = torch.rand(2, 3, *size)
        for stage in MPRNet(**SMALL)(x):
            assert stage.shape == x.shape
            assert stage.is_contiguous()
            assert stage.isfinite().all()

    def test_one_image_does_not_change_another(self) -> None:
        net, x = MPRNet(**SMALL), torch.rand(3, 3, 16, 24)
        assert_stages_close([stage[1:2] for stage in net(x)], net(x[1:2]))

    def test_a_quarter_reaches_stage_1_only_through_its_half(self) -> None:
        net = MPRNet(**SMALL)
        x = torch.rand(1, 3, 32, 32)
        changed = x.clone()
        changed[..., :16, :16] += 0.1
        _, _, before = net(x)
        _, _, after = net(changed)
        assert torch.equal(before[..., 16:, :], after[..., 16:, :])
        assert not torch.equal(before[..., :16, 16:], after[..., :16, 16:])

    def test_channels_last_and_strided_input_give_the_same_numbers(self) -> None:
        net, x = MPRNet(**SMALL), torch.rand(2, 3, 16, 24)
        expected = net(x)
        assert_stages_close(net(x.contiguous(memory_format=torch.channels_last)), expected)
        assert_stages_close(net(x.mT.contiguous().mT), expected)
        assert_stages_close(copy.deepcopy(net).to(memory_format=torch.channels_last)(x), expected)

    def test_float64_agrees_with_float32(self) -> None:
        net, x = MPRNet(**SMALL), torch.rand(1, 3, 16, 24)
        double = copy.deepcopy(net).double()(x.double())
        assert {stage.dtype for stage in double} == {torch.float64}
        assert_stages_close(double, net(x))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_stays_close_to_float32(self, dtype: torch.dtype) -> None:
        net, x = MPRNet(**SMALL), torch.rand(1, 3, 13, 24)
        expected = net(x)
        half = copy.deepcopy(net).to(dtype)(x.to(dtype))
        assert {stage.dtype for stage in half} == {dtype}
        assert_stages_close(half, expected, atol=0.05, rtol=0)
        with torch.autocast("cpu", dtype=dtype):
            assert_stages_close(net(x), expected, atol=0.05, rtol=0)

    def test_bad_inputs_are_named(self) -> None:
        net = MPRNet(**SMALL)
        with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\), got \(3, 16, 16\)"):
            net(torch.rand(3, 16, 16))
        with pytest.raises(ValueError, match="x must have 3 channels, got 1"):
            net(torch.rand(1, 1, 16, 16))
        with pytest.raises(TypeError, match=r"x must be a floating-point tensor .*, got torch.uint8"):
            net(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
        with pytest.raises(ValueError, match="at least one pixel"):
            net(torch.rand(1, 3, 0, 16))

    @pytest.mark.parametrize("option", ["dim", "in_channels", "unet_step", "orsnet_step", "num_cabs", "reduction"])
    def test_an_option_of_zero_is_named(self, option: str) -> None:
        with pytest.raises(ValueError, match=f"{option} must be >= 1, got 0"):
            MPRNet(**{**SMALL, option: 0})


class TestTraining:
    @pytest.mark.parametrize("last_stage_only", [False, True])
    def test_every_parameter_gets_a_gradient(self, last_stage_only: bool) -> None:
        net = MPRNet(24, unet_step=8, orsnet_step=8, num_cabs=1, reduction=2)
        stages = net(torch.rand(2, 3, 16, 24))
        sum(stage.square().mean() for stage in (stages[:1] if last_stage_only else stages)).backward()
        assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []

    def test_gradients_equal_those_of_the_independent_implementation(self) -> None:
        ours, theirs = small_pair()
        x = torch.rand(2, 3, 16, 24)
        for net in (ours, theirs):
            sum(stage.square().sum() for stage in net(x)).backward()
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, atol=1e-3, rtol=1e-3, msg=name)

    def test_checkpointing_changes_no_number(self) -> None:
        net, x = MPRNet(**SMALL), torch.rand(1, 3, 16, 24)
        recomputed = copy.deepcopy(net)
        recomputed.set_grad_checkpointing()
        results = []
        for module in (net, recomputed):
            stages = module(x)
            sum(stage.square().mean() for stage in stages).backward()
            results.append(stages)
        assert_stages_close(results[1], results[0], **EXACT)
        for p, q in zip(net.parameters(), recomputed.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)

    def test_checkpointing_keeps_less_for_the_backward_pass_and_can_be_switched_off(self) -> None:
        net, x = MPRNet(**{**SMALL, "num_cabs": 4}), torch.rand(1, 3, 64, 64)
        kept = []
        for enable in (False, True, False):
            net.set_grad_checkpointing(enable)
            sizes: dict[int, int] = {}

            def pack(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
                sizes[tensor.data_ptr()] = tensor.numel()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                stages = net(x)
            kept.append(sum(sizes.values()))
            del stages
        assert kept[1] < 0.6 * kept[0]
        assert kept[2] == kept[0]

    def test_a_few_steps_fit_two_images(self) -> None:
        net = MPRNet(**SMALL)
        target = torch.rand(2, 3, 8, 8).repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = target + 0.2 * torch.randn_like(target)
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        losses = []
        for _ in range(30):
            loss = sum((stage - target).abs().mean() for stage in net(x))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0]


class TestComposability:
    @pytest.mark.parametrize(
        "checkpointing", [pytest.param(False, marks=pytest.mark.long), pytest.param(True, marks=pytest.mark.slow)]
    )
    def test_compiles_without_graph_break(self, checkpointing: bool) -> None:
        net, x = MPRNet(**SMALL), torch.rand(1, 3, 13, 24)
        net.set_grad_checkpointing(checkpointing)
        stages = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
        assert_stages_close(stages, net(x))
        sum(stage.sum() for stage in stages).backward()
        assert all(p.grad is not None for p in net.parameters())

    @pytest.mark.slow
    def test_exports_with_dynamic_batch_height_and_width(self) -> None:
        net = MPRNet(**SMALL).eval()
        sizes = {0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO}
        exported = torch.export.export(net, (torch.rand(2, 3, 30, 17),), dynamic_shapes=(sizes,)).module()
        for shape in ((1, 3, 30, 17), (3, 3, 64, 40), (1, 3, 33, 9), (1, 3, 16, 64)):
            x = torch.rand(*shape)
            assert_stages_close(exported(x), net(x))

    def test_pickle_and_deepcopy_keep_the_numbers_and_the_shared_slope(self) -> None:
        net, x = MPRNet(**SMALL), torch.rand(1, 3, 16, 24)
        net(x)
        for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert_stages_close(twin(x), net(x), **EXACT)
            assert len(list(twin.parameters())) == len(list(net.parameters()))
            assert len({value.data_ptr() for value in twin.state_dict().values()}) == len(net.state_dict())


class TestStateDict:
    def test_all_blocks_share_one_slope(self) -> None:
        net = MPRNet(**SMALL)
        assert sum(isinstance(module, nn.PReLU) for module in net.modules()) == 1
        assert sum(key.endswith(".body.1.weight") for key in net.state_dict()) > 30

    def test_no_two_entries_share_memory(self) -> None:
        state = MPRNet(**SMALL).state_dict()
        assert len({value.data_ptr() for value in state.values()}) == len(state)

    def test_entries_are_live_and_repeated_ones_are_equal(self) -> None:
        net = MPRNet(**SMALL)
        net.state_dict()["shallow_feat1.1.body.1.weight"].fill_(0.75)
        slopes = [
            value for key, value in net.state_dict().items() if key.endswith(".body.1.weight") and value.numel() == 1
        ]
        assert {slope.item() for slope in slopes} == {0.75}
        net.state_dict()["tail.weight"].zero_()
        assert not net.tail.weight.any()

    def test_kept_variables_are_the_parameters(self) -> None:
        net = MPRNet(**SMALL)
        assert {id(value) for value in net.state_dict(keep_vars=True).values()} == {id(p) for p in net.parameters()}

    def test_safetensors_round_trip_is_strict(self, tmp_path: Path) -> None:
        net, twin = MPRNet(**SMALL), MPRNet(**SMALL)
        save_file(net.state_dict(), tmp_path / "net.safetensors")
        twin.load_state_dict(load_file(tmp_path / "net.safetensors"), strict=True)
        x = torch.rand(1, 3, 16, 16)
        assert_stages_close(twin(x), net(x), **EXACT)

    def test_a_net_inside_another_module_keeps_the_rule(self) -> None:
        state = nn.ModuleDict({"net": MPRNet(**SMALL)}).state_dict()
        assert len({value.data_ptr() for value in state.values()}) == len(state)

    @pytest.mark.parametrize("key", ["params", "params_ema"])
    def test_spandrel_loads_our_checkpoint_and_gives_the_same_last_stage(self, tmp_path: Path, key: str) -> None:
        spandrel_extra_arches.install(ignore_duplicates=True)
        net = MPRNet(12, unet_step=8, orsnet_step=4, num_cabs=2)
        with torch.no_grad():
            net.stage3_orsnet.orb1.body[0].body[1].weight.fill_(0.1)
        torch.save({key: net.state_dict()}, tmp_path / "net.pth")
        descriptor = ModelLoader().load_from_file(tmp_path / "net.pth")
        assert descriptor.architecture.id == "MPRNet"
        x = torch.rand(1, 3, 16, 24)
        with torch.no_grad():
            assert_stages_close(net(x), descriptor.model(x))


class TestConvertStateDict:
    @pytest.mark.parametrize("prefix", ["", "module."])
    @pytest.mark.parametrize("wrapper", ["state_dict", "params", "params_ema", None])
    def test_released_layouts_load_strictly(self, prefix: str, wrapper: str | None) -> None:
        _, theirs = small_pair()
        weights = {prefix + key: value for key, value in theirs.state_dict().items()}
        checkpoint = {"epoch": 3, wrapper: weights, "optimizer": {}} if wrapper else weights
        net = MPRNet(**SMALL)
        net.load_state_dict(convert_mprnet_state_dict(checkpoint), strict=True)
        x = torch.rand(1, 3, 16, 16)
        assert_stages_close(net(x), theirs(x))

    def test_the_checkpoint_is_left_as_it_is(self) -> None:
        checkpoint = {"state_dict": {"module." + key: value for key, value in MPRNet(**SMALL).state_dict().items()}}
        names = list(checkpoint["state_dict"])
        convert_mprnet_state_dict(checkpoint)
        assert list(checkpoint["state_dict"]) == names

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda _: [1, 2], TypeError, "must be a mapping of names to tensors, got list"),
            (lambda _: {"state_dict": 3}, TypeError, "must be a mapping of names to tensors, got int"),
            (lambda state: {**state, 3: torch.zeros(1)}, ValueError, r"must hold tensors by name only, got .*'3'"),
            (lambda state: {**state, "epoch": 7}, ValueError, r"must hold tensors by name only, got .*'epoch'"),
            (lambda _: {"conv.weight": torch.zeros(1)}, ValueError, r"must hold MPRNet weights, got .*conv.weight"),
            (
                lambda state: {**state, "stage1_decoder.skip_attn1.body.1.weight": torch.tensor([0.5])},
                ValueError,
                "must have one activation slope, got stage1_decoder.skip_attn1.body.1.weight = 0.5",
            ),
        ],
    )
    def test_what_is_no_checkpoint_is_refused(
        self, change: Callable[[Any], Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            convert_mprnet_state_dict(change(MPRNet(**SMALL).state_dict()))
