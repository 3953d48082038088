from __future__ import annotations

import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clusir_modules import DAFMM


def strong_dafmm(**options: object) -> DAFMM:
    """With kernels that differ visibly from image to image, in float64."""
    module = DAFMM(8, 6, 4, **options).double()
    with torch.no_grad():
        module.kernel_predictor.weight.mul_(10)
    return module


def low_by_hand(module: DAFMM, x: Tensor, prompt: Tensor) -> Tensor:
    """The low band, literally: one kernel for each image and head, every pixel a weighted mean of its neighbors."""
    batch, channels, height, width = x.shape
    k, reach = module.kernel_size, module.kernel_size // 2
    low = torch.zeros_like(x)
    for b in range(batch):
        summary = torch.cat([x[b].mean((1, 2)), prompt[b].mean((1, 2))])
        logits = module.kernel_predictor.weight @ summary + module.kernel_predictor.bias
        for c in range(channels):
            head = c // (channels // module.num_heads)
            kernel = logits[head * k * k : (head + 1) * k * k].exp()
            kernel = (kernel / kernel.sum()).view(k, k)
            for i in range(height):
                for j in range(width):
                    for di in range(k):
                        for dj in range(k):
                            row = min(max(i + di - reach, 0), height - 1)
                            column = min(max(j + dj - reach, 0), width - 1)
                            low[b, c, i, j] += kernel[di, dj] * x[b, c, row, column]
    return low


