from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clusir_modules import WTB


class TestWTB:
    @torch.no_grad()
    @pytest.mark.parametrize("wave", ["haar", "bior2.2"])
    def test_equals_the_formula_with_the_transforms_of_pytorch_wavelets(self, wave: str) -> None:
        from pytorch_wavelets import DWTForward, DWTInverse

        block = WTB(4, 2, wave).double()
        x = torch.randn(2, 4, 9, 14).double()
        low, (details,) = DWTForward(J=1, wave=wave, mode="zero").double()(x)
        low = low + block.attention(block.norm1(low))
        normed = block.norm2(low)
        low = low + block.feed_forward(normed)
        gates = block.detail_gate(normed).chunk(3, dim=1)
        kernels, biases = (p.chunk(3) for p in (block.detail_depthwise.weight, block.detail_depthwise.bias))
        mixes = (block.low_project.weight, *block.detail_project.weight.chunk(3))
        shifts = (block.low_project.bias, *block.detail_project.bias.chunk(3))
        gated = [
            F.conv2d(details[:, :, band], kernels[band], biases[band], padding=1, groups=4) * gates[band]
            for band in range(3)
        ]
        mixed = [F.conv2d(band, mix, shift) for band, mix, shift in zip((low, *gated), mixes, shifts)]
        back = DWTInverse(wave=wave, mode="zero").double()((mixed[0], [torch.stack(mixed[1:], dim=2)]))
        torch.testing.assert_close(block(x), x + back[..., :9, :14], atol=1e-6, rtol=0)  # its taps are float32

    def test_the_branch_does_not_outgrow_its_input(self) -> None:
        """Blocks in a row would square and square again what they get, were the gate not of a normed map."""
        torch.manual_seed(0)
        block, x = WTB(8, 2).double(), torch.randn(1, 8, 12, 12).double()
        with torch.no_grad():
            small, large = (float((block(scale * x) - scale * x).norm()) / scale for scale in (1e2, 1e6))
        assert large == pytest.approx(small, rel=0.1)

    @pytest.mark.parametrize("wave", ["haar", "db2", "bior2.2"])
    @pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 2), (9, 13), (16, 8)])
    def test_keeps_the_shape_of_any_size(self, wave: str, size: tuple[int, int]) -> None:
        y = WTB(4, 2, wave)(torch.randn(2, 4, *size))
        assert y.shape == (2, 4, *size)
        assert torch.isfinite(y).all()

    @torch.no_grad()
    def test_the_wavelet_matters(self) -> None:
        haar, db2 = WTB(4, 2, "haar"), WTB(4, 2, "db2")
        db2.load_state_dict(haar.state_dict())
        x = torch.randn(1, 4, 12, 12)
        assert float((haar(x) - db2(x)).abs().max()) > 1e-3

    @torch.no_grad()
    def test_a_residual_runs_past_everything(self) -> None:
        block = WTB(4, 2)
        for name, parameter in block.named_parameters():
            if "_project." in name:
                parameter.zero_()
        x = torch.randn(2, 4, 7, 8)
        assert torch.equal(block(x), x)

    @torch.no_grad()
    def test_starts_nearly_as_the_identity(self) -> None:
        x = torch.randn(2, 16, 12, 10)
        assert 1e-5 < float((WTB(16, 2)(x) - x).norm() / x.norm()) < 0.1

    @torch.no_grad()
    def test_the_attention_sees_the_whole_map(self) -> None:
        block = WTB(4, 2).double()
        x = torch.randn(1, 4, 32, 32).double()
        moved = x.clone()
        moved[..., 0, 0] = torch.randn(4)
        far = (block(moved) - block(x))[..., 20:, 20:]
        assert float(far.abs().max()) > 1e-8

    @torch.no_grad()
    def test_a_shift_by_the_step_of_the_transform_shifts_the_result(self) -> None:
        block = WTB(4, 2).double()
        x = torch.zeros(1, 4, 32, 32).double()
        x[..., 12:18, 12:18] = torch.randn(1, 4, 6, 6).double()
        y, shifted = block(x), block(x.roll((2, -4), (2, 3)))
        torch.testing.assert_close(shifted[..., 8:26, 6:20], y.roll((2, -4), (2, 3))[..., 8:26, 6:20])

    def test_bad_arguments_are_named(self) -> None:
        with pytest.raises(ValueError, match="num_heads must leave at least 2 channels a head"):
            WTB(4, 4)
        with pytest.raises(ValueError, match="dim must be divisible by num_heads"):
            WTB(6, 4)
        with pytest.raises(ValueError, match=r"wave must be a discrete wavelet of PyWavelets .* got 'nosuch'"):
            WTB(4, 2, "nosuch")
        with pytest.raises(ValueError, match="x must have 4 channels, got 3"):
            WTB(4, 2)(torch.rand(1, 3, 8, 8))
        with pytest.raises(TypeError, match="x must be a floating-point tensor"):
            WTB(4, 2)(torch.ones(1, 4, 8, 8, dtype=torch.int32))
