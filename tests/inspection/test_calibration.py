from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize_scalar

from clusir_modules.inspection.calibration import fit_temperature


@pytest.mark.parametrize(("sure", "right"), [(0.9, 0.7), (0.6, 0.8), (0.95, 0.95)])
def test_two_kinds_in_closed_form(sure: float, right: float) -> None:
    probs = torch.tensor([[sure, 1 - sure]], dtype=torch.float64).expand(100, 2)
    labels = (torch.arange(100) >= round(100 * right)).long()
    temperature = fit_temperature(probs, labels)
    assert temperature == pytest.approx(math.log(sure / (1 - sure)) / math.log(right / (1 - right)), rel=1e-9)
    assert float((probs.log() / temperature).softmax(1)[0, 0]) == pytest.approx(right)  # what was to be had


def test_is_the_minimum_that_a_search_finds() -> None:
    logits = 4 * torch.randn(200, 5, dtype=torch.float64)
    labels = torch.distributions.Categorical(logits=logits / 3).sample()

    def cost(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / math.exp(log_temperature), labels))

    expected = math.exp(minimize_scalar(cost, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x)
    assert fit_temperature(logits.softmax(1), labels) == pytest.approx(expected, rel=1e-5)


def test_labels_that_are_all_right_or_wrong_reach_a_bound() -> None:
    probs = torch.tensor([[1.0, 0.0], [0.3, 0.7]])
    assert fit_temperature(probs, torch.tensor([0, 1])) == pytest.approx(0.01)
    assert fit_temperature(probs, torch.tensor([1, 0])) == pytest.approx(100)


@pytest.mark.parametrize(
    ("probs", "labels", "message"),
    [
        (torch.ones(3), torch.zeros(3).long(), r"probs must have shape \(N, K\) with at least one image, got \(3,\)"),
        (torch.ones(0, 2), torch.zeros(0).long(), r"got \(0, 2\)"),
        (torch.ones(3, 2), torch.zeros(2).long(), r"labels must have shape \(3,\), got \(2,\)"),
        (torch.ones(2, 2), torch.tensor([0, 2]), r"labels must be in \[0, 2\), got from 0 to 2"),
    ],
)
def test_bad_arguments_are_named(probs: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_temperature(probs, labels)
