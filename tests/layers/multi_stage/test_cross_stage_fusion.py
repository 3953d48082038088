from __future__ import annotations

import copy
import pickle

import pytest
import torch

from clusir_modules.layers.multi_stage.cross_stage_fusion import CSFF, fuse_cross_stage


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class TestCSFF:
    @pytest.mark.parametrize("bias", [False, True])
    def test_adds_both_projections(self, bias: bool) -> None:
        module = CSFF(5, context_dim=3, bias=bias).double()
        x = torch.randn(2, 5, 4, 6, dtype=torch.float64)
        earlier = torch.randn(2, 2, 3, 4, 6, dtype=torch.float64)
        expected = x.clone()
        for conv, feature in zip((module.encoder_conv, module.decoder_conv), earlier, strict=True):
            expected += torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], feature)
            if bias:
                expected += conv.bias[:, None, None]
        torch.testing.assert_close(module(x, *earlier), expected)

    def test_the_function_is_the_module(self) -> None:
        module = CSFF(4)
        inputs = torch.randn(3, 1, 4, 5, 5).unbind()
        expected = fuse_cross_stage(*inputs, module.encoder_conv, module.decoder_conv)
        torch.testing.assert_close(module(*inputs), expected, atol=0, rtol=0)

    def test_gradcheck_in_float64(self) -> None:
        module = CSFF(3, bias=True).double()
        names = [name for name, _ in module.named_parameters()]
        inputs = [torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]

        def call(x: torch.Tensor, e: torch.Tensor, d: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x, e, d))

        assert torch.autograd.gradcheck(call, (*inputs, *module.parameters()))

    def test_every_parameter_gets_a_gradient(self) -> None:
        module = CSFF(4, bias=True)
        module(*torch.randn(3, 2, 4, 5, 5).unbind()).square().sum().backward()
        assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast_stays_close_to_float32(self, dtype: torch.dtype) -> None:
        module = CSFF(4)
        inputs = torch.randn(3, 1, 4, 5, 5).unbind()
        expected = module(*inputs)
        with torch.autocast("cpu", dtype=dtype):
            torch.testing.assert_close(module(*inputs).float(), expected, atol=0.05, rtol=0.05)

    def test_compiles_without_graph_break(self) -> None:
        module = CSFF(4)
        inputs = torch.randn(3, 1, 4, 5, 5).unbind()
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*inputs), module(*inputs))

    def test_pickle_and_deepcopy_keep_the_numbers(self) -> None:
        module = CSFF(4)
        inputs = torch.randn(3, 1, 4, 5, 5).unbind()
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            torch.testing.assert_close(twin(*inputs), module(*inputs))

    def test_bad_arguments_are_named(self) -> None:
        module = CSFF(4, context_dim=3)
        x, feature = torch.randn(1, 4, 5, 5), torch.randn(1, 3, 5, 5)
        with pytest.raises(ValueError, match="decoder_feature must have 3 channels, got 4"):
            module(x, feature, x)
        with pytest.raises(ValueError, match="encoder_feature must have the batch, height and width of x"):
            module(x, feature[..., 1:], feature)
        with pytest.raises(ValueError, match="decoder_feature must have the batch, height and width of x"):
            module(x, feature, feature.repeat(2, 1, 1, 1))
        with pytest.raises(TypeError, match="encoder_feature must be a floating-point tensor"):
            module(x, feature.long(), feature)
        with pytest.raises(ValueError, match="context_dim must be >= 1, got 0"):
            CSFF(4, context_dim=0)
