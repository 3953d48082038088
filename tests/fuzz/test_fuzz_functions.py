"""The public functions and losses on tensors of any size, type, layout and content."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from fuzzing import FLOATS, Recipe, assert_near, fuzz, recipes, tolerance
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor, nn

import clusir_modules as cm
from clusir_modules.layers.experts.dispatch import dispatch
from clusir_modules.layers.frequency.spectral_gate import frequency_bands
from clusir_modules.layers.multi_stage.cab_encoder_decoder import upsample2x
from clusir_modules.layers.routing.routing import expand_routing
from clusir_modules.losses.charbonnier import charbonnier
from clusir_modules.losses.edge import laplacian_residual
from clusir_modules.losses.ms_ssim import ms_ssim
from clusir_modules.ops.padding import pad_to_multiple
from clusir_modules.serialization.configuration import Configuration

WAVES = st.sampled_from(
    ["haar", "db1", "db2", "db5", "db8", "sym4", "sym7", "coif1", "bior1.3", "bior2.2", "bior4.4", "rbio3.1", "rbio2.4"]
)
MODES = st.sampled_from(["zero", "symmetric", "reflect", "periodization"])


class TestWavelets:
    @fuzz("dwt2d", recipe=recipes(), wave=WAVES, mode=MODES)
    def test_equal_pywavelets_and_come_back(self, recipe: Recipe, wave: str, mode: str) -> None:
        x = recipe.map(2)
        ll, details = cm.dwt2d(x, wave, mode)
        assert ll.dtype == details.dtype == x.dtype
        if mode != "reflect" or min(x.shape[2:]) > 1:  # PyWavelets has no mirror image of one pixel
            low, others = pywt.dwt2(x.double().numpy(), wave, mode)
            smallest, largest = torch.finfo(x.dtype).tiny, float(x.double().abs().max())
            assert_near(ll, torch.from_numpy(low), tolerance(x.dtype), scale=smallest)
            assert_near(
                details, torch.from_numpy(np.stack(others, axis=2)), tolerance(x.dtype), scale=largest + smallest
            )
        back = cm.idwt2d(ll, details, wave, mode)[..., : x.shape[2], : x.shape[3]]
        assert_near(back, x, tolerance(x.dtype), scale=torch.finfo(x.dtype).tiny)

    @fuzz("dwt2d", recipe=recipes(values=("normal", "impulse", "checkerboard")), mode=MODES, power=st.integers(-60, 60))
    def test_haar_scales_exactly_with_powers_of_two_however_large(self, recipe: Recipe, mode: str, power: int) -> None:
        x = recipe.map(2).double().float()
        for scaled, plain in zip(cm.dwt2d(x * 2.0**power, mode=mode), cm.dwt2d(x, mode=mode), strict=True):
            assert torch.equal(scaled, plain * 2.0**power)

    @fuzz("dwt2d", recipe=recipes(dtypes=(torch.float64,)))
    def test_haar_keeps_the_energy(self, recipe: Recipe) -> None:
        x = recipe.map(3)
        energy = sum(band.square().sum() for band in cm.dwt2d(x))
        torch.testing.assert_close(energy, x.square().sum(), atol=1e-300, rtol=1e-12)

    @fuzz("idwt2d", recipe=recipes(), wave=WAVES, mode=MODES)
    def test_synthesis_has_the_stated_size_or_says_that_bands_are_too_small(
        self, recipe: Recipe, wave: str, mode: str
    ) -> None:
        ll = recipe.map(2)
        details = recipe.make(*ll.shape[:2], 3, *ll.shape[2:], salt=1)
        taps = 2 if mode == "periodization" or wave in ("haar", "db1") else pywt.Wavelet(wave).dec_len
        sides = [2 * side - taps + 2 for side in ll.shape[2:]]
        if min(sides) < 1:
            with pytest.raises(ValueError, match="too small for a wavelet"):
                cm.idwt2d(ll, details, wave, mode)
        else:
            y = cm.idwt2d(ll, details, wave, mode)
            assert y.shape == (*ll.shape[:2], *sides)
            assert y.dtype == ll.dtype
            assert torch.isfinite(y).all()

    @fuzz("wavedec2", "waverec2", recipe=recipes(), wave=WAVES, mode=MODES, level=st.integers(0, 3))
    def test_several_levels_come_back(self, recipe: Recipe, wave: str, mode: str, level: int) -> None:
        x = recipe.map(2)
        bands = cm.wavedec2(x, wave, mode, level=level)
        assert len(bands) == level + 1
        back = cm.waverec2(bands, wave, mode)[..., : x.shape[2], : x.shape[3]]
        largest = float(x.double().abs().max())
        assert_near(back, x, 3 * tolerance(x.dtype), scale=largest + torch.finfo(x.dtype).tiny)

    @fuzz("swt2d", "iswt2d", recipe=recipes(), wave=WAVES, level=st.integers(1, 3))
    def test_full_resolution_comes_back(self, recipe: Recipe, wave: str, level: int) -> None:
        x = recipe.map(2)
        bands = cm.swt2d(x, wave, level=level)
        assert all(band.is_contiguous() and band.shape[-2:] == x.shape[-2:] for band in bands)
        largest = float(x.double().abs().max())
        assert_near(
            cm.iswt2d(bands, wave), x, 3 * tolerance(x.dtype), scale=2**level * largest + torch.finfo(x.dtype).tiny
        )

    @fuzz("dwt2d", "idwt2d", name=st.text(max_size=8), kind=st.sampled_from(["wave", "mode"]))
    def test_unknown_names_are_refused(self, name: str, kind: str) -> None:
        known = pywt.wavelist(kind="discrete") if kind == "wave" else ["zero", "symmetric", "reflect", "periodization"]
        if name in known:
            return
        with pytest.raises(ValueError, match=f"{kind} must be"):
            cm.dwt2d(torch.zeros(1, 1, 4, 4), **{kind: name})
        with pytest.raises(ValueError, match=f"{kind} must be"):
            cm.idwt2d(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 3, 4, 4), **{kind: name})


class TestHelpers:
    @fuzz(recipe=recipes(most=40), multiple=st.integers(-1, 40))
    def test_padding_reaches_the_next_multiple_and_keeps_the_map(self, recipe: Recipe, multiple: int) -> None:
        x = recipe.map(1)
        if multiple < 1:
            with pytest.raises(ValueError, match="multiple must be >= 1"):
                pad_to_multiple(x, multiple)
            return
        y = pad_to_multiple(x, multiple)
        assert torch.equal(y[..., : x.shape[2], : x.shape[3]], x)
        for before, after in zip(x.shape[2:], y.shape[2:], strict=True):
            assert after % multiple == 0
            assert 0 <= after - before < multiple
        assert set(y.unique().tolist()) == set(x.unique().tolist()), "padding makes no new values"

    @fuzz(recipe=recipes(dtypes=(torch.float32, torch.float64)))
    def test_doubling_stays_within_the_values_and_keeps_the_mean(self, recipe: Recipe) -> None:
        x = recipe.map(2)
        y = upsample2x(x)
        assert y.shape[2:] == (2 * x.shape[2], 2 * x.shape[3])
        slack = 1e-6 * float(x.abs().max())
        assert float(x.min()) - slack <= float(y.min())
        assert float(y.max()) <= float(x.max()) + slack
        torch.testing.assert_close(y.double().mean(), x.double().mean(), atol=1e-6 * float(x.abs().max()), rtol=0)

    @fuzz(height=st.integers(1, 70), width=st.integers(1, 70))
    def test_frequency_bands_share_every_frequency_among_them(self, height: int, width: int) -> None:
        bands = frequency_bands(height, width, torch.device("cpu"), torch.float64)
        assert float(bands.min()) >= 0
        torch.testing.assert_close(bands.sum(0), torch.ones_like(bands[0]), atol=1e-12, rtol=0)

    @fuzz("TransposedAttention", recipe=recipes(dtypes=(torch.float64,)), heads=st.sampled_from([1, 2]))
    def test_channel_attention_weighs_by_angles_whatever_the_scale(self, recipe: Recipe, heads: int) -> None:
        assume(recipe.values not in ("denormal", "smallest"))  # below the norm that counts as zero
        attention, x = cm.TransposedAttention(4, heads).double(), recipe.map(4) * 2.0**20
        nn.init.zeros_(attention.project_out.bias)
        with torch.no_grad():
            torch.testing.assert_close(attention(x * 64), attention(x) * 64, atol=1e-6, rtol=1e-9)

    @fuzz(recipe=recipes(dtypes=(torch.float64,)), experts=st.integers(1, 4), data=st.data())
    def test_dispatch_is_the_weighted_sum_of_the_chosen_experts(
        self, recipe: Recipe, experts: int, data: st.DataObject
    ) -> None:
        x = recipe.map(2)
        k = data.draw(st.integers(1, experts))
        indices = torch.stack([torch.randperm(experts)[:k] for _ in range(recipe.batch)])
        weights = torch.rand(recipe.batch, k, dtype=torch.float64)
        modules = nn.ModuleList(nn.Conv2d(2, 3, 1) for _ in range(experts)).double()
        with torch.no_grad():
            expected = torch.stack(
                [sum(w * modules[e](row[None])[0] for w, e in zip(ws, es)) for row, ws, es in zip(x, weights, indices)]
            )
            torch.testing.assert_close(dispatch(modules, x, weights, indices), expected, atol=1e-12, rtol=1e-9)

    @fuzz("Routing", given=st.integers(1, 4), batch=st.integers(1, 4))
    def test_routing_of_one_image_serves_all_its_tiles_and_no_other_number_fits(self, given: int, batch: int) -> None:
        routing = cm.PCGRM(2, num_clusters=3, num_experts=4, top_k=2, embed_dim=5)(torch.randn(given, 2, 3, 3))
        if given not in (1, batch):
            with pytest.raises(ValueError, match=f"routing must belong to 1 or to {batch} images, got {given}"):
                expand_routing(routing, batch)
            return
        for value, original in zip(expand_routing(routing, batch), routing, strict=True):
            assert torch.equal(value, original.expand(batch, *original.shape[1:]))


def graded(value: Tensor, *inputs: Tensor) -> None:
    for gradient in torch.autograd.grad(value, inputs):
        assert torch.isfinite(gradient).all()


PAIR_LOSSES = {
    "CharbonnierLoss": (cm.CharbonnierLoss(), 1e-3),
    "EdgeLoss": (cm.EdgeLoss(), 1e-3),
    "L1MSSSIMLoss": (cm.L1MSSSIMLoss(), 0.0),
    "FFTLoss": (cm.FFTLoss(), 0.0),
    "FocalFrequencyLoss": (cm.FocalFrequencyLoss(), 0.0),
}


@pytest.mark.parametrize("name", PAIR_LOSSES)
class TestPairLosses:
    @fuzz(*PAIR_LOSSES, recipe=recipes(most=24))
    def test_are_finite_scalars_of_at_least_their_minimum_with_finite_gradients(
        self, name: str, recipe: Recipe
    ) -> None:
        loss, least = PAIR_LOSSES[name]
        pred, target = recipe.image().detach().requires_grad_(), recipe.image(salt=1)
        value = loss(pred, target)
        assert value.shape == ()
        assert torch.isfinite(value)
        assert float(value) >= least * (1 - 1e-5) - 1e-6
        graded(value, pred)
        expected = loss(pred.detach().double().clone(), target.double().clone())
        assert_near(value.detach()[None], expected[None], tolerance(pred.dtype), scale=1e-2)

    @fuzz(*PAIR_LOSSES, recipe=recipes(most=24))
    def test_are_least_for_equal_images_and_symmetric(self, name: str, recipe: Recipe) -> None:
        loss, least = PAIR_LOSSES[name]
        pred, target = recipe.image(), recipe.image(salt=1)
        same = pred.detach().requires_grad_()
        value = loss(same, pred)
        assert abs(float(value) - least) < 1e-5
        graded(value, same)
        torch.testing.assert_close(loss(pred, target), loss(target, pred), atol=1e-5, rtol=1e-4)

    @fuzz(
        *PAIR_LOSSES,
        wrong=st.sampled_from(["integer", "rows", "empty", "list"]),
        recipe=recipes(dtypes=(torch.float32,)),
        first=st.booleans(),
    )
    def test_refuse_what_is_no_pair_of_images(self, name: str, wrong: str, recipe: Recipe, first: bool) -> None:
        image = recipe.image()
        bad: Any = {
            "integer": image.to(torch.uint8),
            "rows": torch.cat((image, image), 2),
            "empty": image[:0],
            "list": image.tolist(),
        }[wrong]
        pair = (bad, bad) if wrong == "empty" else (bad, image) if first else (image, bad)
        error = ValueError if wrong in ("rows", "empty") else TypeError
        with pytest.raises(error, match=r"pred|target"):
            PAIR_LOSSES[name][0](*pair)

    @fuzz(*PAIR_LOSSES, value=st.floats())
    def test_settings_that_are_no_usable_number_are_refused(self, name: str, value: float) -> None:
        options = {"L1MSSSIMLoss": "ms_ssim_weight", "FocalFrequencyLoss": "alpha", "FFTLoss": None}
        option, build = options.get(name, "eps"), getattr(cm, name)
        if option is None:
            return
        least = math.ulp(0.0) if option == "eps" else 0
        if least <= value < math.inf:
            assert getattr(build(**{option: value}), option) == value
        else:
            with pytest.raises(ValueError, match=f"{option} must be"):
                build(**{option: value})


class TestLossParts:
    @fuzz(recipe=recipes(most=24))
    def test_structural_similarity_is_in_the_unit_interval_and_one_for_equal_images(self, recipe: Recipe) -> None:
        pred, target = recipe.image(), recipe.image(salt=1)
        assert 0 <= float(ms_ssim(pred, target)) <= 1 + 1e-5
        assert abs(float(ms_ssim(pred, pred)) - 1) < 1e-5

    @fuzz(recipe=recipes(dtypes=(torch.float64,)), shift=st.floats(-1, 1))
    def test_a_shift_leaves_the_inner_edges_as_they_are(self, recipe: Recipe, shift: float) -> None:
        image = recipe.image()
        moved, edges = laplacian_residual(image + shift), laplacian_residual(image)
        torch.testing.assert_close(moved[..., 4:-4, 4:-4], edges[..., 4:-4, 4:-4], atol=1e-12, rtol=0)

    @fuzz(recipe=recipes(dtypes=(torch.float64,)), eps=st.floats(1e-6, 10))
    def test_charbonnier_lies_between_the_mean_difference_and_that_plus_eps(self, recipe: Recipe, eps: float) -> None:
        pred, target = recipe.map(2), recipe.map(2, salt=1)
        mean = float((pred - target).abs().mean())
        value = float(charbonnier(pred, target, eps=eps))
        assert mean <= value * (1 + 1e-12)
        assert value <= mean + eps * (1 + 1e-12)


def extreme_probs(rows: int, count: int, kind: str, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    logits = torch.randn(rows, count, generator=generator, dtype=torch.float64)
    match kind:
        case "one":
            logits = torch.full_like(logits, -1e9)
            logits[:, 0] = 0
        case "sure":
            logits = logits * 1e6
        case "even":
            logits = torch.zeros_like(logits)
        case "identical":
            logits = logits[:1].expand_as(logits)
    return logits.to(dtype).softmax(1).detach().requires_grad_()


@fuzz(
    "load_balance_loss",
    "cluster_information_loss",
    "router_z_loss",
    "distillation_loss",
    rows=st.integers(1, 5),
    clusters=st.integers(1, 6),
    experts=st.integers(1, 6),
    kinds=st.tuples(*[st.sampled_from(["one", "sure", "even", "identical", "usual"])] * 2),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_routing_losses_stay_in_their_bounds_with_finite_gradients(
    rows: int, clusters: int, experts: int, kinds: tuple[str, str], dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    cluster_probs = extreme_probs(rows, clusters, kinds[0], generator, dtype)
    expert_probs = extreme_probs(rows, experts, kinds[1], generator, dtype)
    rest = torch.zeros(rows, 1)
    logits = (1e3 * torch.randn(rows, clusters, experts, generator=generator, dtype=dtype)).requires_grad_()
    routing = cm.Routing(cluster_probs, expert_probs, rest, rest.long(), rest, logits)
    z = cm.router_z_loss(routing)
    assert 0 <= float(z.detach()) <= float(logits.detach().logsumexp(2).square().max()) * (1 + 1e-5)
    graded(z, logits)
    balance, information = cm.load_balance_loss(routing), cm.cluster_information_loss((routing, routing))
    assert -1e-6 <= float(balance) <= experts - 1 + 1e-4
    assert -1 - 1e-5 <= float(information) <= 1e-5
    graded(balance, expert_probs)
    graded(information, cluster_probs)
    shown = extreme_probs(rows, clusters, kinds[1], generator, dtype)
    divergence = cm.distillation_loss(routing, cm.Routing(shown, expert_probs, rest, rest.long(), rest))
    assert -1e-5 <= float(divergence.detach()) <= -math.log(torch.finfo(dtype).tiny)
    graded(divergence, cluster_probs)
    order = torch.randperm(rows, generator=generator)
    shuffled = cm.Routing(cluster_probs[order], expert_probs[order], rest, rest.long(), rest)
    torch.testing.assert_close(cm.load_balance_loss(shuffled), balance, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(cm.cluster_information_loss(shuffled), information, atol=1e-5, rtol=1e-4)


@fuzz(
    "orthogonality_loss",
    clusters=st.integers(1, 6),
    dim=st.integers(1, 6),
    kind=st.sampled_from(["zero", "equal", "tiny", "usual"]),
    dtype=st.sampled_from(FLOATS),
)
def test_the_prototype_loss_stays_in_its_bounds_with_finite_gradients(
    clusters: int, dim: int, kind: str, dtype: torch.dtype
) -> None:
    router = cm.PCGRM(2, num_clusters=clusters, num_experts=2, top_k=1, embed_dim=dim)
    with torch.no_grad():
        if kind == "zero":
            router.prototypes.zero_()
        elif kind == "equal":
            router.prototypes.copy_(router.prototypes[:1].clone().expand_as(router.prototypes))
        elif kind == "tiny":
            router.prototypes.mul_(1e-6)
    router = router.to(dtype)
    value = cm.orthogonality_loss(router)
    assert -1e-6 <= float(value) <= 1 + 1e-4
    if kind not in ("zero", "tiny") or dtype != torch.float16:  # the direction of a short vector is too steep for it
        graded(value, router.prototypes)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70000)
    | st.floats()
    | st.sampled_from(["PGB", "WTB", "haar", "nonsense"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "wave", "size", "fusion", "dim", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
SETTINGS = sorted(inspect.signature(cm.ClusIR).parameters)


class TestParts:
    @fuzz("choose_experts", batch=st.integers(0, 5), experts=st.integers(1, 7), seed=st.integers(0, 2**31))
    def test_the_most_probable_experts_are_kept_with_their_shares(self, batch: int, experts: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        probs = torch.rand(batch, experts, generator=generator, dtype=torch.float64).softmax(dim=1)
        for top_k in range(1, experts + 1):
            routing = cm.choose_experts(probs, top_k)
            best = probs.sort(dim=1, descending=True).values[:, :top_k]
            assert_near(
                routing.topk_weights.sort(dim=1, descending=True).values, best / best.sum(1, keepdim=True), 1e-12
            )
            assert torch.equal(probs.gather(1, routing.topk_indices).sort(dim=1, descending=True).values, best)
            assert routing.cluster_probs.shape == (batch, 1)
            assert routing.prompt.shape == (batch, 1, 0)
        with pytest.raises(ValueError, match=r"top_k must be in \[1, num_experts="):
            cm.choose_experts(probs, experts + 1)

    @fuzz("LayerNorm2d", "SmallConv2d", recipe=recipes(dtypes=(torch.float64,)))
    def test_norm_and_small_convolution_are_their_formulas(self, recipe: Recipe) -> None:
        x = recipe.map(3)
        norm = cm.LayerNorm2d(3).double().requires_grad_(False)
        conv = cm.SmallConv2d(3, 2, 1).double().requires_grad_(False)
        norm.weight.add_(torch.rand(3))
        norm.bias.add_(torch.rand(3))
        centered = x - x.mean(dim=1, keepdim=True)
        scaled = centered / (centered.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
        expected = scaled * norm.weight[:, None, None] + norm.bias[:, None, None]
        assert_near(norm(x), expected, 1e-6, scale=1.0)
        mixed = torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], x) + conv.bias[:, None, None]
        assert_near(conv(x), mixed, 1e-9, scale=1.0)
        assert float(conv.weight.abs().max()) <= 0.1 * 3**-0.5

    @fuzz("DispatchedExperts", batch=st.integers(1, 5), experts=st.integers(1, 4), seed=st.integers(0, 2**31))
    def test_dispatched_experts_are_a_loop_over_images(self, batch: int, experts: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        modules = cm.DispatchedExperts(nn.Conv2d(2, 3, 1) for _ in range(experts)).double()
        x = torch.randn(batch, 2, 3, 2, generator=generator, dtype=torch.float64)
        weights = torch.rand(batch, 1, generator=generator, dtype=torch.float64)
        indices = torch.randint(experts, (batch, 1), generator=generator)
        expected = [weights[b] * modules[int(indices[b])](x[b : b + 1])[0] for b in range(batch)]
        assert_near(modules(x, weights, indices), torch.stack(expected), 1e-12, scale=1.0)

    @fuzz("Registry", "PARTS", "NETWORKS", kind=st.sampled_from(sorted(cm.PARTS)), said=JSON)
    def test_what_a_file_says_of_a_part_is_made_or_refused(self, kind: str, said: object) -> None:
        registry = cm.PARTS[kind]
        try:
            made = registry.make(said)
        except (TypeError, ValueError) as error:
            refusal = str(error)
        else:
            refusal = kind
            assert made is None if said is None else callable(made)
            again = registry.make(registry.say(made))
            assert registry.say(again) == registry.say(made)
        assert kind in refusal or "has no argument" in refusal

    @fuzz("Prompts", "ClusIR", share=0.2, settings=st.dictionaries(st.sampled_from([*SETTINGS, "x"]), JSON, max_size=3))
    def test_any_configuration_is_made_on_the_meta_device_or_refused(self, settings: dict[str, Any]) -> None:
        small = {"dim": 4, "num_blocks": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "num_decoder_blocks": [0, 0, 0]}
        try:
            net = Configuration("ClusIR", {**small, **settings}).build("meta")
        except (TypeError, ValueError):
            return
        assert Configuration("ClusIR", net.config).build("meta").config == net.config
