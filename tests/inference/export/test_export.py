"""Networks as files: they must give what the network gives, on sizes that the tracing has not seen."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import clusir_modules as cm
from clusir_modules.inference.export import export_onnx, export_program, export_pt2, export_routed_onnx

SIZES = [(1, 1), (5, 9), (16, 16), (17, 33), (64, 50), (129, 97)]


class Mixture(nn.Module):
    """The smallest network with routing; several stages, as MPRNet has."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        self.moe = cm.ClusterMoE(8, num_clusters=3, embed_dim=8)
        self.tail = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x + self.tail(self.moe(self.head(x))), x]


def run_onnx(path: Path, image: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["restored"], {"image": image.numpy()})[0])


def flops(run: Any, image: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run(image)
    return counter.get_total_flops()


@pytest.fixture(scope="module")
def net() -> cm.ClusIR:
    torch.manual_seed(0)
    net = cm.ClusIR(
        dim=8,
        num_blocks=(1, 0, 0, 0),
        num_decoder_blocks=(0, 0, 0),
        num_refinement_blocks=0,
        num_heads=(1, 1, 1, 1),
        num_clusters=(5, 5, 5, 5),
        embed_dim=20,
    ).eval()
    with torch.no_grad():
        for parameter in net.tail.parameters():
            parameter.mul_(10)  # else the input is nearly all of the output
    return net


@pytest.fixture(scope="module")
def program(net: cm.ClusIR) -> torch.export.ExportedProgram:
    return export_program(net)


@pytest.fixture(scope="module")
def loaded(program: torch.export.ExportedProgram, tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    path = tmp_path_factory.mktemp("export") / "net.pt2"
    export_pt2(program, path)
    return torch.export.load(path).module()


@pytest.fixture(scope="module")
def onnx_file(program: torch.export.ExportedProgram, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "net.onnx"
    export_onnx(program, path)
    return path


@pytest.fixture(scope="module")
def sessions(net: cm.ClusIR, tmp_path_factory: pytest.TempPathFactory) -> list[onnxruntime.InferenceSession]:
    folder = tmp_path_factory.mktemp("export") / "routed"
    export_routed_onnx(net, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["restore.onnx", "route.onnx"]
    for name in ("route.onnx", "restore.onnx"):
        assert "DFT" not in {node.op_type for node in onnx.load(folder / name).graph.node}
    return [
        onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        for name in ("route.onnx", "restore.onnx")
    ]


@pytest.fixture(scope="module")
def modulation() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), cm.DAFMM(4, num_heads=2, layer_scale=1.0), nn.Conv2d(4, 3, 1))
    return net.eval()


@pytest.fixture(scope="module")
def without_transform(modulation: nn.Module) -> nn.Module:
    return export_program(modulation, fourier="matrices").module()


class TestClusIR:
    """One small network, traced once: its program has every kind of operation that the large ones have."""

    @pytest.mark.parametrize("size", [(17, 17), *SIZES[3:]])
    def test_the_program_equals_the_network(self, net: cm.ClusIR, loaded: nn.Module, size: tuple[int, int]) -> None:
        image = torch.rand(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(loaded(image), net(image), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("size", SIZES)
    def test_onnx_equals_the_network(self, net: cm.ClusIR, onnx_file: Path, size: tuple[int, int]) -> None:
        image = torch.rand(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(run_onnx(onnx_file, image), net(image), atol=1e-4, rtol=0)

    def test_only_the_chosen_experts_run(self, net: cm.ClusIR, loaded: nn.Module) -> None:
        image = torch.rand(1, 3, 48, 64)
        sparse = flops(loaded, image)
        assert sparse == flops(net, image)
        experts = cm.GatedConvExperts(8, num_experts=8)
        for_each = flops(
            lambda x: experts(x, torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64)),
            image[:, :1].expand(-1, 8, -1, -1),
        )
        assert for_each > sparse / 100  # running another one would be noticed

    def test_onnx_reads_of_the_experts_only_the_chosen(self, net: cm.ClusIR, onnx_file: Path) -> None:
        graph = onnx.load(onnx_file).graph
        stored = {initializer.name: onnx.numpy_helper.to_array(initializer) for initializer in graph.initializer}
        stacked = [weight.detach().numpy() for name, weight in net.named_parameters() if ".experts." in name]
        assert len(stacked) == 4 * 5
        for weight in stacked:
            names = {name for name, values in stored.items() if np.array_equal(values, weight)}
            assert [node.op_type for node in graph.node if names & set(node.input)] == ["GatherND"]
        assert not {"If", "Loop"} & {node.op_type for node in graph.node}

    def test_the_file_is_whole_checked_and_names_its_axes(self, onnx_file: Path) -> None:
        model = onnx.load(onnx_file)
        onnx.checker.check_model(model)
        axes = [axis.dim_param or axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
        assert axes == [1, 3, "height", "width"]
        assert [path.name for path in onnx_file.parent.iterdir()] == ["net.onnx"]
        assert str(Path(__file__).parents[2]).encode() not in onnx_file.read_bytes()


@pytest.mark.slow
class TestRouted:
    """The same network in two files."""

    @pytest.mark.parametrize("size", [(5, 9), (64, 50), (129, 97)])
    def test_tiles_are_restored_by_the_routing_of_the_picture(
        self, net: cm.ClusIR, sessions: list[onnxruntime.InferenceSession], size: tuple[int, int]
    ) -> None:
        route, restore = sessions
        picture, tile = torch.rand(1, 3, *size), torch.rand(1, 3, 33, 48)
        names = [output.name for output in route.get_outputs()]
        decided = dict(zip(names, route.run(None, {"image": picture.numpy()})))
        with torch.no_grad():
            routings = net.route(picture)
            expected = net(tile, routings=routings)
        for level, routing in enumerate(routings, start=1):
            assert torch.equal(torch.from_numpy(decided[f"experts_{level}"]), routing.topk_indices)
            for name, value in (
                ("weights", routing.topk_weights),
                ("prompt", routing.prompt),
                ("clusters", routing.cluster_probs),
            ):
                torch.testing.assert_close(torch.from_numpy(decided[f"{name}_{level}"]), value, atol=1e-5, rtol=0)
        read = {value.name: decided[value.name] for value in restore.get_inputs() if value.name != "image"}
        assert sorted(read) == sorted(set(names) - {f"clusters_{level}" for level in range(1, 5)})
        restored = torch.from_numpy(restore.run(None, {"image": tile.numpy(), **read})[0])
        torch.testing.assert_close(restored, expected, atol=1e-4, rtol=0)


class TestFourierMatrices:
    @pytest.mark.parametrize("size", [(5, 9), (16, 16), (33, 64), (40, 57)])
    def test_equal_the_transform(
        self, without_transform: nn.Module, modulation: nn.Module, size: tuple[int, int]
    ) -> None:
        image = torch.rand(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(without_transform(image), modulation(image), atol=1e-5, rtol=0)

    def test_leave_no_transform_and_no_complex_number(self, without_transform: nn.Module) -> None:
        nodes = [node for node in without_transform.graph.nodes if node.op == "call_function"]
        assert nodes
        assert not [node for node in nodes if "fft" in str(node.target)]
        assert not [node for node in nodes if getattr(node.meta.get("val"), "is_complex", bool)()]


class TestMPRNet:
    @pytest.mark.slow
    def test_the_final_stage_is_what_comes_out(self, tmp_path: Path) -> None:
        net = cm.MPRNet(dim=4, unet_step=2, orsnet_step=2, num_cabs=1).train()
        program = export_program(net)
        assert net.training
        export_onnx(program, tmp_path / "net.onnx")
        export_pt2(program, tmp_path / "net.pt2")
        loaded = torch.export.load(tmp_path / "net.pt2").module()
        for size in ((30, 17), (64, 40)):
            image = torch.rand(1, 3, *size)
            with torch.no_grad():
                expected = net(image)[0]
                torch.testing.assert_close(loaded(image), expected, atol=1e-4, rtol=0)
            torch.testing.assert_close(run_onnx(tmp_path / "net.onnx", image), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("module", [cm.WTB(8, 2), cm.WaveletEvidence(8)], ids=["WTB", "WaveletEvidence"])
def test_wavelets_take_odd_and_even_sizes(module: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), module, nn.Conv2d(8, 3, 1)).eval()
    run = export_program(net).module()
    for size in ((5, 9), (16, 16), (33, 64), (40, 57)):
        image = torch.rand(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(run(image), net(image), atol=1e-5, rtol=0)


class TestMixture:
    def test_any_number_of_images(self, tmp_path: Path) -> None:
        net = Mixture()
        program = export_program(net, dynamic_batch=True)
        export_onnx(program, tmp_path / "net.onnx")
        export_pt2(program, tmp_path / "net.pt2")
        loaded = torch.export.load(tmp_path / "net.pt2").module()
        for batch in (1, 2, 5):
            image = torch.rand(batch, 3, 21, 34)
            with torch.no_grad():
                expected = net(image)[0]
                torch.testing.assert_close(loaded(image), expected, atol=1e-4, rtol=0)
            torch.testing.assert_close(run_onnx(tmp_path / "net.onnx", image), expected, atol=1e-4, rtol=0)

    @pytest.mark.long
    @pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
    def test_compiled_ahead_of_time(self, tmp_path: Path) -> None:
        net = Mixture()
        export_pt2(net, tmp_path / "net.pt2", ahead_of_time=True)
        compiled = torch._inductor.aoti_load_package(str(tmp_path / "net.pt2"))
        for size in ((5, 9), (64, 50)):
            image = torch.rand(1, 3, *size)
            with torch.no_grad():
                torch.testing.assert_close(compiled(image), net(image)[0], atol=1e-4, rtol=0)


class TestErrors:
    def test_a_file_of_another_name_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"path must end in \.pt2, got .*net\.pth"):
            export_pt2(nn.Identity(), tmp_path / "net.pth")

    def test_a_network_that_returns_no_image_is_named(self) -> None:
        class Dictionary(nn.Module):
            def forward(self, x: Tensor) -> dict[str, Tensor]:
                return {"image": x}

        with pytest.raises(TypeError, match="net must return an image or a sequence of images, got dict"):
            export_program(Dictionary())

    def test_a_network_without_routing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="net must have routing, got Identity, which has none"):
            export_routed_onnx(nn.Identity(), tmp_path)

    def test_an_unknown_form_of_the_transform_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"fourier must be .*'fft'"):
            export_program(nn.Identity(), fourier="fft")

    def test_a_program_that_differs_is_found_out(self) -> None:
        class Different(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x if torch.compiler.is_exporting() else 2 * x

        with pytest.raises(RuntimeError, match="the exported program must equal the network within"):
            export_program(Different())

    def test_a_failed_export_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "net.onnx"
        path.write_bytes(b"old")
        program = export_program(nn.Conv2d(3, 3, 3, padding=1))
        monkeypatch.setattr(
            "clusir_modules.inference.export.onnx._run",
            lambda path, given: [torch.full_like(given["image"], torch.nan)],
        )
        with pytest.raises(RuntimeError, match="the ONNX file must equal the network"):
            export_onnx(program, path)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_missing_packages_are_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
        with pytest.raises(ImportError, match="export_onnx needs onnxscript"):
            export_onnx(nn.Identity(), tmp_path / "net.onnx")
