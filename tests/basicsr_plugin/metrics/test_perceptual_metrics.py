"""Metrics of pyiqa through a stand-in: the real ones download weights, and pyiqa is not for everyone."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from basicsr_plugin.metrics import perceptual_metrics
from basicsr_plugin.metrics.validation_metrics import ValidationMetrics
from basicsr_plugin.options.schema import ValOptions
from basicsr_plugin.run.preflight import _check_metric
from clusir_modules.extras import install_hint

COMPARED = {"type": "calculate_pyiqa", "metric": "lpips", "better": "lower"}
ALONE = {"type": "calculate_pyiqa_no_reference", "metric": "brightness"}


class FakeMetric:
    """The calls of pyiqa's metrics: batches of RGB in [0, 1]; the red channel counts ten times."""

    def __init__(self, name: str) -> None:
        self.lower_better = name == "lpips"

    def __call__(self, target: Tensor, ref: Tensor | None = None) -> Tensor:
        assert target.shape == (1, 3, 4, 6)
        assert 0 <= target.min() <= target.max() <= 1
        difference = target if ref is None else (target - ref).abs()
        return (difference * torch.tensor([10.0, 1, 1])[:, None, None]).mean(dim=(1, 2, 3))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the metrics that were made."""
    names: list[str] = []

    def create_metric(name: str) -> FakeMetric:
        names.append(name)
        return FakeMetric(name)

    fake = SimpleNamespace(
        create_metric=create_metric, list_models=lambda mode: {"FR": ["dists", "lpips"], "NR": ["brightness"]}[mode]
    )
    monkeypatch.setitem(sys.modules, "pyiqa", fake)
    perceptual_metrics._load.cache_clear()
    yield names
    perceptual_metrics._load.cache_clear()


def measure(**metrics: dict[str, Any]) -> ValidationMetrics:
    return ValidationMetrics(ValOptions(metrics=metrics).metric_options())


def test_validation_hands_over_rgb_in_the_right_range_and_makes_each_metric_once(made: list[str]) -> None:
    target = torch.full((1, 3, 4, 6), 0.5)
    result = target.clone()
    result[:, 0] += 0.1
    result[:, 2] += 0.7  # 1.2, clipped to 1
    evaluate = measure(lpips=COMPARED, brightness=ALONE)
    for _ in range(2):
        assert evaluate(result, target) == pytest.approx({"lpips": 1.5 / 3, "brightness": (6 + 0.5 + 1) / 3})
    assert evaluate(result, None) == pytest.approx({"brightness": 2.5})
    assert evaluate.needing_target() == ["lpips"]
    assert made == ["lpips", "brightness"]


def test_the_wrong_direction_is_refused(made: list[str]) -> None:
    picture = torch.zeros(1, 3, 4, 6)
    with pytest.raises(ValueError, match="better must be lower for lpips, got higher"):
        measure(l={**COMPARED, "better": "higher"})(picture, picture)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({**COMPARED, "metric": "lpipss"}, r"val\.m is not accepted, .* no metric 'lpipss' with a reference.*'lpips'"),
        ({**ALONE, "metric": "lpips"}, "pyiqa has no metric 'lpips' without a reference"),
        ({"type": "calculate_pyiqa"}, "metric"),
        ({**COMPARED, "metrics": "lpips"}, "metrics"),
    ],
)
def test_a_name_that_is_not_there_is_refused_before_the_run(
    made: list[str], section: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _check_metric("val.m", ValOptions(metrics={"m": section}).metric_options()["m"])
    assert made == []


def test_without_pyiqa_the_option_check_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        _check_metric("val.m", ValOptions(metrics={"m": COMPARED}).metric_options()["m"])
    assert f"the metric lpips needs pyiqa: {install_hint('perceptual')}" in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("pyiqa") is None, reason="pyiqa is in no environment of the tests")
def test_the_stand_in_has_the_calls_of_pyiqa() -> None:
    first, second = torch.rand(2, 64, 64, 3).numpy()
    value = perceptual_metrics.calculate_pyiqa(first, second, metric="ssim", better="higher")  # needs no weights
    assert value < perceptual_metrics.calculate_pyiqa(first, first, metric="ssim", better="higher")
