"""Every module of the core on maps of any size, type, layout and content, and on what it must refuse."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from factories import smallest_clusir
from fuzzing import COVERED, Recipe, assert_near, fuzz, recipes, tensors, to_double, tolerance
from hypothesis import strategies as st
from torch import Tensor, nn

import clusir_modules as cm
from clusir_modules.layers.basic.resample import Downsample, Upsample
from clusir_modules.layers.frequency.spectral_gate import NUM_BANDS, SpectralGate
from clusir_modules.layers.multi_stage.cab_encoder_decoder import CABDecoder, CABEncoder, DownProject, UpProject
from clusir_modules.layers.multi_stage.channel_attention import CALayer

Inputs = tuple[Any, ...]
SMALL = {"unet_step": 2, "num_cabs": 1, "reduction": 2}


@dataclass(frozen=True)
class Spec:
    """How to build a module with drawn options, and inputs that fit them."""

    module: type[nn.Module] | Callable[..., nn.Module]
    options: st.SearchStrategy[dict[str, Any]]
    inputs: Callable[[Recipe, dict[str, Any]], Inputs] = lambda recipe, o: (recipe.map(o["dim"]),)
    multiple: int = 1
    most: int = 12
    share: float = 1
    slack: float = 1  # how much more than others it may differ from float64
    empty: bool = True  # takes an empty batch; otherwise it is a ValueError

    def build(self, options: dict[str, Any], seed: int) -> nn.Module:
        torch.manual_seed(seed)
        module = self.module(**options)
        with torch.no_grad():  # what starts at zero or one would hide errors
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        return module.eval()


def options(**strategies: st.SearchStrategy[Any] | Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {name: s if isinstance(s, st.SearchStrategy) else st.just(s) for name, s in strategies.items()}
    )


def heads(name: str = "dim") -> st.SearchStrategy[dict[str, int]]:
    pairs = st.sampled_from([(2, 1), (4, 1), (4, 2), (6, 3), (8, 2)])
    return pairs.map(lambda pair: {name: pair[0], "num_heads": pair[1]})


def merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {k: v for part in found for k, v in part.items()})


def routed() -> st.SearchStrategy[dict[str, Any]]:
    chosen = st.integers(1, 4).flatmap(
        lambda e: st.fixed_dictionaries({"num_experts": st.just(e), "top_k": st.integers(1, e)})
    )
    return merged(options(dim=few, num_clusters=few, embed_dim=few), chosen)


few = st.integers(1, 6)
odd = st.sampled_from([1, 3, 5])
waves = st.sampled_from(["haar", "db2", "bior2.2", "sym4"])


def expert_inputs(recipe: Recipe, o: dict[str, Any]) -> Inputs:
    generator = torch.Generator().manual_seed(recipe.seed)
    k = 1 + recipe.seed % o["num_experts"]
    rows = [torch.randperm(o["num_experts"], generator=generator)[:k] for _ in range(recipe.batch)]
    indices = torch.stack(rows) if rows else torch.zeros(0, k, dtype=torch.int64)
    return recipe.map(o["dim"]), torch.rand(recipe.batch, k, generator=generator), indices


def levels(recipe: Recipe, dim: int, step: int, salt: int) -> list[Tensor]:
    return [
        recipe.make(recipe.batch, dim + n * step, recipe.height >> n, recipe.width >> n, salt=salt + n)
        for n in range(3)
    ]


def encoder_inputs(recipe: Recipe, o: dict[str, Any]) -> Inputs:
    earlier = [levels(recipe, o["dim"], o["unet_step"], salt) for salt in (1, 5)] if o["fuse"] else []
    return recipe.map(o["dim"]), *earlier


def orsnet_inputs(recipe: Recipe, o: dict[str, Any]) -> Inputs:
    features = [levels(recipe, o["dim"], o["unet_step"], salt) for salt in (1, 5)]
    return recipe.map(o["dim"] + o["orsnet_step"]), *features


blocks = options(kernel_size=odd, reduction=st.integers(1, 2), bias=st.booleans())
two_up = st.integers(2, 6)
SPECS = {
    "TransposedAttention": Spec(cm.TransposedAttention, heads()),
    "GatedFeedForward": Spec(cm.GatedFeedForward, options(dim=few, hidden_dim=few, kernel_size=odd)),
    "WTB": Spec(cm.WTB, merged(heads(), options(wave=waves))),
    "LearnableWavelet": Spec(
        cm.LearnableWavelet,
        options(
            wave=st.sampled_from(["db2", "sym4", "coif1"]),
            mode=st.sampled_from(["zero", "symmetric", "reflect", "periodization"]),
        ),
        lambda r, o: (r.map(3),),
    ),
    "PCGRM": Spec(cm.PCGRM, routed()),
    "WaveletEvidence": Spec(cm.WaveletEvidence, options(dim=few), empty=False),
    "ClusterMoE": Spec(cm.ClusterMoE, merged(routed(), options(hidden_dim=few)), empty=False),
    "GatedConvExperts": Spec(
        cm.GatedConvExperts,
        options(dim=few, num_experts=few, hidden_dim=few, kernel_size=odd),
        expert_inputs,
        empty=False,
    ),
    "PromptFusion": Spec(
        cm.PromptFusion,
        heads("embed_dim"),
        lambda r, o: (r.make(r.batch, r.height, o["embed_dim"]), r.make(r.batch, r.width, o["embed_dim"], salt=1)),
        slack=50,  # its norms divide equal tokens by no more than their rounding errors
    ),
    "PGB": Spec(
        cm.PGB,
        options(embed_dim=few, dim=few, num_components=few, size=few),
        lambda r, o: (r.make(r.batch, 1 + r.seed % 4, o["embed_dim"]), (r.height, r.width)),
    ),
    "DAFMM": Spec(
        cm.DAFMM,
        merged(heads(), options(prompt_dim=few, kernel_size=odd, layer_scale=0.5)),
        lambda r, o: (r.map(o["dim"]), (r.map(o["prompt_dim"] or o["dim"], salt=1), None)[r.seed % 2]),
        empty=False,
        slack=50,  # of one pixel, a query that is near zero by chance keeps only its first digits in a Gram matrix
    ),
    "SpectralGate": Spec(
        SpectralGate,
        options(),
        lambda r, o: (r.map(4), r.make(r.batch, (1, 2, 4)[r.seed % 3], NUM_BANDS, salt=1)),
    ),
    "Downsample": Spec(Downsample, options(dim=st.sampled_from([2, 4])), multiple=2, most=6),
    "Upsample": Spec(Upsample, options(dim=st.sampled_from([2, 4]))),
    "CAB": Spec(cm.CAB, merged(blocks, options(dim=two_up))),
    "CALayer": Spec(CALayer, options(dim=two_up, reduction=st.integers(1, 2), bias=st.booleans())),
    "SAM": Spec(
        cm.SAM,
        options(dim=few, in_channels=few, kernel_size=odd, bias=st.booleans()),
        lambda r, o: (r.map(o["dim"]), r.map(o["in_channels"], salt=1)),
    ),
    "CSFF": Spec(
        cm.CSFF,
        options(dim=few, context_dim=few, bias=st.booleans()),
        lambda r, o: (
            r.map(o["dim"]),
            r.map(o["context_dim"] or o["dim"], salt=1),
            r.map(o["context_dim"] or o["dim"], salt=2),
        ),
    ),
    "ORB": Spec(cm.ORB, merged(blocks, options(dim=two_up, num_cabs=st.integers(1, 2)))),
    "ORSNet": Spec(
        cm.ORSNet, options(dim=two_up, orsnet_step=few, bias=st.booleans(), **SMALL), orsnet_inputs, multiple=4, most=3
    ),
    "CABEncoder": Spec(
        CABEncoder,
        merged(blocks, options(dim=two_up, unet_step=few, fuse=st.booleans())),
        encoder_inputs,
        multiple=4,
        most=3,
    ),
    "CABDecoder": Spec(
        CABDecoder,
        merged(blocks, options(dim=two_up, unet_step=few)),
        lambda r, o: (levels(r, o["dim"], o["unet_step"], 0),),
        multiple=4,
        most=3,
    ),
    "DownProject": Spec(DownProject, options(dim=few, step=few), multiple=2),
    "UpProject": Spec(UpProject, options(dim=few, step=few), lambda r, o: (r.map(o["dim"] + o["step"]),)),
    "MPRNet": Spec(
        cm.MPRNet,
        options(dim=st.sampled_from([2, 4]), in_channels=few, orsnet_step=few, bias=st.booleans(), **SMALL),
        lambda r, o: (r.map(o["in_channels"]),),
        most=20,
        share=0.25,
    ),
    "ClusIR": Spec(
        smallest_clusir,
        options(in_channels=few, num_experts=st.just(3)),
        lambda r, o: (r.map(o["in_channels"]),),
        most=33,
        share=0.25,
        empty=False,
    ),
}
COVERED.update(SPECS)


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> Spec:
    return SPECS[request.param]


def case(data: st.DataObject, spec: Spec, **wanted: Any) -> tuple[nn.Module, Recipe, Inputs, dict[str, Any]]:
    recipe = data.draw(recipes(multiple=spec.multiple, most=spec.most, **wanted), "recipe")
    chosen = data.draw(spec.options, "options")
    module = spec.build(chosen, recipe.seed)
    return module, recipe, spec.inputs(recipe, chosen), chosen


def run(module: nn.Module, inputs: Inputs) -> list[Tensor]:
    return tensors(module(*inputs))


class TestValues:
    @fuzz(data=st.data())
    def test_equals_itself_in_float64_for_any_size_type_layout_and_content(
        self, spec: Spec, data: st.DataObject
    ) -> None:
        dtypes = (torch.float32, torch.float64) if spec is SPECS["ClusIR"] else None
        module, recipe, inputs, _ = case(data, spec, **({"dtypes": dtypes} if dtypes else {}))
        module = module.to(recipe.dtype)
        before = copy.deepcopy(to_double(inputs))
        reference = copy.deepcopy(module).double()
        with torch.no_grad():
            if isinstance(module, cm.ClusIR):  # two experts that are all but equally good may change places
                outputs, routings = module(*inputs, return_routing=True)
                expected = reference(*before, routings=to_double(routings))
            else:
                outputs, expected = module(*inputs), reference(*before)
        if isinstance(outputs, cm.Routing):
            outputs, expected = (o._replace(topk_weights=o.prompt) for o in (outputs, expected))
        found, wanted = tensors(outputs), tensors(expected)
        dtype = (
            torch.promote_types(recipe.dtype, torch.float32)
            if spec in (SPECS["PCGRM"], SPECS["WaveletEvidence"])
            else recipe.dtype
        )
        assert {output.dtype for output in found} == {dtype}
        for output, other in zip(found, wanted, strict=True):
            assert output.shape == other.shape
            assert_near(output, other, tolerance(recipe.dtype, spec.slack), scale=0.1)
        for given, kept in zip(tensors(inputs), tensors(before), strict=True):
            assert torch.equal(given.double(), kept), "an input was changed"

    @fuzz(data=st.data())
    def test_what_is_wrong_with_one_image_stays_with_it(self, spec: Spec, data: st.DataObject) -> None:
        module, recipe, inputs, _ = case(data, spec, batch=st.integers(2, 3), dtypes=(torch.float64,))
        module = module.double()
        bad = data.draw(st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e300]), "bad value")
        spoiled = to_double(inputs)
        for tensor in tensors(spoiled):
            tensor[0].view(-1)[recipe.seed % max(tensor[0].numel(), 1)] = bad
        with torch.no_grad():
            healthy, beside = run(module, to_double(inputs)), run(module, spoiled)
        for a, b in zip(healthy, beside, strict=True):
            torch.testing.assert_close(b[1:], a[1:], atol=1e-9, rtol=1e-9)

    @fuzz(data=st.data())
    def test_an_image_alone_has_the_output_that_it_has_in_a_batch(self, spec: Spec, data: st.DataObject) -> None:
        module, recipe, inputs, _ = case(data, spec, batch=st.integers(1, 3), dtypes=(torch.float64,))
        module = module.double()
        row = recipe.seed % recipe.batch
        alone = torch.utils._pytree.tree_map(lambda t: t[row : row + 1] if isinstance(t, Tensor) else t, inputs)
        with torch.no_grad():
            for together, single in zip(run(module, inputs), run(module, alone), strict=True):
                torch.testing.assert_close(together[row], single[0], atol=1e-9, rtol=1e-9)


class TestGradients:
    @fuzz(share=0.5, data=st.data())
    def test_are_finite_in_every_type_for_any_content(self, spec: Spec, data: st.DataObject) -> None:
        module, recipe, inputs, _ = case(data, spec)
        module = module.to(recipe.dtype).train()
        inputs = torch.utils._pytree.tree_map(
            lambda t: t.detach().requires_grad_() if isinstance(t, Tensor) and t.is_floating_point() else t, inputs
        )
        outputs = run(module, inputs)
        sum(output.float().mean() for output in outputs).backward()
        for name, tensor in [*module.named_parameters(), *((f"input {i}", t) for i, t in enumerate(tensors(inputs)))]:
            assert tensor.grad is None or torch.isfinite(tensor.grad).all(), name
        assert all(torch.isfinite(output).all() for output in outputs)


WRONG = ("integer", "boolean", "complex", "rank 3", "rank 5", "channels", "no rows", "no columns", "list", "none")


def spoil(x: Tensor, wrong: str) -> tuple[Any, type[Exception]]:
    match wrong:
        case "integer":
            return torch.zeros(x.shape, dtype=torch.int64), TypeError
        case "boolean":
            return torch.zeros(x.shape, dtype=torch.bool), TypeError
        case "complex":
            return x.to(torch.complex64), TypeError
        case "rank 3":
            return x[0], ValueError
        case "rank 5":
            return x[None], ValueError
        case "channels":
            return torch.cat((x, x[:, :1]), 1), ValueError
        case "no rows":
            return x[:, :, :0], ValueError
        case "no columns":
            return x[..., :0], ValueError
        case "list":
            return x.tolist(), TypeError
        case _:
            return None, TypeError


CHECKED = sorted(
    set(SPECS)
    - {
        "LearnableWavelet",
        "PromptFusion",
        "PGB",
        "SpectralGate",
        "Downsample",
        "Upsample",
        "DownProject",
        "UpProject",
        "CABDecoder",
    }
)


class TestRefusals:
    @pytest.mark.parametrize("spec", [pytest.param(SPECS[name], id=name) for name in CHECKED])
    @fuzz(share=0.4, data=st.data(), wrong=st.sampled_from(WRONG))
    def test_a_wrong_map_is_refused_with_the_kind_of_error_that_is_documented(
        self, spec: Spec, data: st.DataObject, wrong: str
    ) -> None:
        module, _, inputs, _ = case(data, spec, dtypes=(torch.float32,), values=("normal",))
        spoiled, error = spoil(inputs[0], wrong)
        with pytest.raises(error, match=r"^(x|feat|image) must "):
            module(spoiled, *inputs[1:])

    @fuzz(share=0.4, data=st.data())
    def test_an_empty_batch_gives_an_empty_output_or_is_refused(self, spec: Spec, data: st.DataObject) -> None:
        module, _, inputs, _ = case(data, spec, batch=st.just(0), dtypes=(torch.float32,))
        if not spec.empty:
            with pytest.raises(ValueError, match="must hold at least one image"):
                module(*inputs)
            return
        outputs = run(module, inputs)
        assert outputs
        assert {output.shape[0] for output in outputs} == {0}

    @pytest.mark.parametrize("spec", [pytest.param(s, id=name) for name, s in SPECS.items() if name != "ClusIR"])
    @fuzz(share=0.4, data=st.data())
    def test_any_options_either_build_a_working_module_or_are_refused(self, spec: Spec, data: st.DataObject) -> None:
        chosen = dict(data.draw(spec.options, "options"))
        names = [n for n, p in inspect.signature(spec.module).parameters.items() if n != "act" and n != "experts"]
        strange = st.one_of(
            st.integers(-2, 9), st.sampled_from([None, "", "haar", 2.5, True, [1], float("nan"), float("inf"), -0.5])
        )
        if names:
            changed = data.draw(st.sampled_from(names), "option")
            chosen[changed] = data.draw(strange, "value")
        try:
            module = spec.module(**chosen).eval()
        except (TypeError, ValueError):
            return
        chosen = {**defaults(spec.module), **chosen}
        recipe = data.draw(
            recipes(multiple=spec.multiple, most=3, dtypes=(torch.float32,), values=("normal",)), "recipe"
        )
        with torch.no_grad():
            assert all(output.shape[0] == recipe.batch for output in run(module, spec.inputs(recipe, chosen)))


def defaults(function: Any) -> dict[str, Any]:
    found = {n: p.default for n, p in inspect.signature(function).parameters.items() if p.default is not p.empty}
    return {n: value for n, value in found.items() if value is not None}
