from __future__ import annotations

import torch
from torch import Tensor, nn

from clusir_modules.layers.experts.dispatch import dispatch


class CountingExpert(nn.Conv2d):
    """A 1x1 convolution that remembers the batch sizes it was given."""

    def __init__(self) -> None:
        super().__init__(3, 5, 1)
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(x.shape[0])
        return super().forward(x)


class TestDispatch:
    def test_equals_a_loop_over_images(self) -> None:
        experts = nn.ModuleList(nn.Conv2d(3, 5, 3, padding=1) for _ in range(4)).double()
        x = torch.randn(3, 3, 4, 5, dtype=torch.float64)
        weights = torch.rand(3, 2, dtype=torch.float64)
        indices = torch.tensor([[2, 0], [0, 3], [3, 2]])
        y = dispatch(experts, x, weights, indices)
        for b in range(3):
            expected = sum(w * experts[int(e)](x[b : b + 1]) for w, e in zip(weights[b], indices[b]))
            torch.testing.assert_close(y[b : b + 1], expected, atol=1e-12, rtol=0)

    def test_every_expert_runs_once_and_only_on_its_images(self) -> None:
        experts = [CountingExpert() for _ in range(4)]
        dispatch(experts, torch.rand(3, 3, 2, 2), torch.rand(3, 2), torch.tensor([[2, 0], [0, 3], [3, 0]]))
        assert [expert.batches for expert in experts] == [[3], [0], [1], [2]]

    def test_an_idle_expert_has_a_zero_gradient_not_none(self) -> None:
        experts = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))
        dispatch(experts, torch.rand(1, 3, 2, 2), torch.ones(1, 1), torch.tensor([[1]])).sum().backward()
        assert [bool(expert.weight.grad.any()) for expert in experts] == [False, True, False]
