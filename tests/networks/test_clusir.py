from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from factories import relative_error, smallest_clusir
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import clusir_modules as cm
from clusir_modules import ClusIR, ClusterMoE, Routing

SIZES = ((1, 1), (1, 17), (2, 3), (15, 16), (16, 16), (33, 47), (300, 200))


class TestShapes:
    @torch.no_grad()
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("size", SIZES)
    def test_any_size_comes_back(self, size: tuple[int, int], channels: int) -> None:
        net = smallest_clusir(in_channels=channels).eval()
        y = net(torch.rand(1, channels, *size))
        assert y.shape == (1, channels, *size)
        assert torch.isfinite(y).all()

    @torch.no_grad()
    @pytest.mark.parametrize("batch", [1, 2, 3, 4, 5])
    def test_an_image_comes_out_alike_in_every_batch(self, batch: int) -> None:
        net = smallest_clusir(noise_std=1.0).eval()
        x = torch.rand(batch, 3, 19, 21)
        together, routings = net(x, return_routing=True)
        for b in range(batch):
            alone, routing = net(x[b : b + 1], return_routing=True)
            torch.testing.assert_close(together[b : b + 1], alone, atol=1e-5, rtol=0)
            for ours, whole in zip(routing, routings, strict=True):
                torch.testing.assert_close(ours.expert_probs[0], whole.expert_probs[b], atol=1e-5, rtol=0)

    @torch.no_grad()
    def test_the_border_of_a_padded_image_is_that_of_the_mirrored_one(self) -> None:
        net = smallest_clusir().double().eval()
        x = torch.rand(1, 3, 27, 20, dtype=torch.float64)
        mirrored = F.pad(x, (0, 12, 0, 5), mode="reflect")
        torch.testing.assert_close(net(x), net(mirrored)[..., :27, :20], atol=1e-12, rtol=0)

    @torch.no_grad()
    def test_the_image_itself_runs_past_the_network(self) -> None:
        net = smallest_clusir().eval()
        net.tail.weight.zero_()
        net.tail.bias.zero_()
        x = torch.rand(2, 3, 9, 11)
        assert torch.equal(net(x), x)

    @torch.no_grad()
    def test_with_gain_the_image_is_multiplied_too(self) -> None:
        net = smallest_clusir(gain=True).double().eval()
        net.tail.weight.zero_()
        net.tail.bias.copy_(torch.tensor([0.5, -0.25, 2.0, 0.1, 0.2, -0.3]))
        x = torch.rand(2, 3, 9, 11).double()
        gain, offset = net.tail.bias.view(2, 1, 3, 1, 1)
        torch.testing.assert_close(net(x), x * (1 + gain) + offset, atol=1e-12, rtol=0)

    @torch.no_grad()
    def test_halved_levels_change_nothing_but_the_low_band(self) -> None:
        net = smallest_clusir(halved_levels=4).double().eval()
        x = torch.rand(2, 4, 16, 16).double()
        level = net.stages[0].encoder[0]
        level.blocks = torch.nn.ModuleList()
        y, routing = level(x, None, net.stages[0]._run)
        before, after = (cm.dwt2d(value) for value in (x, y))
        low = before[0] / 2
        torch.testing.assert_close(after[0] / 2, level.moe(low, routing=routing), atol=1e-12, rtol=0)
        torch.testing.assert_close(after[1], before[1], atol=1e-12, rtol=0)

    def test_more_halved_levels_than_levels_are_refused(self) -> None:
        with pytest.raises(ValueError, match="halved_levels must be at most 4, got 5"):
            smallest_clusir(halved_levels=5)

    @torch.no_grad()
    def test_layout_of_the_image_does_not_matter(self) -> None:
        net = smallest_clusir().double().eval()
        x = torch.rand(2, 3, 18, 25, dtype=torch.float64)
        expected = net(x)
        for laid_out in (x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT):
            torch.testing.assert_close(net(laid_out), expected, atol=1e-12, rtol=0)

    @torch.no_grad()
    @pytest.mark.parametrize("wave", ["db2", "bior2.2"])
    def test_other_wavelets_work(self, wave: str) -> None:
        assert smallest_clusir(wave=wave)(torch.rand(1, 3, 17, 30)).shape == (1, 3, 17, 30)


