"""Restoring pictures of any size and kind."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import clusir_modules as cm
from clusir_modules.inference.tiles import tile_spans

ROOT = Path(__file__).parents[2]


class Negative(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1 - x


class Brightened(nn.Module):
    """What sees of the picture no more than a tile, at its worst: each tile is shifted by its own mean."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean(dim=(1, 2, 3), keepdim=True)


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


class Returning(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.fixture(scope="module")
def lively() -> cm.ClusIR:
    """A network whose output is far from its input, as a freshly made one is not."""
    torch.manual_seed(0)
    net = cm.clusir_tiny().eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith("tail."):
                parameter.mul_(3)
            elif any(part in name for part in ("low_project.", "detail_project.", "project_out.")):
                parameter.mul_(10)  # these start small
            elif "experts.project_" in name:
                parameter.mul_(30)
            elif "log_temperature" in name:
                parameter.fill_(-3.5)  # what a router sees decides
    return net


def photograph() -> Tensor:
    folder = importlib.util.find_spec("skimage").submodule_search_locations[0]  # type: ignore[union-attr, index]
    array = np.array(Image.open(Path(folder) / "data" / "coffee.png").convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1).float()[:, :200, :280] / 255


def gradient(height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack((x, y, 1 - (x + y) / 2))


def jumps_at_borders(result: Tensor, expected: Tensor, tile: int, overlap: int) -> float:
    """Jumps between neighbors across the borders of tiles over those elsewhere, each relative to what is expected."""
    at_borders, elsewhere = [], []
    for dim in (1, 2):
        spans = tile_spans(result.shape[dim], tile, overlap, 16)
        borders = {span.start for span in spans[1:]} | {span.stop for span in spans[:-1]}
        others = [other for other in (1, 2) if other != dim]
        jumps, wanted = (image.diff(dim=dim).abs().mean(dim=(0, *others)) for image in (result, expected))
        for position, quotient in enumerate((jumps / wanted).tolist(), start=1):
            (at_borders if position in borders else elsewhere).append(quotient)
    return float(np.mean(at_borders) / np.mean(elsewhere))


class TestKinds:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("shape", [(20, 30, 3), (20, 30), (20, 30, 1)])
    def test_an_array_comes_back_as_it_came(self, dtype: type, shape: tuple[int, ...]) -> None:
        generator = np.random.default_rng(0)
        peak = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
        image = (generator.random(shape) * peak).astype(dtype)
        result = cm.restore(Negative(), image, tile=16, overlap=4)
        assert result.dtype == image.dtype
        np.testing.assert_allclose(result, (peak - image.astype(np.float64)), atol=peak * 1e-6, rtol=1e-3)
        if peak > 1:
            np.testing.assert_array_equal(result, peak - image)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32, torch.float64])
    @pytest.mark.parametrize("shape", [(3, 20, 30), (2, 3, 20, 30), (1, 20, 30)])
    def test_a_tensor_comes_back_as_it_came(self, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        peak = {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)
        image = (torch.rand(shape, dtype=torch.float64) * peak).to(dtype)
        result = cm.restore(Negative(), image, tile=16, overlap=4)
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), peak - image.double(), atol=peak * 1e-6, rtol=1e-3)

    @pytest.mark.parametrize("view", ["reversed", "transposed", "read-only", "big-endian"])
    def test_an_array_may_be_stored_in_any_way(self, view: str) -> None:
        image = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
        given = {
            "reversed": lambda: image[::-1, :, ::-1],
            "transposed": lambda: image.transpose(1, 0, 2),
            "read-only": lambda: np.frombuffer(image.tobytes(), np.uint16).reshape(image.shape),
            "big-endian": lambda: image.astype(">u2"),
        }[view]()
        result = cm.restore(Negative(), given, tile=16, overlap=4)
        assert result.dtype == given.dtype
        np.testing.assert_array_equal(result, 65535 - given)

    def test_integers_are_rounded_and_clipped_and_floats_are_not(self) -> None:
        net = Returning(lambda x: 2 * x - 0.501 / 255)
        image = np.array([[[0, 1, 200]]], np.uint8)
        np.testing.assert_array_equal(cm.restore(net, image), [[[0, 1, 255]]])
        np.testing.assert_allclose(cm.restore(net, image / np.float32(255)), image / 127.5 - 0.501 / 255, rtol=1e-5)

    def test_gray_goes_through_three_channels_and_their_mean_comes_back(self) -> None:
        tint = torch.tensor([0.0, 0.1, 0.5]).view(3, 1, 1)
        result = cm.restore(Returning(lambda x: x + tint), np.full((5, 6), 0.25))
        np.testing.assert_allclose(result, np.full((5, 6), 0.45), rtol=1e-6)

    def test_gray_goes_as_it_is_through_a_network_for_one_channel(self) -> None:
        net = cm.MPRNet(in_channels=1, dim=4, unet_step=2, orsnet_step=2, num_cabs=1)
        image = torch.rand(1, 16, 24)
        with torch.no_grad():
            torch.testing.assert_close(cm.restore(net, image), net(image[None])[0][0])

    @pytest.mark.parametrize(
        ("image", "error", "message"),
        [
            ([[1, 2]], TypeError, "got list"),
            (np.zeros((4, 4, 3), np.int32), TypeError, "uint8, uint16 or floating point, got int32"),
            (np.zeros((4, 4), bool), TypeError, "got bool"),
            (torch.zeros(3, 4, 4, dtype=torch.int64), TypeError, r"got torch\.int64"),
            (np.zeros((2, 4, 4, 3), np.uint8), ValueError, r"got shape \(2, 4, 4, 3\)"),
            (torch.zeros(4, 4), ValueError, r"got shape \(4, 4\)"),
            (np.zeros((0, 4, 3), np.uint8), ValueError, r"got shape \(0, 4, 3\)"),
            (torch.zeros(0, 3, 4, 4), ValueError, r"got shape \(0, 3, 4, 4\)"),
        ],
    )
    def test_what_is_no_picture_is_named(self, image: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=f"image must be .*{message}"):
            cm.restore(Negative(), image)

    @pytest.mark.parametrize("image", [np.zeros((3, 20, 30), np.uint8), torch.zeros(4, 20, 30)])
    def test_wrong_channels_are_named(self, lively: cm.ClusIR, image: Any) -> None:
        with pytest.raises(ValueError, match=r"image must be gray or of 3 channels, got (30|4)"):
            cm.restore(lively, image)