class TestDecompose:
    @torch.no_grad()
    @pytest.mark.parametrize("kernel_size", [3, 5])
    def test_low_band_is_a_mean_with_the_predicted_kernel(self, kernel_size: int) -> None:
        module = strong_dafmm(kernel_size=kernel_size)
        x, prompt = torch.randn(2, 8, 4, 3).double(), torch.randn(2, 6, 4, 3).double()
        low, _ = module.decompose(x, prompt)
        torch.testing.assert_close(low, low_by_hand(module, x, prompt), atol=1e-12, rtol=0)

    @torch.no_grad()
    @pytest.mark.parametrize("size", [(1, 1), (2, 9), (16, 16)])
    def test_bands_sum_to_the_input(self, size: tuple[int, int]) -> None:
        module = DAFMM(8, 6, 4)
        x = torch.randn(2, 8, *size)
        for prompt in (None, torch.randn(2, 6, *size)):
            low, high = module.decompose(x, prompt)
            torch.testing.assert_close(low + high, x, atol=1e-6, rtol=0)

    @torch.no_grad()
    def test_constants_stay_in_the_low_band(self) -> None:
        x = torch.randn(2, 8, 1, 1, dtype=torch.float64).expand(-1, -1, 9, 7)
        low, high = strong_dafmm().decompose(x, torch.randn(2, 6, 9, 7).double())
        torch.testing.assert_close(low, x, atol=1e-12, rtol=0)
        assert float(high.abs().max()) < 1e-12

    @torch.no_grad()
    def test_texture_goes_to_the_high_band_and_both_bands_carry_energy(self) -> None:
        module = DAFMM(8)
        checker = ((torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1).expand(1, 8, 32, 32)
        smooth = torch.linspace(-1, 1, 32).expand(1, 8, 32, 32)
        for x, share in ((checker, 0.7), (smooth, 0.05)):
            low, high = module.decompose(x)
            assert (high.square().mean() / x.square().mean() > share) == (x is checker)
            assert low.abs().max() > 0

    @torch.no_grad()
    def test_the_split_depends_on_image_and_prompt(self) -> None:
        module = strong_dafmm()
        x = torch.randn(1, 8, 6, 6).double()
        first, second = (module.decompose(x, torch.randn(1, 6, 6, 6).double())[0] for _ in range(2))
        assert float((first - second).abs().max()) > 1e-3
        brighter = module.decompose(x + 3)[0] - 3
        assert float((brighter - module.decompose(x)[0]).abs().max()) > 1e-3

    def test_bands_sum_to_the_input_under_autocast(self) -> None:
        module = DAFMM(8)
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.randn(1, 8, 7, 9).to(dtype)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                low, high = module.decompose(x)
            assert low.dtype == high.dtype == dtype
            torch.testing.assert_close(low + high, x, atol=1e-6 if dtype == torch.float32 else 2e-2, rtol=0)


class TestForward:
    @torch.no_grad()
    def test_equals_the_formula(self) -> None:
        module = strong_dafmm()
        module.temperature.uniform_(0.5, 3)
        x, prompt = torch.randn(2, 8, 5, 6).double(), torch.randn(2, 6, 5, 6).double()
        low, high = module.decompose(x, prompt)
        summary = torch.cat([x.mean((2, 3)), prompt.mean((2, 3))], dim=1)
        low = module.spectral_gate(low, module.gain_predictor(summary).view(2, 4, -1))
        high = module.high_depthwise(high) * torch.sigmoid(module.high_gate(prompt))
        query, low_value = module.low_query_value(low.flatten(2).mT).mT.reshape(2, 2, 4, 2, 30).unbind(1)
        key, high_value = module.high_key_value(high.flatten(2).mT).mT.reshape(2, 2, 4, 2, 30).unbind(1)
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT * module.temperature
        new_low = low + (scores.softmax(-1) @ high_value).reshape(low.shape)
        new_high = high + (scores.mT.softmax(-1) @ low_value).reshape(high.shape)
        expected = x + module.layer_scale * module.fuse(torch.cat([new_low, new_high], 1))
        torch.testing.assert_close(module(x, prompt), expected, atol=1e-11, rtol=0)

    @torch.no_grad()
    def test_starts_nearly_as_the_identity(self) -> None:
        x = torch.randn(2, 8, 9, 9)
        y = DAFMM(8)(x, torch.randn(2, 8, 9, 9))
        assert 1e-5 < float((y - x).norm() / x.norm()) < 0.05

    @torch.no_grad()
    def test_zero_layer_scale_is_the_identity(self) -> None:
        x = torch.randn(2, 8, 9, 9)
        assert torch.equal(DAFMM(8, layer_scale=0.0)(x), x)

    @torch.no_grad()
    def test_no_prompt_is_a_zero_prompt(self) -> None:
        module = strong_dafmm()
        x = torch.randn(2, 8, 5, 5).double()
        torch.testing.assert_close(module(x), module(x, x.new_zeros(2, 6, 5, 5)), atol=1e-12, rtol=0)

    @torch.no_grad()
    def test_a_prompt_of_one_pixel_serves_the_whole_map(self) -> None:
        module = strong_dafmm()
        x, prompt = torch.randn(2, 8, 5, 7).double(), torch.randn(2, 6, 1, 1).double()
        torch.testing.assert_close(module(x, prompt), module(x, prompt.expand(-1, -1, 5, 7)), atol=1e-12, rtol=0)

    @torch.no_grad()
    def test_the_prompt_matters(self) -> None:
        module = DAFMM(8, layer_scale=1.0).double()
        x = torch.randn(1, 8, 6, 6).double()
        first, second = (module(x, torch.randn(1, 8, 6, 6).double()) for _ in range(2))
        assert float((first - second).abs().max()) > 1e-2

    @torch.no_grad()
    @pytest.mark.parametrize("branch", ["spectral_gate", "high_depthwise", "high_gate"])
    def test_every_branch_is_live(self, branch: str) -> None:
        module = DAFMM(8, layer_scale=1.0).double()
        x, prompt = torch.randn(2, 2, 8, 8, 8, dtype=torch.float64)
        before = module(x, prompt)
        getattr(module, branch).register_forward_hook(lambda _m, _i, y: torch.randn_like(y) * y.std())
        assert float((module(x, prompt) - before).norm() / before.norm()) > 1e-3

    @torch.no_grad()
    @pytest.mark.parametrize(
        ("branch", "part"), [(b, p) for b in ("low_query_value", "high_key_value") for p in (0, 1)]
    )
    def test_the_exchange_between_the_bands_is_live(self, branch: str, part: int) -> None:
        module = DAFMM(8, layer_scale=1.0).double()
        module.temperature.fill_(5)
        x, prompt = torch.randn(2, 2, 8, 8, 8, dtype=torch.float64)
        before = module(x, prompt)
        getattr(module, branch).weight.chunk(2)[part].normal_()
        assert float((module(x, prompt) - before).norm() / before.norm()) > 1e-3


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_trains_compiled_by_inductor_channels_last() -> None:
    module = DAFMM(8, 6, 4, layer_scale=0.5)
    x = torch.randn(2, 8, 12, 10).contiguous(memory_format=torch.channels_last)
    prompt = torch.randn(2, 6, 1, 1)
    torch.compiler.reset()
    outcomes = []
    for call in (module, torch.compile(module, fullgraph=True)):
        module.zero_grad()
        start = x.clone().requires_grad_()
        y = call(start, prompt)
        y.square().mean().backward()
        outcomes.append([y.detach(), start.grad, *(parameter.grad.clone() for parameter in module.parameters())])
    for expected, actual in zip(*outcomes, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


class TestBadArguments:
    def test_options_are_named(self) -> None:
        with pytest.raises(ValueError, match="num_heads must leave at least 2 channels a head"):
            DAFMM(8, num_heads=8)
        with pytest.raises(ValueError, match="dim must be divisible by num_heads"):
            DAFMM(10, num_heads=4)
        with pytest.raises(ValueError, match="prompt_dim must be >= 1, got 0"):
            DAFMM(8, 0)
        with pytest.raises(ValueError, match="kernel_size must be odd, got 4"):
            DAFMM(8, kernel_size=4)
        for kernel_size in (-1, 0):
            with pytest.raises(ValueError, match=f"kernel_size must be >= 1, got {kernel_size}"):
                DAFMM(8, kernel_size=kernel_size)

    def test_inputs_are_named(self) -> None:
        module = DAFMM(8, 6)
        x = torch.rand(2, 8, 5, 5)
        with pytest.raises(ValueError, match="x must have 8 channels, got 6"):
            module(torch.rand(2, 6, 5, 5))
        with pytest.raises(TypeError, match="x must be a floating-point tensor"):
            module(x.long())
        with pytest.raises(ValueError, match="prompt must have 6 channels, got 8"):
            module(x, x)
        for shape in ((1, 6, 5, 5), (2, 6, 4, 5), (2, 6, 5, 10)):
            with pytest.raises(ValueError, match="prompt must have the batch, height and width of x"):
                module(x, torch.rand(shape))
            with pytest.raises(ValueError, match="prompt must have the batch, height and width of x"):
                module.decompose(x, torch.rand(shape))
