"""Learning-rate schedules."""

from __future__ import annotations

import math

import pytest
import torch

from basicsr_plugin.run.schedulers import LinearWarmupCosineLR, find_scheduler


def rates(count, **options):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = LinearWarmupCosineLR(optimizer, **options)
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_rises_linearly_then_falls_by_half_a_cosine():
    found = rates(14, total_iter=12, warmup_iter=4, warmup_start_lr=0.4, eta_min=0.2)
    assert found[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert found[8] == pytest.approx(1.1)
    assert found[6] == pytest.approx(0.2 + 1.8 * (1 + math.cos(math.pi / 4)) / 2)
    assert found[12:] == pytest.approx([0.2, 0.2])


def test_without_warm_up_it_is_torchs_cosine():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.1)
    expected = []
    for _ in range(10):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        torchs.step()
    assert rates(10, total_iter=10, eta_min=0.1) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [-1, 10])
def test_warm_up_must_be_shorter_than_the_run(warmup):
    with pytest.raises(ValueError, match=rf"warmup_iter must be in \[0, 10\), got {warmup}"):
        rates(1, total_iter=10, warmup_iter=warmup)


def test_unknown_schedules_are_refused():
    with pytest.raises(ValueError, match=r"must be one of .*LinearWarmupCosineLR, got 'Cosine'"):
        find_scheduler("Cosine")
