from __future__ import annotations

import copy
import pickle

import pytest
import torch
from spandrel_extra_arches.architectures.MPRNet.__arch import MPRNet as reference
from torch import nn

from clusir_modules.layers.multi_stage.channel_attention import CAB, CALayer


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def saved_bytes(module: nn.Module, x: torch.Tensor) -> int:
    """Bytes that autograd keeps for the backward pass of one call, parameters left out."""
    kept: dict[int, int] = {}
    parameters = {p.data_ptr() for p in module.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
    return sum(kept.values())


class TestCALayer:
    @pytest.mark.parametrize("bias", [False, True])
    def test_gate_is_the_two_layer_perceptron_of_the_channel_means(self, bias: bool) -> None:
        layer = CALayer(6, reduction=2, bias=bias).double()
        x = torch.randn(2, 6, 5, 3, dtype=torch.float64)
        first, second = layer.conv_du[0], layer.conv_du[2]
        hidden = x.flatten(2).mean(2) @ first.weight[:, :, 0, 0].T + (first.bias if bias else 0)
        gate = torch.sigmoid(hidden.clamp(min=0) @ second.weight[:, :, 0, 0].T + (second.bias if bias else 0))
        torch.testing.assert_close(layer(x), x * gate[:, :, None, None])

    def test_published_layer_gives_the_same_numbers(self) -> None:
        ours, theirs = CALayer(12, reduction=4), reference.CALayer(12, 4)
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(2, 12, 7, 9)
        torch.testing.assert_close(ours(x), theirs(x))

    def test_a_reduction_wider_than_the_map_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"reduction must be in \[1, dim=3\], got 4"):
            CALayer(3)


class TestCAB:
    @pytest.mark.parametrize("kernel_size", [1, 3, 5])
    @pytest.mark.parametrize("bias", [False, True])
    def test_published_block_gives_the_same_numbers(self, kernel_size: int, bias: bool) -> None:
        ours = CAB(8, kernel_size=kernel_size, bias=bias)
        theirs = reference.CAB(8, kernel_size, 4, bias, nn.PReLU())
        assert list(theirs.state_dict()) == list(ours.state_dict())
        theirs.load_state_dict(ours.state_dict())
        for _ in range(5):
            x = torch.randn(2, 8, 9, 7)
            torch.testing.assert_close(ours(x), theirs(x), atol=1e-6, rtol=1e-6)

    @pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 2), (9, 9)])
    def test_every_size_keeps_its_shape(self, size: tuple[int, int]) -> None:
        assert CAB(8)(torch.randn(1, 8, *size)).shape == (1, 8, *size)

    def test_gradcheck_in_float64(self) -> None:
        block = CAB(4, reduction=2).double()
        x = torch.randn(2, 4, 3, 4, dtype=torch.float64, requires_grad=True)
        parameters = tuple(block.parameters())

        def call(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
            names = [name for name, _ in block.named_parameters()]
            return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (x,))

        assert torch.autograd.gradcheck(call, (x, *parameters), fast_mode=True)

    def test_every_parameter_gets_a_gradient(self) -> None:
        block = CAB(8, bias=True)
        block(torch.randn(2, 8, 6, 6)).square().sum().backward()
        assert [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()] == []

    def test_an_activation_that_is_passed_is_shared_and_one_that_is_not_is_owned(self) -> None:
        act = nn.PReLU()
        assert CAB(8, act=act).body[1] is act
        assert CAB(8).body[1] is not CAB(8).body[1]

    def test_one_image_does_not_change_another(self) -> None:
        block = CAB(8).eval()
        x = torch.randn(3, 8, 6, 5)
        torch.testing.assert_close(block(x)[1:2], block(x[1:2]))

    def test_channels_last_and_strided_input_give_the_same_numbers(self) -> None:
        block = CAB(8)
        x = torch.randn(2, 8, 6, 5)
        expected = block(x)
        torch.testing.assert_close(block(x.contiguous(memory_format=torch.channels_last)), expected)
        torch.testing.assert_close(block(x.transpose(2, 3).contiguous().transpose(2, 3)), expected)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_stays_close_to_float32(self, dtype: torch.dtype) -> None:
        block = CAB(8)
        x = torch.randn(1, 8, 6, 5)
        expected = block(x)
        half = copy.deepcopy(block).to(dtype)(x.to(dtype))
        assert half.dtype == dtype
        torch.testing.assert_close(half.float(), expected, atol=0.05, rtol=0.05)
        with torch.autocast("cpu", dtype=dtype):
            torch.testing.assert_close(block(x).float(), expected, atol=0.05, rtol=0.05)

    def test_checkpointing_keeps_less_and_changes_no_number(self) -> None:
        block = CAB(8)
        x = torch.randn(1, 8, 32, 32, requires_grad=True)
        plain = block(x)
        gradient = torch.autograd.grad(plain.square().sum(), x)[0]
        kept = saved_bytes(block, x)
        block.grad_checkpointing = True
        again = block(x)
        torch.testing.assert_close(again, plain, atol=0, rtol=0)
        torch.testing.assert_close(torch.autograd.grad(again.square().sum(), x)[0], gradient, atol=0, rtol=0)
        assert saved_bytes(block, x) < 0.5 * kept

    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_compiles_without_graph_break(self, checkpointing: bool) -> None:
        block = CAB(8)
        block.grad_checkpointing = checkpointing
        x = torch.randn(1, 8, 6, 5)
        compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), block(x))

    def test_pickle_and_deepcopy_keep_the_numbers(self) -> None:
        block = CAB(8)
        x = torch.randn(1, 8, 6, 5)
        block(x)
        for twin in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
            torch.testing.assert_close(twin(x), block(x))

    def test_bad_options_are_named(self) -> None:
        with pytest.raises(ValueError, match="kernel_size must be odd, got 2"):
            CAB(8, kernel_size=2)
        with pytest.raises(ValueError, match="dim must be >= 1, got 0"):
            CAB(0)

    def test_bad_inputs_are_named(self) -> None:
        block = CAB(8)
        with pytest.raises(ValueError, match="x must have 8 channels, got 7"):
            block(torch.randn(1, 7, 4, 4))
        with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\)"):
            block(torch.randn(8, 4, 4))
        with pytest.raises(TypeError, match="floating-point"):
            block(torch.zeros(1, 8, 4, 4, dtype=torch.uint8))
