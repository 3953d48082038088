from __future__ import annotations

import copy
import pickle

import pytest
import torch
from spandrel_extra_arches.architectures.MPRNet.__arch import MPRNet as reference

from clusir_modules.layers.multi_stage.supervised_attention import SAM


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class TestSAM:
    @pytest.mark.parametrize("kernel_size", [1, 3])
    @pytest.mark.parametrize("bias", [False, True])
    def test_published_module_gives_the_same_numbers(self, kernel_size: int, bias: bool) -> None:
        ours, theirs = SAM(8, kernel_size=kernel_size, bias=bias), reference.SAM(8, kernel_size, bias)
        assert list(theirs.state_dict()) == list(ours.state_dict())
        theirs.load_state_dict(ours.state_dict())
        for _ in range(5):
            inputs = torch.randn(2, 8, 6, 5), torch.rand(2, 3, 6, 5)
            for got, expected in zip(ours(*inputs), theirs(*inputs), strict=True):
                torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)

    def test_one_pixel_follows_the_formula(self) -> None:
        module = SAM(2, in_channels=1)
        with torch.no_grad():
            module.conv1.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 3.0]])[:, :, None, None])
            module.conv2.weight.copy_(torch.tensor([[1.0, -1.0]])[:, :, None, None])
            module.conv3.weight.copy_(torch.tensor([[0.0], [1.0]])[:, :, None, None])
        features, restored = module(torch.tensor([5.0, 2.0]).view(1, 2, 1, 1), torch.tensor(0.5).view(1, 1, 1, 1))
        assert restored.item() == pytest.approx(3.5)
        gate = 1 / (1 + torch.e**-3.5)
        assert features.flatten().tolist() == pytest.approx([5 + 0.5 * 10, 2 + gate * 6])

    def test_attention_of_the_restored_image_lies_between_0_and_1(self) -> None:
        module = SAM(8)
        feat = torch.randn(1, 8, 4, 4)
        features, restored = module(feat, torch.rand(1, 3, 4, 4))
        gate = module.attention(restored)
        assert gate.shape == feat.shape
        assert 0 < gate.min() < gate.max() < 1
        torch.testing.assert_close(features, feat + gate * module.conv1(feat))

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_any_number_of_in_channels_works(self, channels: int) -> None:
        _, restored = SAM(8, in_channels=channels)(torch.randn(1, 8, 3, 5), torch.rand(1, channels, 3, 5))
        assert restored.shape == (1, channels, 3, 5)

    def test_gradcheck_in_float64(self) -> None:
        module = SAM(3, in_channels=2).double()
        names = [name for name, _ in module.named_parameters()]
        feat = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
        image = torch.rand(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)

        def call(feat: torch.Tensor, image: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (feat, image))

        assert torch.autograd.gradcheck(call, (feat, image, *module.parameters()))

    def test_every_parameter_gets_a_gradient_from_the_features_alone(self) -> None:
        module = SAM(8, bias=True)
        module(torch.randn(2, 8, 4, 4), torch.rand(2, 3, 4, 4))[0].square().sum().backward()
        assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_stays_close_to_float32(self, dtype: torch.dtype) -> None:
        module = SAM(8)
        inputs = torch.randn(1, 8, 4, 4), torch.rand(1, 3, 4, 4)
        expected = module(*inputs)
        half = copy.deepcopy(module).to(dtype)(*(value.to(dtype) for value in inputs))
        with torch.autocast("cpu", dtype=dtype):
            mixed = module(*inputs)
        for outputs in (half, mixed):
            for got, want in zip(outputs, expected, strict=True):
                torch.testing.assert_close(got.float(), want, atol=0.05, rtol=0.05)

    def test_compiles_without_graph_break(self) -> None:
        module = SAM(8)
        inputs = torch.randn(1, 8, 4, 4), torch.rand(1, 3, 4, 4)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        for got, expected in zip(compiled(*inputs), module(*inputs), strict=True):
            torch.testing.assert_close(got, expected)

    def test_pickle_and_deepcopy_keep_the_numbers(self) -> None:
        module = SAM(8)
        inputs = torch.randn(1, 8, 4, 4), torch.rand(1, 3, 4, 4)
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            torch.testing.assert_close(twin(*inputs)[0], module(*inputs)[0])

    def test_bad_inputs_are_named(self) -> None:
        module = SAM(8)
        feat, image = torch.randn(1, 8, 4, 4), torch.rand(1, 3, 4, 4)
        with pytest.raises(ValueError, match="feat must have 8 channels, got 3"):
            module(image, image)
        with pytest.raises(ValueError, match="image must have 3 channels, got 8"):
            module(feat, feat)
        with pytest.raises(TypeError, match="image must be a floating-point tensor"):
            module(feat, image.to(torch.uint8))
        with pytest.raises(ValueError, match="same batch, height and width"):
            module(feat, image[..., 1:])
        with pytest.raises(ValueError, match="same batch, height and width"):
            module(feat, image.repeat(3, 1, 1, 1))
        with pytest.raises(ValueError, match=r"restored must have shape \(B, C, H, W\)"):
            module.attention(image[0])

    def test_bad_options_are_named(self) -> None:
        with pytest.raises(ValueError, match="kernel_size must be odd, got 2"):
            SAM(8, kernel_size=2)
        with pytest.raises(ValueError, match="in_channels must be >= 1, got 0"):
            SAM(8, in_channels=0)