class TestSizes:
    @pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (17, 33), (64, 64)])
    def test_one_tile_is_exactly_the_network(self, lively: cm.ClusIR, size: tuple[int, int]) -> None:
        image = torch.rand(2, 3, *size)
        with torch.no_grad():
            assert torch.equal(cm.restore(lively, image, tile=64), lively(image))

    @pytest.mark.parametrize("size", [(1, 90), (90, 1), (33, 70)])
    def test_tiles_of_narrow_pictures(self, lively: cm.ClusIR, size: tuple[int, int]) -> None:
        result = cm.restore(lively, torch.rand(3, *size), tile=32, overlap=16)
        assert result.shape == (3, *size)
        assert torch.isfinite(result).all()

    def test_a_network_that_needs_a_multiple_gets_one(self) -> None:
        def halves(x: Tensor) -> Tensor:
            assert x.shape[2] % 8 == x.shape[3] % 8 == 0
            return 1 - x

        image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
        result = cm.restore(Returning(halves), image, tile=20, overlap=5, size_multiple=8)
        np.testing.assert_array_equal(result, 255 - image)

    def test_a_network_may_enlarge(self) -> None:
        image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
        result = cm.restore(Doubled(), image, tile=20, overlap=5)
        np.testing.assert_array_equal(result, image.repeat(2, axis=0).repeat(2, axis=1))

    def test_no_tile_is_larger_than_asked_for(self) -> None:
        seen = []
        cm.restore(Returning(lambda x: seen.append(x.shape[2:]) or x), torch.rand(3, 70, 90), tile=32, overlap=8)
        assert len(seen) == 12
        assert max(max(size) for size in seen) == 32


