"""ClusIR with other parts."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from own_parts import SMALL, SWAPS, HighPass, MeanEvidence, PlainBlock, SoftmaxRouter, UniformRouter, register, swapped
from torch import nn

import clusir_modules as cm
from clusir_modules.inference.export import export_program
from clusir_modules.serialization.network_files import load_network, save_network
from clusir_modules.serialization.registry import import_registering

TESTS = Path(__file__).parents[1]
SWAPPED = pytest.mark.parametrize("name", SWAPS)
FEW_BLOCKS = {"num_blocks": (1, 0, 0, 0), "num_decoder_blocks": (1, 0, 0)}
TRACED = pytest.mark.parametrize(  # tracing takes long: each part is in one of these, some in a long one alone
    "name",
    [
        *(name for name in SWAPS if name.startswith("three")),
        "all at once",
        pytest.param("uniform router", marks=pytest.mark.long),
        pytest.param("no evidence", marks=pytest.mark.long),
        pytest.param("large experts", marks=pytest.mark.long),
        pytest.param("prompts of some size", marks=pytest.mark.long),
        pytest.param("no frequency path", marks=pytest.mark.long),
    ],
)


@pytest.fixture(autouse=True)
def _own_names(monkeypatch):
    """Names that a test registers are forgotten afterwards."""
    for registry in (cm.NETWORKS, *cm.PARTS.values()):
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))


@pytest.fixture
def registered(_own_names):
    register()


def picture(height=21, width=34, batch=1):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(3))


class TestSwaps:
    @SWAPPED
    def test_every_parameter_learns(self, name):
        net = swapped(name)
        output, routings = net(picture(batch=6), return_routing=True)
        assert output.shape == (6, 3, 21, 34)
        assert len(routings) == 4
        (output.square().sum() + sum(routing.prompt.sum() for routing in routings)).backward()
        idle = [
            key
            for key, parameter in net.named_parameters()
            if parameter.grad is None
            or not (parameter.grad.any() or ".experts." in key or _gets_zero(net, key))
            or not torch.isfinite(parameter.grad).all()
        ]
        assert idle == []

    @SWAPPED
    def test_the_part_is_in_the_network_and_changes_what_it_does(self, name):
        torch.manual_seed(0)
        default = cm.ClusIR(**SMALL)
        torch.manual_seed(0)
        net = swapped(name)
        with torch.no_grad():
            assert not torch.equal(net(picture()), default(picture()))
        for keyword, part in SWAPS[name].items():
            wanted = part.func if isinstance(part, partial) else part
            if inspect.isclass(wanted) and keyword != "norm_layer":
                assert any(type(module) is wanted for module in net.modules()), keyword

    @SWAPPED
    @torch.no_grad()
    def test_tiles_reuse_copies_and_pickles(self, name):
        net = swapped(name).eval()
        image = picture(48, 70)
        expected = net(image)
        assert torch.equal(net(image, routings=net.route(image)), expected)
        whole = cm.restore(net, image[0], progress=False)
        torch.testing.assert_close(whole, expected[0], atol=1e-5, rtol=0)
        tiles = cm.restore(net, image[0], tile=32, overlap=16, progress=False)
        assert torch.isfinite(tiles).all()
        assert float((tiles - whole).abs().mean()) < 0.02
        for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert torch.equal(twin(image), expected)

    @pytest.mark.slow
    @TRACED
    def test_compiles_as_one_graph(self, name):
        net, image = swapped(name, **FEW_BLOCKS), picture(16, 32)
        torch.compiler.reset()
        with torch._dynamo.config.patch(capture_dynamic_output_shape_ops="experts" in SWAPS[name]):
            compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
            output, expected = compiled(image), net(image)
            torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
            found, wanted = (
                torch.autograd.grad(y.square().sum(), list(net.parameters()), materialize_grads=True)
                for y in (output, expected)
            )
        for a, e in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, e, atol=1e-4, rtol=1e-4)

    @pytest.mark.slow
    @TRACED
    @torch.no_grad()
    def test_exports(self, name):
        """For pictures of any size; beside experts of one's own, whose shapes depend on the routing, for one size."""
        net, image = swapped(name, **FEW_BLOCKS).eval(), picture(32, 48)
        if "experts" in SWAPS[name] and name != "large experts":
            program = torch.export.export(net, (image,))
        else:
            program, image = export_program(net), picture()
        torch.testing.assert_close(program.module()(image), net(image), atol=1e-4, rtol=1e-4)


