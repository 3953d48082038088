from __future__ import annotations

import numpy as np
import pytest
import torch

from clusir_modules.losses.edge import EdgeLoss, laplacian_residual


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def naive_blur(image: np.ndarray) -> np.ndarray:
    taps = np.array([0.05, 0.25, 0.4, 0.25, 0.05])
    height, width = image.shape
    padded = np.pad(image, 2, mode="edge")
    return np.array(
        [[taps @ padded[i : i + 5, j : j + 5] @ taps for j in range(width)] for i in range(height)], dtype=image.dtype
    )


def naive_residual(image: np.ndarray) -> np.ndarray:
    thinned = np.zeros_like(image)
    thinned[::2, ::2] = 4 * naive_blur(image)[::2, ::2]
    return image - naive_blur(thinned)


def naive_loss(pred: torch.Tensor, target: torch.Tensor, eps: float = 1e-3) -> float:
    roots = [
        np.sqrt((naive_residual(a.numpy()) - naive_residual(b.numpy())) ** 2 + eps**2)
        for a, b in zip(pred.flatten(0, 1), target.flatten(0, 1), strict=True)
    ]
    return float(np.mean(roots))


class TestLaplacianResidual:
    @pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 2), (7, 9), (8, 6)])
    def test_equals_the_naive_definition(self, size: tuple[int, int]) -> None:
        image = torch.rand(1, 1, *size, dtype=torch.float64)
        expected = torch.from_numpy(naive_residual(image[0, 0].numpy()))
        torch.testing.assert_close(laplacian_residual(image)[0, 0], expected, atol=1e-12, rtol=0)

    def test_is_zero_inside_a_ramp_and_not_at_an_edge(self) -> None:
        ramp = torch.arange(24.0, dtype=torch.float64).expand(1, 1, 24, 24)
        assert laplacian_residual(ramp)[..., 6:-6, 6:-6].abs().max() < 1e-12
        step = (ramp > 11.5).double()
        assert laplacian_residual(step)[..., 6:-6, 11:13].abs().min() > 0.1


class TestEdgeLoss:
    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("size", [(7, 9), (8, 6), (1, 3)])
    def test_equals_the_naive_definition(self, channels: int, size: tuple[int, int]) -> None:
        pred, target = torch.rand(2, 2, channels, *size, dtype=torch.float64).unbind()
        assert EdgeLoss()(pred, target).item() == pytest.approx(naive_loss(pred, target), rel=1e-10)

    def test_equal_images_give_eps(self) -> None:
        x = torch.rand(1, 3, 9, 9)
        assert EdgeLoss(eps=0.25)(x, x).item() == pytest.approx(0.25)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_gradcheck_in_float64(self, channels: int) -> None:
        pred, target = (torch.rand(1, channels, 5, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))
        assert torch.autograd.gradcheck(EdgeLoss(eps=0.1), (pred, target))

    def test_a_texture_costs_more_than_a_shift_of_the_mean(self) -> None:
        target = torch.rand(1, 3, 32, 32)
        checker = (torch.arange(32)[:, None] + torch.arange(32)) % 2 - 0.5
        loss = EdgeLoss()
        assert loss(target + 0.1 * checker, target) > 3 * loss(target + 0.05, target)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_images_are_computed_in_float32(self, dtype: torch.dtype) -> None:
        pred, target = (torch.rand(1, 3, 9, 9).to(dtype) for _ in range(2))
        loss = EdgeLoss()(pred, target)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(naive_loss(pred.double(), target.double()), rel=1e-5)

    def test_autocast_does_not_change_the_numbers(self) -> None:
        pred, target = torch.rand(2, 1, 3, 9, 9).unbind()
        loss = EdgeLoss()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = loss(pred, target)
        assert torch.equal(mixed, loss(pred, target))

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_images_on_a_gpu_need_no_move_of_the_module(self) -> None:
        pred, target = torch.rand(2, 1, 3, 9, 9).unbind()
        loss = EdgeLoss()
        torch.testing.assert_close(loss(pred.cuda(), target.cuda()).cpu(), loss(pred, target))

    def test_channels_last_and_strided_input_give_the_same_number(self) -> None:
        pred, target = torch.rand(2, 2, 3, 9, 8).unbind()
        loss = EdgeLoss()
        expected = loss(pred, target)
        torch.testing.assert_close(loss(pred.contiguous(memory_format=torch.channels_last), target), expected)
        torch.testing.assert_close(loss(pred.mT.contiguous().mT, target), expected)

    def test_compiles_without_graph_break(self) -> None:
        pred, target = torch.rand(2, 1, 3, 9, 7).unbind()
        loss = EdgeLoss()
        torch.testing.assert_close(
            torch.compile(loss, fullgraph=True, backend="aot_eager")(pred, target), loss(pred, target)
        )

    def test_representation_shows_eps(self) -> None:
        assert repr(EdgeLoss(eps=0.5)) == "EdgeLoss(eps=0.5)"

    def test_bad_arguments_are_named(self) -> None:
        with pytest.raises(ValueError, match="eps must be finite and > 0, got -1"):
            EdgeLoss(eps=-1)
        loss, x = EdgeLoss(), torch.rand(1, 3, 6, 6)
        with pytest.raises(ValueError, match=r"pred must have shape \(B, C, H, W\), got \(3, 6, 6\)"):
            loss(x[0], x[0])
        with pytest.raises(ValueError, match="target must have 3 channels, got 1"):
            loss(x, x[:, :1])
        with pytest.raises(ValueError, match="pred and target must have the same shape"):
            loss(x, x[..., 1:])
        with pytest.raises(TypeError, match="pred must be a floating-point tensor"):
            loss(x.to(torch.uint8), x)