class TestNetworks:
    def test_the_final_stage_of_several_is_taken(self) -> None:
        net = cm.MPRNet(dim=4, unet_step=2, orsnet_step=2, num_cabs=1).eval()
        image = torch.rand(3, 24, 40)
        with torch.no_grad():
            torch.testing.assert_close(cm.restore(net, image), net(image[None])[0][0])

    @pytest.mark.parametrize(
        ("function", "error", "message"),
        [
            (lambda x: {"y": x}, TypeError, "got dict"),
            (lambda x: [], TypeError, "got list"),
            (lambda x: x[..., 1:], ValueError, r"got \(1, 3, 4, 5\) for \(1, 3, 4, 6\)"),
            (lambda x: x[0], ValueError, "whole multiple"),
            (lambda x: x.mean(dim=1, keepdim=True), ValueError, None),
        ],
    )
    def test_what_returns_no_image_is_named(self, function: Any, error: type[Exception], message: str | None) -> None:
        if message is None:  # an image of another number of channels is one
            assert cm.restore(Returning(function), torch.zeros(3, 4, 6)).shape == (1, 4, 6)
            return
        with pytest.raises(error, match=f"net must return .*{message}"):
            cm.restore(Returning(function), torch.zeros(3, 4, 6))

    def test_what_is_no_network_is_named(self) -> None:
        with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module, got function"):
            cm.restore(lambda x: x, torch.zeros(3, 4, 6))  # type: ignore[arg-type]

    def test_is_left_as_it_was(self) -> None:
        net = cm.clusir_tiny(noise_std=1.0).train()
        net.tail.eval()
        before = {name: module.training for name, module in net.named_modules()}
        image = torch.rand(3, 20, 20, requires_grad=True)
        first, second = cm.restore(net, image), cm.restore(net, image)
        assert torch.equal(first, second)
        assert not first.requires_grad
        assert {name: module.training for name, module in net.named_modules()} == before
        with pytest.raises(ValueError, match="finite"):
            cm.restore(net, image.detach() / 0)
        assert {name: module.training for name, module in net.named_modules()} == before

    def test_compiled_ones_run(self) -> None:
        net = torch.compile(Negative(), backend="eager")
        image = torch.rand(3, 40, 40)
        torch.testing.assert_close(cm.restore(net, image, tile=32, overlap=4), 1 - image)


class TestPrecisionAndDevice:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_stays_close_and_keeps_the_weights(self, lively: cm.ClusIR, dtype: torch.dtype) -> None:
        image = torch.rand(3, 48, 48)
        result = cm.restore(lively, image, tile=32, overlap=16, dtype=dtype)
        exact = cm.restore(lively, image, tile=32, overlap=16)
        assert result.dtype == torch.float32
        assert 0 < (result - exact).abs().max() < 0.1
        assert next(lively.parameters()).dtype == torch.float32

    def test_double_precision_follows_the_weights(self) -> None:
        net = cm.clusir_tiny().double().eval()
        image = torch.rand(1, 3, 20, 24, dtype=torch.float64)
        with torch.no_grad():
            assert torch.equal(cm.restore(net, image), net(image))

    def test_a_device_may_be_named(self, lively: cm.ClusIR) -> None:
        image = torch.rand(3, 20, 24)
        assert torch.equal(cm.restore(lively, image, device="cpu"), cm.restore(lively, image))

    @pytest.mark.gpu
    def test_the_network_returns_from_the_gpu(self, lively: cm.ClusIR) -> None:
        image = (np.random.default_rng(0).random((70, 90, 3)) * 255).astype(np.uint8)
        result = cm.restore(lively, image, tile=48, overlap=16, device="cuda")
        assert next(lively.parameters()).device.type == "cpu"
        assert np.abs(result.astype(int) - cm.restore(lively, image, tile=48, overlap=16)).max() <= 1

    @pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
    def test_a_missing_device_is_named(self, lively: cm.ClusIR, device: str) -> None:
        with pytest.raises(ValueError, match=f"device must be at hand, got '{device}'"):
            cm.restore(lively, torch.rand(3, 8, 8), device=device)

    def test_another_dtype_is_named(self, lively: cm.ClusIR) -> None:
        with pytest.raises(ValueError, match=r"dtype must be torch\.float16, torch\.bfloat16 or None, got torch\.int8"):
            cm.restore(lively, torch.rand(3, 8, 8), dtype=torch.int8)