def _gets_zero(net, key):
    """Whether a parameter has a zero gradient by construction: what reads a prompt that is not there."""
    return not len(net.stages[0].prompt_fusions) and any(word in key for word in ("high_gate.weight", "temperature"))


@pytest.mark.slow
def test_all_swaps_load_in_a_fresh_process(registered, tmp_path):
    """One process for all: each file of each kind makes the network that was saved, to the last bit."""
    image = picture()
    expected = {}
    for name in SWAPS:
        net = swapped(name).eval()
        folder = tmp_path / name
        net.save_pretrained(folder)
        save_network(net, tmp_path / f"{name}.safetensors")
        torch.save({"params": net.state_dict()}, tmp_path / f"{name}.pth")
        expected[name] = net(image).detach()
    torch.save((image, expected), tmp_path / "expected.pt")
    script = f"""
import sys
from pathlib import Path
import torch
sys.path.insert(0, {str(TESTS)!r})
import own_parts
own_parts.register()
import clusir_modules as cm
from clusir_modules.serialization.network_files import load_network
folder = Path({str(tmp_path)!r})
image, expected = torch.load(folder / "expected.pt")
for name, output in expected.items():
    for source in (name, f"{{name}}.safetensors", f"{{name}}.pth"):
        with torch.no_grad():
            assert torch.equal(load_network(folder / source)(image), output), source
    assert cm.ClusIR.from_pretrained(folder / name).config == load_network(folder / f"{{name}}.pth").config
print(len(expected))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])}
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert run.stdout.strip() == str(len(SWAPS)), run.stderr


class TestEncoder:
    @torch.no_grad()
    def test_of_a_network_is_a_copy_that_gives_its_features(self):
        net = swapped("own block").eval()
        before = copy.deepcopy(net.state_dict())
        encoder = cm.ClusIREncoder.from_network(net)
        image = picture(32, 48).contiguous(memory_format=torch.channels_last)
        features, routings = encoder(image, return_routing=True)
        assert [tuple(f.shape) for f in features] == [(1, 4 << level, 32 >> level, 48 >> level) for level in range(4)]
        assert all(torch.equal(a, b) for a, b in zip(features, net.stages[0](image).encoded, strict=True))
        assert all(torch.equal(a.prompt, b.prompt) for a, b in zip(routings, net.route(image), strict=True))
        for parameter in encoder.parameters():
            parameter.zero_()
        assert not encoder.training
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())

    def test_has_the_parameters_of_the_stage_without_its_decoder(self):
        stage = {
            key.removeprefix("stages.0.") for key in cm.ClusIR(**SMALL).state_dict() if key.startswith("stages.0.")
        }
        encoder = set(cm.ClusIREncoder.from_network(cm.ClusIR(**SMALL)).state_dict())
        assert encoder == {key for key in stage if key.split(".")[0] in {"head", "encoder", "downs"}}
        own = {
            key: SMALL[key] for key in ("dim", "num_blocks", "num_heads", "num_experts", "num_clusters", "embed_dim")
        }
        assert set(cm.ClusIREncoder(**own).state_dict()) == encoder

    def test_wrong_arguments_are_named(self):
        encoder = cm.ClusIREncoder.from_network(cm.ClusIR(**SMALL))
        with pytest.raises(ValueError, match=r"image must have sides that are multiples of 16, got \(1, 3, 20, 32\)"):
            encoder(torch.rand(1, 3, 20, 32))
        with pytest.raises(TypeError, match="net must be a ClusIR, got MPRNet"):
            cm.ClusIREncoder.from_network(cm.MPRNet(8, unet_step=4, orsnet_step=4, num_cabs=1))

    def test_defaults_of_network_stage_and_encoder_agree(self):
        defaults = [
            {name: p.default for name, p in inspect.signature(cls).parameters.items()}
            for cls in (cm.ClusIR, cm.ClusIRStage, cm.ClusIREncoder)
        ]
        network, stage, encoder = defaults
        assert {name: network[name] for name in stage if name != "follows"} == {
            name: value for name, value in stage.items() if name != "follows"
        }
        assert set(network) == {*stage, "supervised_stages", "gain"} - {"follows"}
        assert encoder.items() <= stage.items()


class TestRules:
    @pytest.mark.parametrize("keyword", ["block", "evidence", "router", "experts", "frequency", "norm_layer"])
    @pytest.mark.parametrize("part", [nn.Conv2d(4, 4, 1), "WTB", 3])
    def test_what_makes_no_modules_is_refused(self, keyword, part):
        with pytest.raises(TypeError, match=f"{keyword} must be a class or a function"):
            cm.ClusIR(**SMALL, **{keyword: part})

    def test_a_block_that_changes_the_size_is_refused_with_its_name(self):
        net = cm.clusir_tiny(block=lambda dim, *, num_heads: nn.Conv2d(dim, dim, 3))
        with pytest.raises(
            ValueError, match=r"block must keep the shape of its map, \(1, \d+, 32, 32\), Conv2d returned"
        ):
            net(torch.rand(1, 3, 32, 32))

    def test_an_unknown_kind_of_part_is_refused_with_those_that_exist(self):
        with pytest.raises(KeyError, match="unknown part 'blocks'; accepted: block, evidence"):
            cm.PARTS["blocks"]
        assert "blocks" not in cm.PARTS
        assert cm.PARTS.get("blocks") is None

    def test_a_finished_prompt_module_is_refused(self):
        with pytest.raises(TypeError, match=r"prompts\.fusion must be a class .* got a finished PromptFusion"):
            cm.ClusIR(**SMALL, prompts=cm.Prompts(fusion=cm.PromptFusion(8, 2)))
        with pytest.raises(TypeError, match="prompts must be Prompts or None, got dict"):
            cm.ClusIR(**SMALL, prompts={})

    def test_a_factory_that_makes_no_module_is_named(self):
        with pytest.raises(TypeError, match=r"block must make a torch\.nn\.Module, got NoneType"):
            cm.ClusIR(**SMALL, block=lambda dim, *, num_heads: None)

    @pytest.mark.parametrize(
        ("keyword", "call"),
        [
            ("block", r"block\(4, num_heads=\.\.\.\)"),
            ("router", r"router\(4, num_experts=\.\.\., num_clusters=\.\.\., top_k=\.\.\., embed_dim=\.\.\.\)"),
            ("experts", r"experts\(4, num_experts=\.\.\., hidden_dim=\.\.\.\)"),
            ("frequency", r"frequency\(4, num_heads=\.\.\.\)"),
        ],
    )
    def test_a_factory_of_another_signature_is_told_how_it_is_called(self, keyword, call):
        with pytest.raises(TypeError, match=rf"{keyword} is called as {call}, but MeanEvidence got an unexpected"):
            cm.ClusIR(**SMALL, **{keyword: MeanEvidence})

    def test_a_mistake_inside_a_part_is_not_hidden(self):
        def block(dim, *, num_heads):
            raise TypeError("inside")

        with pytest.raises(TypeError, match=r"^inside$"):
            cm.ClusIR(**SMALL, block=block)

    def test_a_part_that_does_not_know_a_setting_says_so(self):
        with pytest.raises(TypeError, match="unexpected keyword argument 'wave'"):
            cm.ClusIR(**SMALL, block=PlainBlock, wave="db2")
        with pytest.raises(TypeError, match="unexpected keyword argument 'noise_std'"):
            cm.ClusIR(**SMALL, router=SoftmaxRouter, noise_std=0.1)
        cm.ClusIR(**SMALL, block=PlainBlock, router=SoftmaxRouter)

    def test_a_router_without_clusters_needs_a_network_without_prompts(self):
        net = cm.ClusIR(**SMALL, router=UniformRouter, evidence=nn.Identity)
        with pytest.raises(ValueError, match=r"router must return prompt tokens .* level 3: .* prompts=None"):
            net(picture())

    def test_without_frequency_modules_no_prompt_is_made(self):
        net = cm.ClusIR(**SMALL, frequency=None)
        assert not [key for key in net.state_dict() if "prompt_" in key]

    def test_all_experts_alike_is_the_dense_mean(self):
        routing = UniformRouter(4, num_experts=5, num_clusters=3, top_k=2, embed_dim=8)(torch.rand(2, 4, 3, 3))
        assert torch.equal(routing.topk_weights, torch.full((2, 5), 0.2))
        assert routing.topk_indices.tolist() == [[0, 1, 2, 3, 4]] * 2
        assert cm.cluster_information_loss(routing) == 0
        assert cm.load_balance_loss(routing) == pytest.approx(0, abs=1e-12)


class TestNames:
    def test_a_configuration_names_parts_and_makes_them(self, registered):
        for name in SWAPS:
            net = swapped(name)
            config = json.loads(json.dumps(net.config))
            assert config == net.config
            again = cm.ClusIR.from_config(config)
            assert again.config == config
            assert [type(m) for m in again.modules()] == [type(m) for m in net.modules()]

    def test_default_parts_are_not_named(self):
        keywords = {kind.partition(".")[0] for kind in cm.PARTS}
        assert set(cm.clusir_tiny().config) == set(inspect.signature(cm.ClusIR).parameters) - keywords

    def test_an_option_file_may_say_a_part_in_three_ways(self, registered):
        said = {"router": "SoftmaxRouter", "block": {"type": "WTB", "wave": "db2"}, "frequency": None}
        net = cm.ClusIR.from_config({**SMALL, **said})
        assert isinstance(net.stages[0].encoder[0].moe.router, SoftmaxRouter)
        assert net.stages[0].encoder[0].blocks[0].wave == "db2"
        assert net.stages[0].decoder[0].frequency is None
        assert {key: net.config[key] for key in said} == said
        prompts = {"prompts": {"generation": {"type": "PGB", "size": 4}}}
        assert cm.ClusIR.from_config({**SMALL, **prompts}).stages[0].prompt_blocks[0].size == 4

    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({"router": "PCGMR"}, "unknown router 'PCGMR'; did you mean 'PCGRM'"),
            ({"block": {"type": "WTB", "waves": "db2"}}, "WTB has no argument 'waves'; did you mean 'wave'"),
            ({"blocks": "WTB"}, "ClusIR has no setting 'blocks'; did you mean 'block'"),
            ({"prompts": {"fusions": "PromptFusion"}}, "prompts has no part 'fusions'; did you mean 'fusion'"),
            ({"prompts": {"fusion": "os.system"}}, r"unknown prompts\.fusion 'os\.system'; accepted: PromptFusion"),
            ({"router": {"top_k": 2}}, "unknown router None"),
        ],
    )
    def test_unknown_names_are_refused_with_the_nearest(self, said, message):
        with pytest.raises(ValueError, match=message):
            cm.ClusIR.from_config({**SMALL, **said})

    @pytest.mark.parametrize("said", [{"router": 3}, {"prompts": "PromptFusion"}, {"block": ["WTB"]}])
    def test_other_kinds_of_entries_are_refused(self, said):
        with pytest.raises(TypeError, match=f"{next(iter(said))} must be a"):
            cm.ClusIR.from_config({**SMALL, **said})

    def test_a_module_may_be_reloaded(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        text = "import clusir_modules as cm\n\n@cm.PARTS['block'].register\nclass Reloaded(cm.WTB):\n    number = {}\n"
        (tmp_path / "reloaded_parts.py").write_text(text.format(1))
        import_registering("reloaded_parts")
        (tmp_path / "reloaded_parts.py").write_text(text.format("2  # another length"))
        again = importlib.reload(sys.modules["reloaded_parts"])
        assert cm.PARTS["block"]["Reloaded"] is again.Reloaded
        assert again.Reloaded.number == 2
        net = cm.ClusIR(**SMALL, block=again.Reloaded)
        net.save_pretrained(tmp_path / "net")
        assert type(load_network(tmp_path / "net").stages[0].encoder[0].blocks[0]) is again.Reloaded
        del sys.modules["reloaded_parts"]

    def test_a_name_belongs_to_one_object(self):
        cm.PARTS["router"].register(SoftmaxRouter)
        cm.PARTS["router"].register(SoftmaxRouter)
        with pytest.raises(ValueError, match="a router named 'SoftmaxRouter' exists already"):
            cm.PARTS["router"].register(UniformRouter, name="SoftmaxRouter")

        def factory(number):
            return lambda dim: number

        cm.PARTS["router"].register(factory(1), name="made")
        with pytest.raises(ValueError, match="a router named 'made' exists already"):
            cm.PARTS["router"].register(factory(2), name="made")  # of one place in the source, and yet another
        with pytest.raises(ValueError, match="a router must have a name"):
            cm.PARTS["router"].register(lambda dim: None)


def test_a_threshold_of_the_router_is_saved_and_adds_nothing_to_the_weights(tmp_path):
    net = cm.ClusIR(**SMALL, router=partial(cm.PCGRM, fallback=1.0)).eval()
    plain = cm.ClusIR(**SMALL).eval()
    weights = {key: value for key, value in net.state_dict().items() if key != "settings_record"}
    plain.load_state_dict(weights, strict=False)
    assert set(plain.state_dict()) >= set(weights)
    save_network(net, tmp_path / "net.safetensors")
    again = load_network(tmp_path / "net.safetensors").eval()
    assert torch.equal(again(picture()), net(picture()))
    assert not torch.allclose(plain(picture()), net(picture()), atol=1e-4)


class TestSaving:
    """What a file could not make again is refused before a byte is written."""

    def refused(self, net, folder, message):
        for save in (net.save_pretrained, lambda path: save_network(net, path)):
            with pytest.raises(ValueError, match=message):
                save(folder / "net")
        assert list(folder.iterdir()) == []

    def test_an_unregistered_part_is_named(self, tmp_path):
        self.refused(cm.ClusIR(**SMALL, router=SoftmaxRouter), tmp_path, "unknown router 'SoftmaxRouter'")

    def test_a_part_without_a_name_is_described(self, tmp_path):
        net = cm.ClusIR(**SMALL, block=lambda dim, *, num_heads: PlainBlock(dim, num_heads=1))
        self.refused(net, tmp_path, "unknown block '<function .*<lambda>")
        register()
        net = cm.ClusIR(**SMALL, block=partial(PlainBlock, width=True + torch.tensor(1)))
        self.refused(net, tmp_path, r"unknown block .functools\.partial\(.*PlainBlock.*tensor\(2\)")

    def test_registering_it_later_is_enough(self, tmp_path):
        net = cm.ClusIR(**SMALL, router=SoftmaxRouter).eval()
        register()
        net.save_pretrained(tmp_path)
        assert torch.equal(cm.ClusIR.from_pretrained(tmp_path)(picture()), net(picture()))

    def test_another_class_of_the_same_name_is_found_out(self, tmp_path):
        net = cm.ClusIR(**SMALL, router=SoftmaxRouter)
        cm.PARTS["router"].register(type("SoftmaxRouter", (SoftmaxRouter,), {}))
        self.refused(net, tmp_path, r"encoder\.0\.moe\.router is SoftmaxRouter.* as it is registered now")

    def test_a_module_that_was_exchanged_by_hand_is_found_out(self, tmp_path):
        register()
        net = cm.ClusIR(**SMALL)
        net.stages[0].encoder[2].blocks[0] = PlainBlock(16, num_heads=1)
        self.refused(net, tmp_path, r"stages\.0\.encoder\.2\.blocks\.0 is PlainBlock\(.*not WTB")
        net = cm.ClusIR(**SMALL)
        net.stages[0].decoder[0].blocks[0] = cm.WTB(4, 1, "db2")
        self.refused(net, tmp_path, r"decoder\.0\.blocks\.0 is WTB\(dim=4, wave='db2'\), not WTB\(dim=4, wave='haar'\)")
        net = cm.ClusIR(**SMALL)
        net.stages[0].encoder[0].moe.router.top_k = 1
        self.refused(net, tmp_path, r"router is PCGRM\(.*top_k=1\)")
        net = cm.ClusIR(**SMALL)
        net.tail = nn.Sequential(net.tail)
        self.refused(net, tmp_path, "tail is Sequential")

    def test_a_class_of_ones_own_must_be_registered_and_is_then_loaded(self, tmp_path):
        class Brighter(cm.ClusIR):
            def forward(self, x, **options):
                return super().forward(x, **options) + 1

        net = Brighter(**SMALL).eval()
        self.refused(net, tmp_path, "Brighter must be registered")
        cm.NETWORKS.register(Brighter)
        net.save_pretrained(tmp_path)
        again = load_network(tmp_path)
        assert type(again) is Brighter
        assert torch.equal(again(picture()), net(picture()))
        assert cm.ClusIR.from_pretrained(tmp_path).config == net.config

    def test_saving_draws_no_random_number(self, tmp_path):
        net = cm.ClusIR(**SMALL)
        state = torch.get_rng_state()
        net.save_pretrained(tmp_path)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("suffix", ["safetensors", "pth"])
    def test_loading_names_a_part_that_is_not_registered(self, tmp_path, suffix, monkeypatch):
        register()
        net = cm.ClusIR(**SMALL, frequency=HighPass)
        path = tmp_path / f"net.{suffix}"
        save_network(net, path) if suffix == "safetensors" else torch.save(net.state_dict(), path)
        monkeypatch.delitem(cm.PARTS["frequency"]._objects, "HighPass")
        with pytest.raises(ValueError, match="unknown frequency 'HighPass'; accepted: DAFMM"):
            load_network(path)

    def test_weights_of_other_parts_are_refused_even_where_the_shapes_agree(self):
        net = cm.ClusIR(**SMALL, block=partial(cm.WTB, wave="db2"))
        with pytest.raises(ValueError, match=r'belong to a network with .*"wave": "db3".*this one has .*"wave": "db2"'):
            net.load_state_dict(cm.ClusIR(**SMALL, block=partial(cm.WTB, wave="db3")).state_dict())
        net.load_state_dict(cm.ClusIR(**SMALL, block=partial(cm.WTB, wave="db2"), noise_std=0.1).state_dict())


class TestReset:
    """What meta devices and FSDP do: empty memory, then ``reset_parameters`` of every module that has it."""

    NETWORKS = {
        "ClusIR": lambda: cm.ClusIR(**SMALL),
        "two stages": lambda: cm.ClusIR(**SMALL, supervised_stages=2, top_k=1),
        "running moments": lambda: cm.ClusIR(**SMALL, standardize_evidence=True, halved_levels=2, gain=True),
        "MPRNet": lambda: cm.MPRNet(8, unet_step=4, orsnet_step=4, num_cabs=1, bias=True),
        "tiny": cm.clusir_tiny,
    }

    @pytest.mark.parametrize("name", NETWORKS)
    @torch.no_grad()
    def test_makes_a_network_like_a_fresh_one(self, name):
        with torch.device("meta"):
            net = self.NETWORKS[name]()
        net.to_empty(device="cpu")
        for value in (*net.parameters(), *net.buffers()):
            value.fill_(torch.nan if value.is_floating_point() else 7)
        for module in net.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
                pytest.fail(f"{type(module).__name__} owns values and cannot reset them")
        fresh = self.NETWORKS[name]()
        for (key, found), expected in zip(net.named_parameters(), fresh.parameters(), strict=True):
            assert torch.isfinite(found).all(), key
            if not expected.std(correction=0) > 0:
                assert torch.equal(found, expected), key
            elif expected.numel() >= 64:
                assert 0.5 < float(found.std() / expected.std()) < 2, key
        for found, expected in zip(net.buffers(), fresh.buffers(), strict=True):
            assert torch.equal(found, expected)
        fresh.load_state_dict(net.state_dict())  # no record became noise

    @torch.no_grad()
    def test_small_starts_are_a_tenth(self):
        torch.manual_seed(0)
        small = cm.SmallConv2d(16, 16, 3)
        torch.manual_seed(0)
        large = nn.Conv2d(16, 16, 3)
        assert torch.equal(small.weight, large.weight * 0.1)
        assert torch.equal(small.bias, large.bias * 0.1)
        net = cm.clusir_tiny()
        assert isinstance(net.tail, cm.SmallConv2d)
        level = net.stages[0].encoder[3]
        for module in (
            level.blocks[0].low_project,
            level.blocks[0].detail_project,
            level.moe.shared_expert.project_out,
        ):
            bound = (module.weight.shape[1] * module.kernel_size[0] ** 2) ** -0.5
            assert 0.05 * bound < float(module.weight.abs().max()) <= 0.1 * bound
        experts = level.moe.experts
        assert 0.05 < float(experts.project_weight.abs().max()) * experts.hidden_dim**0.5 <= 0.1
        assert 0.5 < float(experts.expand_weight.abs().max()) * experts.dim**0.5 <= 1


def test_prompts_of_some_size_fit_a_level_that_is_halved():
    prompts = cm.Prompts(generation=partial(cm.PGB, num_components=3, size=4))
    net = cm.ClusIR(**{**SMALL, "halved_levels": 3}, prompts=prompts)
    sizes = []
    for block in net.stages[0].prompt_blocks:
        block.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))
    output = net(torch.rand(2, 3, 37, 50))
    assert output.shape == (2, 3, 37, 50)
    assert sorted(sizes) == [(6, 8), (12, 16), (24, 32)], "half of 48x64 and of its halves"
    output.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.stages[0].prompt_blocks.parameters())
