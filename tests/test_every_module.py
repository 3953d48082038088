"""What every module of the core must do, whatever it computes. A new module joins by a line in ``CASES``."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from factories import relative_error, smallest_clusir
from own_parts import swapped
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

import clusir_modules as cm
from clusir_modules.layers.basic.resample import Downsample, Upsample
from clusir_modules.layers.frequency.spectral_gate import NUM_BANDS, SpectralGate
from clusir_modules.layers.multi_stage.cab_encoder_decoder import CABDecoder, CABEncoder, DownProject, UpProject
from clusir_modules.layers.multi_stage.channel_attention import CALayer
from clusir_modules.networks.clusir_encoder import _EncoderLevel
from clusir_modules.networks.clusir_stage import StageFeatures

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A module, inputs for ``(batch, height, width)`` and the shape of its first output."""

    build: Callable[[], nn.Module]
    make_inputs: Callable[[int, int, int], tuple[Any, ...]]
    output: Callable[[int, int, int], Shape]
    multiple: int = 1  # that sides must be of
    batch_free: bool = True  # each image's output is its own
    gradcheck_parameters: bool = True

    def inputs(self, batch: int, height: int, width: int) -> tuple[Any, ...]:
        """Inputs of this size, or of the next larger one that the module takes."""
        return self.make_inputs(batch, *(-(-side // self.multiple) * self.multiple for side in (height, width)))


def maps(channels: int) -> Callable[[int, int, int], tuple[Tensor, ...]]:
    return lambda b, h, w: (torch.randn(b, channels, h, w),)


def same(channels: int) -> Callable[[int, int, int], Shape]:
    return lambda b, h, w: (b, channels, h, w)


def own_experts() -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(3))


def expert_inputs(b: int, h: int, w: int) -> tuple[Tensor, ...]:
    indices = torch.stack([torch.randperm(3)[:2] for _ in range(b)])
    return torch.randn(b, 4, h, w), torch.rand(b, 2), indices


def pcgrm(top_k: int) -> cm.PCGRM:
    return cm.PCGRM(6, num_clusters=4, num_experts=3, top_k=top_k, embed_dim=8)


def moe(top_k: int, **parts: Any) -> cm.ClusterMoE:
    return cm.ClusterMoE(6, num_experts=3, num_clusters=4, top_k=top_k, embed_dim=8, **parts)


def images(b: int, h: int, w: int) -> tuple[Tensor, ...]:
    return (torch.rand(b, 3, h, w),)


def pairs(b: int, h: int, w: int) -> tuple[Tensor, ...]:
    return torch.rand(b, 3, h, w), torch.rand(b, 3, h, w)


def pyramid(b: int, h: int, w: int) -> tuple[Tensor, ...]:
    return tuple(torch.randn(b, 4 + 2 * level, h >> level, w >> level) for level in range(3))


class Listed(nn.Module):
    """A module that wants lists of tensors, called with tensors: so many go into each list, one stands alone."""

    def __init__(self, module: nn.Module, *counts: int) -> None:
        super().__init__()
        self.module = module
        self.counts = counts

    def forward(self, *tensors: Tensor) -> Any:
        groups, start = [], 0
        for count in self.counts:
            groups.append(tensors[start] if count == 1 else list(tensors[start : start + count]))
            start += count
        return self.module(*groups)


CASES = {
    "transposed attention": Case(lambda: cm.TransposedAttention(4, 2), maps(4), same(4)),
    "gated feed-forward": Case(lambda: cm.GatedFeedForward(4, hidden_dim=6), maps(4), same(4)),
    "WTB haar": Case(lambda: cm.WTB(4, 2), maps(4), same(4)),
    "WTB db2": Case(lambda: cm.WTB(4, 2, "db2"), maps(4), same(4)),
    "learnable wavelet": Case(
        lambda: cm.LearnableWavelet("coif1"), maps(4), lambda b, h, w: (b, 4, (h + 1) // 2, (w + 1) // 2)
    ),
    "PCGRM": Case(lambda: pcgrm(2), maps(6), lambda b, h, w: (b, 4)),
    "PCGRM dense": Case(lambda: pcgrm(3), maps(6), lambda b, h, w: (b, 4)),
    "wavelet evidence": Case(lambda: cm.WaveletEvidence(6), maps(6), lambda b, h, w: (b, 6, 1, 1)),
    "ClusterMoE": Case(lambda: moe(2), maps(6), same(6)),
    "ClusterMoE dense": Case(lambda: moe(3), maps(6), same(6)),
    "ClusterMoE fallback": Case(lambda: moe(2, router=partial(cm.PCGRM, fallback=1.0)), maps(6), same(6)),
    "ClusterMoE own experts": Case(lambda: moe(2, experts=own_experts()), maps(6), same(6)),
    "gated conv experts": Case(lambda: cm.GatedConvExperts(4, 3), expert_inputs, same(4)),
    "prompt fusion": Case(
        lambda: cm.PromptFusion(8, 2),
        lambda b, h, w: (torch.randn(b, 5, 8), torch.randn(b, 3, 8)),
        lambda b, h, w: (b, 5, 8),
    ),
    "PGB": Case(lambda: cm.PGB(6, 4, 3, 4), lambda b, h, w: (torch.randn(b, 5, 6), (h, w)), same(4)),
    "DAFMM": Case(
        lambda: cm.DAFMM(8, 6, 4, layer_scale=0.5),
        lambda b, h, w: (torch.randn(b, 8, h, w), torch.randn(b, 6, h, w)),
        same(8),
    ),
    "spectral gate": Case(
        SpectralGate, lambda b, h, w: (torch.randn(b, 4, h, w), torch.randn(b, 2, NUM_BANDS)), same(4)
    ),
    "downsample": Case(lambda: Downsample(4), maps(4), lambda b, h, w: (b, 8, h // 2, w // 2), multiple=2),
    "upsample": Case(lambda: Upsample(4), maps(4), lambda b, h, w: (b, 2, 2 * h, 2 * w)),
    "L1 + MS-SSIM": Case(cm.L1MSSSIMLoss, pairs, lambda b, h, w: (), batch_free=False),
    "Charbonnier": Case(cm.CharbonnierLoss, pairs, lambda b, h, w: (), batch_free=False),
    "edge": Case(cm.EdgeLoss, pairs, lambda b, h, w: (), batch_free=False),
    "FFT": Case(cm.FFTLoss, pairs, lambda b, h, w: (), batch_free=False),
    "focal frequency": Case(  # weights that depend on the input get no gradient, of which gradcheck knows nothing
        lambda: cm.FocalFrequencyLoss(alpha=0), pairs, lambda b, h, w: (), batch_free=False
    ),
    "layer norm": Case(lambda: cm.LayerNorm2d(4), maps(4), same(4)),
    "small convolution": Case(lambda: cm.SmallConv2d(4, 4, 3, padding=1), maps(4), same(4)),
    "dispatched experts": Case(
        lambda: cm.DispatchedExperts(nn.Conv2d(4, 4, 1) for _ in range(3)), expert_inputs, same(4)
    ),
    "channel attention": Case(lambda: CALayer(4, reduction=1, bias=True), maps(4), same(4)),
    "CAB": Case(lambda: cm.CAB(4, reduction=1), maps(4), same(4)),
    "SAM": Case(lambda: cm.SAM(4), lambda b, h, w: (torch.randn(b, 4, h, w), torch.rand(b, 3, h, w)), same(4)),
    "CSFF": Case(
        lambda: cm.CSFF(4, context_dim=6),
        lambda b, h, w: (torch.randn(b, 4, h, w), torch.randn(b, 6, h, w), torch.randn(b, 6, h, w)),
        same(4),
    ),
    "ORB": Case(lambda: cm.ORB(4, num_cabs=1, reduction=1), maps(4), same(4)),
    "CAB encoder": Case(lambda: CABEncoder(4, unet_step=2, reduction=1), maps(4), same(4), multiple=4),
    "CAB decoder": Case(lambda: Listed(CABDecoder(4, unet_step=2, reduction=1), 3), pyramid, same(4), multiple=4),
    "ORSNet": Case(
        lambda: Listed(cm.ORSNet(4, unet_step=2, orsnet_step=2, num_cabs=1, reduction=1), 1, 3, 3),
        lambda b, h, w: (torch.randn(b, 6, h, w), *pyramid(b, h, w), *pyramid(b, h, w)),
        same(6),
        multiple=4,
    ),
    "down-projection": Case(lambda: DownProject(4, 2), maps(4), lambda b, h, w: (b, 6, h // 2, w // 2), multiple=2),
    "up-projection": Case(lambda: UpProject(4, 2), maps(6), lambda b, h, w: (b, 4, 2 * h, 2 * w)),
    "ClusIR": Case(smallest_clusir, images, same(3), gradcheck_parameters=False),
    "ClusIR, parts of one's own": Case(
        lambda: swapped("three: router, block, frequency"), images, same(3), gradcheck_parameters=False
    ),
    "ClusIR encoder": Case(
        lambda: cm.ClusIREncoder.from_network(smallest_clusir()),
        images,
        same(4),
        multiple=16,
        gradcheck_parameters=False,
    ),
    "ClusIR stage": Case(lambda: smallest_clusir().stages[0], images, same(4), multiple=16, gradcheck_parameters=False),
    "MPRNet": Case(
        lambda: cm.MPRNet(4, unet_step=2, orsnet_step=2, num_cabs=1, reduction=1),
        images,
        same(3),
        gradcheck_parameters=False,
    ),
}
NETWORKS = {name for name in CASES if "ClusIR" in name or name == "MPRNet"}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def to_dtype(inputs: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    return tuple(t.to(dtype) if isinstance(t, Tensor) and t.is_floating_point() else t for t in inputs)


def floats(output: Any) -> list[Tensor]:
    """The floating-point tensors of an output."""
    return [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor) and t.is_floating_point()]


def scalar(output: Any) -> Tensor:
    """A scalar on which every number of the output has an influence of its own."""
    total = torch.zeros((), dtype=torch.float64)
    for tensor in floats(output):
        weight = torch.arange(tensor.numel(), dtype=torch.float64).mul(7.3).sin().view(tensor.shape)
        total = total + (tensor.double() * weight).sum() + tensor.double().square().sum()
    return total


def gradients(module: nn.Module, output: Any, inputs: tuple[Any, ...]) -> Iterator[Tensor]:
    wanted = [*module.parameters(), *(t for t in inputs if isinstance(t, Tensor) and t.requires_grad)]
    yield from torch.autograd.grad(scalar(output), wanted)


def tracked(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        t.detach().clone().requires_grad_() if isinstance(t, Tensor) and t.is_floating_point() else t for t in inputs
    )


class TestShapesAndTypes:
    @torch.no_grad()
    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (6, 10), (17, 16)])
    def test_any_size_has_the_stated_shape(self, case: Case, size: tuple[int, int]) -> None:
        height, width = (case.multiple * side for side in size)
        for batch in (1, 3):
            outputs = floats(case.build()(*case.inputs(batch, height, width)))
            assert tuple(outputs[0].shape) == case.output(batch, height, width)
            assert all(torch.isfinite(output).all() for output in outputs)

    @torch.no_grad()
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_type_of_the_input_comes_out(self, case: Case, dtype: torch.dtype) -> None:
        outputs = floats(case.build().to(dtype)(*to_dtype(case.inputs(2, 8, 6), dtype)))
        assert {output.dtype for output in outputs} == {dtype}

    @torch.no_grad()
    def test_bfloat16_autocast_stays_near_float32(self, case: Case) -> None:
        module, inputs = case.build(), case.inputs(2, 16, 12)
        expected = floats(module(*inputs))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            actual = floats(module(*inputs))
        for a, e in zip(actual, expected, strict=True):
            assert torch.isfinite(a).all()
            assert relative_error(a, e) < 2e-2

    @torch.no_grad()
    def test_a_bfloat16_module_runs(self, case: Case) -> None:
        module, inputs = case.build(), case.inputs(2, 16, 12)
        expected = floats(module(*inputs))
        for a, e in zip(floats(module.bfloat16()(*to_dtype(inputs, torch.bfloat16))), expected, strict=True):
            assert relative_error(a, e) < 0.1

    @torch.no_grad()
    def test_outputs_are_dense_as_convolutions_leave_them(self, case: Case) -> None:
        for output in floats(case.build()(*case.inputs(2, 7, 6))):
            last = output.dim() == 4 and output.is_contiguous(memory_format=torch.channels_last)
            assert output.is_contiguous() or last, output.stride()

    @torch.no_grad()
    def test_layout_of_the_input_does_not_matter(self, case: Case) -> None:
        module = case.build().double()
        inputs = to_dtype(case.inputs(2, 6, 8), torch.float64)
        expected = floats(module(*inputs))
        layouts: list[Callable[[Tensor], Tensor]] = [
            lambda t: t.repeat_interleave(2, -1)[..., ::2],
            lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2),
            lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t,
            lambda t: t.clone().flip(0).contiguous().flip(0),
        ]
        for layout in layouts:
            laid_out = tuple(layout(t) if isinstance(t, Tensor) else t for t in inputs)
            for a, e in zip(floats(module(*laid_out)), expected, strict=True):
                torch.testing.assert_close(a, e, atol=1e-12, rtol=1e-9)


def as_function(
    case: Case, *, parameters: bool = True, fixed_routings: bool = False
) -> tuple[Callable[..., tuple[Tensor, ...]], tuple[Any, ...]]:
    """A module as a function of its parameters and floating-point inputs, and their values, in float64."""
    module = case.build().double()
    if fixed_routings:
        fix_routings(module, to_dtype(case.inputs(2, 4, 6), torch.float64))
    named = dict(module.named_parameters()) if parameters else {}
    inputs = to_dtype(case.inputs(2, 4, 6), torch.float64)
    places = [i for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.is_floating_point()]

    def call(*values: Any) -> tuple[Tensor, ...]:
        given = list(inputs)
        for place, value in zip(places, values[len(named) :], strict=True):
            given[place] = value
        output = torch.func.functional_call(module, dict(zip(named, values)), tuple(given))
        if isinstance(output, StageFeatures):  # routers leave the features they see without a gradient
            output = output._replace(routings=())
        return tuple(floats(output))

    return call, tracked((*named.values(), *(inputs[place] for place in places)))


@torch.no_grad()
def fix_routings(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Let the levels of an encoder keep their first routings, which depend on features that get no gradient of them."""
    for level in module.modules():
        if isinstance(level, _EncoderLevel):
            level.moe.router.register_forward_hook(partial(keep_first, []))
    module(*inputs)


def keep_first(seen: list[Any], module: nn.Module, inputs: Any, output: Any) -> Any:
    seen.append(output)
    return seen[0]


def like(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Random tensors of the same shapes."""
    return tuple(torch.randn_like(t, requires_grad=False) for t in tensors)


def dot(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


class TestGradients:
    def test_passes_gradcheck(self, case: Case) -> None:
        call, values = as_function(case, parameters=case.gradcheck_parameters)
        assert torch.autograd.gradcheck(call, values, fast_mode=True)

    def test_forward_mode_agrees_with_reverse_mode(self, case: Case) -> None:
        call, values = as_function(case)
        outputs, pull = torch.func.vjp(call, *values)
        tangents, cotangents = like(values), like(outputs)
        _, slopes = torch.func.jvp(call, values, tangents)
        torch.testing.assert_close(dot(slopes, cotangents), dot(pull(cotangents), tangents), atol=1e-9, rtol=1e-7)

    def test_second_derivatives_of_both_modes_are_those_of_differences(self, case: Case) -> None:
        call, values = as_function(case, fixed_routings=True)
        gradient = torch.func.grad(lambda *v: scalar(call(*v)), argnums=tuple(range(len(values))))
        tangents, step = like(values), 1e-6
        ahead, behind = (
            gradient(*(v + sign * step * t for v, t in zip(values, tangents, strict=True))) for sign in (1, -1)
        )
        differences = [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
        _, forward_over_reverse = torch.func.jvp(gradient, values, tangents)
        reverse_over_reverse = torch.func.vjp(gradient, *values)[1](tangents)
        size = float(torch.stack([d.detach().abs().max() for d in differences]).max())
        for by_forward, by_reverse, difference in zip(
            forward_over_reverse, reverse_over_reverse, differences, strict=True
        ):
            torch.testing.assert_close(by_forward, difference, atol=1e-6 * size + 1e-6, rtol=1e-4)
            torch.testing.assert_close(by_reverse, by_forward, atol=1e-9 * size + 1e-9, rtol=1e-6)

    def test_vmap_gives_the_gradients_of_each_sample(self, case: Case) -> None:
        module, inputs = case.build().double().eval(), to_dtype(case.inputs(3, 4, 6), torch.float64)
        parameters = {name: p.detach() for name, p in module.named_parameters()}
        dims = tuple(0 if isinstance(t, Tensor) else None for t in inputs)

        def loss(values: dict[str, Tensor], *sample: Any) -> Tensor:
            batch = tuple(t.unsqueeze(0) if isinstance(t, Tensor) else t for t in sample)
            return scalar(torch.func.functional_call(module, values, batch))

        per_sample = torch.func.grad(loss)
        together = torch.func.vmap(per_sample, in_dims=(None, *dims))(parameters, *inputs)
        for b in range(3):
            alone = per_sample(parameters, *(t[b] if isinstance(t, Tensor) else t for t in inputs))
            for name in parameters:
                torch.testing.assert_close(together[name][b], alone[name], atol=1e-9, rtol=1e-6)

    def test_every_parameter_and_input_gets_a_gradient(self, case: Case) -> None:
        module, inputs = case.build(), tracked(case.inputs(8, 16, 16))
        module.zero_grad()
        scalar(module(*inputs)).backward()
        wanted = dict(module.named_parameters())
        wanted |= {f"input {i}": t for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.is_floating_point()}
        assert [name for name, tensor in wanted.items() if tensor.grad is None] == []
        dead = [name for name, tensor in wanted.items() if not tensor.grad.any()]
        assert [name for name in dead if not name.startswith("experts.")] == []  # an expert may be idle here
        assert all(torch.isfinite(tensor.grad).all() for tensor in wanted.values())

    def test_one_image_leaves_no_parameter_without_gradient(self, case: Case) -> None:
        module = case.build()
        scalar(module(*tracked(case.inputs(1, 8, 8)))).backward()
        assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []

    def test_checkpointing_gives_identical_gradients(self, case: Case) -> None:
        module, inputs = case.build(), tracked(case.inputs(2, 8, 6))
        plain = list(gradients(module, module(*inputs), inputs))
        recomputed = list(gradients(module, checkpoint(module, *inputs, use_reentrant=False), inputs))
        assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))


class TestState:
    @torch.no_grad()
    def test_eval_is_deterministic_and_leaves_no_trace(self, case: Case) -> None:
        module, inputs = case.build().eval(), case.inputs(2, 8, 6)
        state = copy.deepcopy(module.state_dict())
        first = floats(module(*inputs))
        module(*case.inputs(3, 6, 8))
        assert all(torch.equal(a, b) for a, b in zip(floats(module(*inputs)), first, strict=True))
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())

    @torch.no_grad()
    def test_eval_treats_each_image_alone(self, case: Case) -> None:
        if not case.batch_free:
            return
        module, inputs = case.build().eval(), case.inputs(5, 8, 6)
        together = floats(module(*inputs))
        for b in range(5):
            alone = floats(module(*(t[b : b + 1] if isinstance(t, Tensor) else t for t in inputs)))
            for a, t in zip(alone, together, strict=True):
                torch.testing.assert_close(a[0], t[b], atol=1e-5, rtol=0)

    @torch.no_grad()
    def test_inputs_are_not_changed(self, case: Case) -> None:
        inputs = case.inputs(2, 8, 6)
        before = copy.deepcopy(inputs)
        case.build()(*inputs)
        assert all(torch.equal(a, b) for a, b in zip(floats(inputs), floats(before)))

    def test_copies_and_pickles_keep_the_numbers_even_after_a_training_step(self, case: Case) -> None:
        module, inputs = case.build(), case.inputs(2, 8, 6)
        scalar_output = scalar(module(*inputs))
        if scalar_output.requires_grad:
            scalar_output.backward()
        expected = floats(module(*inputs))
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert all(torch.equal(a, b) for a, b in zip(floats(twin(*inputs)), expected, strict=True))

    def test_a_state_dict_goes_strictly_into_a_fresh_module(self, case: Case) -> None:
        module, fresh, inputs = case.build(), case.build(), case.inputs(2, 8, 6)
        fresh.load_state_dict(module.state_dict(), strict=True)
        assert all(torch.equal(a, b) for a, b in zip(floats(fresh(*inputs)), floats(module(*inputs)), strict=True))

    def test_state_dicts_hold_parameters_only(self, case: Case) -> None:
        module = case.build()
        recorded = {"settings_record"} if isinstance(module, cm.ClusIR) else set()  # of prompt heads
        assert set(module.state_dict()) == {n for n, _ in module.named_parameters(remove_duplicate=False)} | recorded


class TestOldTools:
    @pytest.mark.parametrize("name", ["ClusIR", *(name for name in CASES if name not in NETWORKS)])
    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
    def test_jit_trace_keeps_values_and_gradients(self, name: str) -> None:
        case = CASES[name]
        module, inputs = case.build().eval(), tracked(case.inputs(2, 4, 6))
        tensors = [t for t in inputs if isinstance(t, Tensor)]

        class Traced(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
                return tuple(floats(self.module(*given, *inputs[len(given) :])))

        traced = torch.jit.trace(Traced(), tuple(tensors), check_trace=False)
        output, expected = traced(*tensors), floats(module(*inputs))
        for a, e in zip(output, expected, strict=True):
            torch.testing.assert_close(a, e)
        for a, e in zip(gradients(module, output, inputs), gradients(module, expected, inputs), strict=True):
            torch.testing.assert_close(a, e, atol=1e-4, rtol=1e-4)

    @torch.no_grad()
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_dynamic_quantization_stays_near(self, case: Case) -> None:
        module, inputs = case.build().eval(), case.inputs(2, 8, 6)
        quantized = torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8)
        for a, e in zip(floats(quantized(*inputs)), floats(module(*inputs)), strict=True):
            assert relative_error(a, e) < 0.05


def test_every_public_module_is_in_a_case() -> None:
    inside = {type(module) for case in CASES.values() for module in case.build().modules()}
    public = [getattr(cm, name) for name in cm.__all__]
    assert {c.__name__ for c in public if isinstance(c, type) and issubclass(c, nn.Module) and c not in inside} == set()


@pytest.mark.parametrize("name", [name for name in CASES if name not in NETWORKS | {"ClusterMoE dense"}])
def test_compiles_as_one_graph_forward_and_backward(name: str) -> None:
    case = CASES[name]
    module, inputs = case.build(), tracked(case.inputs(2, 8, 6))
    torch.compiler.reset()
    with torch._dynamo.config.patch(
        capture_dynamic_output_shape_ops=name in ("ClusterMoE own experts", "dispatched experts")
    ):
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        output, expected = compiled(*inputs), module(*inputs)
        for a, e in zip(floats(output), floats(expected), strict=True):
            torch.testing.assert_close(a, e, atol=1e-5, rtol=1e-5)
        for a, e in zip(gradients(module, output, inputs), gradients(module, expected, inputs), strict=True):
            torch.testing.assert_close(a, e, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnGpu:
    @torch.no_grad()
    def test_equals_the_cpu_in_float64(self, case: Case) -> None:
        module, inputs = case.build().double(), to_dtype(case.inputs(2, 16, 12), torch.float64)
        expected = floats(module(*inputs))
        there = tuple(t.cuda() if isinstance(t, Tensor) else t for t in inputs)
        for a, e in zip(floats(module.cuda()(*there)), expected, strict=True):
            torch.testing.assert_close(a.cpu(), e, atol=1e-9, rtol=1e-9)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast_is_finite_with_finite_gradients(self, case: Case, dtype: torch.dtype) -> None:
        module = case.build().cuda()
        height = 16 if case.multiple > 1 else 15
        inputs = tuple(t.cuda() if isinstance(t, Tensor) else t for t in case.inputs(2, height, 12))
        with torch.autocast("cuda", dtype=dtype):
            outputs = floats(module(*inputs))
        assert all(torch.isfinite(output).all() for output in outputs)
        if any(True for _ in module.parameters()):
            sum(output.float().sum() for output in outputs).backward()
            assert all(torch.isfinite(p.grad).all() for p in module.parameters())