class TestValuesThatAreNotFinite:
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_in_the_picture_are_located(self, value: float) -> None:
        image = np.zeros((40, 40, 3), np.float32)
        image[35, 3] = value
        with pytest.raises(
            ValueError, match=r"image must be finite, got another value in rows 20 to 35, columns 0 to 15"
        ):
            cm.restore(Negative(), image, tile=16, overlap=6)

    def test_from_the_network_are_an_error(self) -> None:
        with pytest.raises(FloatingPointError, match=r"net returned a value that is not finite, in torch\.float32"):
            cm.restore(Returning(lambda x: x / 0), torch.ones(3, 4, 4))


class TestSeams:
    @pytest.mark.parametrize("routing", ["global", "tile"])
    @pytest.mark.parametrize("image", [photograph(), gradient(200, 280)], ids=["photograph", "gradient"])
    def test_jumps_across_borders_are_no_larger_than_elsewhere(
        self, lively: cm.ClusIR, image: Tensor, routing: Any
    ) -> None:
        with torch.no_grad():
            whole = lively(image[None])[0]
        result = cm.restore(lively, image, tile=128, overlap=32, routing=routing)
        assert jumps_at_borders(result, whole, 128, 32) <= 1.1

    @pytest.mark.parametrize("image", [photograph(), gradient(200, 280)], ids=["photograph", "gradient"])
    def test_even_where_every_tile_has_a_brightness_of_its_own(self, image: Tensor) -> None:
        net = Brightened()
        net.size_multiple = 16  # type: ignore[assignment]
        result = cm.restore(net, image, tile=128, overlap=32)
        assert jumps_at_borders(result, image, 128, 32) <= 1.1
        hard = cm.restore(net, image, tile=128, overlap=0)
        assert jumps_at_borders(hard, image, 128, 0) > 2


class TestRouting:
    @pytest.mark.parametrize(("size", "counts"), [((2048, 1536), (4, 4)), ((500, 1000), (2, 4)), ((300, 9000), (2, 8))])
    def test_large_pictures_are_routed_by_sixteen_parts_spread_evenly(
        self, size: tuple[int, int], counts: tuple[int, int]
    ) -> None:
        class Watched(nn.Module):
            """A network that only looks at what it would route by."""

            in_channels, size_multiple = 2, 16

            def route_parts(self, parts: list[Tensor]) -> tuple[()]:
                self.parts = parts
                return ()

            def forward(self, x: Tensor, routings: object = None) -> Tensor:
                return x

        net = Watched()
        rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in size), indexing="ij")
        cm.restore(net, torch.stack((rows, columns)), tile=512, progress=False)
        assert len(net.parts) == math.prod(counts) <= 16
        assert len({part.shape for part in net.parts}) == 1
        for axis, (side, count) in enumerate(zip(size, counts)):
            assert net.parts[0].shape[2 + axis] == min(256, math.ceil(side / count / 16) * 16)
            centers = sorted({round(float(part[0, axis].mean()), 1) for part in net.parts})
            expected = [(number + 0.5) * side / count - 0.5 for number in range(count)]
            assert centers == pytest.approx(expected, abs=8.5)  # sides are cut to multiples of 16

    def test_the_parts_of_a_picture_that_is_one_part_route_it_exactly(self, lively: cm.ClusIR) -> None:
        image = torch.rand(2, 3, 40, 56)
        with torch.no_grad():
            for whole, parts in zip(lively.route(image), lively.route_parts([image, image]), strict=True):
                for expected, value in zip(whole, parts, strict=True):
                    torch.testing.assert_close(value, expected)

    def test_parts_of_several_shapes_are_named(self, lively: cm.ClusIR) -> None:
        with pytest.raises(ValueError, match=r"parts must have one shape, got \[\(1, 3, 8, 8\), \(1, 3, 8, 9\)\]"):
            lively.route_parts([torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 9)])
        with pytest.raises(ValueError, match=r"parts must have one shape, got \[\]"):
            lively.route_parts([])

    def test_all_tiles_follow_the_picture(self, lively: cm.ClusIR) -> None:
        """One half is noise, the other flat: the tiles would not agree by themselves."""
        image = torch.full((3, 96, 192), 0.2)
        image[..., 96:] = torch.rand(3, 96, 96)
        seen: list[Any] = []
        hooks = [
            module.register_forward_hook(
                lambda _, args, kwargs, result: seen.append(kwargs.get("routing")), with_kwargs=True
            )
            for module in lively.modules()
            if isinstance(module, cm.ClusterMoE)
        ]
        cm.restore(lively, image, tile=96, overlap=0, routing="tile")
        assert len(seen) == 8
        assert not any(torch.equal(one.prompt, other.prompt) for one, other in zip(seen[:4], seen[4:], strict=True))
        seen.clear()
        cm.restore(lively, image, tile=96, overlap=0)
        for hook in hooks:
            hook.remove()
        first, second = seen[-8:-4], seen[-4:]
        for one, other in zip(first, second, strict=True):
            assert torch.equal(one.prompt, other.prompt)

    def test_by_parts_comes_closer_to_the_whole_picture_than_by_tiles(self, lively: cm.ClusIR) -> None:
        image = torch.cat((photograph()[:, :128, :128], torch.rand(3, 128, 128)), dim=2)
        with torch.no_grad():
            whole = lively(image[None])[0]
        error = {
            routing: (cm.restore(lively, image, tile=128, overlap=32, routing=routing) - whole).square().mean()
            for routing in ("global", "tile")
        }
        assert error["global"] < error["tile"] * 0.8

    @pytest.mark.slow
    def test_a_picture_many_times_larger_is_sampled(self, lively: cm.ClusIR) -> None:
        shapes = []
        handle = lively.stages[0].head.register_forward_hook(lambda _, args, result: shapes.append(args[0].shape[2:]))
        cm.restore(lively, torch.rand(3, 40, 24 * 40), tile=16, overlap=0, routing="global")
        handle.remove()
        tiles = 3 * 60
        assert len(shapes) == 2 * tiles  # of a small picture each pixel is seen
        assert {tuple(shape) for shape in shapes} == {(16, 16)}

    def test_given_ones_are_followed(self, lively: cm.ClusIR) -> None:
        image, other = torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40) * 0.1
        with torch.no_grad():
            routings = lively.route(other)
            expected = lively(image, routings=routings)
        assert torch.equal(cm.restore(lively, image, routing=routings), expected)

    def test_given_ones_need_a_network_that_follows(self, lively: cm.ClusIR) -> None:
        with torch.no_grad():
            routings = lively.route(torch.rand(1, 3, 16, 16))
        with pytest.raises(TypeError, match='routing must be "global" or "tile" for Negative, which has no routing'):
            cm.restore(Negative(), torch.rand(3, 16, 16), routing=routings)

    def test_another_word_is_named(self) -> None:
        with pytest.raises(ValueError, match="routing must be one of global, tile, got 'local'"):
            cm.restore(Negative(), torch.rand(3, 16, 16), routing="local")  # type: ignore[arg-type]