class TestBudgets:
    @pytest.mark.parametrize(
        ("build", "millions"), [(cm.clusir_tiny, 1.5), (cm.clusir_small, 10.0), (cm.clusir_base, 26.0)]
    )
    def test_parameters(self, build: Callable[..., ClusIR], millions: float) -> None:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in build().parameters())
        assert 0.5 * millions < count / 1e6 <= millions

    @torch.no_grad()
    def test_base_needs_at_most_130_gflops_at_256_pixels(self) -> None:
        with torch.device("meta"):
            net, x = cm.clusir_base().eval(), torch.rand(1, 3, 256, 256)
        with FlopCounterMode(display=False) as counter:
            net(x)
        assert 50e9 < counter.get_total_flops() <= 130e9

    @torch.no_grad()
    def test_the_flops_counted_on_the_meta_device_are_those_of_a_real_run(self) -> None:
        totals = []
        for device in ("meta", "cpu"):
            with torch.device(device):
                net, x = smallest_clusir(), torch.rand(1, 3, 32, 32)
            # the counters of older versions leave out the fused attention of CPUs
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                net(x)
            totals.append(counter.get_total_flops())
        assert totals[0] == totals[1]

    def test_overrides_reach_the_network(self) -> None:
        with torch.device("meta"):
            net = cm.clusir_tiny(in_channels=1, num_experts=6, top_k=3)
        assert net.stages[0].head.in_channels == 1
        assert net.stages[0].encoder[0].moe.router.top_k == 3


class TestPrecision:
    @torch.no_grad()
    @pytest.mark.parametrize("size", [(32, 48), (37, 21)])
    def test_bfloat16_autocast_stays_near_float32(self, size: tuple[int, int]) -> None:
        net = cm.clusir_tiny().eval()
        x = torch.rand(2, 3, *size)
        expected = net(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = net(x)
        assert torch.isfinite(y).all()
        assert relative_error(y, expected) < 2e-2
        assert relative_error(y.float() - x, expected - x) < 5e-2  # what the network itself computes

    def test_training_under_autocast_has_finite_gradients(self) -> None:
        net = smallest_clusir()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = cm.L1MSSSIMLoss()(net(torch.rand(2, 3, 24, 17)), torch.rand(2, 3, 24, 17))
        loss.backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


class TestRouting:
    @torch.no_grad()
    def test_one_routing_for_each_level(self) -> None:
        net = smallest_clusir()
        y, routings = net(torch.rand(2, 3, 16, 16), return_routing=True)
        assert y.shape == (2, 3, 16, 16)
        assert all(isinstance(routing, Routing) for routing in routings)
        assert [routing.cluster_probs.shape for routing in routings] == [(2, 5), (2, 4), (2, 3), (2, 2)]

    @torch.no_grad()
    def test_route_once_and_reuse_gives_the_same_image_without_a_router(self) -> None:
        net = smallest_clusir().eval()
        x = torch.rand(2, 3, 21, 18)
        y, used = net(x, return_routing=True)
        routings = net.route(x)
        for ours, whole in zip(routings, used, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, whole))
        for level in net.stages[0].encoder:
            level.moe.router.register_forward_hook(lambda *_: pytest.fail("a router ran"))
        again, passed_on = net(x, routings=routings, return_routing=True)
        assert torch.equal(again, y)
        assert torch.equal(passed_on[2].prompt, routings[2].prompt)

    @torch.no_grad()
    def test_a_trained_network_is_switched_to_all_experts(self) -> None:
        net, dense = smallest_clusir().double().eval(), smallest_clusir(top_k=3).double().eval()
        dense.load_state_dict(
            {key: value for key, value in net.state_dict().items() if key != "settings_record"}, strict=False
        )
        image = torch.rand(2, 3, 20, 33, dtype=torch.float64)
        chosen = net(image)
        for module in net.modules():
            if isinstance(module, cm.PCGRM):
                module.top_k = module.num_experts
        assert torch.equal(net(image), dense(image))
        assert not torch.allclose(net(image), chosen)

    @torch.no_grad()
    def test_the_routing_of_one_image_serves_its_tiles(self) -> None:
        net = smallest_clusir().double().eval()
        routings = net.route(torch.rand(1, 3, 40, 40).double())
        tiles = torch.rand(3, 3, 16, 16).double()
        together = net(tiles, routings=routings)
        for b in range(3):
            torch.testing.assert_close(
                together[b : b + 1], net(tiles[b : b + 1], routings=routings), atol=1e-12, rtol=0
            )

    @torch.no_grad()
    def test_the_routing_matters(self) -> None:
        net = smallest_clusir().double().eval()
        x, other = torch.rand(1, 3, 16, 16).double(), torch.randn(1, 3, 16, 16).double() * 5
        assert relative_error(net(x, routings=net.route(other)), net(x)) > 1e-6

    def test_routings_that_do_not_fit_are_named(self) -> None:
        net, other = smallest_clusir(), smallest_clusir(num_experts=4)
        x = torch.rand(3, 3, 16, 16)
        with pytest.raises(ValueError, match="routings must hold 4, one for each encoder level, got 3"):
            net(x, routings=net.route(x)[:3])
        with pytest.raises(ValueError, match="routing must belong to 1 or to 3 images, got 2"):
            net(x, routings=net.route(x[:2]))
        with pytest.raises(ValueError, match="routing must be over num_experts=3 experts, got 4"):
            net(x, routings=other.route(x))


