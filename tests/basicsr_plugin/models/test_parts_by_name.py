"""Networks of other parts, trained by an option file that names them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from own_parts import SMALL, SWAPS, HighPass, PlainBlock, register, swapped
from torch import nn

import clusir_modules as cm

TESTS = Path(__file__).parents[2]
MODULE = """
import own_parts
own_parts.register()
"""
LOAD = """
import sys
import torch
import own_parts_of_a_project
from clusir_modules.serialization.network_files import load_network
image, outputs = torch.load(sys.argv[1]), {}
for path in sys.argv[3:]:
    outputs[path] = load_network(path)(image).detach()
torch.save(outputs, sys.argv[2])
"""


@pytest.fixture(autouse=True)
def _own_names(monkeypatch):
    """Names that a test registers are forgotten afterwards."""
    for registry in (cm.NETWORKS, *cm.PARTS.values()):
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A module of parts that an option file may import, not yet imported."""
    (tmp_path / "own_parts_of_a_project.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("own_parts_of_a_project", None)


@pytest.fixture
def options(options):
    options["imports"] = ["own_parts_of_a_project"]
    options["train"].update(total_iter=2, losses=[{"type": "L1Loss"}, {"type": "load_balance", "weight": 0.01}])
    options["train"]["scheduler"]["warmup_iter"] = 1
    del options["train"]["pixel_opt"]
    options["network_g"] = {"type": "ClusIR", **SMALL}
    return options


def sections() -> dict[str, dict]:
    """What an option file says of each network of ``SWAPS``."""
    register()
    said = {name: swapped(name).config for name in SWAPS}
    for registry in cm.PARTS.values():
        registry._objects = {key: obj for key, obj in registry._objects.items() if "own_parts" not in obj.__module__}
    return said


def plain(value):
    return [plain(part) for part in value] if isinstance(value, tuple) else value


@pytest.mark.slow
def test_every_swap_trains_by_its_names_and_loads_in_a_fresh_process(options, train, project, environment):
    outputs, files = {}, []
    image = torch.rand(1, 3, 21, 34, generator=torch.Generator().manual_seed(3))
    said = sections()
    assert said["three: prompts, norm, wavelet"]["prompts"] == {"fusion": "OwnTokens", "generation": "TokenMap"}
    for number, (name, section) in enumerate(said.items()):
        options["network_g"] = {"type": "ClusIR", **section}
        net = train(options, root=project / str(number)).model
        bare = net.get_bare_model(net.net_g)
        idle = [key for key, value in bare.named_parameters() if value not in net.optimizer_g.state]
        unused = ["stages.0.encoder.3.moe.router.tokens"] if name == "all at once" else []  # OwnTokens ignores them
        assert idle == unused, name
        files.append(str(project / str(number) / "experiments/run/models/net_g_latest.pth"))
        assert bare.config == section, name
        outputs[files[-1]] = net.net_g_ema.eval()(image).detach()  # load_network takes the average

    torch.save(image, project / "image.pth")
    subprocess.run(
        [sys.executable, "-c", LOAD, str(project / "image.pth"), str(project / "outputs.pth"), *files],
        check=True,
        env={**environment, "PYTHONPATH": os.pathsep.join([environment["PYTHONPATH"], str(TESTS), str(project)])},
    )
    loaded = torch.load(project / "outputs.pth")
    for name, file in zip(said, files, strict=True):
        assert torch.equal(loaded[file], outputs[file]), name


def test_sizes_made_by_functions_take_names_too(options, train, project):
    few = {key: plain(value) for key, value in SMALL.items()}
    options["network_g"] = {"type": "clusir_tiny", **few, "block": {"type": "PlainBlock", "width": 3}}
    net = train(options).model.net_g
    assert type(net) is cm.ClusIR
    assert net.config["block"] == {"type": "PlainBlock", "width": 3}
    assert {m.expand.out_channels // m.expand.in_channels for m in net.modules() if isinstance(m, PlainBlock)} == {3}


@pytest.mark.parametrize(
    ("part", "said", "message"),
    [
        ("router", "SoftmaxRoutr", r"network_g\.router is not accepted.*did you mean 'SoftmaxRouter'"),
        ("router", {"type": "PCGRM", "temperatur": 1}, r"network_g\.router.*PCGRM has no argument 'temperatur'"),
        ("block", {"type": "WTB", "wave": "db99"}, r"network_g\.block.*db99"),
        ("prompts", {"fuson": "OwnTokens"}, r"network_g\.prompts.*no part 'fuson'; did you mean 'fusion'"),
        ("prompts", "none", r"network_g\.prompts.*mapping of fusion, generation"),
        ("norm_layer", 3, r"network_g\.norm_layer.*name or a mapping with a 'type', got int 3"),
        ("blok", "WTB", r"unknown option 'blok' in network_g; did you mean 'block'"),
    ],
)
def test_a_wrong_name_of_a_part_is_refused_before_a_folder_is_made(options, train, project, part, said, message):
    options["network_g"] = {"type": "ClusIR", **{key: plain(value) for key, value in SMALL.items()}, part: said}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        train(options)
    assert not (project / "experiments").exists()


class TestRefused:
    """Networks that their option file does not make: refused before a byte is written."""

    @pytest.fixture
    def model(self, options, build, project):
        options["network_g"] = {"type": "ClusIR", **{key: plain(value) for key, value in SMALL.items()}}
        return build(options)

    def files(self, folder):
        return [path.name for part in ("models", "training_states") for path in (folder / part).iterdir()]

    @pytest.mark.parametrize("which", ["net_g", "net_g_ema"])
    @pytest.mark.parametrize("file_format", ["pth", "safetensors"])
    def test_a_part_that_was_exchanged_by_hand(self, model, project, which, file_format):
        model.states.file_format = file_format
        getattr(model, which).stages[0].decoder[0].frequency = HighPass(8, num_heads=1)
        with pytest.raises(ValueError, match=r"stages\.0\.decoder\.0\.frequency is HighPass.*, not DAFMM"):
            model.save(0, 1)
        assert self.files(project) == []

    def test_a_part_whose_name_is_gone(self, options, build, project, monkeypatch):
        options["network_g"]["block"] = "PlainBlock"
        model = build(options)
        monkeypatch.delitem(cm.PARTS["block"]._objects, "PlainBlock")
        with pytest.raises(ValueError, match=r"unknown block 'PlainBlock'.*registered before"):
            model.save(0, 1)
        assert self.files(project) == []

    def test_a_network_that_is_not_registered_is_refused_at_the_start(self, options, build, project, monkeypatch):
        from basicsr.utils.registry import ARCH_REGISTRY

        from basicsr_plugin.archs.parts_by_name import parts_by_name

        class OwnClusIR(cm.ClusIR):
            """Registered with BasicSR alone."""

        monkeypatch.setattr(ARCH_REGISTRY, "_obj_map", dict(ARCH_REGISTRY._obj_map))
        ARCH_REGISTRY.register(parts_by_name(OwnClusIR))
        options["network_g"].update(type="OwnClusIR", block="PlainBlock")
        with pytest.raises(ValueError, match=r"OwnClusIR must be registered.*NETWORKS\.register"):
            build(options)
        cm.NETWORKS.register(OwnClusIR)
        model = build(options)
        model.save(0, 1)
        assert self.files(project) == ["net_g_1.pth", "1.state"]


def test_only_networks_with_a_configuration_take_names():
    from basicsr_plugin.archs.parts_by_name import parts_by_name

    with pytest.raises(TypeError, match="got Linear"):
        parts_by_name(nn.Linear)
