from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from clusir_modules import GatedConvExperts


def one_expert(experts: GatedConvExperts, number: int, image: Tensor) -> Tensor:
    """Expert ``number`` on one image ``(1, C, H, W)`` by plain convolutions."""
    width = 2 * experts.hidden_dim
    hidden = F.conv2d(image, experts.expand_weight[number, :, :, None, None])
    kernels = experts.depthwise_weight[number].unsqueeze(1)
    hidden = F.conv2d(hidden, kernels, experts.depthwise_bias[number], padding=experts.kernel_size // 2, groups=width)
    value, gate = hidden.chunk(2, dim=1)
    return F.conv2d(value * gate, experts.project_weight[number].t()[:, :, None, None], experts.project_bias[number])


class TestGatedConvExperts:
    @pytest.mark.parametrize(("hidden_dim", "kernel_size"), [(None, 3), (3, 5), (6, 1)])
    def test_is_the_weighted_sum_of_the_chosen_experts(self, hidden_dim: int | None, kernel_size: int) -> None:
        experts = GatedConvExperts(4, 5, hidden_dim=hidden_dim, kernel_size=kernel_size).double()
        x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
        weights = torch.rand(3, 2, dtype=torch.float64)
        indices = torch.tensor([[0, 3], [4, 1], [3, 0]])
        y = experts(x, weights, indices)
        for b in range(3):
            expected = sum(w * one_expert(experts, int(e), x[b : b + 1]) for w, e in zip(weights[b], indices[b]))
            torch.testing.assert_close(y[b : b + 1], expected, atol=1e-12, rtol=0)

    def test_only_the_chosen_rows_get_a_gradient_and_the_others_zero(self) -> None:
        experts = GatedConvExperts(4, 5)
        experts(torch.randn(1, 4, 5, 5), torch.tensor([[0.4, 0.6]]), torch.tensor([[3, 1]])).square().sum().backward()
        for name, parameter in experts.named_parameters():
            assert parameter.grad is not None, name
            assert [bool(row.any()) for row in parameter.grad] == [False, True, False, True, False], name

    def test_the_cost_is_that_of_the_chosen_experts(self) -> None:
        experts = GatedConvExperts(8, 8)
        x = torch.randn(1, 8, 8, 8)
        cost = []
        for k in (1, 2, 8):
            with FlopCounterMode(display=False) as counter:
                experts(x, torch.ones(1, k) / k, torch.arange(k).view(1, k))
            cost.append(counter.get_total_flops())
        assert cost[1] < 2.05 * cost[0]
        assert cost[1] < 0.3 * cost[2]

    def test_experts_start_different_from_each_other(self) -> None:
        for parameter in GatedConvExperts(4, 3).parameters():
            assert not torch.equal(parameter[0], parameter[1])
            assert not torch.equal(parameter[1], parameter[2])

    def test_bad_arguments_are_named(self) -> None:
        with pytest.raises(ValueError, match="kernel_size must be odd, got 2"):
            GatedConvExperts(4, 2, kernel_size=2)
        with pytest.raises(ValueError, match="num_experts must be >= 1, got 0"):
            GatedConvExperts(4, 0)
        with pytest.raises(ValueError, match="hidden_dim must be >= 1, got 0"):
            GatedConvExperts(4, 2, hidden_dim=0)
        with pytest.raises(ValueError, match="x must have 4 channels, got 5"):
            GatedConvExperts(4, 2)(torch.rand(1, 5, 4, 4), torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64))
        with pytest.raises(ValueError, match=r"indices must have shape \(1, k\), got \(2, 1\)"):
            GatedConvExperts(4, 2)(torch.rand(1, 4, 4, 4), torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.int64))
        with pytest.raises(ValueError, match=r"weights must have the shape of indices, \(1, 2\), got \(1, 1\)"):
            GatedConvExperts(4, 2)(torch.rand(1, 4, 4, 4), torch.ones(1, 1), torch.zeros(1, 2, dtype=torch.int64))