def noise_like(value: Tensor) -> Tensor:
    """Noise of the mean and deviation of what it replaces."""
    return torch.randn_like(value) * value.std() + value.mean()


def replace_by_noise(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return noise_like(output)


def noisy_posterior(router: nn.Module, inputs: tuple[Tensor], routing: Routing) -> Routing:
    """The routing that follows from a random ``p(c|x)``, all else being equal."""
    z = F.normalize(router.embed(inputs[0].mean((2, 3))), dim=-1)
    logits = torch.einsum("led,bd->ble", router.expert_weight, z) + router.expert_bias
    posterior = torch.randn_like(routing.cluster_probs).mul(2).softmax(-1)
    expert_probs = (posterior.unsqueeze(-1) * logits.softmax(-1)).sum(1)
    weights, indices = expert_probs.topk(router.top_k)
    prompt = posterior.unsqueeze(-1) * F.normalize(router.prototypes, dim=-1)
    return Routing(posterior, expert_probs, weights / weights.sum(1, keepdim=True), indices, prompt)


def open_network(**settings: Any) -> ClusIR:
    """In float64, with the layer scales of the decoder opened as training opens them, so that a change is seen."""
    net = smallest_clusir(**settings).double().eval()
    for module in net.modules():
        if isinstance(module, cm.DAFMM):
            torch.nn.init.ones_(module.layer_scale)
    return net


def modules_of(net: ClusIR, kind: type[nn.Module], attribute: str) -> list[nn.Module]:
    return [getattr(module, attribute) for module in net.modules() if isinstance(module, kind)]


# branch -> (modules whose outputs are replaced, how, least relative change of the correction ``net(x) - x``)
BRANCHES: dict[str, tuple[Callable[[ClusIR], list[nn.Module]], Callable[..., Any], float]] = {
    "cluster posterior": (lambda net: modules_of(net, ClusterMoE, "router"), noisy_posterior, 1e-3),
    "fused prompt": (lambda net: list(net.stages[0].prompt_fusions), replace_by_noise, 2e-4),
    "prompt map": (lambda net: list(net.stages[0].prompt_blocks), replace_by_noise, 1e-3),
    "LL attention": (lambda net: modules_of(net, cm.WTB, "attention"), replace_by_noise, 1e-2),
    "detail bands": (lambda net: modules_of(net, cm.WTB, "detail_depthwise"), replace_by_noise, 1e-2),
    "low band": (lambda net: modules_of(net, cm.DAFMM, "spectral_gate"), replace_by_noise, 1e-2),
    "high band": (lambda net: modules_of(net, cm.DAFMM, "high_depthwise"), replace_by_noise, 1e-2),
    "shared expert": (lambda net: modules_of(net, ClusterMoE, "shared_expert"), replace_by_noise, 1e-3),
    "routed experts": (lambda net: modules_of(net, ClusterMoE, "experts"), replace_by_noise, 1e-3),
}


class TestEveryBranchIsLive:
    @torch.no_grad()
    @pytest.mark.parametrize("settings", [{}, {"halved_levels": 1, "standardize_evidence": True, "gain": True}])
    @pytest.mark.parametrize("branch", BRANCHES)
    def test_noise_in_its_place_changes_the_correction(self, branch: str, settings: dict[str, Any]) -> None:
        find, replacement, least = BRANCHES[branch]
        net = open_network(**settings)
        x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
        before = net(x) - x
        modules = find(net)
        assert modules
        for module in modules:
            module.register_forward_hook(replacement)
        assert relative_error(net(x) - x, before) > least

    @torch.no_grad()
    @pytest.mark.parametrize("branch", BRANCHES)
    def test_even_one_module_of_it_does(self, branch: str) -> None:
        find, replacement, _ = BRANCHES[branch]
        net = open_network()
        x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
        before = net(x) - x
        for number, module in enumerate(find(net)):
            handle = module.register_forward_hook(replacement)
            change = relative_error(net(x) - x, before)
            handle.remove()
            assert change > 1e-5, f"{branch} number {number}"

    @torch.no_grad()
    @pytest.mark.parametrize("level", range(4))
    def test_each_prompt_level_matters(self, level: int) -> None:
        net = open_network()
        x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
        routings = list(net.route(x))
        before = net(x, routings=routings) - x
        routings[level] = routings[level]._replace(prompt=noise_like(routings[level].prompt))
        assert relative_error(net(x, routings=routings) - x, before) > 1e-5


def training_images(step: int) -> tuple[Tensor, Tensor]:
    """Four images that differ as degradations do: noise, dark, flat, striped."""
    clean = F.interpolate(torch.rand(4, 3, 4, 4), size=32, mode="bilinear")
    degraded = clean.clone()
    degraded[0] += 0.3 * torch.randn_like(clean[0])
    degraded[1] *= 0.1
    degraded[2] = degraded[2].mean((1, 2), keepdim=True)
    degraded[3, :, :, :: 2 + step] = 1
    return degraded, clean


def test_routers_learn_from_the_features_and_do_not_shape_them() -> None:
    net = smallest_clusir()
    _, routings = net(torch.rand(2, 3, 32, 32), return_routing=True)
    cm.cluster_information_loss(routings).backward()
    reached = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert reached
    assert all(".router." in name or ".evidence." in name for name in reached), reached


class TestTraining:
    @pytest.mark.parametrize("settings", [{}, {"halved_levels": 1, "standardize_evidence": True, "gain": True}])
    def test_nothing_is_dead(self, settings: dict[str, Any]) -> None:
        """Over a few steps that use every expert each parameter moves, and each row of the stacked experts."""
        net = cm.clusir_tiny(noise_std=2.0, **settings).train()
        loss = cm.L1MSSSIMLoss()
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
        seen = {name: torch.zeros_like(parameter, dtype=torch.bool) for name, parameter in net.named_parameters()}
        used = [torch.zeros(4, dtype=torch.bool) for _ in range(4)]
        for step in range(4):
            degraded, clean = training_images(step)
            optimizer.zero_grad(set_to_none=True)
            output, routings = net(degraded, return_routing=True)
            loss(output, clean).backward()
            for level, routing in zip(used, routings, strict=True):
                level[routing.topk_indices.flatten().unique()] = True
            for name, parameter in net.named_parameters():
                assert parameter.grad is not None, name
                seen[name] |= parameter.grad != 0
            optimizer.step()
        assert all(level.all() for level in used), "the steps did not use every expert"
        assert [name for name, moved in seen.items() if not moved.any()] == []
        rows = {name: moved.flatten(1).any(1) for name, moved in seen.items() if ".moe.experts." in name}
        assert [name for name, moved in rows.items() if not moved.all()] == []

    def test_one_image_leaves_no_parameter_without_gradient(self) -> None:
        net = smallest_clusir()
        net(torch.rand(1, 3, 16, 16)).square().mean().backward()
        assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []

    @pytest.mark.parametrize("settings", [{}, {"noise_std": 2.0}, {"standardize_evidence": True, "halved_levels": 2}])
    def test_checkpointing_gives_identical_gradients(self, settings: dict[str, Any]) -> None:
        net = smallest_clusir(**settings)
        start = copy.deepcopy(net.state_dict())
        x = torch.rand(2, 3, 32, 16)
        gradients = []
        for enable in (False, True):
            torch.manual_seed(3)
            net.load_state_dict(start)
            net.set_grad_checkpointing(enable)
            net.zero_grad()
            y, routings = net(x, return_routing=True)
            (y.square().mean() + cm.load_balance_loss(routings)).backward()
            gradients.append([parameter.grad.clone() for parameter in net.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))

    def test_checkpointing_recomputes(self) -> None:
        net = smallest_clusir()
        calls = []
        net.stages[0].refinement[0].register_forward_pre_hook(lambda *_: calls.append(1))
        net.set_grad_checkpointing()
        net(torch.rand(1, 3, 16, 16)).sum().backward()
        assert len(calls) == 2

    def test_the_same_seed_gives_the_same_losses(self) -> None:
        traces = []
        for _ in range(2):
            torch.manual_seed(11)
            net = smallest_clusir(noise_std=1.0)
            optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
            trace = []
            for step in range(4):
                degraded, clean = training_images(step)
                y, routings = net(degraded, return_routing=True)
                value = cm.L1MSSSIMLoss()(y, clean) + 0.01 * cm.cluster_information_loss(routings)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                trace.append(value.item())
            traces.append(trace)
        assert traces[0] == traces[1]
        assert len(set(traces[0])) == 4

    def test_it_learns_to_restore_two_images(self) -> None:
        net = smallest_clusir()
        optimizer = torch.optim.AdamW(net.parameters(), 4e-3)
        clean = F.interpolate(torch.rand(2, 3, 4, 4), size=16, mode="bilinear")
        degraded = torch.stack([clean[0] * 0.3, clean[1] + 0.2 * torch.randn_like(clean[1])])
        start = float(F.l1_loss(degraded, clean))
        for _ in range(30):
            optimizer.zero_grad()
            value = F.l1_loss(net(degraded), clean)
            value.backward()
            optimizer.step()
        assert float(value.detach()) < 0.7 * start


class TestCompile:
    @pytest.mark.slow
    @torch.no_grad()
    def test_is_captured_as_one_graph(self) -> None:
        net, x = smallest_clusir().eval(), torch.rand(1, 3, 20, 24)
        torch.compiler.reset()
        compiled = torch.compile(net, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x), net(x), atol=1e-5, rtol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("checkpointing", [pytest.param(False, marks=pytest.mark.long), True])
    def test_trains_as_one_graph(self, checkpointing: bool) -> None:
        net, x = smallest_clusir(), torch.rand(1, 3, 20, 24)
        net.set_grad_checkpointing(checkpointing)
        torch.compiler.reset()
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        gradients = []
        for call in (net, compiled):
            net.zero_grad()
            y, routings = call(x, return_routing=True)
            (y.square().mean() + cm.load_balance_loss(routings)).backward()
            gradients.append([parameter.grad.clone() for parameter in net.parameters()])
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


DDP_SCRIPT = """
import sys
import torch
import torch.distributed as dist
from factories import smallest_clusir

rank, rendezvous = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
torch.manual_seed(0)
net = smallest_clusir(num_experts=5, top_k=1).double()
batches = torch.rand(2, 2, 3, 16, 16, dtype=torch.float64)


def gradient(call, batch):
    net.zero_grad(set_to_none=True)
    call(batch).square().mean().backward()
    return [parameter.grad.clone() for parameter in net.parameters()]


single = [gradient(net, batch) for batch in batches]
parallel = torch.nn.parallel.DistributedDataParallel(net)
for _ in range(2):  # a missing gradient shows in the second step
    shared = gradient(parallel, batches[rank])
error = max(float((s - (a + b) / 2).abs().max()) for s, a, b in zip(shared, *single))
differ = max(float((a - b).abs().max()) for a, b in zip(*single))
used = set(net.route(batches[rank])[0].topk_indices.flatten().tolist())
print(f"error {error:.3e} differ {differ:.3e} used {len(used)}")
dist.destroy_process_group()
"""


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_have_the_mean_gradient_without_searching_for_unused_parameters(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    script = tmp_path / "two_ranks.py"
    script.write_text(DDP_SCRIPT)
    paths = os.pathsep.join([str(tests.parent), str(tests), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(tmp_path / "rendezvous")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        reports = [process.communicate(timeout=300)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    for process, report in zip(ranks, reports, strict=True):
        assert process.returncode == 0, report
        words = report.split()
        assert float(words[words.index("error") + 1]) < 1e-10, report
        assert float(words[words.index("differ") + 1]) > 1e-6, report  # else the mean would prove nothing
        assert int(words[words.index("used") + 1]) < 5, report  # some expert rested


class TestBadArguments:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"dim": 0}, ValueError, "dim must be >= 1, got 0"),
            ({"dim": 4.0}, TypeError, "dim must be an int, got float"),
            ({"in_channels": 0}, ValueError, "in_channels must be >= 1, got 0"),
            ({"num_blocks": (1, 1, 1)}, ValueError, r"num_blocks must have 4 entries, got \(1, 1, 1\)"),
            ({"num_decoder_blocks": (1,)}, ValueError, "num_decoder_blocks must have 3 entries"),
            ({"num_heads": (1, 1)}, ValueError, "num_heads must have 4 entries"),
            ({"num_blocks": 3}, TypeError, "num_blocks must be a sequence of 4 ints, got int 3"),
            ({"num_blocks": (1, 1, -1, 1)}, ValueError, "num_blocks must be >= 0, got -1"),
            ({"num_blocks": (1, 1, 1.5, 1)}, TypeError, "num_blocks must be an int, got float 1.5"),
            ({"num_refinement_blocks": -1}, ValueError, "num_refinement_blocks must be >= 0, got -1"),
            ({"num_clusters": (4, 4, 4, 4, 4)}, ValueError, "num_clusters must have 4 entries"),
            ({"num_clusters": (4, 4, 0, 4)}, ValueError, "num_clusters must be >= 1, got 0"),
            ({"top_k": 4}, ValueError, r"top_k must be in \[1, num_experts=3\], got 4"),
            ({"num_heads": (4, 1, 1, 1)}, ValueError, "num_heads must leave at least 2 channels a head"),
            ({"num_heads": (3, 1, 1, 1)}, ValueError, "dim must be divisible by num_heads"),
            ({"num_heads": (1, 1, 1, 32)}, ValueError, "num_heads must leave at least 2 channels a head"),
            ({"num_prompt_heads": 8}, ValueError, "num_heads must leave at least 2 channels a head"),
            ({"wave": "nosuch"}, ValueError, "wave must be a discrete wavelet"),
            ({"wave": ["haar"]}, TypeError, "wave must be a discrete wavelet .*, by name, got list"),
            ({"noise_std": -1.0}, ValueError, "noise_std must be finite and >= 0"),
            ({"dims": 4}, TypeError, "dims"),
        ],
    )
    def test_options_are_named(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            smallest_clusir(**options)

    def test_images_are_named(self) -> None:
        net = smallest_clusir()
        for call in (net, net.route):
            with pytest.raises(ValueError, match="x must have 3 channels, got 4"):
                call(torch.rand(1, 4, 16, 16))
            with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\), got \(3, 16, 16\)"):
                call(torch.rand(3, 16, 16))
            with pytest.raises(TypeError, match=r"x must be a floating-point tensor .* got torch.uint8"):
                call(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
            with pytest.raises(ValueError, match="x must have at least one pixel"):
                call(torch.zeros(1, 3, 0, 16))
