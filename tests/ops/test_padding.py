from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clusir_modules.ops.padding import extend_by_edge, pad_to_multiple


class TestPadToMultiple:
    def test_mirrors_without_repeating_the_edge(self) -> None:
        x = torch.arange(6.0).view(1, 1, 1, 6)
        assert pad_to_multiple(x, 4)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 4, 3]

    def test_repeats_the_edge_where_it_cannot_mirror(self) -> None:
        x = torch.tensor([[[[1.0, 2.0]]]])
        assert pad_to_multiple(x, 4)[0, 0].tolist() == [[1, 2, 2, 2]] * 4

    @pytest.mark.parametrize("size", [(8, 16), (16, 16)])
    def test_a_multiple_is_returned_unchanged(self, size: tuple[int, int]) -> None:
        x = torch.rand(1, 2, *size)
        assert torch.equal(pad_to_multiple(x, 8), x)

    @settings(max_examples=15, deadline=None)
    @given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 8, 16]))
    def test_any_size_becomes_the_next_multiple_and_keeps_its_content(
        self, height: int, width: int, multiple: int
    ) -> None:
        x = torch.rand(2, 1, height, width)
        y = pad_to_multiple(x, multiple)
        assert y.shape[2:] == (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
        assert torch.equal(y[..., :height, :width], x)
        added = (y.shape[2] - height, y.shape[3] - width)
        modes = ["reflect" if extra < size else "edge" for extra, size in zip(added, (height, width))]
        expected = x.numpy()
        expected = np.pad(expected, ((0, 0), (0, 0), (0, added[0]), (0, 0)), mode=modes[0])
        expected = np.pad(expected, ((0, 0), (0, 0), (0, 0), (0, added[1])), mode=modes[1])
        np.testing.assert_array_equal(y.numpy(), expected)

    @pytest.mark.parametrize(("multiple", "error"), [(0, ValueError), (-4, ValueError), (2.0, TypeError)])
    def test_bad_multiple_is_named(self, multiple: int, error: type[Exception]) -> None:
        with pytest.raises(error, match="multiple must be"):
            pad_to_multiple(torch.rand(1, 1, 4, 4), multiple)


@pytest.mark.parametrize("width", [0, 1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_extending_by_the_edge_is_replication_padding(width: int, layout: torch.memory_format) -> None:
    x = torch.rand(2, 3, 1, 5, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    ours, torchs = extend_by_edge(x, width), torch.nn.functional.pad(x, (width,) * 4, mode="replicate")
    assert torch.equal(ours, torchs)
    weights = torch.rand_like(ours)
    (gradient,), (expected,) = (torch.autograd.grad((y * weights).sum(), x) for y in (ours, torchs))
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)