class TestProgress:
    def slow(self, seconds: float) -> Returning:
        import time

        return Returning(lambda x: time.sleep(seconds) or x)

    def test_is_shown_after_a_second_only(self, capfd: pytest.CaptureFixture[str]) -> None:
        cm.restore(self.slow(0.3), torch.rand(3, 8, 48), tile=8, overlap=0)
        assert "6/6" in capfd.readouterr().err
        cm.restore(self.slow(0.0), torch.rand(3, 8, 48), tile=8, overlap=0)
        cm.restore(self.slow(0.3), torch.rand(3, 8, 48), tile=8, overlap=0, progress=False)
        assert capfd.readouterr().err == ""


MEMORY_SCRIPT = """
import sys
from pathlib import Path
import numpy as np, torch
import clusir_modules as cm
torch.set_num_threads(1)
net = torch.nn.Sequential(*(torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(2)))
side = int(sys.argv[1])
cm.restore(net, np.zeros((600, 600, 3), np.uint8), progress=False)
image = np.zeros((side, side, 3), np.uint8)
image[:] = 7
result = cm.restore(net, image, progress=False)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024, image.nbytes + result.nbytes)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_picture() -> None:
    """Peak resident memory of a process, less the pictures themselves; ``ru_maxrss`` counts its parent's too."""
    peaks = {}
    for side in (1024, 4096):
        run = subprocess.run(
            [sys.executable, "-c", MEMORY_SCRIPT, str(side)], capture_output=True, text=True, cwd=ROOT, check=True
        )
        peak, pictures = map(int, run.stdout.split())
        peaks[side] = peak - pictures
    assert peaks[4096] <= 1.3 * peaks[1024]
